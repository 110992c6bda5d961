// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Feed-forward experts against the block written out, and their gradients against differences.

#include <cmath>
#include <string>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <stiefelx/nn/ffn_experts.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;

constexpr index_t width = 6, inner_width = 5, experts = 3, tokens = 4, slots = 2;
// Ranks differ between the banks.
constexpr index_t gate_rank = 2, up_rank = 1, down_rank = 3;

struct bank {
  matrix down, up;
  double scaling;
};

// Entries of such a size that a product keeps sizes and the block's curvature stays moderate.
matrix drawn(index_t rows, index_t cols, std::uint64_t seed) {
  return 0.4 * random_matrix<double>(rows, cols, seed);
}

bank random_bank(index_t from, index_t to, index_t rank, double scaling, std::uint64_t seed) {
  return {drawn(from, experts * rank, seed), drawn(experts * rank, to, seed + 1), scaling};
}

struct values {
  matrix gate = drawn(inner_width, width, 1);
  matrix up = drawn(inner_width, width, 2);
  matrix down = drawn(width, inner_width, 3);
  bank gates = random_bank(width, inner_width, gate_rank, 0.5, 4);
  bank ups = random_bank(width, inner_width, up_rank, 0.75, 6);
  bank downs = random_bank(inner_width, width, down_rank, 1.25, 8);
  matrix x = drawn(width, tokens, 10);
};

// The last token's second slot is empty.
matrix_x<int> ids() {
  matrix_x<int> m(slots, tokens);
  m << 0, 2, 1, 2, 1, 0, 0, -1;
  return m;
}

matrix zero(index_t rows, index_t cols) { return matrix::Zero(rows, cols); }

/// What one call of both functions gives; de comes from a loss of the outputs.
struct result {
  matrix e, gate_down, gate_up, up_down, up_up, down_down, down_up, dx;
};

template <class Case, class Loss>
result run(values const& v, Loss const& gradient_of) {
  place<Case> p;
  auto const w_gate = p.up(v.gate), w_up = p.up(v.up), w_down = p.up(v.down);
  auto const gd = p.up(v.gates.down), gu = p.up(v.gates.up), ud = p.up(v.ups.down),
             uu = p.up(v.ups.up), dd = p.up(v.downs.down), du = p.up(v.downs.up);
  auto const x = p.up(v.x);
  auto const listed = p.up(ids());
  auto const block = stiefelx::ffn_experts(
      w_gate, w_up, w_down, stiefelx::lora_experts(gd, gu, experts, v.gates.scaling),
      stiefelx::lora_experts(ud, uu, experts, v.ups.scaling),
      stiefelx::lora_experts(dd, du, experts, v.downs.scaling));
  auto e = p.up(zero(width, slots * tokens));
  auto saved = stiefelx::ffn_experts_forward(p.ctx, block, listed, x, e);

  result found;
  found.e = p.down(e);
  auto const like = [&](auto const& m) { return p.up(zero(m.rows(), m.cols())); };
  auto a = like(gd), b = like(gu), c = like(ud), d = like(uu), f = like(dd), g = like(du);
  auto dx = p.up(matrix::Ones(width, tokens));
  stiefelx::ffn_experts_backward(p.ctx, block, listed, saved, x, p.up(gradient_of(found.e)),
                                 stiefelx::lora_gradients(a, b), stiefelx::lora_gradients(c, d),
                                 stiefelx::lora_gradients(f, g), 0.5, dx);
  found.gate_down = p.down(a);
  found.gate_up = p.down(b);
  found.up_down = p.down(c);
  found.up_up = p.down(d);
  found.down_down = p.down(f);
  found.down_up = p.down(g);
  found.dx = p.down(dx) - matrix::Constant(width, tokens, 0.5);
  return found;
}

matrix adapted(matrix const& frozen, bank const& b, int e) {
  if (e < 0) return frozen;
  index_t const r = b.down.cols() / experts;
  return frozen + b.scaling * b.up.middleRows(e * r, r).transpose() *
                      b.down.middleCols(e * r, r).transpose();
}

/// The block written out with dense weights.
matrix direct(values const& v) {
  matrix_x<int> const listed = ids();
  matrix e(width, slots * tokens);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < slots; ++i) {
      int const id = listed(i, t);
      matrix const g = adapted(v.gate, v.gates, id) * v.x.col(t);
      matrix const u = adapted(v.up, v.ups, id) * v.x.col(t);
      matrix const a = g.unaryExpr([](double z) { return z / (1 + std::exp(-z)); }).cwiseProduct(u);
      e.col(t * slots + i) = adapted(v.down, v.downs, id) * a;
    }
  return e;
}

// The gradient of an empty slot has to be zero.
matrix masked(matrix m) {
  matrix_x<int> const listed = ids();
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < slots; ++i)
      if (listed(i, t) < 0) m.col(t * slots + i).setZero();
  return m;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ffn_experts)

BOOST_AUTO_TEST_CASE_TEMPLATE(outputs_are_those_of_dense_blocks, Case, double_cases) {
  values const v;
  matrix const found = run<Case>(v, [](matrix const& e) { return matrix(0 * e); }).e;
  // Sums of squares of the adapted weights bound how errors of three products grow.
  double size = 1;
  for (int e = 0; e < experts; ++e)
    size = std::max(size, adapted(v.gate, v.gates, e).norm() * adapted(v.up, v.ups, e).norm() *
                              adapted(v.down, v.downs, e).norm() * v.x.squaredNorm());
  BOOST_TEST(near(found, direct(v), tolerance<double>(width), size));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, double_cases) {
  values const at;
  matrix const c = masked(drawn(width, slots * tokens, 20));
  auto const r = run<Case>(at, [&](matrix const& e) { return wave_gradient(c, e); });
  auto const check = [&](char const* name, auto const& member, matrix const& gradient) {
    values other = at;
    auto const loss = [&](matrix const& moved) {
      member(other) = moved;
      return wave_loss(c, direct(other));
    };
    matrix const here = member(other);
    BOOST_TEST_CONTEXT(name) BOOST_TEST(is_gradient(loss, here, gradient, 21, 6));
  };
  check("gate.down", [](values& v) -> matrix& { return v.gates.down; }, r.gate_down);
  check("gate.up", [](values& v) -> matrix& { return v.gates.up; }, r.gate_up);
  check("up.down", [](values& v) -> matrix& { return v.ups.down; }, r.up_down);
  check("up.up", [](values& v) -> matrix& { return v.ups.up; }, r.up_up);
  check("down.down", [](values& v) -> matrix& { return v.downs.down; }, r.down_down);
  check("down.up", [](values& v) -> matrix& { return v.downs.up; }, r.down_up);
  check("x", [](values& v) -> matrix& { return v.x; }, r.dx);
}

BOOST_AUTO_TEST_CASE(threads_keep_the_bits) {
  values const v;
  auto const outputs = [&](int threads) {
    stiefelx::host::context ctx({.threads = threads});
    auto const block = stiefelx::ffn_experts(
        v.gate, v.up, v.down, stiefelx::lora_experts(v.gates.down, v.gates.up, experts, 0.5),
        stiefelx::lora_experts(v.ups.down, v.ups.up, experts, 0.5),
        stiefelx::lora_experts(v.downs.down, v.downs.up, experts, 0.5));
    matrix e(width, slots * tokens);
    stiefelx::ffn_experts_forward(ctx, block, ids(), v.x, e);
    return e;
  };
  BOOST_TEST((outputs(1) == outputs(3)));
}

BOOST_AUTO_TEST_CASE(misuse_is_named) {
  stiefelx::host::context ctx;
  values const v;
  matrix e(width, slots * tokens), wrong = zero(2, 2);
  auto const forward = [&](auto const& frozen, index_t count, auto& out) {
    auto const block = stiefelx::ffn_experts(
        frozen, v.up, v.down, stiefelx::lora_experts(v.gates.down, v.gates.up, experts, 0.5),
        stiefelx::lora_experts(v.ups.down, v.ups.up, count, 0.5),
        stiefelx::lora_experts(v.downs.down, v.downs.up, experts, 0.5));
    return message_of([&] { stiefelx::ffn_experts_forward(ctx, block, ids(), v.x, out); });
  };
  BOOST_TEST(forward(wrong, experts, e) == "ffn_experts_forward: frozen_gate is 2x2, expected 2x6");
  BOOST_TEST(forward(v.gate, 1, e) ==
             "ffn_experts_forward: up.count is 1, expected the number of experts of the gate");
  BOOST_TEST(forward(v.gate, experts, wrong) == "ffn_experts_forward: e is 2x2, expected 6x8");
}

BOOST_AUTO_TEST_SUITE_END()
