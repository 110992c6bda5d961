// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <vector>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/testing/law.hpp>
#include <stiefelx/testing/slope.hpp>

namespace stiefelx {

/// \brief What check_hessian() found; `out << report` prints it.
/// \ingroup testing
struct hessian_report {
  std::vector<law> laws;  ///< tangent, linear, symmetric
  double curvature = 0;   ///< \f$ \langle \mathrm{Hess} f(x)[v], v \rangle \f$
  slope_report steps;     ///< errors of the second-order expansion, of order three
  bool passed = false;    ///< all of them passed
};

/// \brief Prints a Hessian's check.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  from check_hessian()
/// \returns out
inline std::ostream& operator<<(std::ostream& out, hessian_report const& found) {
  for (law const& each : found.laws) out << each;
  return out << "|f(R_x(tv)) - f(x) - t <grad f, v> - t^2/2 <Hess f[v], v>|: " << found.steps;
}

/// \brief Checks a Hessian against values of its cost along one direction.
/// \ingroup testing
///
/// With the right gradient and Hessian \f$ E(t) = | f(R_x(tv)) - f(x) - t \langle \mathrm{grad} f,
/// v \rangle - \tfrac{t^2}{2} \langle \mathrm{Hess} f[v], v \rangle | \f$ falls as \f$ t^3 \f$
/// along geodesics, and along a retraction of second order for the metric of m
/// \cite absil2008, section 5.5. With another retraction it falls as \f$ t^2 \f$, unless x is critical. The
/// curve is exp() where the manifold has it and no options are given, else retract().
///
/// The Euclidean Hessian along v becomes the Riemannian one by `riemannian_hessian(ctx, m, x, g, h, v,
/// w)`. Where the manifold has no such function, `hessian` gives the Riemannian Hessian itself.
///
/// \param[in] ctx       where to run; waits
/// \param[in] m         a manifold
/// \param[in] x         a point
/// \param[in] v         tangent at x, not zero
/// \param[in] u         tangent at x: the second direction of the symmetry
/// \param[in] cost      callable(ctx, x) -> double, f of an owning matrix of x's shape; may wait
/// \param[in] gradient  callable(ctx, x, g) that sets g to the Euclidean gradient of f at x
/// \param[in] hessian   callable(ctx, x, v, h) that sets h to the Euclidean Hessian along v
/// \param[in] how       options of a retraction of second order, or nothing
/// \returns what was found
/// \throws shape_error   if u or v has another shape than x
/// \throws option_error  if v is zero or not finite
/// \par Cost
/// One gradient, three Hessians, about 100 costs and retractions in double, 50 in float.
/// \see check_gradient()
template <class Ctx, class M, Matrix X, Matrix V, Matrix U, class Cost, class Gradient,
          class Hessian, class... How>
  requires SameScalar<X, V, U>
hessian_report check_hessian(Ctx& ctx, M const& m, X const& x, V const& v, U const& u,
                             Cost const& cost, Gradient const& gradient, Hessian const& hessian,
                             How const&... how) {
  using Real = real_t<X>;
  expect_shape("check_hessian", "v", v, x.rows(), x.cols());
  expect_shape("check_hessian", "u", u, x.rows(), x.cols());
  measure<Ctx, Real> read(ctx, x.rows() * x.cols());
  double const length = read.length(v);
  expect_option(length > 0 && std::isfinite(length), "check_hessian", "the norm of v", length,
                "a finite number above 0");
  auto point = zeros_like(ctx, x), g = zeros_like(ctx, x), along = zeros_like(ctx, x),
       y = zeros_like(ctx, x);
  copy(ctx, x, point);
  gradient(ctx, point, g);
  auto const apply = [&](auto const& direction, auto& w) {
    copy(ctx, direction, along);
    hessian(ctx, point, along, y);
    if constexpr (requires { riemannian_hessian(ctx, m, point, g, y, along, w); })
      riemannian_hessian(ctx, m, point, g, y, along, w);
    else
      copy(ctx, y, w);
  };
  auto hess_v = zeros_like(ctx, x), hess_u = zeros_like(ctx, x), hess_sum = zeros_like(ctx, x);
  apply(v, hess_v);
  apply(u, hess_u);

  hessian_report found;
  double const size = read.length(hess_v) + read.length(hess_u) + read.length(g);
  project(ctx, m, point, hess_v, y);
  found.laws.push_back({"Hess f[v] is tangent", read.distance(y, hess_v), read.rounding(size)});
  found.curvature = read.metric(m, point, hess_v, v);
  double const longest_of = std::max(length, read.length(u));
  found.laws.push_back(
      {"<Hess f[u], v> = <u, Hess f[v]>",
       std::abs(read.metric(m, point, hess_u, v) - read.metric(m, point, u, hess_v)),
       read.rounding(4 * size * longest_of)});
  auto combined = clone(ctx, u);
  scale(ctx, 2, combined);
  axpy(ctx, -3, v, combined);
  apply(combined, hess_sum);
  scale(ctx, 2, hess_u);
  axpy(ctx, -3, hess_v, hess_u);
  found.laws.push_back({"Hess f[2 u - 3 v] = 2 Hess f[u] - 3 Hess f[v]",
                        read.distance(hess_sum, hess_u), read.rounding(5 * size)});

  double const start = cost(ctx, point);
  gradient_or_project(ctx, m, point, g, along);
  double const first = read.metric(m, point, along, v);
  double const longest = 0.5 / length;
  auto step = clone(ctx, v);
  auto const error = [&](double t) {
    copy(ctx, v, step);
    scale(ctx, t, step);
    if constexpr (sizeof...(How) == 0 && requires { exp(ctx, m, point, step, y); })
      exp(ctx, m, point, step, y);
    else
      retract(ctx, m, point, step, y, how...);
    return std::abs(cost(ctx, y) - start - t * first - t * t / 2 * found.curvature);
  };
  constexpr double eps = std::numeric_limits<Real>::epsilon();
  double const scale_of = std::max(
      {std::abs(start), longest * std::abs(first), longest * longest * std::abs(found.curvature)});
  found.steps = measure_slope(error, longest, eps, scale_of, 3);
  found.passed = all_passed(found.laws) && found.steps.passed;
  return found;
}

}  // namespace stiefelx
