// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <stiefelx/nn/ffn_experts.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

/// A small block of feed-forward experts: its run on a backend, and its definition with dense products
/// and entries dropped by hand.
namespace support::ffn {

using matrix = matrix_x<double>;
using stiefelx::dropout_mask;
using stiefelx::dropout_place;
using stiefelx::ffn_dropout;
using stiefelx::no_ffn_dropout;

inline constexpr index_t width = 6, inner_width = 5, experts = 3, tokens = 4, slots = 2;
// Ranks differ between the banks.
inline constexpr index_t gate_rank = 2, up_rank = 1, down_rank = 3;

struct bank {
  matrix down, up;
  double scaling;
};

// Entries of such a size that a product keeps sizes and the block's curvature stays moderate.
inline matrix drawn(index_t rows, index_t cols, std::uint64_t seed) {
  return 0.4 * random_matrix<double>(rows, cols, seed);
}

inline bank random_bank(index_t from, index_t to, index_t rank, double scaling,
                        std::uint64_t seed) {
  return {drawn(from, experts * rank, seed), drawn(experts * rank, to, seed + 1), scaling};
}

// The last token's second slot is empty.
inline matrix_x<int> few_ids() {
  matrix_x<int> m(slots, tokens);
  m << 0, 2, 1, 2, 1, 0, 0, -1;
  return m;
}

struct values {
  matrix gate = drawn(inner_width, width, 1);
  matrix up = drawn(inner_width, width, 2);
  matrix down = drawn(width, inner_width, 3);
  bank gates = random_bank(width, inner_width, gate_rank, 0.5, 4);
  bank ups = random_bank(width, inner_width, up_rank, 0.75, 6);
  bank downs = random_bank(inner_width, width, down_rank, 1.25, 8);
  matrix x = drawn(width, tokens, 10);
  matrix_x<int> ids = few_ids();
};

inline matrix zero(index_t rows, index_t cols) { return matrix::Zero(rows, cols); }

/// What one call of both functions gives; de comes from a loss of the outputs.
struct result {
  matrix e, gate_down, gate_up, up_down, up_up, down_down, down_up, dx;

  bool operator==(result const& o) const {
    return e == o.e && gate_down == o.gate_down && gate_up == o.gate_up && up_down == o.up_down &&
           up_up == o.up_up && down_down == o.down_down && down_up == o.down_up && dx == o.dx;
  }
};

/// A block with its parameters and their gradients where a case runs.
template <class Case>
struct uploaded {
  using owned = typename Case::matrix;
  place<Case>& p;
  owned frozen_gate, frozen_up, frozen_down;
  owned gate_down, gate_up, up_down, up_up, down_down, down_up;
  owned dgate_down, dgate_up, dup_down, dup_up, ddown_down, ddown_up;

  uploaded(place<Case>& at, values const& v)
      : p(at),
        frozen_gate(p.up(v.gate)),
        frozen_up(p.up(v.up)),
        frozen_down(p.up(v.down)),
        gate_down(p.up(v.gates.down)),
        gate_up(p.up(v.gates.up)),
        up_down(p.up(v.ups.down)),
        up_up(p.up(v.ups.up)),
        down_down(p.up(v.downs.down)),
        down_up(p.up(v.downs.up)),
        dgate_down(p.up(like(gate_down))),
        dgate_up(p.up(like(gate_up))),
        dup_down(p.up(like(up_down))),
        dup_up(p.up(like(up_up))),
        ddown_down(p.up(like(down_down))),
        ddown_up(p.up(like(down_up))) {}

  static matrix like(owned const& m) { return zero(m.rows(), m.cols()); }

  auto block(values const& v) const {
    return stiefelx::ffn_experts(
        frozen_gate, frozen_up, frozen_down,
        stiefelx::lora_experts(gate_down, gate_up, experts, v.gates.scaling),
        stiefelx::lora_experts(up_down, up_up, experts, v.ups.scaling),
        stiefelx::lora_experts(down_down, down_up, experts, v.downs.scaling));
  }

  /// The gradients, with that of the tokens, which started as ones and took a half of them.
  result gradients(owned const& dx) const {
    matrix const moved = p.down(dx) - matrix::Constant(dx.rows(), dx.cols(), 0.5);
    return {{},
            p.down(dgate_down),
            p.down(dgate_up),
            p.down(dup_down),
            p.down(dup_up),
            p.down(ddown_down),
            p.down(ddown_up),
            moved};
  }
};

template <class Case, class Dropped, class Loss>
result run_in(place<Case>& p, values const& v, Dropped const& dropped, Loss const& gradient_of) {
  uploaded<Case> at(p, v);
  auto const x = p.up(v.x);
  auto const listed = p.up(v.ids);
  auto const block = at.block(v);
  auto e = p.up(zero(width, v.ids.size()));
  auto dx = p.up(matrix::Ones(width, v.x.cols()));
  auto saved = [&] {
    if constexpr (std::is_same_v<Dropped, no_ffn_dropout>)
      return stiefelx::ffn_experts_forward(p.ctx, block, listed, x, e);
    else
      return stiefelx::ffn_experts_forward(p.ctx, block, dropped, listed, x, e);
  }();
  matrix const outputs = p.down(e);
  stiefelx::ffn_experts_backward(p.ctx, block, listed, saved, x, p.up(gradient_of(outputs)),
                                 stiefelx::lora_gradients(at.dgate_down, at.dgate_up),
                                 stiefelx::lora_gradients(at.dup_down, at.dup_up),
                                 stiefelx::lora_gradients(at.ddown_down, at.ddown_up), 0.5, dx);
  result found = at.gradients(dx);
  found.e = outputs;
  return found;
}

template <class Case, class Loss, class Dropped = no_ffn_dropout>
result run(values const& v, Loss const& gradient_of, Dropped const& dropped = {}) {
  place<Case> p;
  return run_in(p, v, dropped, gradient_of);
}

/// Factors of what a bank's adapters see, and of their rank space; a slot is a column.
struct kept {
  matrix input, ranks;

  kept(index_t rows, index_t rank, index_t columns)
      : input(matrix::Ones(rows, columns)), ranks(matrix::Ones(rank, columns)) {}
};

struct all_kept {
  kept gate{width, gate_rank, slots* tokens};
  kept up{width, up_rank, slots* tokens};
  kept down{inner_width, down_rank, slots* tokens};
};

/// The factors of a bank whose input has the columns of ids.
template <class Case>
void drop(place<Case>& p, dropout_mask const& mask, dropout_place where, matrix_x<int> const& ids,
          kept& k) {
  index_t const rows = k.input.rows(), rank = k.ranks.rows(), n = ids.rows();
  auto const ones = p.up(matrix::Ones(rows, ids.cols()));
  auto made = p.up(zero(rows, ids.cols()));
  auto by_rank = p.up(matrix::Ones(n * rank, ids.cols()));
  stiefelx::dropout(p.ctx, mask, by_rank, by_rank);
  matrix const ranks = p.down(by_rank);
  for (index_t i = 0; i < n; ++i) {
    if (where == dropout_place::expert_input)
      stiefelx::expert_dropout(p.ctx, mask, p.up(matrix_x<int>(ids.row(i))), ones, made);
    else
      stiefelx::dropout(p.ctx, mask, ones, made);
    matrix const input = p.down(made);
    for (index_t t = 0; t < ids.cols(); ++t)
      if (where == dropout_place::rank_space)
        k.ranks.col(t * n + i) = ranks.col(t).segment(i * rank, rank);
      else
        k.input.col(t * n + i) = input.col(t);
  }
}

template <class Case>
all_kept drops(ffn_dropout const& dropped) {
  place<Case> p;
  all_kept k;
  matrix_x<int> const ids = few_ids();
  drop(p, dropped.gate, dropped.place, ids, k.gate);
  drop(p, dropped.up, dropped.place, ids, k.up);
  drop(p, dropped.down, dropped.place, ids.reshaped(1, ids.size()), k.down);
  return k;
}

inline matrix adapted(matrix const& frozen, bank const& b, int e) {
  if (e < 0) return frozen;
  index_t const r = b.down.cols() / experts;
  return frozen + b.scaling * b.up.middleRows(e * r, r).transpose() *
                      b.down.middleCols(e * r, r).transpose();
}

inline matrix product_of(matrix const& frozen, bank const& b, kept const& k, int e, index_t slot,
                         matrix const& x) {
  matrix y = frozen * x;
  if (e < 0) return y;
  index_t const r = b.down.cols() / experts;
  matrix const seen = x.cwiseProduct(k.input.col(slot));
  matrix const h = b.down.middleCols(e * r, r).transpose() * seen;
  y += b.scaling * b.up.middleRows(e * r, r).transpose() * h.cwiseProduct(k.ranks.col(slot));
  return y;
}

/// The block written out.
inline matrix direct(values const& v, all_kept const& k = {}) {
  matrix e(width, slots * tokens);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < slots; ++i) {
      int const id = v.ids(i, t);
      index_t const slot = t * slots + i;
      matrix const g = product_of(v.gate, v.gates, k.gate, id, slot, v.x.col(t));
      matrix const u = product_of(v.up, v.ups, k.up, id, slot, v.x.col(t));
      matrix const a = g.unaryExpr([](double z) { return z / (1 + std::exp(-z)); }).cwiseProduct(u);
      e.col(slot) = product_of(v.down, v.downs, k.down, id, slot, a);
    }
  return e;
}

// The gradient of an empty slot has to be zero.
inline matrix masked(matrix m) {
  matrix_x<int> const listed = few_ids();
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < slots; ++i)
      if (listed(i, t) < 0) m.col(t * slots + i).setZero();
  return m;
}

}  // namespace support::ffn
