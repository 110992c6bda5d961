// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Columns of the right factor up to which narrow_product() beats tall_product(): two groups.
/// \ingroup simd
inline constexpr std::ptrdiff_t narrow_product_columns = register_count >= 32 ? 24 : 12;

/// \brief Rows of which a task of narrow_product() is best a multiple.
/// \ingroup simd
/// \tparam T  float or double
template <class T>
inline constexpr std::ptrdiff_t narrow_product_rows = 4 * native_width<T>;

/// \brief Elements that copy_narrow_factor() writes for a k x p matrix.
/// \ingroup simd
/// \param[in] k, p  its rows and columns
/// \returns a number of elements
constexpr std::ptrdiff_t narrow_factor_size(std::ptrdiff_t k, std::ptrdiff_t p);

/// \brief Copies the right factor of a product in the order in which narrow_product() reads it.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in]  k, p         rows and columns of b
/// \param[in]  b            k x p, in any order
/// \param[in]  row_stride   distance of the rows of b
/// \param[in]  col_stride   distance of the columns of b
/// \param[out] factor       narrow_factor_size(k, p) elements
template <class T>
void copy_narrow_factor(std::ptrdiff_t k, std::ptrdiff_t p, T const* b, std::ptrdiff_t row_stride,
                        std::ptrdiff_t col_stride, T* factor);

/// \brief Elements of workspace that narrow_product() needs.
/// \ingroup simd
///
/// It does not grow with n beyond 1024 rows.
/// \tparam T  float or double
/// \param[in] n, k, p  as of narrow_product()
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t narrow_product_workspace(std::ptrdiff_t n, std::ptrdiff_t k,
                                                  std::ptrdiff_t p);

/// \brief Computes \f$ c = s\,a\,b \f$ or \f$ c \leftarrow c + s\,a\,b \f$ for a real b of few columns.
/// \ingroup simd
///
/// The sums of up to 12 columns of c stay in registers, so that a is read where it is, once for each
/// such group: square and long matrices are read at the rate of the memory, or multiplied at that of
/// the registers. Columns of a are taken 128 at a time, all rows of a block before the next, and the
/// next rows are fetched meanwhile.
///
/// The bits are those of tall_product(): an entry of a b is the sum of its k products in their order,
/// then multiplied by s. A row of a that holds NaN or infinity reaches only its own row of c, and a
/// column of b its own column.
///
/// \tparam T  float or double
/// \param[in]     n, k, p    a is n x k, b is k x p; any numbers from zero on
/// \param[in]     s          a factor
/// \param[in]     a          n x k, column-major, of any alignment
/// \param[in]     a_stride   distance of the columns of a, at least n
/// \param[in]     factor     b, as copy_narrow_factor() leaves it
/// \param[in]     add        whether c is added to; it is not read otherwise
/// \param[in,out] c          n x p, column-major, of any alignment; must not overlap anything else
/// \param[in]     c_stride   distance of the columns of c, at least n
/// \param[out]    workspace  narrow_product_workspace(n, k, p) elements of any alignment
/// \par Cost
/// 2 n k p flops; reads a once from memory; allocates nothing
template <class T>
void narrow_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* a,
                    std::ptrdiff_t a_stride, T const* factor, bool add, T* c,
                    std::ptrdiff_t c_stride, T* workspace);

namespace detail {

// Two packs of rows times 12 columns, or four times six, are 24 sums: enough for two multipliers,
// and they fit 32 registers beside the factors. With 16 registers it is two packs and six columns.
inline constexpr std::ptrdiff_t widest_group = register_count >= 32 ? 12 : 6;
// Columns of a that are read together: the second group of columns of b finds them in the first
// cache, and their number is what the address translation keeps.
inline constexpr std::ptrdiff_t widest_panel = 128;
// Rows whose sums wait for the next panel in the second-level cache.
inline constexpr std::ptrdiff_t narrow_block = 1024;

// Columns of a panel when there are k: as even as can be.
constexpr std::ptrdiff_t narrow_panel(std::ptrdiff_t k) {
  std::ptrdiff_t const panels = std::max<std::ptrdiff_t>(1, (k + widest_panel - 1) / widest_panel);
  return std::max<std::ptrdiff_t>(1, (k + panels - 1) / panels);
}

// Columns of the next group of b when p are left: even, so that few kernels serve all.
constexpr std::ptrdiff_t group_columns(std::ptrdiff_t p) {
  std::ptrdiff_t const groups = (p + widest_group - 1) / widest_group;
  return std::max<std::ptrdiff_t>(4, ((p + groups - 1) / groups + 1) / 2 * 2);
}

constexpr std::ptrdiff_t grouped_columns(std::ptrdiff_t p) {
  std::ptrdiff_t whole = 0;
  for (std::ptrdiff_t cols = 0; p > 0; p -= cols) whole += cols = group_columns(p);
  return whole;
}

// What one tile is made of, and where its sums go.
template <class T>
struct narrow_tile {
  std::ptrdiff_t k;       // columns of a
  T const* a;             // its rows of a
  T const* next;          // rows that are fetched meanwhile
  std::ptrdiff_t stride;  // of a and next
  T const* b;             // [k][columns of the group]
  T* sums;                // kept from the panel before and for the next: [column][row], aligned
  bool first, last;       // whether the panel is
};

template <std::ptrdiff_t Chunks, std::ptrdiff_t Cols, class T>
void multiply_narrow(narrow_tile<T> t, T s, bool add, T* c, std::ptrdiff_t c_stride) {
  constexpr std::ptrdiff_t w = native_width<T>;
  pack<T> acc[std::size_t{Cols}][std::size_t{Chunks}];
  auto const each = [&](auto const& f) __attribute__((always_inline)) {
    unroll<Cols>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
      unroll<Chunks>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
        f(acc[j][r], t.sums + (j * Chunks + r) * w, c + j * c_stride + r * w);
      });
    });
  };
  if (t.first)
    each([](pack<T>& sum, T*, T* to) __attribute__((always_inline)) {
      sum = pack<T>::broadcast(0);
      __builtin_prefetch(to, 1);
    });
  else
    each([](pack<T>& sum, T* kept, T*)
             __attribute__((always_inline)) { sum = pack<T>::load_aligned(kept); });
  for (std::ptrdiff_t i = 0; i < t.k; ++i, t.a += t.stride, t.next += t.stride, t.b += Cols) {
    pack<T> left[std::size_t{Chunks}];
    unroll<Chunks>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
      __builtin_prefetch(t.next + r * w, 0, 2);
      left[r] = pack<T>::load(t.a + r * w);
      keep_in_register(left[r]);
    });
    unroll<Cols>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
      pack<T> right = pack<T>::broadcast(t.b[j]);
      keep_in_register(right);
      unroll<Chunks>([&](std::ptrdiff_t r) __attribute__((always_inline)) {
        acc[j][r] = multiply_add(left[r], right, acc[j][r]);
      });
    });
  }
  pack<T> const factor = pack<T>::broadcast(s);
  if (!t.last)
    each([](pack<T> sum, T* kept, T*) __attribute__((always_inline)) { sum.store_aligned(kept); });
  else if (add)
    each([=](pack<T> sum, T*, T* to) __attribute__((always_inline)) {
      multiply_add(factor, sum, pack<T>::load(to)).store(to);
    });
  else
    each([=](pack<T> sum, T*, T* to) __attribute__((always_inline)) { (factor * sum).store(to); });
}

// One group of at most Cols columns of c in `rows` rows; there are `above` more rows above them.
template <std::ptrdiff_t Cols, class T>
void multiply_group(std::ptrdiff_t above, std::ptrdiff_t rows, std::ptrdiff_t cols,
                    narrow_tile<T> const& t, T s, bool add, T* c, std::ptrdiff_t c_stride,
                    T* strip) {
  constexpr std::ptrdiff_t chunks = register_count >= 32 && Cols <= 6 ? 4 : 2;
  constexpr std::ptrdiff_t height = chunks * native_width<T>;
  for (std::ptrdiff_t row = 0; row < rows; row += height) {
    std::ptrdiff_t const there = std::min(height, rows - row), missing = height - there;
    narrow_tile<T> part = t;
    part.a += row;
    part.sums += row * Cols;
    if (row + height < rows) part.next = part.a + height;
    if (missing == 0 && cols == Cols) {
      multiply_narrow<chunks, Cols>(part, s, add, c + row, c_stride);
      continue;
    }
    // Rows above the missing ones are multiplied once more, in vain.
    std::ptrdiff_t const vain = std::min(missing, above + row);
    part.a -= vain;
    if (vain < missing) {
      for (std::ptrdiff_t i = 0; i < t.k; ++i) {
        T const* const from = part.a + i * t.stride;
        std::fill(std::copy(from, from + vain + there, strip + i * height),
                  strip + (i + 1) * height, T{0});
      }
      part.a = part.next = strip;
      part.stride = height;
    }
    T tile[std::size_t{Cols * height}] = {};
    T* const into = tile + vain;
    for (std::ptrdiff_t j = 0; j < cols && add && t.last; ++j)
      std::copy(c + row + j * c_stride, c + row + j * c_stride + there, into + j * height);
    multiply_narrow<chunks, Cols>(part, s, add, tile, height);
    for (std::ptrdiff_t j = 0; j < cols && t.last; ++j)
      std::copy(into + j * height, into + j * height + there, c + row + j * c_stride);
  }
}

template <class T>
void multiply_group(std::ptrdiff_t above, std::ptrdiff_t rows, std::ptrdiff_t cols,
                    narrow_tile<T> const& t, T s, bool add, T* c, std::ptrdiff_t c_stride,
                    T* strip) {
  std::ptrdiff_t const width = group_columns(cols);
  if (width == 4) return multiply_group<4>(above, rows, cols, t, s, add, c, c_stride, strip);
  if (width == 6) return multiply_group<6>(above, rows, cols, t, s, add, c, c_stride, strip);
  if constexpr (widest_group > 6) {
    if (width == 8) return multiply_group<8>(above, rows, cols, t, s, add, c, c_stride, strip);
    if (width == 10) return multiply_group<10>(above, rows, cols, t, s, add, c, c_stride, strip);
    multiply_group<12>(above, rows, cols, t, s, add, c, c_stride, strip);
  }
}

}  // namespace detail

constexpr std::ptrdiff_t narrow_factor_size(std::ptrdiff_t k, std::ptrdiff_t p) {
  return k * detail::grouped_columns(p);
}

template <class T>
void copy_narrow_factor(std::ptrdiff_t k, std::ptrdiff_t p, T const* b, std::ptrdiff_t row_stride,
                        std::ptrdiff_t col_stride, T* factor) {
  for (std::ptrdiff_t j = 0; j < p;) {
    std::ptrdiff_t const width = detail::group_columns(p - j), cols = std::min(width, p - j);
    for (std::ptrdiff_t t = 0; t < width; ++t)
      for (std::ptrdiff_t i = 0; i < k; ++i)
        factor[i * width + t] = t < cols ? b[i * row_stride + (j + t) * col_stride] : T{0};
    factor += k * width;
    j += cols;
  }
}

template <class T>
constexpr std::ptrdiff_t narrow_product_workspace(std::ptrdiff_t n, std::ptrdiff_t k,
                                                  std::ptrdiff_t p) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t height = narrow_product_rows<T>;
  std::ptrdiff_t const rows = std::min((n + height - 1) / height * height, detail::narrow_block);
  std::ptrdiff_t const panel = detail::narrow_panel(k);
  std::ptrdiff_t const sums = panel < k ? rows * detail::grouped_columns(p) : 0;
  return sums + panel * height + w - 1;
}

template <class T>
void narrow_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, T s, T const* a,
                    std::ptrdiff_t a_stride, T const* factor, bool add, T* c,
                    std::ptrdiff_t c_stride, T* workspace) {
  constexpr std::ptrdiff_t block = detail::narrow_block;
  constexpr std::ptrdiff_t height = narrow_product_rows<T>;
  std::ptrdiff_t const panel = detail::narrow_panel(k);
  T* const strip = align_to_register(workspace);
  T* const sums = strip + panel * height;
  for (std::ptrdiff_t top = 0; top < n; top += block) {
    std::ptrdiff_t const bottom = std::min(n, top + block);
    for (std::ptrdiff_t first = 0; first < std::max<std::ptrdiff_t>(k, 1); first += panel) {
      std::ptrdiff_t const depth = std::min(panel, k - first);
      bool const is_last = first + panel >= k;
      for (std::ptrdiff_t row = top; row < bottom; row += height) {
        std::ptrdiff_t const rows = std::min(height, bottom - row);
        T const* const here = a + row + first * a_stride;
        T const* const next = row + height < bottom ? here + height
                              : is_last             ? here
                                                    : here - (row - top) + panel * a_stride;
        T const* columns = factor;
        T* kept = sums + (row - top) * detail::grouped_columns(p);
        for (std::ptrdiff_t j = 0, width = 0; j < p; j += width) {
          width = detail::group_columns(p - j);
          detail::multiply_group(
              row, rows, std::min(width, p - j),
              {depth, here, next, a_stride, columns + first * width, kept, first == 0, is_last}, s,
              add, c + row + j * c_stride, c_stride, strip);
          columns += k * width;
          kept += height * width;
        }
      }
    }
  }
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
