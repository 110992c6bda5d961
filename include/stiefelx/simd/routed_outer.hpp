// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/interleave.hpp>
#include <stiefelx/simd/pack.hpp>
#include <stiefelx/simd/routed_order.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

namespace detail {

// Packs of rows and columns in a tile: 3 x 8 sums, three packs of a token and one entry of h fit 32
// registers, 3 x 4 sums fit 16.
inline constexpr std::ptrdiff_t outer_chunks = 3;
inline constexpr std::ptrdiff_t outer_columns = register_count >= 32 ? 8 : 4;

}  // namespace detail

/// \brief Rows of a strip of routed_outer(): 768 bytes.
/// \ingroup simd
/// \tparam T  float or double
template <class T>
inline constexpr std::ptrdiff_t outer_rows = 768 / std::ptrdiff_t{sizeof(T)};

/// \brief A copy under way of a strip of rows of a block of tokens, one token after the other.
/// \ingroup simd
///
/// Side by side, tokens do not compete for the same few cache sets as tokens that are a power of two
/// apart do. The copy goes on beside the products of the block before, so that its memory arrives
/// while they are computed.
/// \tparam T  float or double
template <class T>
class strip_copy {
 public:
  /// Nothing to copy.
  strip_copy() = default;
  /// \param[in]  rows      rows of the strip, at most outer_rows
  /// \param[in]  tokens    number of tokens
  /// \param[in]  x         first row of the first token
  /// \param[in]  x_stride  distance of the tokens
  /// \param[out] strip     outer_rows elements a token, at a multiple of a register's size; rows
  ///                       below the strip's in the same pack become zero
  strip_copy(std::ptrdiff_t rows, std::ptrdiff_t tokens, T const* x, std::ptrdiff_t x_stride,
             T* strip)
      : rows_(rows), tokens_(rows > 0 ? tokens : 0), x_(x), stride_(x_stride), strip_(strip) {}

  /// Copies a pack, and asks for the one that is due 96 packs of a whole strip later.
  [[gnu::always_inline]] void step() {
    constexpr std::ptrdiff_t w = native_width<T>;
    if (tokens_ == 0) return;
    __builtin_prefetch(x_ + row_ + (tokens_ > ahead ? ahead : 0) * stride_);
    if (row_ + w <= rows_)
      pack<T>::load(x_ + row_).store_aligned(strip_ + row_);
    else
      std::fill(std::copy(x_ + row_, x_ + rows_, strip_ + row_), strip_ + row_ + w, T{0});
    row_ += w;
    if (row_ < rows_) return;
    row_ = 0;
    x_ += stride_;
    strip_ += outer_rows<T>;
    --tokens_;
  }

  /// Copies what is left.
  void finish() {
    while (tokens_ > 0) step();
  }

 private:
  static constexpr std::ptrdiff_t ahead = 8;
  std::ptrdiff_t rows_ = 0, tokens_ = 0, row_ = 0;
  T const* x_ = nullptr;
  std::ptrdiff_t stride_ = 0;
  T* strip_ = nullptr;
};

namespace detail {

// Adds Chunks x Columns sums over the tokens of an expert.
template <std::ptrdiff_t Chunks, std::ptrdiff_t Columns, class T>
void add_outer_tile(std::ptrdiff_t count, routed_entry const* entries, T const* strip, T const* h,
                    std::ptrdiff_t h_stride, T* sums, strip_copy<T>& copying) {
  constexpr std::ptrdiff_t w = native_width<T>, height = outer_rows<T>;
  strip_copy<T> beside = copying;
  pack<T> acc[std::size_t{Chunks * Columns}];
  unroll<Columns>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
    unroll<Chunks>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
      acc[j * Chunks + c] = pack<T>::load_aligned(sums + j * height + c * w);
    });
  });
  for (std::ptrdiff_t k = 0; k < count; ++k, h += h_stride) {
    T const* const from = strip + entries[k].token * height;
    pack<T> left[std::size_t{Chunks}];
    unroll<Chunks>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
      left[c] = pack<T>::load_aligned(from + c * w);
      keep_in_register(left[c]);
    });
    unroll<Columns>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
      pack<T> right = pack<T>::broadcast(h[j]);
      keep_in_register(right);
      unroll<Chunks>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
        acc[j * Chunks + c] = multiply_add(left[c], right, acc[j * Chunks + c]);
      });
    });
    beside.step();
    // A single tile of columns does not last long enough for one pack a token.
    if (h_stride <= Columns) beside.step();
  }
  copying = beside;
  unroll<Columns>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
    unroll<Chunks>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
      acc[j * Chunks + c].store_aligned(sums + j * height + c * w);
    });
  });
}

// All columns of an expert in Chunks packs of rows, by tiles of at most Columns columns.
template <std::ptrdiff_t Chunks, std::ptrdiff_t Columns, class T>
void add_outer_columns(std::ptrdiff_t columns, std::ptrdiff_t count, routed_entry const* entries,
                       T const* strip, T const* h, std::ptrdiff_t h_stride, T* sums,
                       strip_copy<T>& copying) {
  for (; columns >= Columns; columns -= Columns) {
    add_outer_tile<Chunks, Columns>(count, entries, strip, h, h_stride, sums, copying);
    h += Columns;
    sums += Columns * outer_rows<T>;
  }
  if constexpr (Columns > 1) {
    if (columns > 0)
      add_outer_columns<Chunks, Columns / 2>(columns, count, entries, strip, h, h_stride, sums,
                                             copying);
  }
}

}  // namespace detail

/// \brief Adds the outer products of a block of tokens with their slots, in one strip of rows.
/// \ingroup simd
///
/// An entry of the sums takes its products one after the other, in the order of the tokens.
/// \tparam T  float or double
/// \param[in]     rows     rows of the strip, at most outer_rows
/// \param[in]     r        columns of an expert
/// \param[in]     experts  E
/// \param[in]     begin    E + 1 numbers, from sort_by_expert()
/// \param[in]     entries  the block's entries
/// \param[in]     strip    what copy_strip_of_tokens() wrote
/// \param[in]     h        r numbers an entry, in the order of the entries
/// \param[in,out] sums     outer_rows x (E r), column-major, at a multiple of a register's size
/// \param[in,out] copying  the copy of the next strip, which goes on beside the products
/// \par Cost
/// 2 rows r flops an entry; allocates nothing
template <class T>
void routed_outer(std::ptrdiff_t rows, std::ptrdiff_t r, std::ptrdiff_t experts, int const* begin,
                  routed_entry const* entries, T const* strip, T const* h, T* sums,
                  strip_copy<T>& copying) {
  constexpr std::ptrdiff_t w = native_width<T>, chunks = detail::outer_chunks;
  constexpr std::ptrdiff_t columns = detail::outer_columns;
  for (std::ptrdiff_t e = 0; e < experts; ++e) {
    std::ptrdiff_t const count = begin[e + 1] - begin[e];
    routed_entry const* const own = entries + begin[e];
    T const* const right = h + begin[e] * r;
    T* const to = sums + e * r * outer_rows<T>;
    std::ptrdiff_t row = 0;
    if (count == 0) continue;
    for (; row + (chunks - 1) * w < rows; row += chunks * w)
      detail::add_outer_columns<chunks, columns>(r, count, own, strip + row, right, r, to + row,
                                                 copying);
    for (; row < rows; row += w)
      detail::add_outer_columns<1, columns>(r, count, own, strip + row, right, r, to + row,
                                            copying);
  }
}

/// \brief Adds a strip of rows of the sums to the experts' columns.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in]     rows        rows of the strip
/// \param[in]     columns     E r
/// \param[in]     sums        outer_rows x (E r), column-major
/// \param[in,out] a           first of the rows
/// \param[in]     a_stride    distance of the columns
template <class T>
void add_strip(std::ptrdiff_t rows, std::ptrdiff_t columns, T const* sums, T* a,
               std::ptrdiff_t a_stride) {
  for (std::ptrdiff_t j = 0; j < columns; ++j, a += a_stride, sums += outer_rows<T>)
    detail::add_run<native_width<T>>(rows, a, sums, a);
}

/// \brief Adds a strip of rows of the sums, transposed, to the experts' rows.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in]     rows        rows of the strip
/// \param[in]     columns     E r
/// \param[in]     sums        outer_rows x (E r), column-major
/// \param[in,out] b           first of the columns
/// \param[in]     b_stride    distance of the columns
template <class T>
void add_strip_transposed(std::ptrdiff_t rows, std::ptrdiff_t columns, T const* sums, T* b,
                          std::ptrdiff_t b_stride) {
  constexpr std::ptrdiff_t w = native_width<T>, height = outer_rows<T>;
  std::ptrdiff_t j = 0;
  for (; j + w <= columns; j += w) {
    std::ptrdiff_t i = 0;
    for (; i + w <= rows; i += w) {
      pack<T> v[std::size_t{w}];
      unroll<w>([&](std::ptrdiff_t k) __attribute__((always_inline)) {
        v[k] = pack<T>::load_aligned(sums + (j + k) * height + i);
      });
      transpose(v);
      unroll<w>([&](std::ptrdiff_t k) __attribute__((always_inline)) {
        T* const to = b + (i + k) * b_stride + j;
        (pack<T>::load(to) + v[k]).store(to);
      });
    }
    for (; i < rows; ++i)
      for (std::ptrdiff_t k = j; k < j + w; ++k) b[i * b_stride + k] += sums[k * height + i];
  }
  for (std::ptrdiff_t i = 0; i < rows; ++i)
    for (std::ptrdiff_t k = j; k < columns; ++k) b[i * b_stride + k] += sums[k * height + i];
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
