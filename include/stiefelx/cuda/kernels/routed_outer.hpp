// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>

#include <stiefelx/core/unroll.hpp>
#include <stiefelx/cuda/kernels/routed_rows.hpp>
#include <stiefelx/cuda/kernels/slot_order.hpp>

namespace stiefelx::cuda {

/// \brief Kernel: A_e += s times the sum over the slots of expert e of x_t h^T.
/// \ingroup cuda
///
/// A block has one expert, rank_tile of its columns and V rows for each of its lanes, whose sums
/// stay in registers. It walks all tokens in their order, a stretch of them at a time: first it
/// lists the slots of its expert, then it adds their products.
template <int V, bool ByRows, class T, class C>
struct routed_outer {
  static constexpr unsigned most_threads = 128;  ///< lanes of a block
  static constexpr std::size_t kept = std::size_t{rank_tile} * std::size_t{V};  ///< sums of a lane

  slot_ids ids;                       ///< experts of the slots
  device_number<T, C> s;              ///< factor
  matrix_ref<T const> x;              ///< d x T
  matrix_ref<T const> h;              ///< (k r) x T
  expert_columns<T, ByRows> experts;  ///< d x (E r)
  index_t rank;                       ///< r
  int tokens_of_stretch;              ///< tokens that are listed at a time
  unsigned row_tiles;                 ///< blocks along x for each tile of columns
  unsigned blocks_y;                  ///< blocks along y, which share the experts
  bool is_aligned;                    ///< whether packs of A_e may be loaded and stored at once

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    for (auto expert = static_cast<int>(block_y()); expert < ids.experts;
         expert += static_cast<int>(blocks_y))
      add_tokens(expert);
  }

 private:
  STIEFELX_HD void add_tokens(int expert) const {
    index_t const i = (block_x() % row_tiles * index_t{block_threads()} + thread_rank()) * V;
    index_t const b = block_x() / row_tiles * index_t{rank_tile};
    T sums[kept];
    unroll<kept>([&](auto n) __attribute__((always_inline)) { sums[n] = T(0); });
    bool any = false;
    for (index_t first = 0; first < x.cols; first += tokens_of_stretch) {
      index_t const rest = x.cols - first;
      int const tokens = rest < tokens_of_stretch ? static_cast<int>(rest) : tokens_of_stretch;
      slots_of_expert const slots(static_cast<int*>(shared_memory()), ids, expert, first,
                                  tokens * ids.slots);
      any = any || slots.size() > 0;
      if (i < x.rows) add_products(slots, first, i, b, sums);
    }
    // An expert without tokens keeps its bits.
    if (any && i < x.rows) write(expert, i, b, sums);
  }

  STIEFELX_HD void add_products(slots_of_expert const& slots, index_t first, index_t i, index_t b,
                                T (&sums)[kept]) const {
    index_t const left = rank - b;
    for (int n = 0; n < slots.size(); ++n) {
      index_t const t = first + slots.token(n);
      auto const token = load_rows<V>(x.column(t), i, x.rows);
      T const* const part = h.column(t) + slots.slot(n) * rank + b;
      unroll<rank_tile>([&](auto c) __attribute__((always_inline)) {
        // The test is the same for all lanes, and hides what lies beyond the slot.
        T const weight = c < left ? part[c] : T(0);
        unroll<V>([&](auto v) __attribute__((always_inline)) {
          sums[c * V + v] += token.entry[v] * weight;
        });
      });
    }
  }

  STIEFELX_HD void write(int expert, index_t i, index_t b, T const (&sums)[kept]) const {
    T const factor = s.value();
    index_t const column = expert * rank + b;
    index_t const left = rank - b;
    if constexpr (ByRows) {
      unroll<V>([&](auto v) __attribute__((always_inline)) {
        if (i + v >= x.rows) return;
        T* const row = &experts(i + v, column);
        unroll<rank_tile>([&](auto c) __attribute__((always_inline)) {
          if (c < left) row[c] += factor * sums[c * V + v];
        });
      });
    } else {
      unroll<rank_tile>([&](auto c) __attribute__((always_inline)) {
        if (c >= left) return;
        T* const rows = &experts(i, column + c);
        if (is_aligned && i + V <= x.rows) {
          auto was = *reinterpret_cast<entry_pack<T, V> const*>(rows);
          unroll<V>([&](auto v) __attribute__((always_inline)) {
            was.entry[v] += factor * sums[c * V + v];
          });
          *reinterpret_cast<entry_pack<T, V>*>(rows) = was;
        } else {
          unroll<V>([&](auto v) __attribute__((always_inline)) {
            if (i + v < x.rows) rows[v] += factor * sums[c * V + v];
          });
        }
      });
    }
  }
};

}  // namespace stiefelx::cuda
