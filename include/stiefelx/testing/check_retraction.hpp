// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/testing/slope.hpp>

namespace stiefelx {

/// \brief What check_retraction() found; `out << report` prints it.
/// \ingroup testing
struct retraction_report {
  double at_zero = 0;          ///< \f$ \lVert R_x(0) - x \rVert_F \f$
  double at_zero_allowed = 0;  ///< largest value that counts as rounding
  slope_report steps;          ///< errors \f$ \lVert R_x(tv) - (x + tv) \rVert_F \f$
  bool passed = false;         ///< \f$ R_x(0) = x \f$ to rounding, and the steps passed
};

/// \brief Prints the two laws of a retraction, each with what was found.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  from check_retraction()
/// \returns out
inline std::ostream& operator<<(std::ostream& out, retraction_report const& found) {
  auto const precision = out.precision(4);
  out << "|R_x(0) - x|: " << (found.at_zero <= found.at_zero_allowed ? "passed" : "FAILED") << ": "
      << found.at_zero << ", allowed " << found.at_zero_allowed << "\n";
  out.precision(precision);
  return out << "|R_x(tv) - (x + tv)|: " << found.steps;
}

/// \brief Checks the laws of a retraction at one point and direction.
/// \ingroup testing
///
/// A retraction has \f$ R_x(0) = x \f$ and \f$ DR_x(0) = \mathrm{id} \f$, so \f$ E(t) = \lVert
/// R_x(tv) - (x + tv) \rVert_F \f$ falls as \f$ t^2 \f$ \cite absil2008, section 4.1. A wrong
/// derivative has an error of slope 1. The steps end at length \f$ \lVert tv \rVert_F = 1/2 \f$,
/// whatever the length of v. On a flat space E is rounding throughout, which passes as exact.
///
/// \param[in] ctx  where to run; waits
/// \param[in] m    a manifold; `retract(ctx, m, x, v, y, how...)` is found by its namespace
/// \param[in] x    a point
/// \param[in] v    tangent at x, not zero
/// \param[in] how  options of the retraction, or nothing
/// \returns what was found
/// \throws shape_error   if v has another shape than x
/// \throws option_error  if v is zero or not finite
/// \par Cost
/// About 100 retractions in double, 50 in float.
/// \see check_gradient()
template <class Ctx, class M, Matrix X, Matrix V, class... How>
  requires SameScalar<X, V>
retraction_report check_retraction(Ctx& ctx, M const& m, X const& x, V const& v,
                                   How const&... how) {
  using Real = real_t<X>;
  expect_shape("check_retraction", "v", v, x.rows(), x.cols());
  auto s = scratch<Real>(ctx, 1, 1);
  auto const length_of = [&](auto const& a) {
    norm(ctx, a, s);
    return static_cast<double>(value(ctx, s));
  };
  double const length = length_of(v);
  expect_option(length > 0 && std::isfinite(length), "check_retraction", "the norm of v", length,
                "a finite number above 0");
  auto y = clone(ctx, x);
  auto step = clone(ctx, v);
  auto straight = clone(ctx, x);
  auto const error = [&](double t) {
    copy(ctx, v, step);
    scale(ctx, t, step);
    retract(ctx, m, x, step, y, how...);
    copy(ctx, x, straight);
    axpy(ctx, 1, step, straight);
    axpy(ctx, -1, straight, y);
    return length_of(y);
  };
  constexpr double eps = std::numeric_limits<Real>::epsilon();
  double const size = std::max(length_of(x), 1.0);
  retraction_report found;
  found.at_zero = error(0);
  // An inner product of n terms has an error of a few eps sqrt(n).
  found.at_zero_allowed = 32 * eps * std::sqrt(static_cast<double>(x.rows() + 1)) * size;
  found.steps = measure_slope(error, 0.5 / length, eps, size);
  found.passed = found.at_zero <= found.at_zero_allowed && found.steps.passed;
  return found;
}

}  // namespace stiefelx
