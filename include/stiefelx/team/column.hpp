// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Column operations that team bodies share: scaling by powers of two, dot products, updates.
/// \ingroup orth

namespace stiefelx {

/// Complex conjugate; a real number is its own.
/// \ingroup orth
/// \param[in] a  a scalar
/// \returns its conjugate
template <class S>
STIEFELX_HD S conjugate(S a) {
  if constexpr (std::is_floating_point_v<S>)
    return a;
  else
    return S(a.real(), -a.imag());
}

/// Real part.
/// \ingroup orth
/// \param[in] a  a scalar
/// \returns its real part
template <class S>
STIEFELX_HD real_of_t<S> real_part(S a) {
  if constexpr (std::is_floating_point_v<S>)
    return a;
  else
    return a.real();
}

/// Modulus of a scalar.
/// \ingroup orth
/// \param[in] a  a scalar
/// \returns its absolute value, without overflow on the way
template <class S>
STIEFELX_HD real_of_t<S> modulus(S a) {
  if constexpr (std::is_floating_point_v<S>)
    return std::abs(a);
  else
    return std::hypot(a.real(), a.imag());
}

/// Sum of the absolute real and imaginary parts.
/// \ingroup orth
/// \param[in] a  a scalar
/// \returns a double at least the modulus and at most the square root of two times it
template <class S>
STIEFELX_HD double absolute_sum(S a) {
  if constexpr (std::is_floating_point_v<S>)
    return std::abs(static_cast<double>(a));
  else
    return std::abs(static_cast<double>(a.real())) + std::abs(static_cast<double>(a.imag()));
}

/// \brief Power of two that brings the sum of a column's absolute entries near one.
/// \ingroup orth
///
/// Scaling by it is exact, so it changes neither Q nor the relative errors of R, and no sum of
/// squares can overflow or vanish.
/// \param[in]  team    its lanes share the column
/// \param[in]  a       the column
/// \param[in]  rows    its length
/// \param[out] finite  false when an entry is NaN or infinite
/// \returns e with sum |a_i| in [2^(e-1), 2^e); 0 for a column of zeros or one that is not finite
template <Team T, class S>
STIEFELX_HD int column_exponent(T const& team, S const* a, index_t rows, bool& finite) {
  // Two sums cover the whole range of double: one cannot overflow, the other cannot vanish.
  double large = 0, small = 0;
  for (index_t i = team.rank(); i < rows; i += team.size()) {
    double const v = absolute_sum(a[i]);
    large += v * 0x1p-100;
    small += (v < 1 ? v : 1.0) * 0x1p500;
  }
  large = team.sum(large);
  small = team.sum(small);
  finite = large <= std::numeric_limits<double>::max();
  bool const use_large = large > 0x1p-500;
  double const chosen = use_large ? large : small;
  if (!finite || chosen == 0) return 0;
  int exponent = 0;
  (void)std::frexp(chosen, &exponent);
  return exponent + (use_large ? 100 : -500);
}

/// \brief b = a 2^e, exact but for underflow; b may be a.
/// \ingroup orth
/// \param[in]  team      its lanes share the column
/// \param[in]  a         the column
/// \param[in]  rows      its length
/// \param[in]  exponent  e
/// \param[out] b         the scaled column
template <Team T, class S>
STIEFELX_HD void scale_by_power(T const& team, S const* a, index_t rows, int exponent, S* b) {
  using Real = real_of_t<S>;
  // Two factors, since 2^e itself may be out of range.
  auto const half = static_cast<Real>(std::ldexp(1.0, exponent / 2));
  auto const rest = static_cast<Real>(std::ldexp(1.0, exponent - exponent / 2));
  for (index_t i = team.rank(); i < rows; i += team.size()) b[i] = a[i] * half * rest;
}

/// \brief a^H b over the lanes of a team.
/// \ingroup orth
/// \param[in] team  its lanes share the columns
/// \param[in] a     a column
/// \param[in] b     another
/// \param[in] rows  their length
/// \returns the inner product, the same for every lane
template <Team T, class S>
STIEFELX_HD S column_dot(T const& team, S const* a, S const* b, index_t rows) {
  // Independent partial sums let the compiler keep several vectors in flight. Lanes take adjacent
  // entries, which a device reads at once.
  constexpr index_t ways = 16;
  index_t const lanes = team.size(), step = ways * lanes;
  S part[ways] = {};
  index_t i = team.rank();
  for (index_t end = step; end <= rows; end += step, i += step)
    for (index_t w = 0; w < ways; ++w) part[w] += conjugate(a[i + w * lanes]) * b[i + w * lanes];
  if constexpr (std::is_same_v<T, serial_team>) {
    for (index_t w = 0; i + w < rows; ++w) part[w] += conjugate(a[i + w]) * b[i + w];
  } else {
    // Places that are known when compiling: others would keep the sums out of a device's registers.
    for (index_t w = 0; w < ways; ++w)
      if (i + w * lanes < rows) part[w] += conjugate(a[i + w * lanes]) * b[i + w * lanes];
  }
  for (index_t width = ways / 2; width > 0; width /= 2)
    for (index_t w = 0; w < width; ++w) part[w] += part[w + width];
  return team.sum(part[0]);
}

/// \brief a^T b of real columns over the lanes of a team, with every product and sum in double.
/// \ingroup orth
/// \tparam Ways  independent partial sums of a lane, a power of two
/// \param[in] team  its lanes share the columns
/// \param[in] a     a column
/// \param[in] b     another
/// \param[in] rows  their length
/// \returns the inner product, the same for every lane
template <index_t Ways, Team T, class S>
STIEFELX_HD double wide_dot(T const& team, S const* a, S const* b, index_t rows) {
  auto const product_of = [a, b](index_t k) {
    return static_cast<double>(a[k]) * static_cast<double>(b[k]);
  };
  // Partial sums and lanes as in column_dot().
  index_t const lanes = team.size(), step = Ways * lanes;
  double part[std::size_t{Ways}] = {};
  index_t i = team.rank();
  for (index_t end = step; end <= rows; end += step, i += step)
    for (index_t w = 0; w < Ways; ++w) part[w] += product_of(i + w * lanes);
  if constexpr (std::is_same_v<T, serial_team>) {
    for (index_t w = 0; i + w < rows; ++w) part[w] += product_of(i + w);
  } else {
    for (index_t w = 0; w < Ways; ++w)
      if (i + w * lanes < rows) part[w] += product_of(i + w * lanes);
  }
  for (index_t width = Ways / 2; width > 0; width /= 2)
    for (index_t w = 0; w < width; ++w) part[w] += part[w + width];
  return team.sum(part[0]);
}

/// \brief b += c a.
/// \ingroup orth
/// \param[in]     team  its lanes share the columns
/// \param[in]     c     a scalar
/// \param[in]     a     a column
/// \param[in]     rows  the length
/// \param[in,out] b     another column
template <Team T, class S>
STIEFELX_HD void column_axpy(T const& team, S c, S const* a, index_t rows, S* b) {
  for (index_t i = team.rank(); i < rows; i += team.size()) b[i] += c * a[i];
}

/// Whether a team shares real columns among several lanes: then one walk over their rows should serve
/// many columns, for every sum over lanes is an exchange.
/// \ingroup orth
template <class T, class S>
inline constexpr bool shares_columns =
    std::is_floating_point_v<S> && !std::is_same_v<T, serial_team>;

/// Columns that column_dots() takes at once.
/// \ingroup orth
inline constexpr index_t dots_at_once = 8;

/// \brief Inner products of columns with one column, in one walk over the rows.
/// \ingroup orth
/// \param[in]  team    its lanes share the rows
/// \param[in]  a       the first of the columns
/// \param[in]  stride  distance of the columns
/// \param[in]  count   how many; dots_at_once of them share a walk
/// \param[in]  b       another column
/// \param[in]  rows    their length
/// \param[out] out     `count` numbers, written by the first lane; not a or b
template <Team T, class S>
STIEFELX_HD void column_dots(T const& team, S const* a, index_t stride, index_t count, S const* b,
                             index_t rows, S* out) {
  constexpr index_t ways = dots_at_once;
  for (index_t first = 0; first < count; first += ways) {
    index_t const here = count - first < ways ? count - first : ways;
    S part[ways] = {};
    for (index_t i = team.rank(); i < rows; i += team.size()) {
      S const factor = b[i];
      // Places that are known when compiling keep the sums in registers.
      for (index_t w = 0; w < ways; ++w)
        if (w < here) part[w] += a[(first + w) * stride + i] * factor;
    }
    sum_to_first(team, part);
    for (index_t w = 0; w < ways; ++w)
      if (team.rank() == 0 && w < here) out[first + w] = part[w];
  }
}

/// \brief Squared norm of a column, accumulated in double.
/// \ingroup orth
/// \param[in] team  its lanes share the column
/// \param[in] a     the column
/// \param[in] rows  its length
/// \returns the sum of squares, the same for every lane
template <Team T, class S>
STIEFELX_HD double column_squared_norm(T const& team, S const* a, index_t rows) {
  constexpr index_t ways = 8;
  double part[ways] = {};
  auto const square = [](S v) {
    if constexpr (std::is_floating_point_v<S>)
      return static_cast<double>(v) * static_cast<double>(v);
    else
      return static_cast<double>(v.real()) * static_cast<double>(v.real()) +
             static_cast<double>(v.imag()) * static_cast<double>(v.imag());
  };
  index_t const lanes = team.size(), step = ways * lanes;
  index_t i = team.rank();
  for (index_t end = step; end <= rows; end += step, i += step)
    for (index_t w = 0; w < ways; ++w) part[w] += square(a[i + w * lanes]);
  if constexpr (std::is_same_v<T, serial_team>) {
    for (index_t w = 0; i + w < rows; ++w) part[w] += square(a[i + w]);
  } else {
    for (index_t w = 0; w < ways; ++w)
      if (i + w * lanes < rows) part[w] += square(a[i + w * lanes]);
  }
  for (index_t width = ways / 2; width > 0; width /= 2)
    for (index_t w = 0; w < width; ++w) part[w] += part[w + width];
  return team.sum(part[0]);
}

/// \brief Relative size below which a column counts as a combination of the earlier ones.
/// \ingroup orth
/// \param[in] rows  length of the columns
/// \returns rows times the unit roundoff of S: the rounding of one projection
template <class S>
STIEFELX_HD constexpr real_of_t<S> rank_tolerance(index_t rows) {
  return std::numeric_limits<real_of_t<S>>::epsilon() *
         static_cast<real_of_t<S>>(rows < 4 ? 4 : rows);
}

}  // namespace stiefelx
