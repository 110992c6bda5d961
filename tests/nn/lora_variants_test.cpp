// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Three factors, lengths of rows, and merging: against the dense weight that they stand for.

#include <cmath>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/dora.hpp>
#include <stiefelx/nn/factored_lora.hpp>
#include <stiefelx/nn/lora_scaling.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;

constexpr double scaling = 1.5;
constexpr index_t d_in = 9, r = 3, d_out = 7, tokens = 6;

/// Everything that one of the layers reads.
struct values {
  matrix frozen = random_matrix<double>(d_out, d_in, 1);
  matrix down = random_matrix<double>(d_in, r, 2);
  matrix middle = random_matrix<double>(r, r, 3);
  matrix up = random_matrix<double>(r, d_out, 4);
  matrix magnitude = random_matrix<double>(1, d_out, 5);
  matrix x = random_matrix<double>(d_in, tokens, 6);

  matrix adapted() const { return frozen + scaling * up.transpose() * down.transpose(); }
};

matrix zero(index_t rows, index_t cols) { return matrix::Zero(rows, cols); }

template <class Case>
struct factored {
  place<Case> p;
  matrix y, h, g;

  matrix const& forward(values const& v) {
    auto out = p.up(zero(d_out, tokens)), first = p.up(zero(r, tokens)),
         second = p.up(zero(r, tokens));
    stiefelx::factored_lora_forward(p.ctx, p.up(v.down), p.up(v.middle), p.up(v.up), scaling,
                                    p.up(v.x), out, first, second);
    y = p.down(out);
    h = p.down(first);
    g = p.down(second);
    return y;
  }
};

template <class Case>
struct weighted {
  place<Case> p;
  matrix norms, y, z, h;

  void measure(values const& v) {
    auto n = p.up(zero(1, d_out));
    stiefelx::dora_norms(p.ctx, p.up(v.frozen), p.up(v.down), p.up(v.up), scaling, n);
    norms = p.down(n);
  }
  matrix const& forward(values const& v) {
    auto pre = p.up(matrix(v.frozen * v.x)), out = p.up(zero(d_out, tokens)),
         first = p.up(zero(r, tokens));
    stiefelx::dora_forward(p.ctx, p.up(v.magnitude), p.up(norms), p.up(v.down), p.up(v.up), scaling,
                           p.up(v.x), pre, out, first);
    y = p.down(out);
    z = p.down(pre);
    h = p.down(first);
    return y;
  }
};

template <class Layer>
void check(Layer& layer, values const& at, matrix const& c, char const* name,
           matrix values::* member, matrix const& gradient) {
  auto const loss = [&](matrix const& moved) {
    values other = at;
    other.*member = moved;
    return wave_loss(c, layer.forward(other));
  };
  BOOST_TEST_CONTEXT(name) BOOST_TEST(is_gradient(loss, at.*member, gradient, 8, 9));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(lora_variants)

BOOST_AUTO_TEST_CASE_TEMPLATE(three_factors_agree_with_their_product_and_differences, Case,
                              double_cases) {
  values const at;
  factored<Case> layer;
  matrix const c = random_matrix<double>(d_out, tokens, 7), y = layer.forward(at);
  matrix const direct =
      scaling * at.up.transpose() * (at.middle.transpose() * (at.down.transpose() * at.x));
  BOOST_TEST(near(y, direct, tolerance<double>(d_in)));

  auto& p = layer.p;
  auto ddown = p.up(zero(d_in, r)), dmiddle = p.up(zero(r, r)), dup = p.up(zero(r, d_out));
  auto dx = p.up(matrix::Ones(d_in, tokens));
  stiefelx::factored_lora_backward(p.ctx, p.up(at.down), p.up(at.middle), p.up(at.up), scaling,
                                   p.up(at.x), p.up(layer.h), p.up(layer.g),
                                   p.up(wave_gradient(c, y)), ddown, dmiddle, dup, 0.5, dx);
  check(layer, at, c, "down", &values::down, p.down(ddown));
  check(layer, at, c, "middle", &values::middle, p.down(dmiddle));
  check(layer, at, c, "up", &values::up, p.down(dup));
  check(layer, at, c, "x", &values::x, p.down(dx) - matrix::Constant(d_in, tokens, 0.5));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(norms_are_those_of_the_dense_rows, Case, real_cases) {
  using S = typename Case::scalar;
  values const at;
  place<Case> p;
  auto n = p.up(zero(1, d_out));
  auto const norms = [&](double s) {
    stiefelx::dora_norms(p.ctx, p.up(matrix_x<S>(at.frozen.cast<S>())),
                         p.up(matrix_x<S>(at.down.cast<S>())), p.up(matrix_x<S>(at.up.cast<S>())),
                         s, n);
    return p.down(n);
  };
  matrix const rows = at.adapted().rowwise().norm().transpose();
  // Terms of the squared norm may cancel; none is larger than both parts' squares together.
  double const parts = at.frozen.norm() + scaling * at.up.norm() * at.down.norm();
  double const condition = parts * parts / (rows.minCoeff() * rows.minCoeff());
  BOOST_TEST(near(norms(scaling), rows, tolerance<S>(d_in, condition)));
  BOOST_TEST(near(norms(0), at.frozen.rowwise().norm().transpose(), tolerance<S>(d_in)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rows_of_the_adapted_weight_get_their_magnitudes, Case, double_cases) {
  values const at;
  weighted<Case> layer;
  layer.measure(at);
  matrix const c = random_matrix<double>(d_out, tokens, 7), y = layer.forward(at);
  matrix const unit = at.adapted().rowwise().normalized();
  matrix const direct = at.magnitude.transpose().asDiagonal() * (unit * at.x);
  double const condition = at.adapted().norm() / at.adapted().rowwise().norm().minCoeff();
  BOOST_TEST(near(y, direct, tolerance<double>(d_in, condition * condition)));

  auto& p = layer.p;
  auto dmagnitude = p.up(zero(1, d_out)), ddown = p.up(zero(d_in, r)), dup = p.up(zero(r, d_out));
  auto dz = p.up(wave_gradient(c, y)), dx = p.up(matrix::Ones(d_in, tokens));
  auto const& dy = dz;
  stiefelx::dora_backward(p.ctx, p.up(at.magnitude), p.up(layer.norms), p.up(at.down), p.up(at.up),
                          scaling, p.up(at.x), p.up(layer.z), p.up(layer.h), dy, dmagnitude, ddown,
                          dup, dz, 0, dx);
  // Norms are constants of the gradient, so forward() keeps those of `at`.
  check(layer, at, c, "magnitude", &values::magnitude, p.down(dmagnitude));
  check(layer, at, c, "down", &values::down, p.down(ddown));
  check(layer, at, c, "up", &values::up, p.down(dup));
  check(layer, at, c, "x", &values::x, p.down(dx) + at.frozen.transpose() * p.down(dz));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_row_without_a_direction_gives_zero, Case, double_cases) {
  values at;
  at.frozen.row(2).setZero();
  at.up.col(2).setZero();
  weighted<Case> layer;
  layer.measure(at);
  BOOST_TEST(layer.norms(0, 2) == 0);
  BOOST_TEST(layer.forward(at).row(2).isZero(0));
  auto& p = layer.p;
  auto dmagnitude = p.up(zero(1, d_out)), ddown = p.up(zero(d_in, r)), dup = p.up(zero(r, d_out));
  auto dz = p.up(zero(d_out, tokens)), dx = p.up(zero(d_in, tokens));
  stiefelx::dora_backward(p.ctx, p.up(at.magnitude), p.up(layer.norms), p.up(at.down), p.up(at.up),
                          scaling, p.up(at.x), p.up(layer.z), p.up(layer.h),
                          p.up(matrix::Ones(d_out, tokens)), dmagnitude, ddown, dup, dz, 0, dx);
  BOOST_TEST(p.down(dmagnitude)(0, 2) == 0);
  BOOST_TEST(p.down(dz).row(2).isZero(0));
  BOOST_TEST(p.down(dx).allFinite());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_merged_weight_is_the_dense_one_and_comes_apart, Case,
                              double_cases) {
  values const at;
  place<Case> p;
  auto w = p.up(at.frozen);
  stiefelx::merge_lora(p.ctx, p.up(at.down), p.up(at.up), scaling, w);
  BOOST_TEST(near(p.down(w), at.adapted(), tolerance<double>(r)));
  stiefelx::merge_lora(p.ctx, p.up(at.down), p.up(at.up), -scaling, w);
  BOOST_TEST(near(p.down(w), at.frozen, tolerance<double>(r), at.adapted().norm()));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_mixture_with_fixed_gates_merges_and_others_are_refused, Case,
                              double_cases) {
  using stiefelx::mixing;
  place<Case> p;
  values const at;
  matrix const down = random_matrix<double>(d_in, 2 * r, 11);
  matrix const up = random_matrix<double>(2 * r, d_out, 12);
  matrix gates(2, 1);
  gates << 0.75, -0.5;
  auto a = p.up(down), b = p.up(up), w = p.up(at.frozen);
  auto const experts = stiefelx::lora_experts(a, b, 2, scaling);
  stiefelx::merge_experts(p.ctx, experts, p.up(gates), mixing::none, w);
  matrix expected = at.frozen;
  for (index_t e = 0; e < 2; ++e)
    expected += scaling * gates(e, 0) * up.middleRows(e * r, r).transpose() *
                down.middleCols(e * r, r).transpose();
  BOOST_TEST(near(p.down(w), expected, tolerance<double>(2 * r)));
  BOOST_TEST((p.down(b) == up));

  auto const refusal = [&](matrix const& g, mixing kind) {
    return message_of([&] { stiefelx::merge_experts(p.ctx, experts, p.up(g), kind, w); });
  };
  BOOST_TEST(refusal(zero(2, tokens), mixing::none) ==
             "merge_experts: the number of gates' columns is 6, expected 1: gates that differ from "
             "token to token have no merged weight");
  BOOST_TEST(refusal(gates, mixing::orthogonal) ==
             "merge_experts: kind is 1, expected mixing::none: an orthogonalized mixture is not "
             "linear in x");
  BOOST_TEST(refusal(zero(3, 1), mixing::none) == "merge_experts: gates is 3x1, expected 2x1");
  BOOST_TEST(near(p.down(w), expected, tolerance<double>(2 * r)));
}

BOOST_AUTO_TEST_CASE(scalings_are_alpha_over_the_rank_or_its_root) {
  BOOST_TEST(stiefelx::lora_scaling(32, 16) == 2);
  BOOST_TEST(stiefelx::rank_stabilized_scaling(32, 16) == 8);
  BOOST_TEST(message_of([] { stiefelx::lora_scaling(1, 0); }) ==
             "lora_scaling: rank is 0, expected a number of at least 1");
}

BOOST_AUTO_TEST_CASE(wrong_shapes_and_overlap_are_named) {
  stiefelx::host::context ctx;
  values const v;
  matrix y = zero(d_out, tokens), h = zero(r, tokens), g = h, wrong = zero(2, 2),
         norms = zero(1, d_out);
  auto const forward = [&](auto const& middle, auto& first, auto& second) {
    return message_of([&] {
      stiefelx::factored_lora_forward(ctx, v.down, middle, v.up, scaling, v.x, y, first, second);
    });
  };
  BOOST_TEST(forward(wrong, h, g) == "factored_lora_forward: middle is 2x2, expected 3x3");
  BOOST_TEST(forward(v.middle, h, wrong) == "factored_lora_forward: g is 2x2, expected 3x6");
  BOOST_TEST(forward(v.middle, h, h) ==
             "factored_lora_forward: g overlaps h, expected separate memory");
  auto const weigh = [&](auto const& m, auto const& n) {
    matrix z = y;
    return message_of(
        [&] { stiefelx::dora_forward(ctx, m, n, v.down, v.up, scaling, v.x, z, y, h); });
  };
  BOOST_TEST(weigh(wrong, norms) == "dora_forward: magnitude is 2x2, expected 1x7");
  BOOST_TEST(weigh(v.magnitude, wrong) == "dora_forward: norms is 2x2, expected 1x7");
  BOOST_TEST(message_of([&] { stiefelx::merge_lora(ctx, v.down, v.up, 1, wrong); }) ==
             "merge_lora: up is 3x7, expected 3x2");
}

BOOST_AUTO_TEST_SUITE_END()
