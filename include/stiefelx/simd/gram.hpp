// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Elements of workspace that gram() needs for an n x p matrix.
/// \ingroup simd
///
/// It does not grow with n beyond one block of rows (1024 of float, 512 of double with AVX-512).
/// \tparam T  float or double
/// \param[in] n  rows
/// \param[in] p  columns
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t gram_workspace(std::ptrdiff_t n, std::ptrdiff_t p);

/// \brief Computes the Gram matrix \f$ g = y^T y \f$ of a tall thin real matrix.
/// \ingroup simd
///
/// Only the upper triangle is computed, in tiles of 4 x 4 entries; the lower one is a copy, so g is
/// symmetric to the bit. An entry is summed lane by lane over a block of rows, then over the lanes
/// in a fixed tree, then over the blocks: the order depends on n and on the register width alone,
/// never on addresses. The error of an entry is at most \f$ n \epsilon\,|y_i|^T |y_j| \f$, and
/// mostly far less, because each lane sums only 64 products of a block.
///
/// A column that holds NaN or infinity reaches only the entries of its own row and column of g.
///
/// Columns are copied, four at a time, into contiguous memory when they are first multiplied, so a
/// stride that is a power of two costs no cache conflicts.
///
/// \tparam T  float or double
/// \param[in]  n, p       rows and columns of y, any numbers from zero on
/// \param[in]  y          n x p, column-major, of any alignment
/// \param[in]  stride     distance of the columns of y, at least n
/// \param[out] g          p x p, column-major; must not overlap y or workspace
/// \param[in]  g_stride   distance of the columns of g, at least p
/// \param[out] workspace  gram_workspace(n, p) elements of any alignment
/// \par Cost
/// \f$ n p (p + 4) \f$ flops; reads y once; allocates nothing
template <class T>
void gram(std::ptrdiff_t n, std::ptrdiff_t p, T const* y, std::ptrdiff_t stride, T* g,
          std::ptrdiff_t g_stride, T* workspace);

namespace detail {

// 4 x 4 sums and their eight operands fit 32 registers; with 16 a tile is done in two halves.
inline constexpr std::ptrdiff_t gram_panel = 4;
inline constexpr std::ptrdiff_t gram_tile_cols = register_count >= 32 ? gram_panel : 2;
// A panel of 64 packs a column takes at most a third of a first-level cache of 48 KiB, and is long
// enough to hide the final sum over the lanes.
inline constexpr std::ptrdiff_t gram_chunks = 64;
// Panels kept in the second-level cache while all panels to their right pass by: at most 256 KiB.
inline constexpr std::ptrdiff_t gram_group = 16;

template <class T>
inline constexpr std::ptrdiff_t gram_block_rows = gram_chunks * native_width<T>;

// Copies a panel as [chunk of rows][column][lane], with zeros for missing rows and columns.
template <class T>
void copy_panel(std::ptrdiff_t rows, std::ptrdiff_t cols, T const* y, std::ptrdiff_t stride,
                T* out) {
  constexpr std::ptrdiff_t w = native_width<T>;
  for (std::ptrdiff_t c = 0; c < gram_panel; ++c) {
    std::ptrdiff_t const given = c < cols ? rows : 0;
    T const* const column = y + (c < cols ? c * stride : 0);
    T* to = out + c * w;
    std::ptrdiff_t i = 0;
    for (; i + w <= given; i += w, to += gram_panel * w)
      pack<T>::load(column + i).store_aligned(to);
    for (; i < rows; i += w, to += gram_panel * w) {
      std::fill(to, to + w, T{0});
      std::copy(column + std::min(i, given), column + given, to);
    }
  }
}

// sums(:, c) = a^T b(:, c) for the four columns of panel a and Cols columns of panel b. With Copies, b
// is copied beside the multiplications from columns of y.
template <bool Copies, std::ptrdiff_t Cols, class T>
void multiply_panels(std::ptrdiff_t chunks, T const* a, T* b, T const* y, std::ptrdiff_t stride,
                     T* sums) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t m = gram_panel;
  pack<T> acc[std::size_t{m * Cols}];
  unroll<m * Cols>([&](std::ptrdiff_t s)
                       __attribute__((always_inline)) { acc[s] = pack<T>::broadcast(0); });
  for (std::ptrdiff_t k = 0; k < chunks; ++k, a += m * w, b += m * w) {
    pack<T> left[std::size_t{m}];
    unroll<m>([&](std::ptrdiff_t i) __attribute__((always_inline)) {
      left[i] = pack<T>::load_aligned(a + i * w);
      keep_in_register(left[i]);
    });
    unroll<Cols>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
      pack<T> right;
      if constexpr (Copies) {
        right = pack<T>::load(y + c * stride + k * w);
        right.store_aligned(b + c * w);
      } else {
        right = pack<T>::load_aligned(b + c * w);
      }
      keep_in_register(right);
      unroll<m>([&](std::ptrdiff_t i) __attribute__((always_inline)) {
        acc[c * m + i] = multiply_add(left[i], right, acc[c * m + i]);
      });
    });
  }
  unroll<m * Cols / w>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
    sum_each(acc + s * w).store_aligned(sums + s * w);
  });
}

// The same for all four columns of panel b.
template <bool Copies, class T>
void multiply_panel(std::ptrdiff_t chunks, T const* a, T* b, T const* y, std::ptrdiff_t stride,
                    T* sums) {
  for (std::ptrdiff_t c = 0; c < gram_panel; c += gram_tile_cols)
    multiply_panels<Copies, gram_tile_cols>(chunks, a, b + c * native_width<T>, y + c * stride,
                                            stride, sums + c * gram_panel);
}

// Adds a 4 x 4 tile of sums, with i and j its first row and column, to the upper triangle of g.
template <class T>
void add_tile(std::ptrdiff_t p, std::ptrdiff_t i, std::ptrdiff_t j, T const* sums, T* g,
              std::ptrdiff_t g_stride) {
  T* const tile = g + j * g_stride + i;
  if (i < j && j + gram_panel <= p) {
    for (std::ptrdiff_t c = 0; c < gram_panel; ++c)
      for (std::ptrdiff_t r = 0; r < gram_panel; ++r)
        tile[c * g_stride + r] += sums[c * gram_panel + r];
  } else {
    for (std::ptrdiff_t c = 0; c < std::min(gram_panel, p - j); ++c)
      for (std::ptrdiff_t r = 0; r < std::min(gram_panel, j + c - i + 1); ++r)
        tile[c * g_stride + r] += sums[c * gram_panel + r];
  }
}

// Copies the upper triangle onto the lower one, a strip of columns at a time: a strip's rows lie in
// lines of the cache that its next columns write again.
template <class T>
void mirror_upper(std::ptrdiff_t p, T* g, std::ptrdiff_t g_stride) {
  constexpr std::ptrdiff_t strip = 64 / std::ptrdiff_t{sizeof(T)};
  for (std::ptrdiff_t first = 0; first < p; first += strip)
    for (std::ptrdiff_t i = 0; i < std::min(first + strip, p); ++i)
      for (std::ptrdiff_t j = std::max(first, i + 1); j < std::min(first + strip, p); ++j)
        g[i * g_stride + j] = g[j * g_stride + i];
}

}  // namespace detail

template <class T>
constexpr std::ptrdiff_t gram_workspace(std::ptrdiff_t n, std::ptrdiff_t p) {
  constexpr std::ptrdiff_t w = native_width<T>;
  std::ptrdiff_t const rows = std::min((n + w - 1) / w * w, detail::gram_block_rows<T>);
  std::ptrdiff_t const panels = (p + detail::gram_panel - 1) / detail::gram_panel;
  return rows * panels * detail::gram_panel + w - 1;
}

template <class T>
void gram(std::ptrdiff_t n, std::ptrdiff_t p, T const* y, std::ptrdiff_t stride, T* g,
          std::ptrdiff_t g_stride, T* workspace) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t m = detail::gram_panel;
  constexpr std::ptrdiff_t block = detail::gram_block_rows<T>;
  for (std::ptrdiff_t j = 0; j < p; ++j) std::fill(g + j * g_stride, g + j * g_stride + p, T{0});
  T* const panels = align_to_register(workspace);
  for (std::ptrdiff_t row = 0; row < n; row += block) {
    std::ptrdiff_t const rows = std::min(block, n - row);
    std::ptrdiff_t const chunks = (rows + w - 1) / w;
    auto const panel = [&](std::ptrdiff_t j) { return panels + j * chunks * w; };
    for (std::ptrdiff_t group = 0; group < p; group += detail::gram_group * m)
      for (std::ptrdiff_t j = group; j < p; j += m) {
        T const* const columns = y + j * stride + row;
        // The first panel meets itself first, and short ones are filled up with zeros.
        bool const copies = group == 0 && j > 0 && j + m <= p && rows % w == 0;
        if (group == 0 && !copies)
          detail::copy_panel(rows, std::min(m, p - j), columns, stride, panel(j));
        std::ptrdiff_t const end = std::min(group + detail::gram_group * m, j + 1);
        for (std::ptrdiff_t i = group; i < end; i += m) {
          alignas(register_bytes) T sums[m * m];
          if (copies && i == 0)
            detail::multiply_panel<true>(chunks, panel(i), panel(j), columns, stride, sums);
          else
            detail::multiply_panel<false>(chunks, panel(i), panel(j), columns, stride, sums);
          detail::add_tile(p, i, j, sums, g, g_stride);
        }
      }
  }
  detail::mirror_upper(p, g, g_stride);
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
