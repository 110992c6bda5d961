// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/kernels/entrywise.hpp>
#include <stiefelx/cuda/kernels/routed_dots.hpp>
#include <stiefelx/cuda/kernels/routed_outer.hpp>
#include <stiefelx/cuda/kernels/routed_sums.hpp>
#include <stiefelx/cuda/kernels/routed_totals.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>

/// \file
/// \brief Launches of the routed products: sizes, layouts, and slots that are too many for one.
/// \ingroup cuda

namespace stiefelx::cuda {

namespace detail {

inline constexpr unsigned routed_threads = 128;

// Sizes of a routed product.
struct routing_sizes {
  index_t width, experts, rank, slots, tokens;

  bool is_empty() const { return rank == 0 || slots == 0 || tokens == 0; }
};

// experts_shape: the argument that has all experts, with them along its columns or its rows.
template <class Ids, class H>
routing_sizes expect_routing(char const* function, char const* experts, index_t rows, index_t cols,
                             bool by_rows, Ids const& ids, H const& h) {
  index_t const slots = ids.rows();
  if (slots == 0) {
    expect_shape(function, "h", h, 0, ids.cols());
  } else if (h.cols() != ids.cols() || h.rows() % slots != 0) {
    stiefelx::detail::throw_shape(function, "h", h.rows(), h.cols(),
                                  "a multiple of " + std::to_string(slots) + " rows and " +
                                      std::to_string(ids.cols()) + " columns");
  }
  index_t const rank = slots == 0 ? 0 : h.rows() / slots;
  index_t const all = by_rows ? rows : cols;
  if (rank > 0 && all % rank != 0)
    stiefelx::detail::throw_shape(
        function, experts, rows, cols,
        "a multiple of " + std::to_string(rank) + (by_rows ? " rows" : " columns"));
  return {by_rows ? cols : rows, rank > 0 ? all / rank : 0, rank, slots, ids.cols()};
}

// Slots of a token that one launch takes. A block lists those of a token in its shared memory, of which
// a device has 48 KiB without being asked for more, and it compares all pairs of them.
inline constexpr index_t most_slots = 1024;

// Calls f(sizes, first) for the slots of every token: all of them, or some after some.
template <class F>
void each_slots(routing_sizes z, F const& f) {
  index_t const all = z.slots;
  for (index_t first = 0; first < all; first += most_slots) {
    z.slots = std::min(most_slots, all - first);
    f(z, first);
  }
}

template <class T>
matrix_ref<T> rows_of(matrix_ref<T> a, index_t first, index_t rows) {
  return {a.data + first, rows, a.cols, a.stride};
}

inline slot_ids slot_ids_of(routing_sizes const& z, matrix_ref<int const> ids) {
  return {ids, static_cast<int>(z.experts), static_cast<int>(z.slots)};
}

// Tokens of a block: enough that slots of one expert meet, and no fewer blocks than fill a device
// while there are tokens for them. The slots of a block are sorted by comparing all pairs.
inline int tokens_of_block(routing_sizes const& z, index_t most, index_t blocks) {
  index_t const allowed = std::clamp<index_t>(256 / z.slots, 1, most);
  return static_cast<int>(
      std::clamp((z.tokens + blocks - 1) / blocks, std::min<index_t>(4, allowed), allowed));
}

inline unsigned block_count(index_t size, index_t of_block) {
  return static_cast<unsigned>((size + of_block - 1) / of_block);
}

// Whether packs of V entries of a column may be loaded at once.
template <int V, class T>
bool has_packs(T const* first, index_t stride, index_t cols) {
  return reinterpret_cast<std::uintptr_t>(first) % (V * sizeof(T)) == 0 &&
         (cols <= 1 || stride % V == 0);
}

// The experts of a matrix whose columns, or whose rows if it is an adjoint, lie in memory; a pack of
// the kernels for tokens of T has so many rows, or 16 bytes along a row.
template <class T, DeviceMatrix A>
auto experts_of(A const& a, index_t rank) {
  using S = scalar_t<A>;
  constexpr bool by_rows = is_adjoint<A>;
  constexpr int v = by_rows ? pack_entries<S> : pack_entries<T>;
  bool const is_packed = (!by_rows || rank % v == 0) &&
                         has_packs<v>(a.data(), a.stride(), by_rows ? a.rows() : a.cols());
  return expert_columns<S const, by_rows>{a.data(), a.rows(), a.cols(), a.stride(), is_packed};
}

// Calls f with the coefficient as kernels take it. One that is an entry of the output is copied
// first: other entries may be written before it is read.
template <class T, class C, class Y, class F>
void with_number(context& ctx, char const* function, C const& c, Y const& y, F const& f) {
  if constexpr (std::is_arithmetic_v<C>) {
    f(device_number<T, T>{static_cast<T>(c), nullptr});
  } else {
    expect_shape(function, "s", c, 1, 1);
    using S = scalar_t<C>;
    if (overlap(memory(ctx, c), memory(ctx, y))) {
      auto const number = clone(ctx, c);
      f(device_number<T, S>{T(0), number.data()});
    } else {
      f(device_number<T, S>{T(0), c.data()});
    }
  }
}

template <bool Packed, bool ByRows, class A, class T>
void queue_routed_dots(context& ctx, routing_sizes const& all, matrix_ref<int const> ids,
                       expert_columns<A const, ByRows> a, matrix_ref<T const> x, matrix_ref<T> h) {
  each_slots(all, [&](routing_sizes const& z, index_t first) {
    int const tokens = tokens_of_block(z, 32, 128);
    launch(ctx.queue,
           {block_count(z.tokens, tokens), block_count(z.rank, rank_tile), routed_threads,
            sorted_slots::shared_bytes(tokens * z.slots)},
           routed_dots<Packed, ByRows, A, T>{slot_ids_of(z, rows_of(ids, first, z.slots)), a, x,
                                             rows_of(h, first * z.rank, z.slots * z.rank), z.rank,
                                             tokens});
  });
}

template <bool Packed, bool ByRows, class A, class T, class C>
void queue_routed_sums(context& ctx, routing_sizes const& all, matrix_ref<int const> ids,
                       device_number<T, C> s, expert_columns<A const, ByRows> a,
                       matrix_ref<T const> h, bool from_zero, matrix_ref<T> y) {
  using kernel = routed_sums<Packed, ByRows, A, T, C>;
  each_slots(all, [&](routing_sizes const& z, index_t first) {
    int const tokens = tokens_of_block(z, 16, 64);
    std::size_t const sums =
        static_cast<std::size_t>(tokens) * routed_threads * sizeof(typename kernel::pack);
    launch(
        ctx.queue,
        {block_count(z.tokens, tokens), block_count(z.width, index_t{routed_threads} * kernel::V),
         routed_threads, sums + sorted_slots::shared_bytes(tokens * z.slots)},
        kernel{slot_ids_of(z, rows_of(ids, first, z.slots)), s, a,
               rows_of(h, first * z.rank, z.slots * z.rank), y, z.rank, tokens,
               from_zero && first == 0});
  });
}

// Parts that the tokens may have, such that blocks of all parts are at most so many. It is not asked
// how many tokens there are: where this is more than one, even a single part has sums of its own, so
// that there are always as many launches.
inline index_t most_token_parts(index_t blocks_of_part) {
  constexpr index_t most_blocks = 128;
  return std::max<index_t>(most_blocks / blocks_of_part, 1);
}

// Tokens of a part, none of which has few while there are several.
inline index_t tokens_of_part(index_t tokens, index_t most_parts) {
  constexpr index_t fewest_tokens = 64;
  index_t const parts =
      std::clamp<index_t>(most_parts, 1, (tokens + (fewest_tokens - 1)) / fewest_tokens);
  return (tokens + parts - 1) / parts;
}

template <bool Packed, bool ByRows, class T, class C>
void queue_some_routed_outer(context& ctx, routing_sizes const& z, matrix_ref<int const> ids,
                             device_number<T, C> s, matrix_ref<T const> x, matrix_ref<T const> h,
                             matrix_ref<T> a) {
  using kernel = routed_outer<Packed, ByRows, T, C>;
  unsigned const tiles = z.rank > rank_tile ? kernel::most_tiles : 1;
  unsigned const threads = tiles * kernel::row_lanes;
  unsigned const row_tiles = block_count(z.width, index_t{kernel::row_lanes} * kernel::V);
  unsigned const rank_tiles = block_count(z.rank, index_t{tiles} * rank_tile);
  index_t const most = most_token_parts(index_t{row_tiles} * rank_tiles * z.experts);
  index_t const tokens = tokens_of_part(z.tokens, most);
  unsigned const parts = block_count(z.tokens, tokens);
  auto const stretch = std::min(std::max<index_t>(1024 / z.slots, 1), tokens);
  auto const blocks_y = static_cast<unsigned>(std::min<index_t>(z.experts, 65535));
  auto const queue = [&](matrix_ref<T> to, index_t step, int* found) {
    bool const is_packed =
        (!ByRows || z.rank % kernel::V == 0) && has_packs<kernel::V>(to.data, to.stride, to.cols);
    launch(ctx.queue,
           {row_tiles * rank_tiles * parts, blocks_y, threads,
            kernel::shared_bytes(stretch * z.slots, threads)},
           kernel{slot_ids_of(z, ids),
                  s,
                  x,
                  h,
                  {to.data, z.width, z.experts * z.rank, to.stride, is_packed},
                  step,
                  found,
                  z.rank,
                  tokens,
                  static_cast<int>(stretch),
                  row_tiles,
                  rank_tiles,
                  blocks_y});
  };
  if (most == 1) return queue(a, 0, nullptr);
  index_t const stride = (a.rows + (kernel::V - 1)) / kernel::V * kernel::V, step = stride * a.cols;
  auto sums = scratch<T>(ctx, stride, a.cols * index_t{parts});
  auto found = scratch<int>(ctx, z.experts, index_t{parts});
  queue({sums.data(), a.rows, a.cols, stride}, step, found.data());
  queue_entrywise<kernel::V>(ctx.queue, has_aligned_columns(a), a.rows, a.cols,
                             routed_totals<ByRows, T, C>{{a.data, a.stride, false},
                                                         sums.data(),
                                                         stride,
                                                         step,
                                                         found.data(),
                                                         static_cast<int>(z.experts),
                                                         static_cast<int>(parts),
                                                         static_cast<unsigned>(z.rank),
                                                         s});
}

template <bool Packed, bool ByRows, class T, class C>
void queue_routed_outer(context& ctx, routing_sizes const& all, matrix_ref<int const> ids,
                        device_number<T, C> s, matrix_ref<T const> x, matrix_ref<T const> h,
                        matrix_ref<T> a) {
  each_slots(all, [&](routing_sizes const& z, index_t first) {
    queue_some_routed_outer<Packed, ByRows>(ctx, z, rows_of(ids, first, z.slots), s, x,
                                            rows_of(h, first * z.rank, z.slots * z.rank), a);
  });
}

}  // namespace detail

}  // namespace stiefelx::cuda
