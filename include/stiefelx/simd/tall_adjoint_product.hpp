// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/gram.hpp>
#include <stiefelx/simd/line_walk.hpp>
#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Elements of workspace that tall_adjoint_product() needs.
/// \ingroup simd
///
/// It does not grow with n beyond one block of rows (768 of float, 384 of double with AVX-512).
/// \tparam T  float or double
/// \param[in] n     rows of both factors
/// \param[in] k, p  columns of the left and of the right factor
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t tall_adjoint_product_workspace(std::ptrdiff_t n, std::ptrdiff_t k,
                                                        std::ptrdiff_t p);

/// \brief Computes \f$ c = s\,a^T b \f$ or \f$ c \leftarrow c + s\,a^T b \f$ for tall thin real a, b.
/// \ingroup simd
///
/// An entry of \f$ a^T b \f$ is summed lane by lane over a block of rows, then over the lanes in a
/// fixed tree, then over the blocks, and the sum multiplied by s: the order depends on n and on the
/// register width alone, never on addresses. The error of an entry of \f$ a^T b \f$ is at most
/// \f$ n \epsilon\,|a_i|^T |b_j| \f$, and mostly far less, because each lane sums only 48 products
/// of a block.
///
/// A column of a that holds NaN or infinity reaches only its own row of c, and a column of b its
/// own column.
///
/// Columns are copied, four at a time, into contiguous memory when they are first multiplied, so a
/// stride that is a power of two costs no cache conflicts.
///
/// \tparam T  float or double
/// \param[in]     n, k, p    a is n x k, b is n x p; any numbers from zero on
/// \param[in]     s          a factor
/// \param[in]     a          column-major, of any alignment
/// \param[in]     a_stride   distance of the columns of a, at least n
/// \param[in]     b          column-major, of any alignment
/// \param[in]     b_stride   distance of the columns of b, at least n
/// \param[in]     add        whether c is added to; it is not read otherwise
/// \param[in,out] c          k x p, column-major; must not overlap a, b or workspace
/// \param[in]     c_stride   distance of the columns of c, at least k
/// \param[out]    workspace  tall_adjoint_product_workspace(n, k, p) elements of any alignment
/// \par Cost
/// 2 n k p flops; reads a and b once; allocates nothing
template <class T>
void tall_adjoint_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* a,
                          std::ptrdiff_t a_stride, T const* b, std::ptrdiff_t b_stride, bool add,
                          T* c, std::ptrdiff_t c_stride, T* workspace);

namespace detail {

// Packs of rows in a block. All panels of a and one of b stay in the second-level cache up to 256
// columns of a, and the final sums over the lanes are hidden.
inline constexpr std::ptrdiff_t adjoint_chunks = 48;

constexpr std::ptrdiff_t whole_panels(std::ptrdiff_t columns) {
  return (columns + gram_panel - 1) / gram_panel * gram_panel;
}

// Four columns of a factor, and their copy as [chunk of rows][column][lane].
template <class T>
struct column_panel {
  T const* columns;
  std::ptrdiff_t stride;
  T* copied;

  // Pack k of column c. The first tile that takes it copies it, beside the multiplications.
  template <bool First>
  [[gnu::always_inline]] pack<T> take(std::ptrdiff_t k, std::ptrdiff_t c) const {
    constexpr std::ptrdiff_t w = native_width<T>;
    T* const place = copied + (k * gram_panel + c) * w;
    pack<T> taken;
    if constexpr (First) {
      taken = pack<T>::load(columns + c * stride + k * w);
      taken.store_aligned(place);
    } else {
      taken = pack<T>::load_aligned(place);
    }
    keep_in_register(taken);
    return taken;
  }
};

// total += a^T b for a tile of 4 x 4 entries.
template <bool FirstOfA, bool FirstOfB, class T>
void add_adjoint_tile(std::ptrdiff_t chunks, column_panel<T> a, column_panel<T> b, T* total,
                      line_walk& ahead) {
  line_walk beside = ahead;
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t m = gram_panel;
  constexpr std::ptrdiff_t cols = gram_tile_cols;
  unroll<m / cols>([&](std::ptrdiff_t part) __attribute__((always_inline)) {
    pack<T> acc[std::size_t{m * cols}];
    unroll<m * cols>([&](std::ptrdiff_t t)
                         __attribute__((always_inline)) { acc[t] = pack<T>::broadcast(0); });
    for (std::ptrdiff_t k = 0; k < chunks; ++k) {
      beside.step();
      pack<T> left[std::size_t{m}];
      unroll<m>([&](std::ptrdiff_t i)
                    __attribute__((always_inline)) { left[i] = a.template take<FirstOfA>(k, i); });
      unroll<cols>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
        pack<T> const right = b.template take<FirstOfB>(k, part * cols + j);
        unroll<m>([&](std::ptrdiff_t i) __attribute__((always_inline)) {
          acc[j * m + i] = multiply_add(left[i], right, acc[j * m + i]);
        });
      });
    }
    unroll<m * cols / w>([&](std::ptrdiff_t t) __attribute__((always_inline)) {
      T* const to = total + part * m * cols + t * w;
      (pack<T>::load_aligned(to) + sum_each(acc + t * w)).store_aligned(to);
    });
  });
  ahead = beside;
}

// Prepares a panel for its first tile; returns whether that tile is to copy it.
template <class T>
bool copies_in_tile(std::ptrdiff_t rows, std::ptrdiff_t cols, column_panel<T> panel) {
  if (rows % native_width<T> == 0 && cols == gram_panel) return true;
  copy_panel(rows, cols, panel.columns, panel.stride, panel.copied);
  return false;
}

// c = s total or c += s total, with total as [tile of columns][tile of rows][column][row].
template <class T>
void write_tiles(std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* total, bool add, T* c,
                 std::ptrdiff_t c_stride) {
  constexpr std::ptrdiff_t m = gram_panel;
  for (std::ptrdiff_t j = 0; j < p; j += m)
    for (std::ptrdiff_t i = 0; i < k; i += m, total += m * m)
      for (std::ptrdiff_t t = 0; t < std::min(m, p - j); ++t)
        for (std::ptrdiff_t r = 0; r < std::min(m, k - i); ++r) {
          T& entry = c[(j + t) * c_stride + i + r];
          entry = add ? entry + s * total[t * m + r] : s * total[t * m + r];
        }
}

}  // namespace detail

template <class T>
constexpr std::ptrdiff_t tall_adjoint_product_workspace(std::ptrdiff_t n, std::ptrdiff_t k,
                                                        std::ptrdiff_t p) {
  constexpr std::ptrdiff_t w = native_width<T>;
  std::ptrdiff_t const rows = std::min((n + w - 1) / w, detail::adjoint_chunks) * w;
  std::ptrdiff_t const left = detail::whole_panels(k), right = detail::whole_panels(p);
  return rows * (left + detail::gram_panel) + left * right + w - 1;
}

template <class T>
void tall_adjoint_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* a,
                          std::ptrdiff_t a_stride, T const* b, std::ptrdiff_t b_stride, bool add,
                          T* c, std::ptrdiff_t c_stride, T* workspace) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t m = detail::gram_panel;
  constexpr std::ptrdiff_t block = detail::adjoint_chunks * w;
  T* const totals = align_to_register(workspace);
  T* const copied_b = totals + detail::whole_panels(k) * detail::whole_panels(p);
  std::fill(totals, copied_b, T{0});
  for (std::ptrdiff_t row = 0; row < n; row += block) {
    std::ptrdiff_t const rows = std::min(block, n - row);
    std::ptrdiff_t const chunks = (rows + w - 1) / w;
    T* const copied_a = copied_b + chunks * w * m;
    T* total = totals;
    for (std::ptrdiff_t j = 0; j < p; j += m) {
      detail::column_panel<T> const right{b + j * b_stride + row, b_stride, copied_b};
      bool first_b = detail::copies_in_tile(rows, std::min(m, p - j), right);
      // A few columns of a are multiplied before the next ones of b have come.
      std::ptrdiff_t const due = k <= 16 ? std::clamp<std::ptrdiff_t>(p - j - m, 0, m) : 0;
      line_walk ahead(right.columns + due * b_stride, rows, due, b_stride,
                      chunks * ((k + m - 1) / m));
      for (std::ptrdiff_t i = 0; i < k; i += m, total += m * m) {
        detail::column_panel<T> const left{a + i * a_stride + row, a_stride,
                                           copied_a + i * chunks * w};
        bool const first_a = j == 0 && detail::copies_in_tile(rows, std::min(m, k - i), left);
        if (first_a && first_b)
          detail::add_adjoint_tile<true, true>(chunks, left, right, total, ahead);
        else if (first_a)
          detail::add_adjoint_tile<true, false>(chunks, left, right, total, ahead);
        else if (first_b)
          detail::add_adjoint_tile<false, true>(chunks, left, right, total, ahead);
        else
          detail::add_adjoint_tile<false, false>(chunks, left, right, total, ahead);
        first_b = false;
      }
    }
  }
  detail::write_tiles(k, p, s, totals, add, c, c_stride);
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
