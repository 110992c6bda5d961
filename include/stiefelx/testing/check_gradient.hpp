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

/// \brief What check_gradient() found; `out << report` prints it.
/// \ingroup testing
struct gradient_report {
  double cost = 0;        ///< \f$ f(x) \f$
  double derivative = 0;  ///< \f$ \langle \mathrm{grad} f(x), v \rangle \f$, by the gradient
  slope_report steps;     ///< errors of the first-order expansion
  bool passed = false;    ///< the steps passed
};

/// \brief Prints a gradient's check.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  from check_gradient()
/// \returns out
inline std::ostream& operator<<(std::ostream& out, gradient_report const& found) {
  auto const precision = out.precision(4);
  out << "f(x) = " << found.cost << ", <grad f, v> = " << found.derivative << "\n";
  out.precision(precision);
  return out << "|f(R_x(tv)) - f(x) - t <grad f, v>|: " << found.steps;
}

/// \brief Checks a gradient against values of its cost along one direction.
/// \ingroup testing
///
/// With the right gradient \f$ E(t) = | f(R_x(tv)) - f(x) - t \langle \mathrm{grad} f(x), v
/// \rangle_x | \f$ falls as \f$ t^2 \f$ \cite absil2008, section 4.1; with a wrong one as t. One
/// direction sees one component, so check a few random ones. A cost that is linear along the
/// retraction has errors of rounding throughout, which passes as exact. On `euclidean{n, p}` it is
/// the check of any gradient of matrices, such as a layer's backward pass.
///
/// \param[in] ctx       where to run; waits
/// \param[in] m         a manifold; retract() and inner() are found by its namespace
/// \param[in] x         a point
/// \param[in] v         tangent at x, not zero
/// \param[in] cost      callable(ctx, x) -> double, f of an owning matrix of x's shape; may wait
/// \param[in] gradient  callable(ctx, x, g) that sets g to the Euclidean gradient of f at x
/// \param[in] how       options of the retraction, or nothing
/// \returns what was found
/// \throws shape_error   if v has another shape than x
/// \throws option_error  if v is zero or not finite
/// \par Cost
/// One gradient, about 100 costs and retractions in double, 50 in float.
/// \see check_retraction()
template <class Ctx, class M, Matrix X, Matrix V, class Cost, class Gradient, class... How>
  requires SameScalar<X, V>
gradient_report check_gradient(Ctx& ctx, M const& m, X const& x, V const& v, Cost const& cost,
                               Gradient const& gradient, How const&... how) {
  using Real = real_t<X>;
  expect_shape("check_gradient", "v", v, x.rows(), x.cols());
  auto s = scratch<Real>(ctx, 1, 1);
  norm(ctx, v, s);
  auto const length = static_cast<double>(value(ctx, s));
  expect_option(length > 0 && std::isfinite(length), "check_gradient", "the norm of v", length,
                "a finite number above 0");
  // Owners of one type, so that cost and gradient need not be templates.
  auto point = zeros_like(ctx, x);
  auto y = zeros_like(ctx, x);
  copy(ctx, x, point);
  gradient(ctx, point, y);
  auto g = clone(ctx, y);
  gradient_or_project(ctx, m, point, g, g);
  inner(ctx, m, point, g, v, s);

  gradient_report found;
  found.cost = cost(ctx, point);
  found.derivative = static_cast<double>(value(ctx, s));
  double const longest = 0.5 / length;
  auto step = clone(ctx, v);
  auto const error = [&](double t) {
    copy(ctx, v, step);
    scale(ctx, t, step);
    retract(ctx, m, point, step, y, how...);
    return std::abs(cost(ctx, y) - found.cost - t * found.derivative);
  };
  constexpr double eps = std::numeric_limits<Real>::epsilon();
  double const size = std::max(std::abs(found.cost), longest * std::abs(found.derivative));
  found.steps = measure_slope(error, longest, eps, size);
  found.passed = found.steps.passed;
  return found;
}

}  // namespace stiefelx
