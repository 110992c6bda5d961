// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/unroll.hpp>
#include <stiefelx/team/lanes.hpp>

/// \file
/// \brief Tiles of small matrices in a team's scratch, their sums in registers.
/// \ingroup team

namespace stiefelx {

/// \brief Distance of the columns of an n x p matrix in scratch.
/// \ingroup team
///
/// n, but for matrices that in packs outgrow a first-level cache of 32 KiB: there, columns a power of
/// two apart would share a few sets of the cache, so 16 entries come between them.
/// \param[in] n  rows
/// \param[in] p  columns
/// \returns entries from one column to the next
STIEFELX_HD constexpr index_t lane_stride(index_t n, index_t p) {
  return n * p > 512 && n % 32 == 0 ? n + 16 : n;
}

namespace detail {

// A tile of 4 x 4 sums and its eight operands fit 32 registers.
inline constexpr index_t lane_tile = 4;

// Entries of a block of rows that stays in the first-level cache, 32 KiB in packs of 64 bytes, while
// all tiles pass over it.
inline constexpr index_t lane_block_entries = 512;

// Rows of such a block of p columns.
STIEFELX_HD constexpr index_t lane_block_rows(index_t p) {
  index_t const fitting = lane_block_entries / (p < 1 ? 1 : p);
  return fitting < lane_tile ? lane_tile : fitting;
}

// Which sums of a tile are formed: all, or those on and above its diagonal.
enum class tile_part { whole, upper };

// f(i, j) for the entries of such a tile, column by column.
template <tile_part Part, index_t I, index_t J, class F>
[[gnu::always_inline]] STIEFELX_HD inline void for_each_in_tile(F const& f) {
  unroll<J>([&](index_t j) __attribute__((always_inline)) {
    unroll<I>([&](index_t i) __attribute__((always_inline)) {
      if (Part == tile_part::whole || i <= j) f(i, j);
    });
  });
}

// acc = acc + a^H b, or acc - a^H b, for I columns of a, J of b and some rows.
template <tile_part Part, bool Subtract, index_t I, index_t J, class S>
[[gnu::always_inline]] STIEFELX_HD inline void add_adjoint_product(index_t rows, S const* a,
                                                                   index_t a_stride, S const* b,
                                                                   index_t b_stride, S* acc) {
  for (index_t r = 0; r < rows; ++r) {
    S left[std::size_t{I}];
    unroll<I>([&](index_t i) __attribute__((always_inline)) {
      left[i] = conjugate(a[i * a_stride + r]);
      keep_in_register(left[i]);
    });
    unroll<J>([&](index_t j) __attribute__((always_inline)) {
      S right = b[j * b_stride + r];
      keep_in_register(right);
      unroll<I>([&](index_t i) __attribute__((always_inline)) {
        if (Part == tile_part::upper && i > j) return;
        S& sum = acc[j * I + i];
        sum = Subtract ? subtract_product(left[i], right, sum) : multiply_add(left[i], right, sum);
      });
    });
  }
}

// Calls f with the constants I and J for a tile of that size, both at most lane_tile.
template <index_t I = lane_tile, index_t J = lane_tile, class F>
STIEFELX_DEVICE_INLINE STIEFELX_HD void with_tile_size(index_t i, index_t j, F const& f) {
  if constexpr (I > 1) {
    if (i < I) return with_tile_size<I - 1, J>(i, j, f);
  }
  if constexpr (J > 1) {
    if (j < J) return with_tile_size<I, J - 1>(i, j, f);
  }
  f(fixed_size<I>{}, fixed_size<J>{});
}

// The same for a number of rows that is a constant of the type.
template <index_t I, class F>
STIEFELX_DEVICE_INLINE STIEFELX_HD void with_tile_size(fixed_size<I> tall, index_t j, F const& f) {
  with_tile_size<1>(1, j, [&](auto, auto wide) __attribute__((always_inline)) { f(tall, wide); });
}

// f(row, rows) for the rows that this lane takes of n: a tile's or, where rows is an index_t, at least
// one. Lanes that share a matrix take one by one what fills no tile, so that two heights are compiled
// and the last rows are finished at once.
template <class S, Team T, class N, class F>
[[gnu::always_inline]] STIEFELX_HD inline void for_each_row_tile(T const& team, N n, F const& f) {
  constexpr index_t m = lane_tile;
  if constexpr (shares_columns<T, S>) {
    index_t const tiles = n / m, pieces = tiles + n % m;
    index_t piece = team.rank();
    for (; piece < tiles; piece += team.size()) f(piece * m, fixed_size<m>{});
    for (; piece < pieces; piece += team.size()) f(piece + tiles * (m - 1), fixed_size<1>{});
  } else {
    for (index_t row = m * team.rank(); row < n; row += m * team.size()) f(row, n - row);
  }
}

// Whether all lanes take rows and add up what they have, tile by tile, where a lane a tile would leave
// most without work. The sums of a tile over the lanes cost about as much as sixteen of its rows.
template <Team T>
STIEFELX_HD bool lanes_take_rows(T const& team, index_t rows, index_t tiles) {
  return rows * (team.size() - tiles) > 16 * tiles * team.size();
}

// take(i, j, sum) for the sums that add(row, acc) forms of a tile of I x J, over rows shared by lanes.
template <tile_part Part, index_t I, index_t J, class S, Team T, class Add, class Take>
[[gnu::always_inline]] STIEFELX_HD inline void sum_tile_by_rows(T const& team, index_t rows,
                                                                Add const& add, Take const& take) {
  S acc[std::size_t{I * J}] = {};
  for (index_t row = team.rank(); row < rows; row += team.size()) add(row, acc);
  sum_to_first(team, acc);
  if (team.rank() != 0) return;
  for_each_in_tile<Part, I, J>([&](index_t i, index_t j)
                                   __attribute__((always_inline)) { take(i, j, acc[j * I + i]); });
}

// c = a^H b + (adds ? c : 0) for I columns of a, J of b and some rows.
template <tile_part Part, index_t I, index_t J, class S>
STIEFELX_HD void adjoint_tile(index_t rows, S const* a, index_t a_stride, S const* b,
                              index_t b_stride, bool adds, S* c, index_t c_stride) {
  S acc[std::size_t{I * J}];
  for_each_in_tile<Part, I, J>([&](index_t i, index_t j) __attribute__((always_inline)) {
    acc[j * I + i] = adds ? c[j * c_stride + i] : constant<S>(0);
  });
  add_adjoint_product<Part, false, I, J>(rows, a, a_stride, b, b_stride, acc);
  for_each_in_tile<Part, I, J>([&](index_t i, index_t j) __attribute__((always_inline)) {
    c[j * c_stride + i] = acc[j * I + i];
  });
}

// adjoint_product() by teams whose lanes take rows. A tile that ends early above one that does not is
// formed as the other's mirror image, so that few sizes are compiled.
template <bool Upper, Team T, class S>
STIEFELX_HD void adjoint_product_by_rows(T const& team, index_t n, index_t p, S const* a,
                                         index_t a_stride, S const* b, index_t b_stride, S* c) {
  constexpr index_t m = lane_tile;
  for (index_t j = 0; j < p; j += m)
    for (index_t i = 0; i < (Upper ? j + 1 : p); i += m) {
      bool const turns = p - i < m && p - j >= m;
      S const* const left = turns ? b + j * b_stride : a + i * a_stride;
      S const* const right = turns ? a + i * a_stride : b + j * b_stride;
      index_t const left_stride = turns ? b_stride : a_stride;
      index_t const right_stride = turns ? a_stride : b_stride;
      index_t const down = turns ? p : 1, across = turns ? 1 : p;
      S* const sums = c + j * p + i;
      with_tile_size<1>(1, turns ? p - i : p - j, [&](auto, auto wide) {
        auto const form = [&](auto part, auto height) __attribute__((always_inline)) {
          sum_tile_by_rows<part, height, wide, S>(
              team, n,
              [&](index_t row, S* acc) __attribute__((always_inline)) {
                add_adjoint_product<part, false, height, wide>(1, left + row, left_stride,
                                                               right + row, right_stride, acc);
              },
              [&](index_t k, index_t l, S sum)
                  __attribute__((always_inline)) { sums[l * across + k * down] = sum; });
        };
        using whole = std::integral_constant<tile_part, tile_part::whole>;
        if constexpr (Upper) {
          if (i == j) return form(std::integral_constant<tile_part, tile_part::upper>{}, wide);
        } else if constexpr (wide < m) {
          if (p - i < m && p - j < m) return form(whole{}, wide);
        }
        form(whole{}, fixed_size<m>{});
      });
    }
}

// adjoint_product() by teams whose lanes take tiles.
template <bool Upper, Team T, class N, class P, class S>
STIEFELX_HD void adjoint_product_by_tiles(T const& team, N n, P p, S const* a, index_t a_stride,
                                          S const* b, index_t b_stride, S* c) {
  constexpr index_t m = lane_tile;
  index_t const block = lane_block_rows(p);
  for (index_t row = 0; row < n; row += block) {
    index_t const rows = n - row < block ? n - row : block;
    index_t tile = 0;
    for (index_t j = 0; j < p; j += m)
      for (index_t i = 0; i < (Upper ? j + 1 : index_t{p}); i += m, ++tile) {
        if (tile % team.size() != team.rank()) continue;
        S const* const left = a + i * a_stride + row;
        S const* const right = b + j * b_stride + row;
        S* const sums = c + j * p + i;
        // A tile above the diagonal has all its rows.
        with_tile_size<Upper ? 1 : m>(Upper ? 1 : p - i, p - j, [&](auto tall, auto wide) {
          if (Upper && i == j)
            adjoint_tile<tile_part::upper, wide, wide>(rows, left, a_stride, right, b_stride,
                                                       row > 0, sums, p);
          else
            adjoint_tile<tile_part::whole, Upper ? m : index_t{tall}, wide>(
                rows, left, a_stride, right, b_stride, row > 0, sums, p);
        });
        finish_piece(team);
      }
  }
}

// The one or the other.
template <bool Upper, Team T, class S>
STIEFELX_HD void adjoint_product_of_lanes(T const& team, index_t n, index_t p, S const* a,
                                          index_t a_stride, S const* b, index_t b_stride, S* c) {
  index_t const across = (p + lane_tile - 1) / lane_tile;
  if (lanes_take_rows(team, n, Upper ? across * (across + 1) / 2 : across * across))
    adjoint_product_by_rows<Upper>(team, n, p, a, a_stride, b, b_stride, c);
  else
    adjoint_product_by_tiles<Upper>(team, n, p, a, a_stride, b, b_stride, c);
}

// An item forms many whole products, which are too long to be compiled for each. Triangles are fewer:
// a call would take registers from all that an item of one or two does besides.
template <Team T, class S>
[[gnu::noinline]] STIEFELX_HD void whole_product_of_lanes(T const& team, index_t n, index_t p,
                                                          S const* a, index_t a_stride, S const* b,
                                                          index_t b_stride, S* c) {
  adjoint_product_of_lanes<false>(team, n, p, a, a_stride, b, b_stride, c);
}

}  // namespace detail

}  // namespace stiefelx
