// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/testing/law.hpp>
#include <stiefelx/testing/slope.hpp>

namespace stiefelx {

/// \brief What check_inverse_retraction() found; `out << report` prints it.
/// \ingroup testing
struct inverse_retraction_report {
  law at_point{};       ///< \f$ R_x^{-1}(x) = 0 \f$
  law back{};           ///< \f$ R_x(R_x^{-1}(y)) = y \f$ for a y as far as the longest step
  slope_report steps;   ///< errors \f$ \lVert R_x^{-1}(R_x(tv)) - tv \rVert_F \f$
  bool exact = false;   ///< the inverse is one up to rounding, not only an approximation
  bool passed = false;  ///< zero at x, and the errors are rounding or fall as the square of t
};

/// \brief Prints the laws of an inverse retraction, each with what was found.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  from check_inverse_retraction()
/// \returns out
inline std::ostream& operator<<(std::ostream& out, inverse_retraction_report const& found) {
  out << found.at_point;
  if (found.exact)
    out << found.back;
  else
    out << "an approximate inverse: " << found.back.text << " is not expected\n";
  return out << "|R_x^-1(R_x(tv)) - tv|: " << found.steps;
}

/// \brief Checks an inverse retraction at one point and direction.
/// \ingroup testing
///
/// The inverse of a retraction gives back every short enough step exactly. A map that only
/// approximates it, such as the projection of y - x, has an error that falls as \f$ t^2 \f$ and
/// passes as well; the report's `exact` tells them apart. The longest step has length \f$ \lVert tv
/// \rVert_F = 1/2 \f$.
///
/// \param[in] ctx  where to run; waits
/// \param[in] m    a manifold; `retract(ctx, m, x, v, y, how...)` and `inverse_retract(ctx, m, x, y,
///                 v, how...)` are found by its namespace
/// \param[in] x    a point
/// \param[in] v    tangent at x, not zero
/// \param[in] how  options of both, or nothing
/// \returns what was found
/// \throws shape_error   if v has another shape than x
/// \throws option_error  if v is zero or not finite
/// \par Cost
/// About 100 retractions and their inverses in double, 50 in float.
/// \see check_retraction()
template <class Ctx, class M, Matrix X, Matrix V, class... How>
  requires SameScalar<X, V>
inverse_retraction_report check_inverse_retraction(Ctx& ctx, M const& m, X const& x, V const& v,
                                                   How const&... how) {
  using Real = real_t<X>;
  expect_shape("check_inverse_retraction", "v", v, x.rows(), x.cols());
  measure<Ctx, Real> read(ctx, x.rows() * x.cols());
  double const length = read.length(v);
  expect_option(length > 0 && std::isfinite(length), "check_inverse_retraction", "the norm of v",
                length, "a finite number above 0");
  auto step = zeros_like(ctx, x);
  auto y = zeros_like(ctx, x);
  auto found_step = zeros_like(ctx, x);
  auto const error = [&](double t) {
    copy(ctx, v, step);
    scale(ctx, t, step);
    retract(ctx, m, x, step, y, how...);
    inverse_retract(ctx, m, x, y, found_step, how...);
    return read.distance(found_step, step);
  };
  constexpr double eps = std::numeric_limits<Real>::epsilon();
  double const size = std::max(read.length(x), 1.0), longest = 0.5 / length;
  inverse_retraction_report found;
  inverse_retract(ctx, m, x, x, found_step, how...);
  found.at_point = {"R_x^-1(x) = 0", read.length(found_step), read.rounding(size)};
  double const farthest = error(longest);
  auto again = zeros_like(ctx, x);
  retract(ctx, m, x, found_step, again, how...);
  found.back = {"R_x(R_x^-1(y)) = y", read.distance(again, y), read.rounding(size)};
  found.steps = measure_slope(error, longest, eps, size);
  found.exact = found.back.passed() && farthest <= read.rounding(size);
  found.passed = found.at_point.passed() && (found.exact || found.steps.passed);
  return found;
}

}  // namespace stiefelx
