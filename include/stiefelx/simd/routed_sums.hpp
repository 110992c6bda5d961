// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/line_walk.hpp>
#include <stiefelx/simd/pack.hpp>
#include <stiefelx/simd/routed_experts.hpp>
#include <stiefelx/simd/routed_order.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

namespace detail {

// Packs of rows and tokens in a tile: 4 x 6 sums, four packs of a column and one entry of h fit 32
// registers, 2 x 6 sums fit 16.
inline constexpr std::ptrdiff_t sum_chunks = register_count >= 32 ? 4 : 2;
inline constexpr std::ptrdiff_t sum_tokens = 6;

template <class T>
inline constexpr std::ptrdiff_t sum_rows = sum_chunks * native_width<T>;

// Packs of rows of all tokens that stay in the second-level cache while every expert adds to them.
template <class T>
inline constexpr std::ptrdiff_t sum_depth = 4096 / std::ptrdiff_t{sizeof(T)};

}  // namespace detail

/// \brief Elements that copy_for_sums() writes for E experts of d x r.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in] d, r, experts  sizes
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t routed_sums_size(std::ptrdiff_t d, std::ptrdiff_t r,
                                          std::ptrdiff_t experts) {
  return (d + detail::sum_rows<T> - 1) / detail::sum_rows<T> * detail::sum_rows<T> * r * experts;
}

/// \brief Copies experts in the order in which routed_sums() reads them.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in]  a        d x (E r)
/// \param[in]  r        columns of an expert
/// \param[in]  experts  E
/// \param[out] copied   routed_sums_size(d, r, E) elements, at a multiple of a register's size
template <class T>
void copy_for_sums(expert_columns<T> a, std::ptrdiff_t r, std::ptrdiff_t experts, T* copied) {
  constexpr std::ptrdiff_t w = native_width<T>, chunks = detail::sum_chunks, step = 8;
  std::ptrdiff_t const panels = (a.rows + chunks * w - 1) / (chunks * w);
  for (std::ptrdiff_t p = 0; p < panels; ++p)
    for (std::ptrdiff_t c = 0; c < chunks; ++c)
      for (std::ptrdiff_t e = 0; e < experts; ++e)
        for (std::ptrdiff_t j = 0; j < r; j += step) {
          pack<T> columns[std::size_t{step}];
          std::ptrdiff_t const count = std::min(step, r - j), row = (p * chunks + c) * w;
          a.read(std::min(row, a.rows), e * r + j, count, columns);
          T* const to = copied + (((e * panels + p) * r + j) * chunks + c) * w;
          for (std::ptrdiff_t i = 0; i < count; ++i) columns[i].store_aligned(to + i * chunks * w);
        }
}

namespace detail {

// Adds to one tile of Tokens tokens.
template <std::ptrdiff_t Tokens, class T>
void add_sum_tile(std::ptrdiff_t r, T const* columns, T const* h, T* const* y, line_walk& ahead) {
  line_walk beside = ahead;
  constexpr std::ptrdiff_t w = native_width<T>, m = sum_chunks;
  pack<T> acc[std::size_t{Tokens * m}];
  unroll<Tokens>([&](std::ptrdiff_t n) __attribute__((always_inline)) {
    unroll<m>([&](std::ptrdiff_t c)
                  __attribute__((always_inline)) { acc[n * m + c] = pack<T>::load(y[n] + c * w); });
  });
  for (std::ptrdiff_t j = 0; j < r; ++j, columns += m * w) {
    pack<T> left[std::size_t{m}];
    unroll<m>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
      left[c] = pack<T>::load_aligned(columns + c * w);
      keep_in_register(left[c]);
    });
    unroll<Tokens>([&](std::ptrdiff_t n) __attribute__((always_inline)) {
      pack<T> right = pack<T>::broadcast(h[n * r + j]);
      keep_in_register(right);
      unroll<m>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
        acc[n * m + c] = multiply_add(left[c], right, acc[n * m + c]);
      });
    });
    beside.step();
  }
  ahead = beside;
  unroll<Tokens>([&](std::ptrdiff_t n) __attribute__((always_inline)) {
    unroll<m>([&](std::ptrdiff_t c)
                  __attribute__((always_inline)) { acc[n * m + c].store(y[n] + c * w); });
  });
}

template <std::ptrdiff_t Tokens, class T>
void add_sum_tile(std::ptrdiff_t tokens, std::ptrdiff_t r, T const* columns, T const* h,
                  T* const* y, line_walk& ahead) {
  if (tokens == Tokens)
    add_sum_tile<Tokens>(r, columns, h, y, ahead);
  else if constexpr (Tokens > 1)
    add_sum_tile<Tokens - 1>(tokens, r, columns, h, y, ahead);
}

}  // namespace detail

/// \brief Adds to a block of tokens the sums of the experts' columns that they chose.
/// \ingroup simd
///
/// \f$ y_t \leftarrow y_t + \sum_j h_j a_j \f$ over the columns of each entry's expert, in the order
/// of the experts, then of the slots, then of the columns, one product after the other. Tokens that start
/// from zero are cleared a strip at a time, which stays in the cache until the sums are added.
///
/// \tparam T  float or double
/// \param[in]     d, r, experts  an expert is d x r
/// \param[in]     copied         what copy_for_sums() wrote
/// \param[in]     begin          E + 1 numbers, from sort_by_expert()
/// \param[in]     entries        the block's entries
/// \param[in]     repeats        whether a token chose an expert twice
/// \param[in]     h              r numbers an entry, in the order of the entries
/// \param[in]     from_zero      whether what y holds is not read
/// \param[in,out] y              first token of the block; d entries each, of any alignment
/// \param[in]     y_stride       distance of the tokens
/// \param[in]     tokens         number of tokens of the block
/// \param[in]     next           number of tokens behind them that are due next
/// \par Cost
/// 2 d r flops an entry; allocates nothing
template <class T>
void routed_sums(std::ptrdiff_t d, std::ptrdiff_t r, std::ptrdiff_t experts, T const* copied,
                 int const* begin, routed_entry const* entries, bool repeats, T const* h,
                 bool from_zero, T* y, std::ptrdiff_t y_stride, std::ptrdiff_t tokens,
                 std::ptrdiff_t next) {
  constexpr std::ptrdiff_t rows = detail::sum_rows<T>, n = detail::sum_tokens;
  std::ptrdiff_t const panels = (d + rows - 1) / rows;
  constexpr std::ptrdiff_t together = detail::sum_depth<T> / rows;
  for (std::ptrdiff_t depth = 0; depth < panels; depth += together) {
    std::ptrdiff_t const end = std::min(panels, depth + together);
    // The rows that are due next are below these, or the first of the next block.
    std::ptrdiff_t const row = end < panels ? end * rows : 0;
    std::ptrdiff_t const steps = (end - depth) * r * begin[experts] / n;
    line_walk ahead(y + row + (row > 0 ? 0 : tokens * y_stride), std::min(together * rows, d - row),
                    row > 0 ? tokens : next, y_stride, steps);
    for (std::ptrdiff_t t = 0; from_zero && t < tokens; ++t)
      std::fill(y + depth * rows + t * y_stride, y + std::min(end * rows, d) + t * y_stride, T{0});
    for (std::ptrdiff_t e = 0; e < experts; ++e) {
      for (int k = begin[e]; k < begin[e + 1];) {
        std::ptrdiff_t count = std::min<std::ptrdiff_t>(n, begin[e + 1] - k);
        // A token that occurs twice is read again after it was written.
        for (std::ptrdiff_t i = 1; repeats && i < count; ++i)
          if (entries[k + i].token == entries[k + i - 1].token) count = i;
        T* to[std::size_t{n}];
        for (std::ptrdiff_t i = 0; i < count; ++i)
          to[i] = y + depth * rows + entries[k + i].token * y_stride;
        for (std::ptrdiff_t p = depth; p < end; ++p) {
          T const* const columns = copied + (e * panels + p) * rows * r;
          std::ptrdiff_t const present = std::min(rows, d - p * rows);
          if (present == rows) {
            detail::add_sum_tile<n>(count, r, columns, h + k * r, to, ahead);
          } else {
            T tile[std::size_t{n * rows}] = {};
            T* place[std::size_t{n}];
            for (std::ptrdiff_t i = 0; i < n; ++i) place[i] = tile + i * rows;
            for (std::ptrdiff_t i = 0; i < count; ++i) std::copy(to[i], to[i] + present, place[i]);
            detail::add_sum_tile<n>(count, r, columns, h + k * r, place, ahead);
            for (std::ptrdiff_t i = 0; i < count; ++i)
              std::copy(place[i], place[i] + present, to[i]);
          }
          for (std::ptrdiff_t i = 0; i < count; ++i) to[i] += rows;
        }
        k += static_cast<int>(count);
      }
    }
  }
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
