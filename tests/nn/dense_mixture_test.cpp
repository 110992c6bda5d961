// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The mixture by products of all experts (dense_expert_columns) against the products with chosen
// experts: two texts for one definition, on every backend.

#include <cstring>
#include <limits>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <nn/expert_layer.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

/// A layer, where its sums start, and what dx keeps of its old entries.
struct call {
  mixing_options options{};
  double beta = 0;
  double start = 0;
  double loss = 0;  ///< factor of a loss that is half the squared norm of the tokens' Gram matrices
};

/// Results of both passes, and what the forward pass has saved.
template <class S>
struct run_result {
  layer_result<S> layer;
  matrix_x<S> h;
  matrix_x<double> coefficients, token_grams;
};

/// Both passes of a layer where banks of up to so many columns are multiplied whole.
template <class Case>
run_result<typename Case::scalar> run_with(index_t columns,
                                           expert_layer<typename Case::scalar> const& l, call c) {
  using S = typename Case::scalar;
  place<Case> p;
  p.ctx.options.dense_expert_columns = columns;
  auto down = p.up(l.down), up = p.up(l.up);
  stiefelx::lora_experts const experts(down, up, l.experts, l.scaling);
  auto const routes = routing_of(p, l);
  auto const x = p.up(l.x), dy = p.up(l.dy);
  auto const filled = [&](index_t rows, index_t cols, double value) {
    return p.up(matrix_x<S>::Constant(rows, cols, static_cast<S>(value)));
  };
  auto y = filled(l.up.cols(), l.x.cols(), c.start);
  auto saved = moe_lora_forward(p.ctx, experts, routes, x, y, c.options);
  run_result<S> r{{}, p.down(saved.h), p.down(saved.coefficients), p.down(saved.token_grams)};

  double const nan = std::numeric_limits<double>::quiet_NaN();
  auto ddown = filled(l.down.rows(), l.down.cols(), c.start);
  auto dup = filled(l.up.rows(), l.up.cols(), c.start);
  auto dweights = filled(l.weights.rows(), l.weights.cols(), nan);
  auto dx = filled(l.x.rows(), l.x.cols(), c.beta == 0 ? nan : 0.75);
  if (c.loss != 0)
    moe_lora_backward(
        p.ctx, experts, routes, saved, x, dy, ddown, dup, dweights, c.beta, dx,
        [&](auto const&, auto const& grams, auto& change) { axpy(p.ctx, c.loss, grams, change); });
  else
    moe_lora_backward(p.ctx, experts, routes, saved, x, dy, ddown, dup, dweights, c.beta, dx);
  r.layer = {p.down(y), p.down(ddown), p.down(dup), p.down(dweights), p.down(dx)};
  return r;
}

template <class S>
bool same_bits(matrix_x<S> const& a, matrix_x<S> const& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         (a.size() == 0 ||
          std::memcmp(a.data(), b.data(), sizeof(S) * static_cast<std::size_t>(a.size())) == 0);
}

template <class S>
void expect_agreement(run_result<S> const& found, run_result<S> const& expected, double bound) {
  auto const expect = [bound](char const* name, auto const& a, auto const& b) {
    BOOST_TEST_CONTEXT(name)
    BOOST_TEST(near(a, b, bound, 1 + static_cast<double>(b.norm())));
  };
  expect("y", found.layer.y, expected.layer.y);
  expect("ddown", found.layer.ddown, expected.layer.ddown);
  expect("dup", found.layer.dup, expected.layer.dup);
  expect("dweights", found.layer.dweights, expected.layer.dweights);
  expect("dx", found.layer.dx, expected.layer.dx);
  expect("h", found.h, expected.h);
  expect("coefficients", found.coefficients, expected.coefficients);
  expect("token_grams", found.token_grams, expected.token_grams);
}

/// Every list that a router may leave: full, with empty slots anywhere, empty, and with an expert twice.
template <class S>
expert_layer<S> layer_of_all_lists(layer_sizes n, bool repeated) {
  auto l = random_layer<S>(n, 21);
  l.ids(0, 0) = -1;
  l.ids(n.chosen - 1, 1) = -1;
  l.ids.col(2).setConstant(-1);
  if (repeated) l.ids(n.chosen - 1, 3) = l.ids(0, 3);
  return l;
}

mixing constexpr all_kinds[] = {mixing::none,      mixing::orthogonal, mixing::orthonormal,
                                mixing::symmetric, mixing::partial,    mixing::norm_preserving,
                                mixing::anchored};

layer_sizes const sizes{5, 3, 4, 9, 7, 11};
layer_sizes const register_rank{4, 2, 8, 9, 7, 6};  // a rank that one lane has compiled for it

/// More than the rounding of every sum of a layer, whose Gram matrices are far from singular.
template <class S>
double bound_of(layer_sizes n) {
  return tolerance<S>(n.d_in + n.d_out + n.experts * n.rank + n.tokens, 64);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(dense_mixture)

BOOST_AUTO_TEST_CASE_TEMPLATE(all_experts_and_chosen_experts_agree, Case, double_cases) {
  for (layer_sizes const n : {sizes, register_rank})
    for (mixing const kind : all_kinds)
      for (bool const repeated : {false, true}) {
        // A second copy of an output is guarded, and lengths of what rounding leaves of it mean nothing.
        if (repeated && kind != mixing::none && kind != mixing::orthogonal) continue;
        BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind) << (repeated ? ", repeated" : "")) {
          auto const l = layer_of_all_lists<double>(n, repeated);
          call const c{{.kind = kind, .part = 0.6}, 0, 0.25};
          index_t const all = n.experts * n.rank;
          expect_agreement(run_with<Case>(all, l, c), run_with<Case>(all - 1, l, c),
                           bound_of<double>(n));
        }
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_id_of_no_expert_makes_an_empty_slot, Case, double_cases) {
  for (mixing const kind : all_kinds) {
    auto const empty = layer_of_all_lists<double>(sizes, false);
    auto other = empty;
    for (int& id : other.ids.reshaped())
      if (id < 0) id = static_cast<int>(sizes.experts);
    other.ids(1, 2) = std::numeric_limits<int>::max();
    call const c{{.kind = kind, .part = 0.6}, 0, 0.25};
    auto const a = run_with<Case>(512, other, c), b = run_with<Case>(512, empty, c);
    BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind)) {
      BOOST_TEST(same_bits(a.layer.y, b.layer.y));
      BOOST_TEST(same_bits(a.layer.ddown, b.layer.ddown));
      BOOST_TEST(same_bits(a.layer.dup, b.layer.dup));
      BOOST_TEST(same_bits(a.layer.dweights, b.layer.dweights));
      BOOST_TEST(same_bits(a.layer.dx, b.layer.dx));
      BOOST_TEST(same_bits(a.coefficients, b.coefficients));
      BOOST_TEST(same_bits(a.token_grams, b.token_grams));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(empty_slots_before_the_experts_change_nothing, Case, double_cases) {
  // In `anchored` too, where the first of the experts leads.
  for (mixing const kind : all_kinds) {
    auto const l = layer_of_all_lists<double>(sizes, false);
    auto packed = l;
    matrix_x<int> place = matrix_x<int>::Constant(l.ids.rows(), l.ids.cols(), -1);
    for (index_t t = 0; t < l.ids.cols(); ++t) {
      index_t filled = 0;
      packed.ids.col(t).setConstant(-1);
      for (index_t i = 0; i < l.ids.rows(); ++i)
        if (l.ids(i, t) >= 0) {
          packed.ids(filled, t) = l.ids(i, t);
          packed.weights(filled, t) = l.weights(i, t);
          place(i, t) = static_cast<int>(filled++);
        }
    }
    for (index_t const columns : {0, 512}) {
      call const c{{.kind = kind, .part = 0.6}, 0, 0.25};
      auto const found = run_with<Case>(columns, l, c);
      auto expected = run_with<Case>(columns, packed, c);
      auto const& gradient = expected.layer.dweights;
      matrix_x<double> moved = matrix_x<double>::Zero(gradient.rows(), gradient.cols());
      for (index_t t = 0; t < moved.cols(); ++t)
        for (index_t i = 0; i < moved.rows(); ++i)
          if (place(i, t) >= 0) moved(i, t) = gradient(place(i, t), t);
      BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind) << ", columns " << columns) {
        double const bound = bound_of<double>(sizes);
        auto const expect = [bound](matrix_x<double> const& a, matrix_x<double> const& b) {
          BOOST_TEST(near(a, b, bound, 1 + b.norm()));
        };
        expect(found.layer.y, expected.layer.y);
        expect(found.layer.ddown, expected.layer.ddown);
        expect(found.layer.dup, expected.layer.dup);
        expect(found.layer.dx, expected.layer.dx);
        expect(found.layer.dweights, moved);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(any_beta_is_taken, Case, double_cases) {
  auto const l = layer_of_all_lists<double>(sizes, false);
  for (double const beta : {0.0, 1.0, 0.5}) {
    call const c{{.kind = mixing::orthogonal}, beta, 0};
    auto const found = run_with<Case>(512, l, c);
    expect_agreement(found, run_with<Case>(0, l, c), bound_of<double>(sizes));
    // A token without experts has its old gradient alone.
    matrix_x<double> const kept = matrix_x<double>::Constant(sizes.d_in, 1, 0.75 * beta);
    BOOST_TEST(same_bits<double>(found.layer.dx.col(2), kept));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(losses_on_the_outputs_go_along, Case, double_cases) {
  auto const l = layer_of_all_lists<double>(sizes, false);
  for (mixing const kind : {mixing::none, mixing::orthogonal}) {
    call const c{{.kind = kind}, 0, 0, 0.01};
    auto const found = run_with<Case>(512, l, c);
    expect_agreement(found, run_with<Case>(0, l, c), bound_of<double>(sizes));
    BOOST_TEST(!near(found.layer.dup, run_with<Case>(512, l, {{.kind = kind}, 0, 0}).layer.dup,
                     bound_of<double>(sizes)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(float_has_the_digits_that_its_products_leave, Case, real_cases) {
  using S = typename Case::scalar;
  auto const l = layer_of_all_lists<S>(register_rank, false);
  call const c{{.kind = mixing::orthogonal}, 0, 0};
  auto const d = define_layer(l, c.options);
  auto const found = run_with<Case>(512, l, c).layer;
  double const bound = rank_space_bound(l, d.mixture);
  auto const norm_of = [](auto const& a) { return static_cast<double>(a.norm()); };
  BOOST_TEST(near(found.y, d.exact.y, bound, norm_of(d.size.y)));
  BOOST_TEST(near(found.ddown, d.exact.ddown, bound, norm_of(d.size.ddown)));
  BOOST_TEST(near(found.dup, d.exact.dup, bound, norm_of(d.size.dup)));
  BOOST_TEST(near(found.dx, d.exact.dx, bound, norm_of(d.size.dx)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_limit_is_the_largest_bank_that_is_multiplied_whole, Case,
                              double_cases) {
  // A whole product multiplies an infinite entry of an expert that no token listed by zero.
  auto l = random_layer<double>(sizes, 4);
  l.ids.setConstant(1);
  l.up(0, 0) = std::numeric_limits<double>::infinity();
  call const c{{.kind = mixing::none}, 0, 0};
  index_t const all = sizes.experts * sizes.rank;
  BOOST_TEST(!run_with<Case>(all, l, c).layer.y.allFinite());
  BOOST_TEST(run_with<Case>(all - 1, l, c).layer.y.allFinite());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(with_zero_up_orthogonal_is_plain_to_the_bit, Case, real_cases) {
  using S = typename Case::scalar;
  auto l = layer_of_all_lists<S>(sizes, false);
  l.up.setZero();
  auto const plain = run_with<Case>(512, l, {{.kind = mixing::none}, 1, 0.25}).layer;
  auto const found = run_with<Case>(512, l, {{.kind = mixing::orthogonal}, 1, 0.25}).layer;
  BOOST_TEST(same_bits(found.y, plain.y));
  BOOST_TEST(same_bits(found.ddown, plain.ddown));
  BOOST_TEST(same_bits(found.dup, plain.dup));
  BOOST_TEST(same_bits(found.dweights, plain.dweights));
  BOOST_TEST(same_bits(found.dx, plain.dx));
  BOOST_TEST((plain.dup.array() != S(0.25)).any());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_are_those_of_central_differences, Case, double_cases) {
  auto const l = layer_of_all_lists<double>({4, 3, 2, 6, 7, 5}, false);
  call const c{{.kind = mixing::orthonormal}, 0, 0};
  auto const weights = matrix_x<double>(random_matrix<double>(7, 5, 8));
  auto const with = [&](auto member) {
    return [&, member](matrix_x<double> const& moved) {
      auto other = l;
      other.*member = moved;
      return wave_loss(weights, run_with<Case>(512, other, c).layer.y);
    };
  };
  auto at = l;
  at.dy = wave_gradient(weights, run_with<Case>(512, l, c).layer.y);
  auto const g = run_with<Case>(512, at, c).layer;
  using L = expert_layer<double>;
  BOOST_TEST(is_gradient(with(&L::down), l.down, g.ddown, 1, 8));
  BOOST_TEST(is_gradient(with(&L::up), l.up, g.dup, 2, 8));
  BOOST_TEST(is_gradient(with(&L::x), l.x, g.dx, 3, 8));
  BOOST_TEST(is_gradient(with(&L::weights), l.weights, g.dweights, 4, 8));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(sums_over_parts_of_the_tokens_are_sums_over_tokens, Case,
                              double_cases) {
  // Three parts of cross_moments_body, the last one short; define_layer takes the definition's loops.
  layer_sizes const n{3, 2, 2, 4, 5, 300};
  auto const l = random_layer<double>(n, 5);
  BOOST_TEST_REQUIRE(stiefelx::detail::cross_parts(n.tokens, n.experts * n.rank) == 3);
  mixing_options const options{.kind = mixing::orthogonal};
  auto const d = define_layer(l, options);
  auto const found = run_with<Case>(512, l, {options, 0, 0}).layer;
  BOOST_TEST(near(found.dup, d.exact.dup, rank_space_bound(l, d.mixture),
                  static_cast<double>(d.size.dup.norm())));
}

#if !defined(__CUDACC__)

BOOST_AUTO_TEST_CASE(scratch_of_all_experts_is_counted) {
  layer_sizes const n{8, 2, 16, 24, 40, 3000};
  auto const l = random_layer<double>(n, 6);
  for (mixing const kind : {mixing::none, mixing::orthogonal}) {
    place<test_case<host_backend, double>> p;
    p.ctx.options.dense_expert_columns = n.experts * n.rank;
    stiefelx::moe_lora_sizes const of_call{.experts = n.experts,
                                           .chosen = n.chosen,
                                           .rank = n.rank,
                                           .d_out = n.d_out,
                                           .tokens = n.tokens,
                                           .dense_columns = dense_expert_columns(p.ctx)};
    index_t const vectors = 8 * n.experts * n.rank * n.tokens;
    index_t const counted = stiefelx::workspace_bytes<double>(of_call, {.kind = kind});
    BOOST_TEST(counted >= 2 * vectors);
    stiefelx::lora_experts const experts(l.down, l.up, l.experts, l.scaling);
    auto const routes = routing_of(p, l);
    matrix_x<double> y = l.dy, ddown = l.down, dup = l.up, dweights = l.weights, dx = l.x;
    auto saved = moe_lora_forward(p.ctx, experts, routes, l.x, y, {.kind = kind});
    moe_lora_backward(p.ctx, experts, routes, saved, l.x, l.dy, ddown, dup, dweights, 0, dx);
    auto const held = static_cast<index_t>(p.ctx.memory.capacity());
    BOOST_TEST(held >= counted);
    // Verbs take blocks of their own, and the arena grows by doubling.
    BOOST_TEST(held <= 4 * counted + (1 << 21));
  }
}

#endif

BOOST_AUTO_TEST_SUITE_END()
