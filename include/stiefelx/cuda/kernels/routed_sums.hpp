// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/unroll.hpp>
#include <stiefelx/cuda/kernels/routed_rows.hpp>
#include <stiefelx/cuda/kernels/slot_order.hpp>

namespace stiefelx::cuda {

/// \brief Kernel: y_t += s times the sum over the slots of token t of A_e h.
/// \ingroup cuda
///
/// A block has some tokens and V rows of y for each of its lanes. It sorts the slots by expert, so
/// that rows of an expert stay in registers for all of its tokens, and keeps the sums in shared
/// memory: each lane has its own rows of them.
template <int V, bool ByRows, class T, class C>
struct routed_sums {
  static constexpr unsigned most_threads = 128;  ///< lanes of a block

  slot_ids ids;                             ///< experts of the slots
  device_number<T, C> s;                    ///< factor
  expert_columns<T const, ByRows> experts;  ///< d x (E r)
  matrix_ref<T const> h;                    ///< (k r) x T
  matrix_ref<T> y;                          ///< d x T
  index_t rank;                             ///< r
  int tokens_of_block;                      ///< tokens of a block

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    using pack = entry_pack<T, V>;
    index_t const first = block_x() * index_t{tokens_of_block};
    index_t const rest = y.cols - first;
    int const tokens = rest < tokens_of_block ? static_cast<int>(rest) : tokens_of_block;
    pack* const sums = static_cast<pack*>(shared_memory()) + thread_rank();
    auto const lanes = static_cast<int>(block_threads());
    auto* const order =
        reinterpret_cast<int*>(static_cast<pack*>(shared_memory()) + tokens_of_block * lanes);
    for (int t = 0; t < tokens; ++t)
      unroll<V>([&](auto v) __attribute__((always_inline)) { sums[t * lanes].entry[v] = T(0); });
    sorted_slots const slots(order, ids, first, tokens * ids.slots);
    index_t const i = (block_y() * index_t{lanes} + thread_rank()) * V;
    if (i >= y.rows) return;

    for (int place = 0; slots.is_chosen(place);) {
      int const length = slots.run(place, slots.count());
      index_t const column = slots.expert(place) * rank;
      for (index_t b = 0; b < rank; b += rank_tile) {
        index_t const left = rank - b;
        pack a[rank_tile];
        unroll<rank_tile>([&](auto c) __attribute__((always_inline)) {
          a[c] = c < left ? experts.template load<V>(i, column + b + c) : pack{};
        });
        for (int n = place; n < place + length; ++n) {
          T const* const part = h.column(first + slots.token(n)) + slots.slot(n) * rank + b;
          pack& place_of_sum = sums[slots.token(n) * lanes];
          pack sum = place_of_sum;
          unroll<rank_tile>([&](auto c) __attribute__((always_inline)) {
            // The test is the same for all lanes, and hides what lies beyond the slot.
            if (c < left) {
              T const weight = part[c];
              unroll<V>([&](auto v) __attribute__((always_inline)) {
                sum.entry[v] += a[c].entry[v] * weight;
              });
            }
          });
          place_of_sum = sum;
        }
      }
      place += length;
    }
    T const factor = s.value();
    for (int t = 0; t < tokens; ++t)
      // A token all of whose slots are empty keeps its bits.
      if (slots.has_expert(t, ids.slots)) add(factor, sums[t * lanes], i, first + t);
  }

 private:
  STIEFELX_HD void add(T factor, entry_pack<T, V> const& sum, index_t i, index_t t) const {
    auto was = load_rows<V>(static_cast<T const*>(y.column(t)), i, y.rows);
    unroll<V>([&](auto v)
                  __attribute__((always_inline)) { was.entry[v] += factor * sum.entry[v]; });
    if (i + V <= y.rows) {
      *reinterpret_cast<entry_pack<T, V>*>(y.column(t) + i) = was;
    } else {
      unroll<V>([&](auto v) __attribute__((always_inline)) {
        if (i + v < y.rows) y(i + v, t) = was.entry[v];
      });
    }
  }
};

}  // namespace stiefelx::cuda
