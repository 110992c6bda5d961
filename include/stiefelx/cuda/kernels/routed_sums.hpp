// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/unroll.hpp>
#include <stiefelx/cuda/kernels/routed_rows.hpp>
#include <stiefelx/cuda/kernels/slot_order.hpp>

namespace stiefelx::cuda {

/// \brief Kernel: y_t = or += s times the sum over the slots of token t of A_e h.
/// \ingroup cuda
///
/// A block has some tokens and V rows of y for each of its lanes. It sorts the slots by expert, so
/// that rows of an expert stay in registers for all of its tokens, and keeps the sums in shared
/// memory: each lane has its own rows of them.
/// Experts stored in two bytes an entry become float in registers.
/// \tparam Packed  whether packs of y may be loaded and stored at once
template <bool Packed, bool ByRows, class A, class T, class C>
struct routed_sums {
  static constexpr unsigned most_threads = 128;  ///< lanes of a block
  static constexpr int V = pack_entries<T>;      ///< rows of a lane
  using pack = entry_pack<T, V>;                 ///< of a lane's rows

  slot_ids ids;                             ///< experts of the slots
  device_number<T, C> s;                    ///< factor
  expert_columns<A const, ByRows> experts;  ///< d x (E r)
  matrix_ref<T const> h;                    ///< (k r) x T
  matrix_ref<T> y;                          ///< d x T
  index_t rank;                             ///< r
  int tokens_of_block;                      ///< tokens of a block
  bool from_zero;                           ///< whether what y holds is not read

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    index_t const first = block_x() * index_t{tokens_of_block};
    index_t const rest = y.cols - first;
    int const tokens = rest < tokens_of_block ? static_cast<int>(rest) : tokens_of_block;
    pack* const sums = static_cast<pack*>(shared_memory()) + thread_rank();
    auto const lanes = static_cast<int>(block_threads());
    auto* const order =
        reinterpret_cast<int*>(static_cast<pack*>(shared_memory()) + tokens_of_block * lanes);
    for (int t = 0; t < tokens; ++t)
      unroll<V>([&](index_t v) __attribute__((always_inline)) { sums[t * lanes].entry[v] = T(0); });
    sorted_slots const slots(order, ids, first, tokens * ids.slots);
    index_t const i = (block_y() * index_t{lanes} + thread_rank()) * V;
    if (i >= y.rows) return;

    for (int place = 0; slots.is_chosen(place);) {
      int const length = slots.run(place, slots.count());
      index_t const column = slots.expert(place) * rank;
      for (index_t b = 0; b < rank; b += rank_tile) {
        index_t const left = rank - b;
        pack a[rank_tile];
        experts.load_tile(i, column + b, left, a);
        for (int n = place; n < place + length; ++n) {
          T const* const part = h.column(first + slots.token(n)) + slots.slot(n) * rank + b;
          // What lies beyond the slot is not read: its last entry is, again, and becomes zero.
          T weight[rank_tile];
          unroll<rank_tile>([&](index_t c) __attribute__((always_inline)) {
            weight[c] = part[c < left ? c : left - 1];
          });
          pack& place_of_sum = sums[slots.token(n) * lanes];
          pack sum = place_of_sum;
          unroll<rank_tile>([&](index_t c) __attribute__((always_inline)) {
            T const factor = c < left ? weight[c] : T(0);
            unroll<V>([&](index_t v) __attribute__((always_inline)) {
              sum.entry[v] += a[c].entry[v] * factor;
            });
          });
          place_of_sum = sum;
        }
      }
      place += length;
    }
    T const factor = s.value();
    for (int t = 0; t < tokens; ++t)
      // A token all of whose slots are empty keeps its bits, or becomes zero, whatever the factor is.
      if (slots.has_expert(t, ids.slots))
        add(factor, sums[t * lanes], i, first + t);
      else if (from_zero)
        add(T(0), sums[t * lanes], i, first + t);
  }

 private:
  STIEFELX_HD void add(T factor, pack const& sum, index_t i, index_t t) const {
    T const* const column[1] = {y.column(t)};
    pack was[1] = {};
    if (!from_zero) load_rows<Packed>(column, i, y.rows, was);
    unroll<V>([&](index_t v)
                  __attribute__((always_inline)) { was[0].entry[v] += factor * sum.entry[v]; });
    if (Packed && i + V <= y.rows) {
      *reinterpret_cast<pack*>(y.column(t) + i) = was[0];
    } else {
      unroll<V>([&](index_t v) __attribute__((always_inline)) {
        if (i + v < y.rows) y(i + v, t) = was[0].entry[v];
      });
    }
  }
};

}  // namespace stiefelx::cuda
