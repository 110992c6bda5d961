// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include <stiefelx/core/status.hpp>
#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Elements of workspace that cholesky() needs for order p.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in] p  order
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t cholesky_workspace(std::ptrdiff_t p);

/// \brief Replaces a real symmetric matrix by its upper factor, \f$ g = r^T r \f$.
/// \ingroup simd
///
/// The factor is formed as a lower one in the workspace, four columns at a time, each in one sweep
/// over the columns before it. A pivot that is not positive is replaced by a tiny positive number,
/// so that the factor can be formed to its end, and reported.
///
/// \tparam T  float or double
/// \param[in]     p          order, any number from zero on
/// \param[in,out] g          p x p, column-major; only the upper triangle is read; the factor has a
///                           positive diagonal and zeros below it
/// \param[in]     stride     distance of the columns of g, at least p
/// \param[out]    workspace  cholesky_workspace(p) elements of any alignment
/// \returns 0, or status_bits: `rank_deficient`, and for a NaN `not_finite`
/// \par Cost
/// \f$ p^3/3 \f$ flops; allocates nothing
template <class T>
int cholesky(std::ptrdiff_t p, T* g, std::ptrdiff_t stride, T* workspace);

namespace detail {

inline constexpr std::ptrdiff_t cholesky_cols = 4;
// 4 x 4 sums, four packs of a finished column and one factor fit 32 registers, 4 x 2 sums fit 16.
inline constexpr std::ptrdiff_t cholesky_chunks = register_count >= 32 ? 4 : 2;

// Distance of the workspace's columns: whole tiles of rows, and no power of two, whose columns
// would compete for the same places of a cache.
template <class T>
constexpr std::ptrdiff_t cholesky_stride(std::ptrdiff_t p) {
  constexpr std::ptrdiff_t w = native_width<T>;
  return (p + w - 1) / w * w + w;
}

// Subtracts from `Chunks` packs of rows of four columns what the `before` finished columns
// contribute; factors holds what the four columns' own rows have in each finished column.
template <std::ptrdiff_t Chunks, class T>
void subtract_finished(std::ptrdiff_t before, T const* finished, T const* factors,
                       std::ptrdiff_t stride, T* columns) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t m = cholesky_cols;
  pack<T> acc[std::size_t{m}][std::size_t{Chunks}];
  unroll<m>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
    unroll<Chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      acc[c][s] = pack<T>::load_aligned(columns + c * stride + s * w);
    });
  });
  for (std::ptrdiff_t k = 0; k < before; ++k, finished += stride, factors += stride) {
    pack<T> left[std::size_t{Chunks}];
    unroll<Chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      left[s] = pack<T>::load_aligned(finished + s * w);
      keep_in_register(left[s]);
    });
    unroll<m>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
      pack<T> const factor = pack<T>::broadcast(factors[c]);
      unroll<Chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
        acc[c][s] = subtract_product(left[s], factor, acc[c][s]);
      });
    });
  }
  unroll<m>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
    unroll<Chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      acc[c][s].store_aligned(columns + c * stride + s * w);
    });
  });
}

// Factors four columns, or fewer at the end, whose earlier columns are subtracted already.
template <class T>
int factor_columns(std::ptrdiff_t cols, std::ptrdiff_t first_row, std::ptrdiff_t end,
                   std::ptrdiff_t column, T const* g, std::ptrdiff_t g_stride,
                   std::ptrdiff_t stride, T* columns) {
  constexpr std::ptrdiff_t w = native_width<T>;
  int bits = 0;
  for (std::ptrdiff_t c = 0; c < cols; ++c) {
    T* const own = columns + c * stride;
    T pivot = own[column + c];
    if (std::isnan(pivot)) bits |= not_finite;
    // Left of rounding the pivot is a difference of numbers of the size of the diagonal entry.
    if (pivot <= std::numeric_limits<T>::min()) {
      bits |= rank_deficient;
      T const diagonal = g[(column + c) * g_stride + column + c];
      pivot = std::max(std::numeric_limits<T>::epsilon() * diagonal, std::numeric_limits<T>::min());
    }
    T const root = std::sqrt(pivot);
    pack<T> const inverse = pack<T>::broadcast(1 / root);
    T below[std::size_t{cholesky_cols}];
    for (std::ptrdiff_t d = c + 1; d < cols; ++d) below[d] = own[column + d] * (1 / root);
    for (std::ptrdiff_t i = first_row; i < end; i += w) {
      pack<T> const scaled = pack<T>::load_aligned(own + i) * inverse;
      scaled.store_aligned(own + i);
      for (std::ptrdiff_t d = c + 1; d < cols; ++d) {
        T* const other = columns + d * stride + i;
        subtract_product(scaled, pack<T>::broadcast(below[d]), pack<T>::load_aligned(other))
            .store_aligned(other);
      }
    }
    own[column + c] = root;
  }
  return bits;
}

// to(j, i) = from(i, j) for i <= j if `Upper`, else for i >= j, in squares whose lines stay in the
// first-level cache.
template <bool Upper, class T>
void transpose_triangle(std::ptrdiff_t p, T const* from, std::ptrdiff_t from_stride, T* to,
                        std::ptrdiff_t to_stride) {
  constexpr std::ptrdiff_t square = 16;
  for (std::ptrdiff_t column = 0; column < p; column += square)
    for (std::ptrdiff_t row = Upper ? 0 : column; row < (Upper ? column + 1 : p); row += square)
      for (std::ptrdiff_t i = row; i < std::min(row + square, p); ++i) {
        std::ptrdiff_t const first = Upper ? std::max(i, column) : column;
        std::ptrdiff_t const end = std::min(column + square, Upper ? p : std::min(i + 1, p));
        for (std::ptrdiff_t j = first; j < end; ++j)
          to[i * to_stride + j] = from[j * from_stride + i];
      }
}

}  // namespace detail

template <class T>
constexpr std::ptrdiff_t cholesky_workspace(std::ptrdiff_t p) {
  constexpr std::ptrdiff_t m = detail::cholesky_cols;
  return (p + m - 1) / m * m * detail::cholesky_stride<T>(p) + native_width<T> - 1;
}

template <class T>
int cholesky(std::ptrdiff_t p, T* g, std::ptrdiff_t stride, T* workspace) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t m = detail::cholesky_cols;
  constexpr std::ptrdiff_t chunks = detail::cholesky_chunks;
  std::ptrdiff_t const room = detail::cholesky_stride<T>(p), end = (p + w - 1) / w * w;
  T* const lower = align_to_register(workspace);
  std::fill(lower, lower + (p + m - 1) / m * m * room, T{0});
  detail::transpose_triangle<true>(p, g, stride, lower, room);
  int bits = 0;
  for (std::ptrdiff_t column = 0; column < p; column += m) {
    std::ptrdiff_t const first_row = column / w * w;
    T* const columns = lower + column * room;
    std::ptrdiff_t i = first_row;
    for (; i + chunks * w <= end; i += chunks * w)
      detail::subtract_finished<chunks>(column, lower + i, lower + column, room, columns + i);
    for (; i < end; i += w)
      detail::subtract_finished<1>(column, lower + i, lower + column, room, columns + i);
    bits |= detail::factor_columns(std::min(m, p - column), first_row, end, column, g, stride, room,
                                   columns);
  }
  for (std::ptrdiff_t j = 0; j < p; ++j) std::fill(g + j * stride + j, g + j * stride + p, T{0});
  detail::transpose_triangle<false>(p, lower, room, g, stride);
  return bits;
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
