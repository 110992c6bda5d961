// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/unroll.hpp>
#include <stiefelx/cuda/kernels/routed_rows.hpp>
#include <stiefelx/cuda/kernels/slot_order.hpp>

namespace stiefelx::cuda {

/// \brief Kernel: slot i of token t of h = A_e^T x_t.
/// \ingroup cuda
///
/// A block has some tokens and rank_tile rank columns of every expert. It sorts the slots by
/// expert; a warp takes four slots of one expert at a time, so that what it reads of the expert
/// serves four tokens and what it reads of a token serves rank_tile columns. Lanes share the rows,
/// and 32 sums meet by 31 shuffles.
/// Experts stored in two bytes an entry become float in registers.
/// \tparam Packed  whether packs of x may be loaded at once
template <bool Packed, bool ByRows, class A, class T>
struct routed_dots {
  static constexpr unsigned most_threads = 128;  ///< lanes of a block
  static constexpr int group = 4;                ///< slots that a warp takes together
  static constexpr int V = pack_entries<T>;      ///< rows that a lane takes together

  slot_ids ids;                             ///< experts of the slots
  expert_columns<A const, ByRows> experts;  ///< d x (E r)
  matrix_ref<T const> x;                    ///< d x T
  matrix_ref<T> h;                          ///< (k r) x T
  index_t rank;                             ///< r
  int tokens_of_block;                      ///< tokens of a block

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    index_t const first = block_x() * index_t{tokens_of_block};
    index_t const rest = x.cols - first;
    int const tokens = rest < tokens_of_block ? static_cast<int>(rest) : tokens_of_block;
    sorted_slots const slots(static_cast<int*>(shared_memory()), ids, first, tokens * ids.slots);
    auto const warp = static_cast<int>(thread_rank() / warp_lanes);
    auto const warps = static_cast<int>(block_threads() / warp_lanes);
    int turn = 0;
    int place = 0;
    while (slots.is_chosen(place)) {
      int const length = slots.run(place, group);
      if (turn % warps == warp) multiply(slots, place, length, first);
      ++turn;
      place += length;
    }
    clear(slots, place, first);
  }

 private:
  STIEFELX_HD index_t first_column() const { return block_y() * index_t{rank_tile}; }

  STIEFELX_HD void multiply(sorted_slots const& slots, int place, int length, index_t first) const {
    auto const lane = static_cast<index_t>(thread_rank() % warp_lanes);
    index_t const column = slots.expert(place) * rank + first_column();
    index_t const left = rank - first_column();
    T const* tokens[group];
    // A group that is not full takes its last slot again, and drops the result.
    unroll<group>([&](index_t s) __attribute__((always_inline)) {
      int const member = s < length ? static_cast<int>(s) : length - 1;
      tokens[s] = x.column(first + slots.token(place + member));
    });
    T sums[group * rank_tile];
    unroll<group * rank_tile>([&](index_t n) __attribute__((always_inline)) { sums[n] = T(0); });
    for (index_t i = lane * V; i < x.rows; i += index_t{warp_lanes} * V) {
      entry_pack<T, V> part[group], a[rank_tile];
      load_rows<Packed>(tokens, i, x.rows, part);
      experts.load_tile(i, column, left, a);
      // What lies beyond the expert gives sums that nobody writes.
      unroll<rank_tile>([&](index_t b) __attribute__((always_inline)) {
        unroll<group>([&](index_t s) __attribute__((always_inline)) {
          unroll<V>([&](index_t v) __attribute__((always_inline)) {
            sums[s * rank_tile + b] += a[b].entry[v] * part[s].entry[v];
          });
        });
      });
    }
    T const total = meet(sums);
    auto const member = static_cast<int>(lane / rank_tile);
    index_t const b = first_column() + lane % rank_tile;
    if (member < length && b < rank) {
      h(slots.slot(place + member) * rank + b, first + slots.token(place + member)) = total;
    }
  }

  // Lane n gets the sum over all lanes of their sums[n]: at each step two lanes share what is left,
  // each keeping one half.
  STIEFELX_HD static T meet(T (&sums)[group * rank_tile]) {
    static_assert(group * rank_tile == warp_lanes);
    unroll<5>([&](auto step) __attribute__((always_inline)) {
      constexpr int reach = 16 >> decltype(step)::value;
      bool const upper = (thread_rank() & unsigned{reach}) != 0;
      unroll<reach>([&](index_t n) __attribute__((always_inline)) {
        T const kept = upper ? sums[n + reach] : sums[n];
        T const given = upper ? sums[n] : sums[n + reach];
        sums[n] = kept + shuffle_xor(given, unsigned{reach});
      });
    });
    return sums[0];
  }

  STIEFELX_HD void clear(sorted_slots const& slots, int place, index_t first) const {
    index_t const left = rank - first_column();
    auto const width = static_cast<int>(left < rank_tile ? left : rank_tile);
    int const entries = (slots.count() - place) * width;
    for (auto n = static_cast<int>(thread_rank()); n < entries;
         n += static_cast<int>(block_threads())) {
      int const empty = place + n / width;
      h(slots.slot(empty) * rank + first_column() + n % width, first + slots.token(empty)) = T(0);
    }
  }
};

}  // namespace stiefelx::cuda
