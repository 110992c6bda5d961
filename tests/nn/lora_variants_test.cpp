// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Three factors, lengths of rows, and merging: against the dense weight that they stand for.

#include <algorithm>
#include <cmath>
#include <cstdint>
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

template <class Place, class A, class B>
bool same_bits(Place& p, A const& a, A const& b, B const& c, B const& d) {
  return p.down(a) == p.down(b) && p.down(c) == p.down(d);
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
  auto const x = p.up(at.x);
  auto dx = p.up(at.x), both = p.up(at.x), dv = p.up(zero(d_in, r));
  auto const backward = [&](auto const& in, auto& da, auto& out) {
    stiefelx::factored_lora_backward(p.ctx, p.up(at.down), p.up(at.middle), p.up(at.up), scaling,
                                     in, p.up(layer.h), p.up(layer.g), p.up(wave_gradient(c, y)),
                                     da, dmiddle, dup, 0.5, out);
  };
  backward(x, ddown, dx);
  check(layer, at, c, "down", &values::down, p.down(ddown));
  check(layer, at, c, "middle", &values::middle, p.down(dmiddle));
  check(layer, at, c, "up", &values::up, p.down(dup));
  check(layer, at, c, "x", &values::x, p.down(dx) - 0.5 * at.x);
  backward(both, dv, both);
  BOOST_TEST_CONTEXT("dx is x") BOOST_TEST(same_bits(p, both, dx, dv, ddown));
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
  auto both = p.up(at.x), again = p.up(wave_gradient(c, y)), dv = p.up(zero(d_in, r));
  auto const x = p.up(at.x);
  auto const backward = [&](auto const& in, auto& dw, auto& da, auto& out) {
    auto const& dy = dw;
    stiefelx::dora_backward(p.ctx, p.up(at.magnitude), p.up(layer.norms), p.up(at.down),
                            p.up(at.up), scaling, in, p.up(layer.z), p.up(layer.h), dy, dmagnitude,
                            da, dup, dw, 0, out);
  };
  backward(x, dz, ddown, dx);
  // Norms are constants of the gradient, so forward() keeps those of `at`.
  check(layer, at, c, "magnitude", &values::magnitude, p.down(dmagnitude));
  check(layer, at, c, "down", &values::down, p.down(ddown));
  check(layer, at, c, "up", &values::up, p.down(dup));
  check(layer, at, c, "x", &values::x, p.down(dx) + at.frozen.transpose() * p.down(dz));
  backward(both, again, dv, both);
  BOOST_TEST_CONTEXT("dx is x") BOOST_TEST(same_bits(p, both, dx, dv, ddown));
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

// A layer and its merged weight sum the same products of W, B, A and x in another order, so neither is
// further from the exact output than rounding of sums as large as the norms' product.
BOOST_AUTO_TEST_CASE_TEMPLATE(a_merged_weight_gives_the_output_of_its_layer, Case, double_cases) {
  values at;
  at.frozen.row(2).setZero();
  at.up.col(2).setZero();
  double const size = (at.frozen.norm() + scaling * at.up.norm() * at.down.norm()) * at.x.norm();
  double const bound = tolerance<double>(d_in + r);
  factored<Case> three;
  auto& p = three.p;
  auto w = p.up(at.frozen);
  stiefelx::merge_factored_lora(p.ctx, p.up(at.down), p.up(at.middle), p.up(at.up), scaling, w);
  matrix const sum = at.frozen * at.x + three.forward(at);
  BOOST_TEST(near(p.down(w) * at.x, sum, bound, size * (1 + at.middle.norm())));

  weighted<Case> rows;
  rows.measure(at);
  auto v = rows.p.up(at.frozen);
  stiefelx::merge_dora(rows.p.ctx, rows.p.up(at.magnitude), rows.p.up(at.down), rows.p.up(at.up),
                       scaling, v);
  matrix const merged = rows.p.down(v), y = rows.forward(at);
  double longest = 0;
  for (index_t j = 0; j < d_out; ++j)
    if (j != 2) longest = std::max(longest, std::abs(at.magnitude(0, j) / rows.norms(0, j)));
  BOOST_TEST(near(merged * at.x, y, bound, longest * size));
  // The row without a direction.
  BOOST_TEST(merged.row(2).isZero(0));
  BOOST_TEST(!y.row(1).isZero(0));
}

BOOST_AUTO_TEST_CASE(a_merge_of_rows_into_two_bytes_rounds_once) {
  stiefelx::host::context ctx;
  values const at;
  matrix_x<stiefelx::bfloat16> v(d_out, d_in), stored(d_out, d_in);
  copy(ctx, at.frozen, v);
  matrix_x<float> const down = at.down.cast<float>(), up = at.up.cast<float>(),
                        magnitude = at.magnitude.cast<float>();
  matrix_x<float> wide = v.cast<float>();
  stiefelx::merge_dora(ctx, magnitude, down, up, scaling, v);
  stiefelx::merge_dora(ctx, magnitude, down, up, scaling, wide);
  copy(ctx, wide, stored);
  BOOST_TEST((v.cast<float>() == stored.cast<float>()));
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

  // One A for both, with one factor and with a factor each.
  matrix factors(1, 2), plain = at.frozen, scaled = at.frozen;
  factors << 2, -0.25;
  for (index_t e = 0; e < 2; ++e) {
    matrix const own = gates(e, 0) * up.middleRows(e * r, r).transpose() * at.down.transpose();
    plain += scaling * own;
    scaled += factors(0, e) * own;
  }
  auto one = p.up(at.down), v = p.up(at.frozen), u = p.up(at.frozen), each = p.up(factors);
  auto const shared = stiefelx::hydra_experts(one, b, 2, scaling);
  stiefelx::merge_experts(p.ctx, shared, p.up(gates), mixing::none, v);
  stiefelx::merge_experts(p.ctx, stiefelx::hydra_experts(one, b, 2, each), p.up(gates),
                          mixing::none, u);
  BOOST_TEST(near(p.down(v), plain, tolerance<double>(2 * r)));
  BOOST_TEST(near(p.down(u), scaled, tolerance<double>(2 * r)));
  auto const refused = [&](matrix const& g, mixing kind) {
    return message_of([&] { stiefelx::merge_experts(p.ctx, shared, p.up(g), kind, v); });
  };
  BOOST_TEST(refused(zero(2, tokens), mixing::none) == refusal(zero(2, tokens), mixing::none));
  BOOST_TEST(refused(gates, mixing::symmetric) ==
             "merge_experts: kind is 4, expected mixing::none: an orthogonalized mixture is not "
             "linear in x");
  BOOST_TEST(near(p.down(v), plain, tolerance<double>(2 * r)));
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
  matrix w = v.frozen;
  BOOST_TEST(message_of([&] { stiefelx::merge_dora(ctx, wrong, v.down, v.up, 1, w); }) ==
             "merge_dora: magnitude is 2x2, expected 1x7");
  BOOST_TEST(message_of([&] { stiefelx::merge_factored_lora(ctx, v.down, wrong, v.up, 1, w); }) ==
             "merge_factored_lora: middle is 2x2, expected 3x3");
  BOOST_TEST((w == v.frozen));
}

// Square, so that an input has the shape of a gradient.
BOOST_AUTO_TEST_CASE(misuse_of_a_backward_call_is_named_and_changes_no_gradient) {
  stiefelx::host::context ctx;
  index_t const n = 3;
  auto const random = [&](std::uint64_t seed) { return random_matrix<double>(n, n, seed); };
  matrix down = random(1), middle = random(2), up = random(3), x = random(4), h = random(5),
         z = random(6), dy = random(7), magnitude = random_matrix<double>(1, n, 8),
         norms = matrix::Ones(1, n), dmagnitude = zero(1, n), ddown = zero(n, n),
         dmiddle = zero(n, n), dup = zero(n, n), dz = zero(n, n), dx = zero(n, n),
         wrong = zero(2, 2);
  auto const rows = [&](auto const& t, auto const& saved, auto& dm, auto& da, auto& db, auto& dw) {
    return message_of([&] {
      stiefelx::dora_backward(ctx, magnitude, norms, down, up, 1, t, z, saved, dy, dm, da, db, dz,
                              1, dw);
    });
  };
  auto const three = [&](auto& da, auto& dm, auto& db) {
    return message_of([&] {
      stiefelx::factored_lora_backward(ctx, down, middle, up, 1, x, h, h, dy, da, dm, db, 1, dx);
    });
  };
  matrix const tall = zero(2, n);
  BOOST_TEST(rows(tall, h, dmagnitude, ddown, dup, dx) == "dora_backward: x is 2x3, expected 3x3");
  BOOST_TEST(rows(x, tall, dmagnitude, ddown, dup, dx) == "dora_backward: h is 2x3, expected 3x3");
  BOOST_TEST(rows(x, h, wrong, ddown, dup, dx) == "dora_backward: dmagnitude is 2x2, expected 1x3");
  BOOST_TEST(rows(x, h, dmagnitude, wrong, dup, dx) == "dora_backward: ddown is 2x2, expected 3x3");
  BOOST_TEST(rows(x, h, dmagnitude, ddown, wrong, dx) == "dora_backward: dup is 2x2, expected 3x3");
  BOOST_TEST(rows(x, h, dmagnitude, ddown, dup, wrong) == "dora_backward: dx is 2x2, expected 3x3");

  auto const overlap = [](std::string const& function, char const* output, char const* input) {
    return function + ": " + output + " overlaps " + input + ", expected separate memory";
  };
  std::string const dora = "dora_backward", factors = "factored_lora_backward";
  BOOST_TEST(rows(x, h, magnitude, ddown, dup, dx) == overlap(dora, "dmagnitude", "magnitude"));
  BOOST_TEST(rows(x, h, dmagnitude, down, dup, dx) == overlap(dora, "ddown", "down"));
  BOOST_TEST(rows(x, h, dmagnitude, x, dup, dx) == overlap(dora, "ddown", "x"));
  BOOST_TEST(rows(x, h, dmagnitude, ddown, up, dx) == overlap(dora, "dup", "up"));
  BOOST_TEST(rows(x, h, dmagnitude, ddown, dy, dx) == overlap(dora, "dup", "dy"));
  BOOST_TEST(rows(x, h, dmagnitude, ddown, dz, dx) == overlap(dora, "dup", "dz"));
  BOOST_TEST(three(down, dmiddle, dup) == overlap(factors, "ddown", "down"));
  BOOST_TEST(three(x, dmiddle, dup) == overlap(factors, "ddown", "x"));
  BOOST_TEST(three(ddown, middle, dup) == overlap(factors, "dmiddle", "middle"));
  BOOST_TEST(three(ddown, dmiddle, up) == overlap(factors, "dup", "up"));
  BOOST_TEST(three(ddown, dmiddle, dy) == overlap(factors, "dup", "dy"));
  for (matrix const* gradient : {&dmagnitude, &ddown, &dmiddle, &dup, &dz, &dx})
    BOOST_TEST(gradient->isZero(0));
  // One matrix for two gradients gets the sum.
  BOOST_TEST(rows(x, h, dmagnitude, ddown, ddown, dx) == "nothing was thrown");
}

BOOST_AUTO_TEST_SUITE_END()
