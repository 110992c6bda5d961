// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>

#include <stiefelx/core/unroll.hpp>
#include <stiefelx/cuda/kernels/routed_rows.hpp>
#include <stiefelx/cuda/kernels/slot_order.hpp>

namespace stiefelx::cuda {

/// \brief Kernel: A_e += s times the sum over the slots of expert e of x_t h^T; or the sum alone,
/// for each part of the tokens.
/// \ingroup cuda
///
/// A block has one expert, one part of the tokens, V rows for each of 128 lanes and one or two tiles
/// of rank_tile columns, each with 128 lanes of its own that read the same tokens; the sums of a
/// lane stay in registers. It walks the tokens in their order, a stretch of them at a time: first it
/// lists the slots of its expert, then it brings their entries of h to shared memory, some slots at
/// a time, and adds their products. Rows of several tokens are loaded together, so that they do not
/// wait for each other.
/// \tparam Packed  whether packs of x may be loaded at once
template <bool Packed, bool ByRows, class T, class C>
struct routed_outer {
  static constexpr unsigned row_lanes = 128;               ///< lanes along the rows
  static constexpr unsigned most_tiles = 2;                ///< tiles of columns of a block
  static constexpr unsigned most_threads = row_lanes * 2;  ///< lanes of a block
  static constexpr int V = pack_entries<T>;                ///< rows of a lane
  static constexpr int staged = 64;   ///< slots whose entries of h are in shared memory together
  static constexpr int together = 4;  ///< tokens that are loaded together
  static constexpr std::size_t kept = std::size_t{rank_tile} * std::size_t{V};  ///< sums of a lane
  using weights = entry_pack<T, rank_tile>;  ///< entries of h of a slot and a tile

  slot_ids ids;                       ///< experts of the slots
  device_number<T, C> s;              ///< factor
  matrix_ref<T const> x;              ///< d x T
  matrix_ref<T const> h;              ///< (k r) x T
  expert_columns<T, ByRows> experts;  ///< d x (E r): the result, or the sums of the first part
  index_t step;                       ///< entries from the sums of one part to those of the next
  int* found;                         ///< E x parts: whether an expert has slots; or null
  index_t rank;                       ///< r
  index_t tokens_of_part;             ///< tokens of a part
  int tokens_of_stretch;              ///< tokens that are listed at a time
  unsigned row_tiles;                 ///< blocks along x for each of the next
  unsigned rank_tiles;                ///< blocks along x for each part
  unsigned blocks_y;                  ///< blocks along y, which share the experts

  /// \param[in] slots    slots of a stretch
  /// \param[in] threads  lanes of a block
  /// \returns bytes of shared memory
  static constexpr std::size_t shared_bytes(index_t slots, unsigned threads) {
    return staged * (threads / row_lanes) * sizeof(weights) +
           slots_of_expert::shared_bytes(slots, threads);
  }

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    for (auto expert = static_cast<int>(block_y()); expert < ids.experts;
         expert += static_cast<int>(blocks_y))
      add_tokens(expert);
  }

 private:
  STIEFELX_HD static int tiles() { return static_cast<int>(block_threads() / row_lanes); }
  STIEFELX_HD static weights* staged_weights() { return static_cast<weights*>(shared_memory()); }

  STIEFELX_HD void add_tokens(int expert) const {
    unsigned const row_tile = block_x() % row_tiles, other = block_x() / row_tiles;
    auto const part = static_cast<index_t>(other / rank_tiles);
    index_t const column = other % rank_tiles * index_t{rank_tile} * tiles();
    auto const tile = static_cast<int>(thread_rank() / row_lanes);
    index_t const i = (row_tile * index_t{row_lanes} + thread_rank() % row_lanes) * V;
    index_t const begin = part * tokens_of_part;
    index_t const end = begin + tokens_of_part < x.cols ? begin + tokens_of_part : x.cols;
    T sums[kept];
    unroll<kept>([&](index_t n) __attribute__((always_inline)) { sums[n] = T(0); });
    bool any = false;
    for (index_t first = begin; first < end; first += tokens_of_stretch) {
      index_t const rest = end - first;
      int const tokens = rest < tokens_of_stretch ? static_cast<int>(rest) : tokens_of_stretch;
      slots_of_expert const slots(reinterpret_cast<int*>(staged_weights() + staged * tiles()), ids,
                                  expert, first, tokens * ids.slots);
      any = any || slots.size() > 0;
      for (int n = 0; n < slots.size(); n += staged) {
        int const count = slots.size() - n < staged ? slots.size() - n : staged;
        stage(slots, n, count, first, column);
        block_barrier();
        if (i < x.rows) add_products(slots, n, count, first, i, tile, sums);
        // Before the next slots come to the same place.
        block_barrier();
      }
    }
    index_t const b = column + tile * rank_tile;
    if (found == nullptr) {
      // An expert without tokens keeps its bits.
      if (any) write(true, experts, s.value(), expert, i, b, sums);
    } else {
      auto to = experts;
      to.data += part * step;
      write(false, to, T(1), expert, i, b, sums);
      if (other % rank_tiles == 0 && row_tile == 0 && thread_rank() == 0)
        found[part * ids.experts + expert] = any ? 1 : 0;
    }
  }

  // Zeros stand for what lies beyond a slot.
  STIEFELX_HD void stage(slots_of_expert const& slots, int begin, int count, index_t first,
                         index_t column) const {
    T* const to = static_cast<T*>(shared_memory());
    int const width = rank_tile * tiles();
    for (auto q = static_cast<int>(thread_rank()); q < count * width;
         q += static_cast<int>(block_threads())) {
      int const n = begin + q / width;
      index_t const b = column + q % width;
      to[q] = b < rank ? h(slots.slot(n) * rank + b, first + slots.token(n)) : T(0);
    }
  }

  STIEFELX_HD void add_products(slots_of_expert const& slots, int begin, int count, index_t first,
                                index_t i, int tile, T (&sums)[kept]) const {
    weights const* const part = staged_weights() + tile;
    int n = 0;
    for (; n + together <= count; n += together)
      add_some<together>(slots, begin + n, first, i, part + n * tiles(), sums);
    for (; n < count; ++n) add_some<1>(slots, begin + n, first, i, part + n * tiles(), sums);
  }

  template <std::size_t N>
  STIEFELX_HD void add_some(slots_of_expert const& slots, int n, index_t first, index_t i,
                            weights const* part, T (&sums)[kept]) const {
    T const* columns[N];
    entry_pack<T, V> token[N];
    unroll<N>([&](index_t k) __attribute__((always_inline)) {
      columns[k] = x.column(first + slots.token(n + static_cast<int>(k)));
    });
    load_rows<Packed>(columns, i, x.rows, token);
    unroll<N>([&](index_t k) __attribute__((always_inline)) {
      weights const weight = part[k * tiles()];
      unroll<rank_tile>([&](index_t c) __attribute__((always_inline)) {
        unroll<V>([&](index_t v) __attribute__((always_inline)) {
          sums[c * V + v] += token[k].entry[v] * weight.entry[c];
        });
      });
    });
  }

  // Lines of V entries along the memory.
  STIEFELX_HD void write(bool adds, expert_columns<T, ByRows> const& to, T factor, int expert,
                         index_t i, index_t b, T const (&sums)[kept]) const {
    index_t const left = rank - b, rows = x.rows - i;
    index_t const column = expert * rank + b;
    if constexpr (ByRows) {
      unroll<V>([&](index_t v) __attribute__((always_inline)) {
        if (v >= rows) return;
        unroll<rank_tile / V>([&](index_t q) __attribute__((always_inline)) {
          index_t const c = q * V;
          entry_pack<T, V> line;
          unroll<V>([&](index_t w)
                        __attribute__((always_inline)) { line.entry[w] = sums[(c + w) * V + v]; });
          if (c < left) put(adds, to.is_packed, to.at(i + v, column + c), left - c, factor, line);
        });
      });
    } else {
      if (rows <= 0) return;
      unroll<rank_tile>([&](index_t c) __attribute__((always_inline)) {
        entry_pack<T, V> line;
        unroll<V>([&](index_t v)
                      __attribute__((always_inline)) { line.entry[v] = sums[c * V + v]; });
        if (c < left) put(adds, to.is_packed, to.at(i, column + c), rows, factor, line);
      });
    }
  }

  STIEFELX_HD static void put(bool adds, bool is_packed, T* at, index_t left, T factor,
                              entry_pack<T, V> const& line) {
    entry_pack<T, V> was{};
    if (is_packed && V <= left) {
      auto* const pack = reinterpret_cast<entry_pack<T, V>*>(at);
      if (adds) was = *pack;
      unroll<V>([&](index_t v)
                    __attribute__((always_inline)) { was.entry[v] += factor * line.entry[v]; });
      *pack = was;
    } else {
      unroll<V>([&](index_t v) __attribute__((always_inline)) {
        if (v < left) at[v] = (adds ? at[v] : T(0)) + factor * line.entry[v];
      });
    }
  }
};

}  // namespace stiefelx::cuda
