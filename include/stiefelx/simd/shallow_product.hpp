// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Columns that shallow_product() takes at once; a task of it is best a multiple of them.
/// \ingroup simd
inline constexpr std::ptrdiff_t shallow_product_columns = 6;

/// \brief Elements that copy_shallow_factor() writes for an n x k matrix.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in] n, k  its rows and columns
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t shallow_factor_size(std::ptrdiff_t n, std::ptrdiff_t k);

/// \brief Copies the left factor of a product in the order in which shallow_product() reads it.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in]  n, k      rows and columns of a
/// \param[in]  a         n x k, column-major, of any alignment
/// \param[in]  a_stride  distance of the columns of a, at least n
/// \param[out] factor    shallow_factor_size(n, k) elements, at a multiple of a register's size
template <class T>
void copy_shallow_factor(std::ptrdiff_t n, std::ptrdiff_t k, T const* a, std::ptrdiff_t a_stride,
                         T* factor);

/// \brief Computes \f$ c = s\,a\,b \f$ or \f$ c \leftarrow c + s\,a\,b \f$ for a real a of few columns.
/// \ingroup simd
///
/// With few products an entry the time is that of writing c, so its columns are written from top to
/// bottom, as they lie in memory, and a, which the second-level cache holds, is read again for every six
/// of them. The bits are those of tall_product(): an entry of a b is the sum of its k products in
/// their order, then multiplied by s. A row of a that holds NaN or infinity reaches only its own row
/// of c, and a column of b its own column.
///
/// \tparam T  float or double
/// \param[in]     n, k, p     a is n x k, b is k x p; any numbers from zero on
/// \param[in]     s           a factor
/// \param[in]     factor      a, as copy_shallow_factor() leaves it
/// \param[in]     b           k x p, of any alignment
/// \param[in]     row_stride  distance of the rows of b
/// \param[in]     col_stride  distance of the columns of b
/// \param[in]     add         whether c is added to; it is not read otherwise
/// \param[in,out] c           n x p, column-major, of any alignment; must not overlap anything else
/// \param[in]     c_stride    distance of the columns of c, at least n
/// \par Cost
/// 2 n k p flops; reads a once for six columns; allocates nothing
template <class T>
void shallow_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* factor,
                     T const* b, std::ptrdiff_t row_stride, std::ptrdiff_t col_stride, bool add,
                     T* c, std::ptrdiff_t c_stride);

namespace detail {

// Packs of rows in a tile: 4 x 6 sums, four packs of a and one entry of b fit 32 registers, 2 x 6
// sums fit 16.
inline constexpr std::ptrdiff_t shallow_chunks = register_count >= 32 ? 4 : 2;
template <class T>
inline constexpr std::ptrdiff_t shallow_rows = shallow_chunks * native_width<T>;

// One tile of Cols columns, from a panel of a. The lines that are written `shallow_ahead` tiles later
// are asked for meanwhile.
inline constexpr std::ptrdiff_t shallow_ahead = 2;
template <std::ptrdiff_t Cols, class T>
void multiply_shallow(std::ptrdiff_t k, T s, T const* a, T const* b, std::ptrdiff_t row_stride,
                      std::ptrdiff_t col_stride, bool add, T* c, std::ptrdiff_t c_stride) {
  constexpr std::ptrdiff_t w = native_width<T>, m = shallow_chunks;
  pack<T> acc[std::size_t{Cols * m}];
  unroll<Cols>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
    unroll<m>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
      acc[j * m + r] = pack<T>::broadcast(0);
      __builtin_prefetch(c + j * c_stride + (shallow_ahead * m + r) * w, 1);
    });
  });
  for (std::ptrdiff_t i = 0; i < k; ++i, a += m * w, b += row_stride) {
    pack<T> left[std::size_t{m}];
    unroll<m>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
      left[r] = pack<T>::load_aligned(a + r * w);
      keep_in_register(left[r]);
    });
    unroll<Cols>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
      pack<T> right = pack<T>::broadcast(b[j * col_stride]);
      keep_in_register(right);
      unroll<m>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
        acc[j * m + r] = multiply_add(left[r], right, acc[j * m + r]);
      });
    });
  }
  pack<T> const by = pack<T>::broadcast(s);
  unroll<Cols>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
    unroll<m>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
      T* const to = c + j * c_stride + r * w;
      if (add)
        multiply_add(by, acc[j * m + r], pack<T>::load(to)).store(to);
      else
        (by * acc[j * m + r]).store(to);
    });
  });
}

// At most Cols columns of c, all rows.
template <std::ptrdiff_t Cols, class T>
void multiply_shallow_columns(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t cols, T s,
                              T const* a, T const* b, std::ptrdiff_t row_stride,
                              std::ptrdiff_t col_stride, bool add, T* c, std::ptrdiff_t c_stride) {
  if constexpr (Cols > 1) {
    if (cols < Cols)
      return multiply_shallow_columns<Cols - 1>(n, k, cols, s, a, b, row_stride, col_stride, add, c,
                                                c_stride);
  }
  constexpr std::ptrdiff_t height = shallow_rows<T>;
  for (std::ptrdiff_t row = 0; row < n; row += height, a += height * k) {
    std::ptrdiff_t const rows = std::min(height, n - row);
    if (rows == height) {
      multiply_shallow<Cols>(k, s, a, b, row_stride, col_stride, add, c + row, c_stride);
      continue;
    }
    T tile[std::size_t{Cols * height}] = {};
    for (std::ptrdiff_t j = 0; add && j < Cols; ++j)
      std::copy_n(c + row + j * c_stride, rows, tile + j * height);
    multiply_shallow<Cols>(k, s, a, b, row_stride, col_stride, add, tile, height);
    for (std::ptrdiff_t j = 0; j < Cols; ++j)
      std::copy_n(tile + j * height, rows, c + row + j * c_stride);
  }
}

}  // namespace detail

template <class T>
constexpr std::ptrdiff_t shallow_factor_size(std::ptrdiff_t n, std::ptrdiff_t k) {
  constexpr std::ptrdiff_t height = detail::shallow_rows<T>;
  return (n + height - 1) / height * height * k;
}

template <class T>
void copy_shallow_factor(std::ptrdiff_t n, std::ptrdiff_t k, T const* a, std::ptrdiff_t a_stride,
                         T* factor) {
  constexpr std::ptrdiff_t height = detail::shallow_rows<T>;
  for (std::ptrdiff_t row = 0; row < n; row += height) {
    std::ptrdiff_t const rows = std::min(height, n - row);
    for (std::ptrdiff_t i = 0; i < k; ++i, factor += height) {
      T const* const from = a + i * a_stride + row;
      std::fill(std::copy_n(from, rows, factor), factor + height, T{0});
    }
  }
}

template <class T>
void shallow_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* factor,
                     T const* b, std::ptrdiff_t row_stride, std::ptrdiff_t col_stride, bool add,
                     T* c, std::ptrdiff_t c_stride) {
  constexpr std::ptrdiff_t m = shallow_product_columns;
  for (std::ptrdiff_t j = 0; j < p; j += m)
    detail::multiply_shallow_columns<m>(n, k, std::min(m, p - j), s, factor, b + j * col_stride,
                                        row_stride, col_stride, add, c + j * c_stride, c_stride);
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
