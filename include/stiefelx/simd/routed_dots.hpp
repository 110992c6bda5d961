// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include <stiefelx/simd/line_walk.hpp>
#include <stiefelx/simd/pack.hpp>
#include <stiefelx/simd/routed_experts.hpp>
#include <stiefelx/simd/routed_order.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

namespace detail {

// Columns of an expert and tokens in a tile. 8 x 3 sums, three packs of tokens and one of a column
// fit 32 registers, 4 x 3 sums fit 16; either has the eight independent sums that keep two
// multipliers busy. Rows that are a power of two apart share a cache set of 8 to 12 lines, which
// three tokens leave to the experts.
inline constexpr std::ptrdiff_t dot_columns = register_count >= 32 ? 8 : 4;
inline constexpr std::ptrdiff_t dot_tokens = 3;

// Entries along d that are multiplied before the next tokens are: eight columns of as many entries
// take two thirds of a first-level cache of 48 KiB, and all of one of 32 KiB.
template <class T>
inline constexpr std::ptrdiff_t dot_depth = 4096 / std::ptrdiff_t{sizeof(T)};

constexpr std::ptrdiff_t rounded_up(std::ptrdiff_t n, std::ptrdiff_t step) {
  return (n + step - 1) / step * step;
}

}  // namespace detail

/// \brief Elements that copy_for_dots() writes for E experts of d x r.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in] d, r, experts  sizes
/// \returns a number of elements of T
template <class T>
constexpr std::ptrdiff_t routed_dots_size(std::ptrdiff_t d, std::ptrdiff_t r,
                                          std::ptrdiff_t experts) {
  return detail::rounded_up(d, native_width<T>) * detail::rounded_up(r, detail::dot_columns) *
         experts;
}

/// \brief Copies experts in the order in which routed_dots() reads them.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in]  a        d x (E r)
/// \param[in]  r        columns of an expert
/// \param[in]  experts  E
/// \param[out] copied   routed_dots_size(d, r, E) elements, at a multiple of a register's size
template <class T>
void copy_for_dots(expert_columns<T> a, std::ptrdiff_t r, std::ptrdiff_t experts, T* copied) {
  constexpr std::ptrdiff_t w = native_width<T>, m = detail::dot_columns;
  std::ptrdiff_t const chunks = (a.rows + w - 1) / w, groups = (r + m - 1) / m;
  for (std::ptrdiff_t c = 0; c < chunks; ++c)
    for (std::ptrdiff_t e = 0; e < experts; ++e)
      for (std::ptrdiff_t g = 0; g < groups; ++g) {
        pack<T> columns[std::size_t{m}];
        std::ptrdiff_t const present = std::min(m, r - g * m);
        a.read(c * w, e * r + g * m, present, columns);
        for (std::ptrdiff_t j = present; j < m; ++j) columns[j] = pack<T>::broadcast(0);
        T* const to = copied + (((e * groups + g) * chunks + c) * m) * w;
        unroll<m>([&](std::ptrdiff_t j)
                      __attribute__((always_inline)) { columns[j].store_aligned(to + j * w); });
      }
}

namespace detail {

// The sums of the lanes of W / 2 packs, in the lower half of the result. The order of the additions is
// that of sum_each().
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> sum_half(pack<T, W> const* v) {
  constexpr std::make_integer_sequence<int, static_cast<int>(W)> lanes{};
  auto const sum = sum_partly<W / 2>(v);
  return fold_segments<2>(sum, sum, lanes);
}

// Writes or adds the sums of an expert's columns to a token's slot.
template <class T>
[[gnu::always_inline]] inline void put_dots(T const* sums, std::ptrdiff_t count, bool add, T* h) {
  if (count == dot_columns) {
    constexpr std::ptrdiff_t w = std::min(native_width<T>, dot_columns);
    unroll<dot_columns / w>([&](std::ptrdiff_t q) __attribute__((always_inline)) {
      auto sum = pack<T, w>::load(sums + q * w);
      if (add) sum = pack<T, w>::load(h + q * w) + sum;
      sum.store(h + q * w);
    });
  } else {
    for (std::ptrdiff_t j = 0; j < count; ++j) h[j] = add ? h[j] + sums[j] : sums[j];
  }
}

// Dots of one group of columns with Tokens tokens over `length` entries.
template <std::ptrdiff_t Tokens, class T>
void multiply_dot_tile(std::ptrdiff_t length, T const* columns, T const* const* x,
                       std::ptrdiff_t count, bool add, T* const* h, line_walk& ahead) {
  line_walk beside = ahead;
  constexpr std::ptrdiff_t w = native_width<T>, m = dot_columns;
  pack<T> acc[std::size_t{Tokens * m}];
  unroll<Tokens * m>([&](std::ptrdiff_t i)
                         __attribute__((always_inline)) { acc[i] = pack<T>::broadcast(0); });
  auto const step = [&](auto const& token) __attribute__((always_inline)) {
    pack<T> right[std::size_t{Tokens}];
    unroll<Tokens>([&](std::ptrdiff_t n) __attribute__((always_inline)) {
      right[n] = token(n);
      keep_in_register(right[n]);
    });
    unroll<m>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
      pack<T> left = pack<T>::load_aligned(columns + j * w);
      keep_in_register(left);
      unroll<Tokens>([&](std::ptrdiff_t n) __attribute__((always_inline)) {
        acc[n * m + j] = multiply_add(left, right[n], acc[n * m + j]);
      });
    });
    columns += m * w;
  };
  std::ptrdiff_t i = 0;
  for (; i + w <= length; i += w) {
    beside.step();
    step([&](auto n) __attribute__((always_inline)) { return pack<T>::load(x[n] + i); });
  }
  if (i < length) {
    T rest[std::size_t{Tokens}][std::size_t{w}] = {};
    for (std::ptrdiff_t n = 0; n < Tokens; ++n) std::copy(x[n] + i, x[n] + length, rest[n]);
    step([&](auto n) __attribute__((always_inline)) { return pack<T>::load(rest[n]); });
  }
  ahead = beside;
  constexpr std::ptrdiff_t together = w > m ? w / m : 1;
  T sums[std::size_t{(Tokens + together) * m}];
  constexpr std::ptrdiff_t whole = Tokens * m / w;
  unroll<whole>([&](std::ptrdiff_t q)
                    __attribute__((always_inline)) { sum_each(acc + q * w).store(sums + q * w); });
  if constexpr (whole * w < Tokens * m) {
    static_assert(Tokens * m - whole * w == w / 2);
    sum_half(acc + whole * w).store(sums + whole * w);
  }
  unroll<Tokens>([&](std::ptrdiff_t n)
                     __attribute__((always_inline)) { put_dots(sums + n * m, count, add, h[n]); });
}

}  // namespace detail

/// \brief Steps that routed_dots() offers to a line_walk, roughly.
/// \ingroup simd
/// \tparam T  float or double
/// \param[in] d, r     an expert is d x r
/// \param[in] entries  number of entries
/// \returns a number of steps
template <class T>
constexpr std::ptrdiff_t routed_dots_steps(std::ptrdiff_t d, std::ptrdiff_t r,
                                           std::ptrdiff_t entries) {
  return d / native_width<T> * ((r + detail::dot_columns - 1) / detail::dot_columns) * entries /
         detail::dot_tokens;
}

/// \brief Multiplies a block of tokens by the transposes of the experts that they chose.
/// \ingroup simd
///
/// Rows row .. row + r - 1 of a token's column of h become \f$ A_e^T x_t \f$. A dot product is summed
/// lane by lane over 4 KiB of entries, then over the lanes in a fixed tree, then over the stretches
/// of 4 KiB, so its bits depend on its column and token alone.
///
/// \tparam T  float or double
/// \param[in]  d, r, experts  an expert is d x r
/// \param[in]  copied         what copy_for_dots() wrote
/// \param[in]  begin          E + 1 numbers, from sort_by_expert()
/// \param[in]  entries        the block's entries
/// \param[in]  x              first token of the block; d entries each, of any alignment
/// \param[in]  x_stride       distance of the tokens
/// \param[out] h              column of the first token; slots that no entry names stay
/// \param[in]  h_stride       distance of the columns of h
/// \param[in]  ahead          what is due next; it takes a step of routed_dots_steps()
/// \par Cost
/// 2 d r flops an entry; allocates nothing
template <class T>
void routed_dots(std::ptrdiff_t d, std::ptrdiff_t r, std::ptrdiff_t experts, T const* copied,
                 int const* begin, routed_entry const* entries, T const* x, std::ptrdiff_t x_stride,
                 T* h, std::ptrdiff_t h_stride, line_walk ahead) {
  constexpr std::ptrdiff_t w = native_width<T>, m = detail::dot_columns, n = detail::dot_tokens;
  std::ptrdiff_t const padded = detail::rounded_up(d, w), groups = (r + m - 1) / m;
  for (std::ptrdiff_t depth = 0; depth < d; depth += detail::dot_depth<T>) {
    std::ptrdiff_t const length = std::min(detail::dot_depth<T>, d - depth);
    for (std::ptrdiff_t e = 0; e < experts; ++e)
      for (std::ptrdiff_t g = 0; g < groups; ++g) {
        T const* const columns = copied + (e * groups + g) * padded * m + depth * m;
        std::ptrdiff_t const count = std::min(m, r - g * m);
        for (int k = begin[e]; k < begin[e + 1]; k += static_cast<int>(n)) {
          T const* tokens[std::size_t{n}];
          T* to[std::size_t{n}];
          std::ptrdiff_t const here = std::min<std::ptrdiff_t>(n, begin[e + 1] - k);
          for (std::ptrdiff_t i = 0; i < here; ++i) {
            routed_entry const& q = entries[k + i];
            tokens[i] = x + q.token * x_stride + depth;
            to[i] = h + q.token * h_stride + q.row + g * m;
          }
          bool const add = depth > 0;
          if (here == n)
            detail::multiply_dot_tile<n>(length, columns, tokens, count, add, to, ahead);
          else if (here == 2)
            detail::multiply_dot_tile<2>(length, columns, tokens, count, add, to, ahead);
          else
            detail::multiply_dot_tile<1>(length, columns, tokens, count, add, to, ahead);
        }
      }
  }
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
