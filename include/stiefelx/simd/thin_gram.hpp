// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Place of entry (i, j), j <= i, of a lower triangle that is stored row by row.
/// \ingroup simd
/// \param[in] i  row
/// \param[in] j  column, at most i
/// \returns i (i + 1) / 2 + j
constexpr std::ptrdiff_t packed_index(std::ptrdiff_t i, std::ptrdiff_t j) {
  return i * (i + 1) / 2 + j;
}

/// \brief Computes the Gram matrix of K long real columns in one read of them.
/// \ingroup simd
///
/// All K (K + 1) / 2 sums stay in registers over a block of 64 packs of rows, two groups of rows of
/// the triangle one after the other where they do not fit. A lane sums 64 products, the lanes of a
/// sum are added in a fixed tree, and the blocks in double, so the error of an entry is a few times
/// \f$ \epsilon\,|a_i|^T |a_j| \f$ for every n.
///
/// \tparam K      columns, 1 to 8
/// \tparam Early  packs fetched for each pack of rows, 0 to K
/// \tparam T      float or double
/// \param[in]  n       rows, any number from zero on
/// \param[in]  a       n x K, column-major, of any alignment
/// \param[in]  stride  distance of the columns, at least n
/// \param[out] g       K (K + 1) / 2 entries at packed_index()
/// \param[in]  next    Early n entries that are fetched into the second-level cache; not read
/// \par Cost
/// n K (K + 1) flops
template <std::ptrdiff_t K, std::ptrdiff_t Early = 0, class T>
void thin_gram(std::ptrdiff_t n, T const* a, std::ptrdiff_t stride, double* g, T const* next);

/// \brief The same for columns of float, with every product and every sum in double.
/// \ingroup simd
/// \param[in]  n       rows
/// \param[in]  k       columns, any number
/// \param[in]  a       n x k, column-major, of any alignment
/// \param[in]  stride  distance of the columns, at least n
/// \param[out] g       k (k + 1) / 2 entries at packed_index()
/// \par Cost
/// n k (k + 1) flops in double, and as many reads; for the rare case that float does not resolve
inline void wide_gram(std::ptrdiff_t n, std::ptrdiff_t k, float const* a, std::ptrdiff_t stride,
                      double* g);

namespace detail {

// Rows of the triangle, from `first` on, whose sums fit the registers beside their own operands and
// one operand of the other columns.
constexpr std::ptrdiff_t thin_rows_end(std::ptrdiff_t first, std::ptrdiff_t k) {
  std::ptrdiff_t end = first + 1;
  while (end < k &&
         packed_index(end + 1, 0) - packed_index(first, 0) + (end + 1 - first) + 1 < register_count)
    ++end;
  return end;
}

// Chains a sum is split into: fewer than eight additions in flight would wait for one another.
constexpr std::ptrdiff_t thin_ways(std::ptrdiff_t k) {
  return k == 1 ? 8 : k == 2 ? 4 : k == 3 ? 2 : 1;
}

// Adds to the sums of rows First to Last - 1 of the triangle what `chunks` packs contribute.
template <std::ptrdiff_t First, std::ptrdiff_t Last, std::ptrdiff_t Ways, std::ptrdiff_t Fetched,
          class T>
void add_thin_products(std::ptrdiff_t chunks, T const* a, std::ptrdiff_t stride, pack<T>* sums,
                       T const* next) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t start = packed_index(First, 0);
  constexpr std::ptrdiff_t count = packed_index(Last, 0) - start;
  pack<T> acc[std::size_t{Ways * count}];
  unroll<count>([&](std::ptrdiff_t t) __attribute__((always_inline)) { acc[t] = sums[start + t]; });
  unroll<(Ways - 1) * count>([&](std::ptrdiff_t t) __attribute__((always_inline)) {
    acc[count + t] = pack<T>::broadcast(0);
  });
  auto const add = [&](std::ptrdiff_t way, T const* rows) __attribute__((always_inline)) {
    unroll<Fetched>([&](std::ptrdiff_t f) __attribute__((always_inline)) {
      __builtin_prefetch(next + (rows - a) * Fetched + f * w, 0, 2);
    });
    pack<T> left[std::size_t{Last - First}];
    unroll<Last - First>([&](std::ptrdiff_t i) __attribute__((always_inline)) {
      left[i] = pack<T>::load(rows + (First + i) * stride);
      keep_in_register(left[i]);
    });
    unroll<Last>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
      pack<T> right;
      if (j < First) {
        right = pack<T>::load(rows + j * stride);
        keep_in_register(right);
      } else {
        right = left[j - First];
      }
      unroll<Last - First>([&](std::ptrdiff_t i) __attribute__((always_inline)) {
        if (First + i < j) return;
        std::ptrdiff_t const t = way * count + packed_index(First + i, j) - start;
        acc[t] = multiply_add(left[i], right, acc[t]);
      });
    });
  };
  std::ptrdiff_t c = 0;
  for (; c + Ways <= chunks; c += Ways)
    unroll<Ways>([&](std::ptrdiff_t way)
                     __attribute__((always_inline)) { add(way, a + (c + way) * w); });
  for (; c < chunks; ++c) add(0, a + c * w);
  unroll<count>([&](std::ptrdiff_t t) __attribute__((always_inline)) {
    unroll<Ways - 1>([&](std::ptrdiff_t way) __attribute__((always_inline)) {
      acc[t] = acc[t] + acc[(way + 1) * count + t];
    });
    sums[start + t] = acc[t];
  });
}

template <std::ptrdiff_t First, std::ptrdiff_t K, std::ptrdiff_t Early, class T>
void add_thin_products_from(std::ptrdiff_t chunks, T const* a, std::ptrdiff_t stride, pack<T>* sums,
                            T const* next) {
  constexpr std::ptrdiff_t last = thin_rows_end(First, K);
  add_thin_products<First, last, thin_ways(K), First == 0 ? Early : 0>(chunks, a, stride, sums,
                                                                       next);
  if constexpr (last < K) add_thin_products_from<last, K, Early>(chunks, a, stride, sums, next);
}

// a^T b in double.
inline double wide_inner(std::ptrdiff_t n, float const* a, float const* b) {
  constexpr std::ptrdiff_t w = native_width<double>;
  using wide = pack<double, w>;
  auto const load = [](float const* p) {
    return wide{__builtin_convertvector(pack<float, w>::load(p).lanes, typename wide::vector)};
  };
  wide acc[4] = {wide::broadcast(0), wide::broadcast(0), wide::broadcast(0), wide::broadcast(0)};
  std::ptrdiff_t i = 0;
  for (; i + 4 * w <= n; i += 4 * w)
    unroll<4>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      acc[s] = multiply_add(load(a + i + s * w), load(b + i + s * w), acc[s]);
    });
  acc[0] = (acc[0] + acc[1]) + (acc[2] + acc[3]);
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (std::ptrdiff_t l = 0; l < w; ++l) sum += acc[0].lanes[l];
  return sum;
}

}  // namespace detail

template <std::ptrdiff_t K, std::ptrdiff_t Early, class T>
void thin_gram(std::ptrdiff_t n, T const* a, std::ptrdiff_t stride, double* g, T const* next) {
  static_assert(K >= 1 && K <= 8);
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t count = K * (K + 1) / 2;
  constexpr std::ptrdiff_t padded = (count + w - 1) / w * w;
  // Eight columns of 64 packs take two thirds of a first-level cache of 48 KiB.
  constexpr std::ptrdiff_t block = 64;
  std::fill(g, g + count, 0.0);
  pack<T> sums[std::size_t{padded}];
  for (std::ptrdiff_t row = 0; row < n; row += block * w) {
    std::ptrdiff_t const rows = std::min(n - row, block * w), whole = rows / w;
    unroll<padded>([&](std::ptrdiff_t t)
                       __attribute__((always_inline)) { sums[t] = pack<T>::broadcast(0); });
    detail::add_thin_products_from<0, K, Early>(whole, a + row, stride, sums, next + row * Early);
    if (whole * w < rows) {
      alignas(register_bytes) T rest[std::size_t{K * w}] = {};
      for (std::ptrdiff_t j = 0; j < K; ++j)
        std::copy(a + j * stride + row + whole * w, a + j * stride + row + rows, rest + j * w);
      detail::add_thin_products_from<0, K, 0>(1, rest, w, sums, rest);
    }
    alignas(register_bytes) T totals[std::size_t{padded}];
    unroll<padded / w>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      sum_each(sums + s * w).store_aligned(totals + s * w);
    });
    for (std::ptrdiff_t t = 0; t < count; ++t) g[t] += static_cast<double>(totals[t]);
  }
}

inline void wide_gram(std::ptrdiff_t n, std::ptrdiff_t k, float const* a, std::ptrdiff_t stride,
                      double* g) {
  for (std::ptrdiff_t i = 0; i < k; ++i)
    for (std::ptrdiff_t j = 0; j <= i; ++j)
      g[packed_index(i, j)] = detail::wide_inner(n, a + i * stride, a + j * stride);
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
