// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Factors of the experts' own: a bank with them is the bank whose up-factors hold them.

#include <cstring>
#include <type_traits>

#include <boost/test/unit_test.hpp>

#include <nn/mixture_algebra.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <stiefelx/nn/expert_similarity.hpp>
#include <stiefelx/nn/ffn_experts.hpp>
#include <stiefelx/nn/hydra_lora.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;

layer_sizes const sizes{.experts = 4, .chosen = 3, .rank = 2, .d_in = 6, .d_out = 9, .tokens = 7};

/// One negative, one zero.
matrix factors() {
  matrix s(1, 4);
  s << 0.5, -1.25, 2, 0;
  return s;
}

matrix times_factors(matrix const& up, matrix const& s, index_t rank) {
  matrix scaled = up;
  for (index_t e = 0; e < s.cols(); ++e) scaled.middleRows(e * rank, rank) *= s(0, e);
  return scaled;
}

/// Forward and backward with a scaling of any kind.
template <class Case, class Scaling>
layer_result<double> run(expert_layer<double> const& l, Scaling const& scaling,
                         mixing_options options) {
  place<Case> p;
  auto down = p.up(l.down), up = p.up(l.up);
  auto const x = p.up(l.x);
  auto const routes = routing_of(p, l);
  auto const factor = [&] {
    if constexpr (std::is_arithmetic_v<Scaling>)
      return scaling;
    else
      return p.up(scaling);
  }();
  stiefelx::lora_experts const experts(down, up, l.experts, factor);
  auto y = p.up(matrix::Zero(l.up.cols(), l.x.cols()));
  auto saved = moe_lora_forward(p.ctx, experts, routes, x, y, options);
  auto ddown = zeros_like(p.ctx, down), dup = zeros_like(p.ctx, up), dx = zeros_like(p.ctx, x),
       dweights = p.up(matrix::Zero(l.ids.rows(), l.ids.cols()));
  moe_lora_backward(p.ctx, experts, routes, saved, x, p.up(l.dy), ddown, dup, dweights, 0, dx);
  return {p.down(y), p.down(ddown), p.down(dup), p.down(dweights), p.down(dx)};
}

void expect_near(layer_result<double> const& a, layer_result<double> const& b) {
  // Random experts: Gram matrices of three have conditions of some hundreds at most.
  double const bound = tolerance<double>(9, 1000);
  BOOST_TEST(near(a.y, b.y, bound));
  BOOST_TEST(near(a.ddown, b.ddown, bound));
  BOOST_TEST(near(a.dup, b.dup, bound));
  BOOST_TEST(near(a.dweights, b.dweights, bound));
  BOOST_TEST(near(a.dx, b.dx, bound));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(expert_scaling)

BOOST_AUTO_TEST_CASE_TEMPLATE(factors_are_those_of_scaled_experts, Case, double_cases) {
  auto const l = layer_with_empty_slots<double>(sizes, 3);
  auto scaled = l;
  scaled.up = times_factors(l.up, factors(), l.rank);
  for (mixing kind : all_kinds)
    for (dependent_experts policy : policies)
      BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind) << ", policy "
                                 << static_cast<int>(policy)) {
        auto expected = run<Case>(scaled, 1, options_of(kind, policy));
        expected.dup = times_factors(expected.dup, factors(), l.rank);
        expect_near(run<Case>(l, factors(), options_of(kind, policy)), expected);
      }
}

BOOST_AUTO_TEST_CASE(equal_factors_are_one_number_where_the_form_has_degree_one) {
  using host = test_case<host_backend, double>;
  auto const l = layer_with_empty_slots<double>(sizes, 4);
  for (mixing kind : all_kinds)
    for (double s : {1.5, -0.5})
      BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind) << ", s " << s) {
        bool const divides = kind == mixing::orthonormal || kind == mixing::symmetric;
        double const number = !divides ? s : s > 0 ? 1 : -1;
        expect_near(run<host>(l, matrix(matrix::Constant(1, 4, s)), options_of(kind)),
                    run<host>(l, number, options_of(kind)));
      }
}

BOOST_AUTO_TEST_CASE(factors_are_weights_where_the_form_has_degree_one) {
  using host = test_case<host_backend, double>;
  matrix s = factors();
  s(0, 3) = 3;
  auto const l = layer_with_empty_slots<double>(sizes, 5);
  auto weighted = l;
  matrix own = matrix::Zero(l.ids.rows(), l.ids.cols());
  for (index_t t = 0; t < l.ids.cols(); ++t)
    for (index_t i = 0; i < l.ids.rows(); ++i)
      if (l.ids(i, t) >= 0) own(i, t) = s(0, l.ids(i, t));
  weighted.weights = l.weights.cwiseProduct(own);
  for (mixing kind : all_kinds) BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind)) {
      auto expected = run<host>(weighted, 1, options_of(kind));
      expected.dweights = expected.dweights.cwiseProduct(own);
      auto const found = run<host>(l, s, options_of(kind));
      if (kind == mixing::orthonormal || kind == mixing::symmetric)
        BOOST_TEST((found.y - expected.y).norm() > 0.1 * expected.y.norm());
      else
        expect_near(found, expected);
    }
}

BOOST_AUTO_TEST_CASE(factors_of_one_change_no_bit) {
  using host = test_case<host_backend, double>;
  auto const l = layer_with_empty_slots<double>(sizes, 6);
  for (mixing kind : all_kinds) {
    auto const a = run<host>(l, matrix(matrix::Ones(1, 4)), options_of(kind));
    auto const b = run<host>(l, 1, options_of(kind));
    BOOST_TEST((a.y == b.y && a.ddown == b.ddown && a.dup == b.dup && a.dweights == b.dweights &&
                a.dx == b.dx));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(trained_factors_have_the_gradient_of_the_loss, Case, double_cases) {
  auto const l = layer_with_empty_slots<double>(sizes, 12);
  matrix const c = random_matrix<double>(9, 7, 13);
  struct trained {
    matrix y, dscaling, dup;
  };
  auto const step = [&](matrix const& s, matrix const& b, mixing_options options, bool backward) {
    place<Case> p;
    auto const down = p.up(l.down), up = p.up(b), x = p.up(l.x), scaling = p.up(s);
    auto const routes = routing_of(p, l);
    auto folded = zeros_like(p.ctx, up);
    auto& ctx = p.ctx;
    //! [trained scaling]
    stiefelx::expert_scaling_forward(ctx, scaling, up, folded);
    stiefelx::lora_experts const experts(down, folded, l.experts, 1);
    //! [trained scaling]
    auto y = p.up(matrix::Zero(9, 7));
    auto saved = moe_lora_forward(ctx, experts, routes, x, y, options);
    trained found{p.down(y), {}, {}};
    if (!backward) return found;
    auto ddown = zeros_like(ctx, down), dfolded = zeros_like(ctx, up), dx = zeros_like(ctx, x),
         dweights = p.up(matrix::Zero(3, 7)), dscaling = p.up(matrix::Ones(1, 4)),
         dup = p.up(matrix::Ones(8, 9));
    auto const dy = p.up(wave_gradient(c, found.y));
    //! [trained scaling backward]
    moe_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dfolded, dweights, 0, dx);
    stiefelx::expert_scaling_backward(ctx, scaling, up, dfolded, dscaling, dup);
    //! [trained scaling backward]
    found.dscaling = p.down(dscaling) - matrix::Ones(1, 4);
    found.dup = p.down(dup) - matrix::Ones(8, 9);
    return found;
  };
  for (mixing kind : all_kinds) BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind)) {
      mixing_options const options = options_of(kind);
      matrix s = factors();
      // With a zero expert the other forms jump, and the plain one does not.
      if (kind != mixing::none) s(0, 3) = 0.75;
      trained const found = step(s, l.up, options, true);
      BOOST_TEST(is_gradient(
          [&](matrix const& moved) { return wave_loss(c, step(s, moved, options, false).y); }, l.up,
          found.dup, 15, 7));
      auto own = l;
      own.dy = wave_gradient(c, found.y);
      auto const same = run<Case>(own, s, options);
      double const bound = tolerance<double>(9, 1000);
      BOOST_TEST(near(found.y, same.y, bound));
      BOOST_TEST(near(found.dup, same.dup, bound));
      auto const loss = [&](matrix const& moved) {
        return wave_loss(c, step(moved, l.up, options, false).y);
      };
      // Of an expert's size this form leaves nothing, and so nothing to differentiate.
      if (kind == mixing::orthonormal)
        BOOST_TEST(found.dscaling.norm() <= bound * found.dup.norm() * l.up.norm());
      else
        BOOST_TEST(is_gradient(loss, s, found.dscaling, 14, 7));
    }
}

BOOST_AUTO_TEST_CASE(trained_factors_of_stored_experts_have_the_bits_of_widened_ones) {
  stiefelx::host::context ctx;
  using matrix_f = matrix_x<float>;
  matrix_x<stiefelx::bfloat16> const up = random_matrix<float>(8, 9, 16).cast<stiefelx::bfloat16>();
  matrix_f const wide = up.cast<float>(), s = factors().cast<float>(),
                 d = random_matrix<float>(8, 9, 17);
  matrix_f folded(8, 9), expected(8, 9), dup = d, other = d;
  matrix ds = matrix::Zero(1, 4), other_ds = ds;
  stiefelx::expert_scaling_forward(ctx, s, up, folded);
  stiefelx::expert_scaling_forward(ctx, s, wide, expected);
  BOOST_TEST((folded == expected));
  stiefelx::expert_scaling_backward(ctx, s, up, d, ds, dup);
  stiefelx::expert_scaling_backward(ctx, s, wide, d, other_ds, other);
  BOOST_TEST((ds == other_ds && dup == other));
}

BOOST_AUTO_TEST_CASE(misuse_of_trained_factors_is_named_and_changes_nothing) {
  stiefelx::host::context ctx;
  matrix const s = factors(), up = random_matrix<double>(8, 9, 18), odd = up.topRows(7), none(1, 0);
  matrix folded = matrix::Zero(8, 9), dup = folded, ds = matrix::Zero(1, 4), same = up;
  auto const forward = [&](auto const& scaling, auto const& b, auto& out) {
    return message_of([&] { stiefelx::expert_scaling_forward(ctx, scaling, b, out); });
  };
  BOOST_TEST(forward(s, odd, folded) == "expert_scaling_forward: up is 7x9, expected 4x9");
  BOOST_TEST(
      forward(none, up, folded) ==
      "expert_scaling_forward: the number of scaling's columns is 0, expected a number of at "
      "least 1");
  BOOST_TEST(forward(s, same, same) ==
             "expert_scaling_forward: folded overlaps up, expected separate memory");
  auto const backward = [&](auto const& d, auto& dscaling, auto& out) {
    return message_of([&] { stiefelx::expert_scaling_backward(ctx, s, up, d, dscaling, out); });
  };
  BOOST_TEST(backward(odd, ds, dup) == "expert_scaling_backward: dfolded is 7x9, expected 8x9");
  BOOST_TEST(backward(up, folded, dup) == "expert_scaling_backward: dscaling is 8x9, expected 1x4");
  BOOST_TEST(backward(dup, ds, dup) ==
             "expert_scaling_backward: dup overlaps dfolded, expected separate memory");
  BOOST_TEST((folded.isZero(0) && dup.isZero(0) && ds.isZero(0) && same == up));
}

BOOST_AUTO_TEST_CASE(statistics_and_grams_see_the_factors) {
  stiefelx::host::context ctx;
  auto const l = layer_with_empty_slots<double>(sizes, 7);
  matrix const s = factors(), up = times_factors(l.up, s, l.rank);
  stiefelx::lora_experts const own(l.down, l.up, l.experts, s);
  stiefelx::lora_experts const scaled(l.down, up, l.experts, 1);
  matrix const none = matrix::Zero(l.experts, l.x.cols());
  stiefelx::routing const routes{matrix(none), matrix(l.weights), matrix_x<int>(l.ids),
                                 stiefelx::router_options{}};
  index_t const k = l.ids.rows(), tokens = l.x.cols();
  matrix y = matrix::Zero(9, tokens), first(k * k, tokens), second(k * k, tokens);
  auto const plain = moe_lora_forward(ctx, own, routes, l.x, y, {.kind = mixing::none});
  stiefelx::token_grams(ctx, own, plain.h, l.ids, first);
  auto const mixed = moe_lora_forward(ctx, scaled, routes, l.x, y);
  second = mixed.token_grams;
  double const bound = tolerance<double>(9, 10);
  BOOST_TEST(near(first, second, bound));
  auto const saved = moe_lora_forward(ctx, own, routes, l.x, y);
  BOOST_TEST(near(matrix(saved.token_grams), second, bound));
  matrix similar(2, 1), expected(2, 1);
  stiefelx::expert_similarity(ctx, own, routes, l.x, {.kind = mixing::partial}, similar);
  stiefelx::expert_similarity(ctx, scaled, routes, l.x, {.kind = mixing::partial}, expected);
  BOOST_TEST(near(similar, expected, bound));
}

BOOST_AUTO_TEST_CASE(a_shared_factor_takes_them_too) {
  stiefelx::host::context ctx;
  auto const l = layer_with_empty_slots<double>(sizes, 8);
  matrix const s = factors(), down = l.down.leftCols(l.rank), up = times_factors(l.up, s, l.rank);
  stiefelx::routing const routes{matrix(matrix::Zero(4, 7)), matrix(l.weights),
                                 matrix_x<int>(l.ids), stiefelx::router_options{}};
  auto const both = [&](auto const& experts) {
    layer_result<double> r{matrix::Zero(9, 7), matrix::Zero(6, 2), matrix::Zero(8, 9),
                           matrix::Zero(3, 7), matrix::Zero(6, 7)};
    auto saved = hydra_lora_forward(ctx, experts, routes, l.x, r.y);
    hydra_lora_backward(ctx, experts, routes, saved, l.x, l.dy, r.ddown, r.dup, r.dweights, 0,
                        r.dx);
    return r;
  };
  auto expected = both(stiefelx::hydra_experts(down, up, 4, 1));
  expected.dup = times_factors(expected.dup, s, l.rank);
  expect_near(both(stiefelx::hydra_experts(down, l.up, 4, s)), expected);
}

BOOST_AUTO_TEST_CASE(banks_of_a_feed_forward_block_take_them_too) {
  stiefelx::host::context ctx;
  index_t const d = 5, width = 6, rank = 2, tokens = 4;
  matrix const s = factors(), gate = random_matrix<double>(width, d, 1),
               linear = random_matrix<double>(width, d, 2),
               out = random_matrix<double>(d, width, 3),
               x = 0.3 * random_matrix<double>(d, tokens, 4),
               de = random_matrix<double>(d, 2 * tokens, 5);
  matrix const gd = random_matrix<double>(d, 4 * rank, 6),
               gu = random_matrix<double>(4 * rank, width, 7),
               dd = random_matrix<double>(width, 4 * rank, 8),
               du = random_matrix<double>(4 * rank, d, 9);
  matrix const gu_scaled = times_factors(gu, s, rank), du_scaled = times_factors(du, s, rank);
  matrix_x<int> ids(2, tokens);
  ids << 0, 1, 2, 3, 2, 0, 3, 1;
  auto const both = [&](auto const& first, auto const& second) {
    auto const block = stiefelx::ffn_experts(gate, linear, out, first, first, second);
    layer_result<double> r{matrix::Zero(d, 2 * tokens), matrix::Zero(d, 4 * rank),
                           matrix::Zero(4 * rank, width), matrix::Zero(4 * rank, d),
                           matrix::Zero(d, tokens)};
    matrix inner = matrix::Zero(width, 4 * rank), ud = r.ddown, uu = r.dup;
    auto saved = ffn_experts_forward(ctx, block, ids, x, r.y);
    ffn_experts_backward(ctx, block, ids, saved, x, de, stiefelx::lora_gradients(r.ddown, r.dup),
                         stiefelx::lora_gradients(ud, uu),
                         stiefelx::lora_gradients(inner, r.dweights), 0, r.dx);
    return r;
  };
  auto expected = both(stiefelx::lora_experts(gd, gu_scaled, 4, 1),
                       stiefelx::lora_experts(dd, du_scaled, 4, 1));
  expected.dup = times_factors(expected.dup, s, rank);
  expected.dweights = times_factors(expected.dweights, s, rank);
  expect_near(both(stiefelx::lora_experts(gd, gu, 4, s), stiefelx::lora_experts(dd, du, 4, s)),
              expected);
}

BOOST_AUTO_TEST_CASE(a_merge_is_the_plain_mixture_with_the_same_gates) {
  stiefelx::host::context ctx;
  auto l = random_layer<double>({4, 4, 2, 6, 9, 7}, 9);
  matrix const s = factors(), gates = random_matrix<double>(4, 1, 10);
  stiefelx::lora_experts const experts(l.down, l.up, 4, s);
  matrix merged = matrix::Zero(9, 6), y = matrix::Zero(9, 7);
  stiefelx::merge_experts(ctx, experts, gates, mixing::none, merged);
  for (index_t t = 0; t < 7; ++t)
    for (index_t i = 0; i < 4; ++i) {
      l.ids(i, t) = static_cast<int>(i);
      l.weights(i, t) = gates(i, 0);
    }
  stiefelx::routing const routes{matrix(matrix::Zero(4, 7)), matrix(l.weights),
                                 matrix_x<int>(l.ids), stiefelx::router_options{}};
  (void)moe_lora_forward(ctx, experts, routes, l.x, y, {.kind = mixing::none});
  BOOST_TEST(near(matrix(merged * l.x), y, tolerance<double>(8)));
}

BOOST_AUTO_TEST_CASE(numbers_of_any_type_are_one_number_and_a_wrong_shape_is_named) {
  stiefelx::host::context ctx;
  auto const l = random_layer<double>(sizes, 11);
  static_assert(std::is_same_v<decltype(stiefelx::lora_experts(l.down, l.up, 4, 2)),
                               stiefelx::lora_experts<matrix const&, matrix const&>>);
  static_assert(std::is_same_v<decltype(stiefelx::lora_experts(l.down, l.up, 4, 2.0F)),
                               stiefelx::lora_experts<matrix const&, matrix const&, double>>);
  matrix const wrong = matrix::Ones(4, 1);
  stiefelx::routing const routes{matrix(matrix::Zero(4, 7)), matrix(l.weights),
                                 matrix_x<int>(l.ids), stiefelx::router_options{}};
  matrix y(9, 7);
  BOOST_TEST(message_of([&] {
               (void)moe_lora_forward(ctx, stiefelx::lora_experts(l.down, l.up, 4, wrong), routes,
                                      l.x, y);
             }) == "moe_lora_forward: experts.scaling is 4x1, expected 1x4");
}

BOOST_AUTO_TEST_SUITE_END()
