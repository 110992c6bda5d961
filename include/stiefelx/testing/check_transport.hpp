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

/// \brief What check_transport() asks of a transport beyond being one.
/// \ingroup testing
struct transport_check {
  bool isometric = false;  ///< it keeps the metric
};

/// \brief What check_transport() found; `out << report` prints it.
/// \ingroup testing
struct transport_report {
  std::vector<law> laws;  ///< tangent, linear, identity at a zero step; isometric if asked for
  double isometry = 0;    ///< largest error of the metric of two carried vectors, asked for or not
  slope_report steps;     ///< errors \f$ \lVert T_{td} v - v \rVert_F \f$, of order one
  bool passed = false;    ///< all of them passed
};

/// \brief Prints the laws of a transport, each with what was found.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  from check_transport()
/// \returns out
inline std::ostream& operator<<(std::ostream& out, transport_report const& found) {
  for (law const& each : found.laws) out << each;
  return out << "error of the metric: " << found.isometry << "\n|T_td v - v|: " << found.steps;
}

/// \brief Checks a vector transport at one point, along one step.
/// \ingroup testing
///
/// A vector transport \f$ T_d \f$ takes tangent vectors at x to tangent vectors at \f$ y = R_x(d)
/// \f$, is linear, is the identity for d = 0 and continuous in d \cite absil2008, section 8.1. One that
/// is isometric also keeps the metric. A transport whose inverse is known is checked in both
/// directions by two calls, the second from y to x.
///
/// \param[in] ctx    where to run; waits
/// \param[in] m      a manifold; project() and inner() are found by its namespace
/// \param[in] x      a point
/// \param[in] d      the step, tangent at x, not zero
/// \param[in] u      tangent at x
/// \param[in] v      tangent at x
/// \param[in] move   callable(ctx, d, y) that sets y to the point which the step d leads to
/// \param[in] carry  callable(ctx, d, y, v, w) that sets w to what v becomes at y
/// \param[in] asked  what else should hold
/// \returns what was found
/// \throws shape_error   if d, u or v has another shape than x
/// \throws option_error  if d is zero or not finite
/// \par Cost
/// About 100 transports in double, 50 in float.
template <class Ctx, class M, Matrix X, Matrix D, Matrix U, Matrix V, class Move, class Carry>
  requires SameScalar<X, D, U, V>
transport_report check_transport(Ctx& ctx, M const& m, X const& x, D const& d, U const& u,
                                 V const& v, Move const& move, Carry const& carry,
                                 transport_check asked = {}) {
  using Real = real_t<X>;
  expect_shape("check_transport", "d", d, x.rows(), x.cols());
  expect_shape("check_transport", "u", u, x.rows(), x.cols());
  expect_shape("check_transport", "v", v, x.rows(), x.cols());
  measure<Ctx, Real> read(ctx, x.rows() * x.cols());
  double const length = read.length(d);
  expect_option(length > 0 && std::isfinite(length), "check_transport", "the norm of d", length,
                "a finite number above 0");
  auto step = zeros_like(ctx, x), y = zeros_like(ctx, x), at_y = zeros_like(ctx, x);
  auto first = zeros_like(ctx, x), second = zeros_like(ctx, x), sum = zeros_like(ctx, x);
  auto const carried = [&](auto const& from, auto& to) { carry(ctx, step, y, from, to); };
  copy(ctx, d, step);
  move(ctx, step, y);
  carried(u, first);
  carried(v, second);

  double const size = std::max({read.length(u), read.length(v), read.length(first), 1e-300});
  transport_report found;
  project(ctx, m, y, first, at_y);
  found.laws.push_back({"T_d u is tangent at y", read.distance(at_y, first), read.rounding(size)});
  auto combined = clone(ctx, u);
  scale(ctx, 2, combined);
  axpy(ctx, -3, v, combined);
  carried(combined, sum);
  auto expected = clone(ctx, first);
  scale(ctx, 2, expected);
  axpy(ctx, -3, second, expected);
  found.laws.push_back({"T_d (2 u - 3 v) = 2 T_d u - 3 T_d v", read.distance(sum, expected),
                        read.rounding(5 * size)});
  found.isometry =
      std::max({std::abs(read.metric(m, y, first, first) - read.metric(m, x, u, u)),
                std::abs(read.metric(m, y, first, second) - read.metric(m, x, u, v)),
                std::abs(read.metric(m, y, second, second) - read.metric(m, x, v, v))});
  if (asked.isometric)
    found.laws.push_back(
        {"<T_d u, T_d v> = <u, v>", found.isometry, read.rounding(2 * size * size)});
  auto const error = [&](double t) {
    copy(ctx, d, step);
    scale(ctx, t, step);
    move(ctx, step, y);
    carried(v, second);
    return read.distance(second, v);
  };
  found.laws.push_back({"T_0 v = v", error(0), read.rounding(size)});
  constexpr double eps = std::numeric_limits<Real>::epsilon();
  found.steps = measure_slope(error, 0.5 / length, eps, size, 1);
  found.passed = all_passed(found.laws) && found.steps.passed;
  return found;
}

/// \brief Checks the transport of a manifold, or the projection that stands in for it.
/// \ingroup testing
///
/// The step is by `retract(ctx, m, x, d, y)`, the transport by transport_or_project().
///
/// \param[in] ctx    where to run; waits
/// \param[in] m      a manifold
/// \param[in] x      a point
/// \param[in] d      the step, tangent at x, not zero
/// \param[in] u      tangent at x
/// \param[in] v      tangent at x
/// \param[in] asked  what else should hold
/// \returns what was found
/// \throws shape_error   if d, u or v has another shape than x
/// \throws option_error  if d is zero or not finite
template <class Ctx, class M, Matrix X, Matrix D, Matrix U, Matrix V>
  requires SameScalar<X, D, U, V>
transport_report check_transport(Ctx& ctx, M const& m, X const& x, D const& d, U const& u,
                                 V const& v, transport_check asked = {}) {
  auto point = zeros_like(ctx, x);
  copy(ctx, x, point);
  return check_transport(
      ctx, m, x, d, u, v,
      [&](auto& at, auto const& step, auto& y) { retract(at, m, point, step, y); },
      [&](auto& at, auto const&, auto const& y, auto const& from, auto& to) {
        transport_or_project(at, m, point, y, from, to);
      },
      asked);
}

}  // namespace stiefelx
