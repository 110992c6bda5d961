// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>

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

// f(i, j) for the entries of such a tile, column by column, as constants of the type.
template <tile_part Part, index_t I, index_t J, class F>
[[gnu::always_inline]] STIEFELX_HD inline void for_each_in_tile(F const& f) {
  unroll<J>([&](auto j) __attribute__((always_inline)) {
    constexpr index_t count = Part == tile_part::whole || j + 1 > I ? I : j + 1;
    unroll<count>([&](auto i) __attribute__((always_inline)) { f(i, j); });
  });
}

// acc = acc + a^H b, or acc - a^H b, for I columns of a, J of b and some rows.
template <tile_part Part, bool Subtract, index_t I, index_t J, class S>
[[gnu::always_inline]] STIEFELX_HD inline void add_adjoint_product(index_t rows, S const* a,
                                                                   index_t a_stride, S const* b,
                                                                   index_t b_stride, S* acc) {
  for (index_t r = 0; r < rows; ++r) {
    S left[std::size_t{I}];
    unroll<I>([&](auto i) __attribute__((always_inline)) {
      left[i] = conjugate(a[i * a_stride + r]);
      keep_in_register(left[i]);
    });
    unroll<J>([&](auto j) __attribute__((always_inline)) {
      constexpr index_t count = Part == tile_part::whole || j + 1 > I ? I : j + 1;
      S right = b[j * b_stride + r];
      keep_in_register(right);
      unroll<count>([&](auto i) __attribute__((always_inline)) {
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
  for_each_in_tile<Part, I, J>([&](auto i, auto j)
                                   __attribute__((always_inline)) { take(i, j, acc[j * I + i]); });
}

}  // namespace detail

}  // namespace stiefelx
