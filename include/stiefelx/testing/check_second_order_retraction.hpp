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

/// \brief What check_second_order_retraction() found; `out << report` prints it.
/// \ingroup testing
struct second_order_report {
  bool by_geodesic = false;  ///< compared with exp(); else by the acceleration at zero
  slope_report steps;        ///< the errors: of order 3 by geodesics, 4 by the acceleration
  bool passed = false;       ///< the steps passed
};

/// \brief Prints how well a retraction follows geodesics.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  from check_second_order_retraction()
/// \returns out
inline std::ostream& operator<<(std::ostream& out, second_order_report const& found) {
  return out << (found.by_geodesic ? "|R_x(tv) - Exp_x(tv)|: " : "|P_x(R_x(tv) + R_x(-tv) - 2x)|: ")
             << found.steps;
}

/// \brief Checks that a retraction is of second order: it follows geodesics to third order.
/// \ingroup testing
///
/// Where the manifold has exp(), \f$ \lVert R_x(tv) - \mathrm{Exp}_x(tv) \rVert_F \f$ falls as
/// \f$ t^3 \f$; a retraction of first order has slope 2. Else the acceleration of the curve at zero
/// has to be normal: \f$ \lVert P_x(R_x(tv) + R_x(-tv) - 2x) \rVert_F \f$ falls as \f$ t^4 \f$, and
/// as \f$ t^2 \f$ for a retraction of first order. The second way is for the metric of the space
/// around the manifold, with an orthogonal project(). A Newton or trust-region method needs such a
/// retraction for its model to be one of second order \cite absil2008, section 5.5.
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
/// About 200 retractions in double, 100 in float.
/// \see check_retraction()
template <class Ctx, class M, Matrix X, Matrix V, class... How>
  requires SameScalar<X, V>
second_order_report check_second_order_retraction(Ctx& ctx, M const& m, X const& x, V const& v,
                                                  How const&... how) {
  using Real = real_t<X>;
  expect_shape("check_second_order_retraction", "v", v, x.rows(), x.cols());
  measure<Ctx, Real> read(ctx, x.rows() * x.cols());
  double const length = read.length(v);
  expect_option(length > 0 && std::isfinite(length), "check_second_order_retraction",
                "the norm of v", length, "a finite number above 0");
  auto point = zeros_like(ctx, x), step = zeros_like(ctx, x), y = zeros_like(ctx, x),
       other = zeros_like(ctx, x);
  copy(ctx, x, point);
  constexpr double eps = std::numeric_limits<Real>::epsilon();
  double const size = std::max(read.length(x), 1.0);
  second_order_report found;
  constexpr bool has_geodesic = requires { exp(ctx, m, point, step, other); };
  found.by_geodesic = has_geodesic;
  auto const error = [&](double t) {
    copy(ctx, v, step);
    scale(ctx, t, step);
    retract(ctx, m, point, step, y, how...);
    if constexpr (has_geodesic) {
      exp(ctx, m, point, step, other);
      return read.distance(y, other);
    } else {
      scale(ctx, -1, step);
      retract(ctx, m, point, step, other, how...);
      axpy(ctx, 1, other, y);
      axpy(ctx, -2, point, y);
      project(ctx, m, point, y, other);
      return read.length(other);
    }
  };
  found.steps = measure_slope(error, 0.5 / length, eps, size, has_geodesic ? 3 : 4);
  found.passed = found.steps.passed;
  return found;
}

}  // namespace stiefelx
