// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Rows that tall_product() takes at once; a task of it is best a multiple of them.
/// \ingroup simd
/// \tparam T  float or double
template <class T>
inline constexpr std::ptrdiff_t tall_product_rows =
    (register_count >= 32 ? 4 : 2) * native_width<T>;

/// \brief Elements that copy_right_factor() writes for a k x p matrix.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in] k, p  its rows and columns
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t right_factor_size(std::ptrdiff_t k, std::ptrdiff_t p);

/// \brief Copies the right factor of a product in the order in which tall_product() reads it.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in]  k, p         rows and columns of b
/// \param[in]  b            k x p, in any order
/// \param[in]  row_stride   distance of the rows of b
/// \param[in]  col_stride   distance of the columns of b
/// \param[out] factor       right_factor_size(k, p) elements
template <class T>
void copy_right_factor(std::ptrdiff_t k, std::ptrdiff_t p, T const* b, std::ptrdiff_t row_stride,
                       std::ptrdiff_t col_stride, T* factor);

/// \brief Elements of workspace that tall_product() needs.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in] k  columns of the left factor
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t tall_product_workspace(std::ptrdiff_t k);

/// \brief Computes \f$ c = s\,a\,b \f$ or \f$ c \leftarrow c + s\,a\,b \f$ for a tall thin real a.
/// \ingroup simd
///
/// An entry of a b is the sum of its k products in their order, then multiplied by s; nothing else
/// goes into it, so its bits depend neither on n nor on the place of its row. Strips of rows of a
/// are copied into contiguous memory, so a stride that is a power of two costs no cache conflicts,
/// and the next strip is fetched meanwhile. A row of a that holds NaN or infinity reaches only its
/// own row of c, and a column of b its own column.
///
/// \tparam T  float or double
/// \param[in]     n, k, p    a is n x k, b is k x p; any numbers from zero on
/// \param[in]     s          a factor
/// \param[in]     a          n x k, column-major, of any alignment
/// \param[in]     a_stride   distance of the columns of a, at least n
/// \param[in]     factor     b, as copy_right_factor() leaves it
/// \param[in]     add        whether c is added to; it is not read otherwise
/// \param[in,out] c          n x p, column-major, of any alignment; must not overlap anything else
/// \param[in]     c_stride   distance of the columns of c, at least n
/// \param[out]    workspace  tall_product_workspace(k) elements of any alignment
/// \par Cost
/// 2 n k p flops; reads a once and b once a strip; allocates nothing
template <class T>
void tall_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* a,
                  std::ptrdiff_t a_stride, T const* factor, bool add, T* c, std::ptrdiff_t c_stride,
                  T* workspace);

namespace detail {

inline constexpr std::ptrdiff_t product_cols = 4;
// Packs of rows in a strip. 4 x 4 sums, four packs of a and one entry of b fit 32 registers, 4 x 2
// sums fit 16; either has the eight independent sums that keep two multipliers busy.
template <class T>
inline constexpr std::ptrdiff_t product_chunks = tall_product_rows<T> / native_width<T>;

// Copies a strip of rows as [column][row of the strip], with zeros for missing rows.
template <std::ptrdiff_t Chunks, class T>
void copy_strip(std::ptrdiff_t rows, std::ptrdiff_t k, T const* a, std::ptrdiff_t stride, T* out) {
  constexpr std::ptrdiff_t w = native_width<T>;
  if (rows == Chunks * w) {
    for (std::ptrdiff_t j = 0; j < k; ++j, a += stride, out += Chunks * w)
      unroll<Chunks>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
        pack<T>::load(a + s * w).store_aligned(out + s * w);
      });
  } else {
    for (std::ptrdiff_t j = 0; j < k; ++j, a += stride, out += Chunks * w)
      std::fill(std::copy(a, a + rows, out), out + Chunks * w, T{0});
  }
}

// One tile of c from a strip of a and four columns of b. Meanwhile fetches entries of the next
// strip, one line a column.
template <std::ptrdiff_t Chunks, class T>
void multiply_strip(std::ptrdiff_t k, T s, T const* a, T const* b, bool add, T* c,
                    std::ptrdiff_t stride, T const* next, std::ptrdiff_t next_stride) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t m = product_cols;
  pack<T> acc[std::size_t{m}][std::size_t{Chunks}];
  unroll<m>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
    unroll<Chunks>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
      acc[j][r] = pack<T>::broadcast(0);
      __builtin_prefetch(c + j * stride + r * w, 1);
    });
  });
  for (std::ptrdiff_t i = 0; i < k; ++i, a += Chunks * w, b += m, next += next_stride) {
    __builtin_prefetch(next, 0, 2);
    pack<T> left[std::size_t{Chunks}];
    unroll<Chunks>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
      left[r] = pack<T>::load_aligned(a + r * w);
      keep_in_register(left[r]);
    });
    unroll<m>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
      pack<T> right = pack<T>::broadcast(b[j]);
      keep_in_register(right);
      unroll<Chunks>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
        acc[j][r] = multiply_add(left[r], right, acc[j][r]);
      });
    });
  }
  pack<T> const factor = pack<T>::broadcast(s);
  unroll<m>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
    unroll<Chunks>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
      T* const to = c + j * stride + r * w;
      if (add)
        multiply_add(factor, acc[j][r], pack<T>::load(to)).store(to);
      else
        (factor * acc[j][r]).store(to);
    });
  });
}

// All columns of c in one strip of rows.
template <std::ptrdiff_t Chunks, class T>
void multiply_rows(std::ptrdiff_t rows, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* a,
                   std::ptrdiff_t a_stride, T const* factor, bool add, T* c,
                   std::ptrdiff_t c_stride, T const* next, T* strip) {
  constexpr std::ptrdiff_t m = product_cols;
  constexpr std::ptrdiff_t height = Chunks * native_width<T>;
  copy_strip<Chunks>(rows, k, a, a_stride, strip);
  for (std::ptrdiff_t j = 0; j < p; j += m, c += m * c_stride, factor += m * k) {
    std::ptrdiff_t const cols = std::min(m, p - j);
    T const* const fetched = next + std::min(j / m, Chunks - 1) * native_width<T>;
    if (rows == height && cols == m) {
      multiply_strip<Chunks>(k, s, strip, factor, add, c, c_stride, fetched, a_stride);
    } else {
      T tile[std::size_t{m * height}] = {};
      if (add)
        for (std::ptrdiff_t i = 0; i < cols; ++i)
          std::copy(c + i * c_stride, c + i * c_stride + rows, tile + i * height);
      multiply_strip<Chunks>(k, s, strip, factor, add, tile, height, fetched, a_stride);
      for (std::ptrdiff_t i = 0; i < cols; ++i)
        std::copy(tile + i * height, tile + i * height + rows, c + i * c_stride);
    }
  }
}

}  // namespace detail

template <class T>
constexpr std::ptrdiff_t right_factor_size(std::ptrdiff_t k, std::ptrdiff_t p) {
  constexpr std::ptrdiff_t m = detail::product_cols;
  return k * ((p + m - 1) / m * m);
}

template <class T>
void copy_right_factor(std::ptrdiff_t k, std::ptrdiff_t p, T const* b, std::ptrdiff_t row_stride,
                       std::ptrdiff_t col_stride, T* factor) {
  constexpr std::ptrdiff_t m = detail::product_cols;
  for (std::ptrdiff_t j = 0; j < p; j += m, b += m * col_stride)
    for (std::ptrdiff_t i = 0; i < k; ++i)
      for (std::ptrdiff_t t = 0; t < m; ++t, ++factor)
        *factor = j + t < p ? b[i * row_stride + t * col_stride] : T{0};
}

template <class T>
constexpr std::ptrdiff_t tall_product_workspace(std::ptrdiff_t k) {
  return k * tall_product_rows<T> + native_width<T> - 1;
}

template <class T>
void tall_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* a,
                  std::ptrdiff_t a_stride, T const* factor, bool add, T* c, std::ptrdiff_t c_stride,
                  T* workspace) {
  constexpr std::ptrdiff_t chunks = detail::product_chunks<T>;
  constexpr std::ptrdiff_t height = tall_product_rows<T>;
  constexpr std::ptrdiff_t w = native_width<T>;
  T* const strip = align_to_register(workspace);
  std::ptrdiff_t row = 0;
  for (; row + height <= n; row += height)
    detail::multiply_rows<chunks>(height, k, p, s, a + row, a_stride, factor, add, c + row,
                                  c_stride, a + std::min(row + height, n - height), strip);
  for (; row + chunks / 2 * w <= n; row += chunks / 2 * w)
    detail::multiply_rows<chunks / 2>(chunks / 2 * w, k, p, s, a + row, a_stride, factor, add,
                                      c + row, c_stride, a + row, strip);
  for (; row < n; row += w)
    detail::multiply_rows<1>(std::min(w, n - row), k, p, s, a + row, a_stride, factor, add, c + row,
                             c_stride, a + row, strip);
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
