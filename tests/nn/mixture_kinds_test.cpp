// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every kind and policy of a mixture in rank space and in token space, with empty slots. The k x k
// algebra itself is held to its definition by team/mixing_coefficients_test.cpp; here it is applied to outputs in
// long double, and what is tested is the way there and back.

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <nn/mixture_algebra.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::dependent_experts;
using stiefelx::moe_lora_saved;
using stiefelx::moe_lora_sizes;

using host_float = test_case<host_backend, float>;
using host_double = test_case<host_backend, double>;
using cases = std::tuple<host_float, host_double, test_case<archetype_backend, double>>;

template <class S, class T>
void expect_near(layer_result<S> const& found, layer_result<T> const& expected, double bound) {
  auto const check = [&](char const* name, auto const& a, auto const& b) {
    double const size = 1 + static_cast<double>(frobenius(table(b)));
    BOOST_TEST_CONTEXT(name) BOOST_TEST(near(a, b, bound, size));
  };
  check("y", found.y, expected.y);
  check("ddown", found.ddown, expected.ddown);
  check("dup", found.dup, expected.dup);
  check("dweights", found.dweights, expected.dweights);
  check("dx", found.dx, expected.dx);
}

template <class S>
bool same_bits(layer_result<S> const& a, layer_result<S> const& b) {
  auto const equal = [](matrix_x<S> const& x, matrix_x<S> const& y) {
    return x.size() == y.size() &&
           std::memcmp(x.data(), y.data(), sizeof(S) * static_cast<std::size_t>(x.size())) == 0;
  };
  return equal(a.y, b.y) && equal(a.ddown, b.ddown) && equal(a.dup, b.dup) &&
         equal(a.dweights, b.dweights) && equal(a.dx, b.dx);
}

template <class S>
bool is_finite(layer_result<S> const& r) {
  return r.y.allFinite() && r.ddown.allFinite() && r.dup.allFinite() && r.dweights.allFinite() &&
         r.dx.allFinite();
}

/// A layer on the host, for forms of the call that run_layer() does not have.
template <class S>
struct host_layer {
  stiefelx::host::context ctx;
  expert_layer<S> l;
  matrix_x<S> y, ddown, dup, dweights, dx;

  explicit host_layer(expert_layer<S> const& data, int threads = 1)
      : ctx({.threads = threads}),
        l(data),
        y(matrix_x<S>::Zero(l.up.cols(), l.x.cols())),
        ddown(matrix_x<S>::Zero(l.down.rows(), l.down.cols())),
        dup(matrix_x<S>::Zero(l.up.rows(), l.up.cols())),
        dweights(matrix_x<S>::Zero(l.ids.rows(), l.ids.cols())),
        dx(matrix_x<S>::Zero(l.x.rows(), l.x.cols())) {}

  auto routes() const {
    matrix_x<S> const none = matrix_x<S>::Zero(l.experts, l.x.cols());
    return stiefelx::routing<matrix_x<S>, matrix_x<S>, matrix_x<int>>{none, l.weights, l.ids, {}};
  }
  auto experts() { return stiefelx::lora_experts{l.down, l.up, l.experts, l.scaling}; }
  template <class Saved>
  layer_result<S> finish(Saved& saved) {
    moe_lora_backward(ctx, experts(), routes(), saved, l.x, l.dy, ddown, dup, dweights, 0, dx);
    return {y, ddown, dup, dweights, dx};
  }
};

layer_sizes const shapes[] = {{4, 2, 3, 6, 20, 6},
                              {5, 3, 8, 6, 20, 5},
                              {3, 3, 16, 6, 20, 5},
                              {1, 1, 5, 6, 20, 4},
                              {6, 1, 17, 6, 20, 4}};

}  // namespace

BOOST_AUTO_TEST_SUITE(mixture_kinds)

BOOST_AUTO_TEST_CASE_TEMPLATE(every_kind_and_policy_is_its_algebra_on_the_outputs, Case, cases) {
  using S = typename Case::scalar;
  for (mixing kind : all_kinds)
    for (dependent_experts policy : policies)
      for (layer_sizes const& n : shapes) {
        auto const l = layer_with_empty_slots<S>(n, 3);
        auto const options = options_of(kind, policy);
        auto const s = static_cast<long double>(l.scaling);
        auto const m = mix_by_algebra(
            expert_outputs<long double>(l), loop_cast<long double>(l.weights),
            loop_cast<long double>(l.dy) * s, stiefelx::detail::algebra_of<S>(options));
        matrix_x<long double> const y = m.y * s;
        BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind) << ", policy "
                                   << static_cast<int>(policy) << ", k = " << n.chosen)
        expect_near(run_layer<Case>(l, options), through_experts(l, y, m.de, m.dweights),
                    tolerance<S>(n.experts * n.rank, 10));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(token_space_has_every_kind_and_policy_too, Case, cases) {
  using S = typename Case::scalar;
  for (mixing kind : all_kinds)
    for (dependent_experts policy : policies)
      for (index_t k : {1, 2, 4}) {
        matrix_x<S> e = random_matrix<S>(37, 3 * k, 1);
        e.col(k).setZero();
        matrix_x<S> const c = random_matrix<S>(k, 3, 2), dy = random_matrix<S>(37, 3, 3);
        auto const options = options_of(kind, policy);
        auto const m =
            mix_by_algebra(loop_cast<long double>(e), loop_cast<long double>(c),
                           loop_cast<long double>(dy), stiefelx::detail::algebra_of<S>(options));
        place<Case> p;
        auto const outputs = p.up(e), weights = p.up(c);
        auto y = p.up(dy), de = p.up(e), dweights = p.up(c);
        auto const saved = expert_gram_schmidt(p.ctx, outputs, weights, y, options);
        expert_gram_schmidt_backward(p.ctx, outputs, weights, saved, p.up(dy), de, dweights);
        BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind) << ", k = " << k) {
          BOOST_TEST(near(p.down(y), m.y, tolerance<S>(37)));
          BOOST_TEST(near(p.down(de), m.de, tolerance<S>(37, 10)));
          BOOST_TEST(near(p.down(dweights), m.dweights, tolerance<S>(37, 10)));
        }
      }
}

BOOST_AUTO_TEST_CASE(gradients_agree_with_central_differences) {
  for (mixing kind : all_kinds)
    for (dependent_experts policy : policies) {
      expert_layer<double> l = layer_with_empty_slots<double>({4, 3, 3, 6, 9, 5}, 3);
      auto const options = options_of(kind, policy);
      matrix_x<double> const c = random_matrix<double>(9, 5, 4);
      l.dy = wave_gradient(c, run_layer<host_double>(l, options).y);
      auto const r = run_layer<host_double>(l, options);
      auto const check = [&](char const* name, auto member, matrix_x<double> const& gradient) {
        auto const loss = [&](matrix_x<double> const& moved) {
          expert_layer<double> other = l;
          other.*member = moved;
          return wave_loss(c, run_layer<host_double>(other, options).y);
        };
        BOOST_TEST_CONTEXT(name << ", kind " << static_cast<int>(kind) << ", policy "
                                << static_cast<int>(policy))
        BOOST_TEST(is_gradient(loss, l.*member, gradient, 5, 7));
      };
      check("down", &expert_layer<double>::down, r.ddown);
      check("up", &expert_layer<double>::up, r.dup);
      check("weights", &expert_layer<double>::weights, r.dweights);
      check("x", &expert_layer<double>::x, r.dx);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(with_zero_up_every_kind_is_plain_to_the_bit, Case, cases) {
  using S = typename Case::scalar;
  for (layer_sizes const& n : shapes) {
    auto l = layer_with_empty_slots<S>(n, 4);
    l.up.setZero();
    auto const plain = run_layer<Case>(l, options_of(mixing::none));
    BOOST_TEST(plain.dup.norm() > 0);
    for (mixing kind : all_kinds)
      for (dependent_experts policy : {dependent_experts::keep, dependent_experts::ridge})
        BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind))
    BOOST_TEST(same_bits(run_layer<Case>(l, options_of(kind, policy)), plain));
    auto const dropped =
        run_layer<Case>(l, options_of(mixing::orthogonal, dependent_experts::drop));
    BOOST_TEST(dropped.dup.norm() == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(empty_slots_are_as_if_they_were_not_listed, Case, cases) {
  using S = typename Case::scalar;
  for (mixing kind : all_kinds) {
    auto const l = random_layer<S>({5, 2, 3, 6, 20, 6}, 5);
    auto wide = l;
    wide.ids = matrix_x<int>::Constant(4, 6, -1);
    // Not read, whatever it is.
    wide.weights = matrix_x<S>::Constant(4, 6, std::numeric_limits<S>::quiet_NaN());
    for (index_t row = 0; row < 2; ++row) {
      wide.ids.row(2 * row) = l.ids.row(row);
      wide.weights.row(2 * row) = l.weights.row(row);
    }
    auto const narrow = run_layer<Case>(l, options_of(kind));
    auto found = run_layer<Case>(wide, options_of(kind));
    BOOST_TEST(found.dweights.row(1).norm() == 0);
    BOOST_TEST(found.dweights.row(3).norm() == 0);
    matrix_x<S> filled(2, 6);
    filled << found.dweights.row(0), found.dweights.row(2);
    found.dweights = filled;
    BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind))
    expect_near(found, narrow, tolerance<S>(20));
    // Not even a NaN of the same token gets there.
    wide.x(0, 3) = std::numeric_limits<S>::quiet_NaN();
    matrix_x<S> const beside_nan = run_layer<Case>(wide, options_of(kind)).dweights;
    BOOST_TEST(std::isnan(beside_nan(0, 3)));
    BOOST_TEST(beside_nan.row(1).norm() == 0);
    BOOST_TEST(beside_nan.row(3).norm() == 0);
  }
}

BOOST_AUTO_TEST_CASE(equal_opposite_and_zero_experts_are_finite_in_every_kind_and_policy) {
  for (mixing kind : all_kinds)
    for (dependent_experts policy : policies)
      for (float factor : {1.0F, -1.0F, 0.0F}) {
        auto l = layer_with_empty_slots<float>({5, 4, 8, 6, 20, 7}, 6);
        l.down.middleCols(8, 8) = l.down.middleCols(0, 8);
        l.up.middleRows(8, 8) = factor * l.up.middleRows(0, 8);
        l.x.col(3).setZero();
        l.ids.col(4).setConstant(2);  // four times the same
        BOOST_TEST(is_finite(run_layer<host_float>(l, options_of(kind, policy))));
      }
}

BOOST_AUTO_TEST_CASE(symmetric_mixing_does_not_depend_on_the_listed_order) {
  auto const l = layer_with_empty_slots<double>({6, 4, 3, 6, 20, 7}, 7);
  auto turned = l;
  turned.ids = l.ids.colwise().reverse();
  turned.weights = l.weights.colwise().reverse();
  auto r = run_layer<host_double>(turned, options_of(mixing::symmetric));
  r.dweights = matrix_x<double>(r.dweights.colwise().reverse());
  expect_near(r, run_layer<host_double>(l, options_of(mixing::symmetric)),
              tolerance<double>(20, 10));
  auto const here = run_layer<host_double>(l, options_of(mixing::orthogonal));
  auto const there = run_layer<host_double>(turned, options_of(mixing::orthogonal));
  BOOST_TEST((here.y - there.y).norm() > 1e-2);
}

// --- what is saved -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_callers_matrices_hold_what_is_saved) {
  layer_sizes const n{5, 2, 3, 6, 9, 7};
  auto const l = layer_with_empty_slots<float>(n, 8);
  for (mixing kind : all_kinds) {
    auto const options = options_of(kind);
    host_layer<float> own(l);
    matrix_x<float> room = matrix_x<float>::Constant(40, 10, -77);
    auto h = room.block(3, 1, 6, 7);
    matrix_x<double> a(2, 7), grams(4, 7), moments(15, 15);
    moe_lora_saved saved{h, a, grams, moments};
    moe_lora_forward(own.ctx, own.experts(), own.routes(), own.l.x, own.y, saved, options);
    BOOST_TEST((saved.options.kind == kind));
    BOOST_TEST(same_bits(own.finish(saved), run_layer<host_float>(l, options)));
    BOOST_TEST((room.leftCols(1).array() == -77.0F).all());
    // A plain mixture has no Gram matrices, so nothing has to be there for them.
    host_layer<float> other(l);
    matrix_x<double> empty;
    moe_lora_saved little{h, a, empty, empty};
    auto const forward = [&] {
      moe_lora_forward(other.ctx, other.experts(), other.routes(), l.x, other.y, little, options);
    };
    BOOST_TEST(message_of(forward) ==
               (kind == mixing::none ? "nothing was thrown"
                                     : "moe_lora_forward: saved.token_grams is 0x0, expected 4x7"));
    BOOST_TEST(other.y.isZero(0) == (kind != mixing::none));
  }
}

BOOST_AUTO_TEST_CASE(wrong_matrices_for_what_is_saved_are_refused) {
  auto const l = random_layer<float>({5, 2, 3, 6, 9, 7}, 9);
  host_layer<float> own(l);
  matrix_x<float> h(6, 7);
  matrix_x<double> a(2, 7), grams(4, 7), moments(15, 15), wrong(3, 3);
  auto const forward = [&](auto saved) {
    return message_of(
        [&] { moe_lora_forward(own.ctx, own.experts(), own.routes(), own.l.x, own.y, saved); });
  };
  BOOST_TEST(forward(moe_lora_saved{h, wrong, grams, moments}) ==
             "moe_lora_forward: saved.coefficients is 3x3, expected 2x7");
  BOOST_TEST(forward(moe_lora_saved{h, a, grams, wrong}) ==
             "moe_lora_forward: saved.moments is 3x3, expected 15x15");
  BOOST_TEST(forward(moe_lora_saved{own.l.x, a, grams, moments}) ==
             "moe_lora_forward: saved.h overlaps x, expected separate memory");
  auto part = own.y.middleRows(0, 6);
  BOOST_TEST(forward(moe_lora_saved{part, a, grams, moments}) ==
             "moe_lora_forward: saved.h overlaps y, expected separate memory");
  BOOST_TEST(own.y.isZero(0));
  auto const with = [&](mixing_options options) {
    return message_of([&] {
      (void)moe_lora_forward(own.ctx, own.experts(), own.routes(), own.l.x, own.y, options);
    });
  };
  BOOST_TEST(with({.ridge = -1}) ==
             "moe_lora_forward: ridge is -1.000000, expected a number in [0, 1]");
  BOOST_TEST(with({.part = 1.5}) ==
             "moe_lora_forward: part is 1.500000, expected a number in [0, 1]");
}

BOOST_AUTO_TEST_CASE(saved_bytes_are_counted_and_a_hundredth_of_explicit_gram_schmidt) {
  for (mixing kind : all_kinds) {
    host_layer<float> own(random_layer<float>({5, 2, 3, 6, 9, 7}, 10));
    auto const saved =
        moe_lora_forward(own.ctx, own.experts(), own.routes(), own.l.x, own.y, options_of(kind));
    index_t const bytes =
        4 * saved.h.size() +
        8 * (saved.coefficients.size() + saved.token_grams.size() + saved.moments.size());
    BOOST_TEST(stiefelx::saved_bytes<float>({5, 2, 3, 9, 7}, options_of(kind)) == bytes);
  }
  moe_lora_sizes const n{.experts = 8, .chosen = 2, .rank = 16, .d_out = 4096, .tokens = 2048};
  index_t const outputs = 2 * n.tokens * n.chosen * n.d_out * 4;
  BOOST_TEST(100 * stiefelx::saved_bytes<float>(n) <= outputs);
}

BOOST_AUTO_TEST_CASE(scratch_holds_at_least_what_is_counted) {
  layer_sizes const n{4, 2, 16, 24, 40, 3000};
  for (mixing kind : all_kinds) {
    host_layer<float> own(random_layer<float>(n, 11));
    moe_lora_sizes const sizes{n.experts, n.chosen, n.rank, n.d_out, n.tokens};
    index_t const counted = stiefelx::saved_bytes<float>(sizes, options_of(kind)) +
                            stiefelx::workspace_bytes<float>(sizes, options_of(kind));
    auto saved =
        moe_lora_forward(own.ctx, own.experts(), own.routes(), own.l.x, own.y, options_of(kind));
    (void)own.finish(saved);
    auto const held = static_cast<index_t>(own.ctx.memory.capacity());
    BOOST_TEST(held >= counted);
    // Verbs take blocks of their own, and the arena grows by doubling.
    BOOST_TEST(held <= 4 * counted + (1 << 21));
  }
}

// --- status and determinism ----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_status_tells_of_guarded_experts, Case, cases) {
  using S = typename Case::scalar;
  auto const status_of = [](expert_layer<S> const& l, mixing kind) {
    place<Case> p;
    auto down = p.up(l.down), up = p.up(l.up), y = p.up(l.dy);
    auto const x = p.up(l.x);
    auto status = status_matrix<typename Case::backend>(p.ctx);
    stiefelx::lora_experts const experts(down, up, l.experts, l.scaling);
    (void)moe_lora_forward(p.ctx, experts, routing_of(p, l), x, y, options_of(kind), status);
    return status_value(p.ctx, status);
  };
  for (mixing kind : all_kinds) {
    auto l = layer_with_empty_slots<S>({5, 3, 3, 6, 20, 7}, 12);
    bool const plain = kind == mixing::none;
    BOOST_TEST(status_of(l, kind) == 0);
    l.ids(2, 4) = l.ids(0, 4);
    BOOST_TEST(status_of(l, kind) == (plain ? 0 : stiefelx::rank_deficient));
    l.x(0, 5) = std::numeric_limits<S>::quiet_NaN();
    BOOST_TEST((status_of(l, kind) & stiefelx::not_finite) == (plain ? 0 : stiefelx::not_finite));
  }
}

BOOST_AUTO_TEST_CASE(results_have_the_same_bits_on_every_number_of_threads_and_every_run) {
  auto l = random_layer<float>({8, 2, 16, 40, 48, 700}, 13);
  l.ids.row(0).setConstant(5);  // nearly all of the work is one expert's
  for (mixing kind : {mixing::none, mixing::orthogonal, mixing::symmetric}) {
    auto const run = [&](int threads) {
      host_layer<float> own(l, threads);
      auto saved =
          moe_lora_forward(own.ctx, own.experts(), own.routes(), l.x, own.y, options_of(kind));
      return own.finish(saved);
    };
    auto const alone = run(1);
    for (int threads : {1, 2, 3}) BOOST_TEST(same_bits(run(threads), alone));
  }
}

BOOST_AUTO_TEST_SUITE_END()
