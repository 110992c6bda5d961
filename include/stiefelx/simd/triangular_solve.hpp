// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Elements of workspace that solve_right() needs for p columns.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in] p  columns
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t solve_right_workspace(std::ptrdiff_t p);

/// \brief Replaces y by \f$ y\,r^{-1} \f$, r upper triangular, for a tall thin real y.
/// \ingroup simd
///
/// Substitution, row by row of y, without an inverse of r: each row of the result solves
/// \f$ x\,(r + \Delta) = y \f$ exactly for some \f$ |\Delta| \le (p + 1) \epsilon\,|r| \f$.
/// Multiplying by the rounded reciprocal of a diagonal entry in place of dividing by the entry
/// keeps this: it is a relative change of that entry by \f$ \epsilon \f$. If some reciprocal would
/// not be a normal number, all entries are divided.
///
/// A row that holds NaN or infinity leaves the other rows as they are. A zero on the diagonal gives
/// infinities and NaN, as division does.
///
/// \tparam T  float or double
/// \param[in]     n, p       rows and columns of y, any numbers from zero on
/// \param[in]     r          p x p, column-major; what lies below the diagonal is not read
/// \param[in]     r_stride   distance of the columns of r, at least p
/// \param[in,out] y          n x p, column-major, of any alignment; must not overlap r or workspace
/// \param[in]     stride     distance of the columns of y, at least n
/// \param[out]    workspace  solve_right_workspace(p) elements of any alignment
/// \par Cost
/// \f$ n p (p + 1) \f$ flops; reads and writes y once; allocates nothing
template <class T>
void solve_right(std::ptrdiff_t n, std::ptrdiff_t p, T const* r, std::ptrdiff_t r_stride, T* y,
                 std::ptrdiff_t stride, T* workspace);

namespace detail {

inline constexpr std::ptrdiff_t solve_cols = 4;
// Packs of rows in a strip. 4 x 4 sums, four packs of a finished column and one factor fit 32
// registers, 4 x 2 sums fit 16.
inline constexpr std::ptrdiff_t solve_chunks = register_count >= 32 ? 4 : 2;

template <class T>
inline constexpr std::ptrdiff_t solve_rows = solve_chunks * native_width<T>;

// Whether 1 / r_jj is a normal number, and so exact up to one rounding, for all j.
template <class T>
bool has_normal_reciprocals(std::ptrdiff_t p, T const* r, std::ptrdiff_t r_stride) {
  constexpr T smallest = std::numeric_limits<T>::min();
  for (std::ptrdiff_t j = 0; j < p; ++j) {
    T const pivot = std::abs(r[j * r_stride + j]);
    if (!(pivot >= smallest && pivot <= 1 / smallest)) return false;
  }
  return true;
}

// Copies the upper triangle as [tile of columns][row][column of the tile], which is the order in
// which solve_tile() reads it, with reciprocal pivots if asked for, and an identity as padding.
template <class T>
void copy_factor(std::ptrdiff_t p, T const* r, std::ptrdiff_t r_stride, bool reciprocal, T* out) {
  for (std::ptrdiff_t first = 0; first < p; first += solve_cols)
    for (std::ptrdiff_t i = 0; i < first + solve_cols; ++i)
      for (std::ptrdiff_t j = first; j < first + solve_cols; ++j, ++out) {
        if (j >= p || i > j)
          *out = i == j ? T{1} : T{0};
        else
          *out = i == j && reciprocal ? 1 / r[j * r_stride + i] : r[j * r_stride + i];
      }
}

// Solves for four columns of one strip of rows: subtracts what the `before` finished columns of the
// strip contribute, substitutes inside the tile, and writes the result to y and behind the finished
// columns, which are stored as [column][row of the strip].
template <class T>
void solve_tile(std::ptrdiff_t before, T const* r, bool reciprocal, T* finished, T* y,
                std::ptrdiff_t stride) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t m = solve_cols;
  constexpr std::ptrdiff_t chunks = solve_chunks;
  pack<T> acc[std::size_t{m}][std::size_t{chunks}];
  unroll<m>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
    unroll<chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      acc[c][s] = pack<T>::load(y + c * stride + s * w);
    });
  });
  for (std::ptrdiff_t i = 0; i < before; ++i, r += m, finished += chunks * w) {
    pack<T> left[std::size_t{chunks}];
    unroll<chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      left[s] = pack<T>::load_aligned(finished + s * w);
      keep_in_register(left[s]);
    });
    unroll<m>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
      pack<T> const factor = pack<T>::broadcast(r[c]);
      unroll<chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
        acc[c][s] = subtract_product(left[s], factor, acc[c][s]);
      });
    });
  }
  unroll<m>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
    pack<T> const pivot = pack<T>::broadcast(r[c * m + c]);
    unroll<chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      acc[c][s] = reciprocal ? acc[c][s] * pivot : acc[c][s] / pivot;
      acc[c][s].store(y + c * stride + s * w);
      acc[c][s].store_aligned(finished + (c * chunks + s) * w);
    });
    unroll<m>([&](std::ptrdiff_t d) __attribute__((always_inline)) {
      if (d <= c) return;
      pack<T> const factor = pack<T>::broadcast(r[c * m + d]);
      unroll<chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
        acc[d][s] = subtract_product(acc[c][s], factor, acc[d][s]);
      });
    });
  });
}

// The same for a tile cut off by the last row or column, by way of a copy padded with zeros that
// lies where its result belongs.
template <class T>
void solve_cut_tile(std::ptrdiff_t rows, std::ptrdiff_t cols, std::ptrdiff_t before, T const* r,
                    bool reciprocal, T* finished, T* y, std::ptrdiff_t stride) {
  constexpr std::ptrdiff_t height = solve_rows<T>;
  T* const copy = finished + before * height;
  std::fill(copy, copy + solve_cols * height, T{0});
  for (std::ptrdiff_t c = 0; c < cols; ++c)
    std::copy(y + c * stride, y + c * stride + rows, copy + c * height);
  solve_tile(before, r, reciprocal, finished, copy, height);
  for (std::ptrdiff_t c = 0; c < cols; ++c)
    std::copy(copy + c * height, copy + c * height + rows, y + c * stride);
}

}  // namespace detail

template <class T>
constexpr std::ptrdiff_t solve_right_workspace(std::ptrdiff_t p) {
  constexpr std::ptrdiff_t m = detail::solve_cols;
  std::ptrdiff_t const tiles = (p + m - 1) / m;
  std::ptrdiff_t const factor = m * m * tiles * (tiles + 1) / 2;
  return tiles * m * detail::solve_rows<T> + factor + native_width<T> - 1;
}

template <class T>
void solve_right(std::ptrdiff_t n, std::ptrdiff_t p, T const* r, std::ptrdiff_t r_stride, T* y,
                 std::ptrdiff_t stride, T* workspace) {
  constexpr std::ptrdiff_t m = detail::solve_cols;
  constexpr std::ptrdiff_t height = detail::solve_rows<T>;
  T* const finished = align_to_register(workspace);
  T* const factor = finished + (p + m - 1) / m * m * height;
  bool const reciprocal = detail::has_normal_reciprocals(p, r, r_stride);
  detail::copy_factor(p, r, r_stride, reciprocal, factor);
  for (std::ptrdiff_t row = 0; row < n; row += height) {
    std::ptrdiff_t const rows = std::min(height, n - row);
    T const* tile = factor;
    for (std::ptrdiff_t j = 0; j < p; j += m) {
      std::ptrdiff_t const cols = std::min(m, p - j);
      T* const block = y + j * stride + row;
      if (rows == height && cols == m)
        detail::solve_tile(j, tile, reciprocal, finished, block, stride);
      else
        detail::solve_cut_tile(rows, cols, j, tile, reciprocal, finished, block, stride);
      tile += (j + m) * m;
    }
  }
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
