// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_logarithm_iteration.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_shooting.hpp>

namespace stiefelx {

namespace detail {

// v = the columns [a; b] of the logarithm in the basis [x q], where y is base.
template <class Ctx, class Base, class V>
logarithm_report algebraic_logarithm(Ctx& ctx, stiefel m, Base const& base, V& v,
                                     logarithm_options options) {
  using W = scalar_t<Base>;
  index_t const p = m.p;
  logarithm_state<decltype(scratch<W>(ctx, p, p))> state{
      scratch<W>(ctx, 2 * p, p), scratch<W>(ctx, 2 * p, 2 * p), scratch<W>(ctx, 2 * p, 2 * p),
      scratch<W>(ctx, p, p), scratch<W>(ctx, p, 1)};
  copy(ctx, base, state.base);
  fill(ctx, 0, state.a);
  complete_nearest(ctx, state);
  auto const found = iterate_logarithm(ctx, m, state, options);
  copy(ctx, state.small.middleCols(0, p), v);
  scale(ctx, m.alpha + 1, v.middleRows(0, p));
  return found;
}

// The same by whichever method gets there: the algebraic one for the metric of m, and where that
// has no logarithm of its matrices any more, shooting from the canonical geodesic.
template <class Ctx, class Base, class V>
logarithm_report thin_logarithm(Ctx& ctx, stiefel m, Base const& base, V& v,
                                logarithm_options options) {
  logarithm_options few = options;
  few.iterations = std::min(options.iterations, 20);
  auto first = algebraic_logarithm(ctx, m, base, v, few);
  if (first.converged || few.iterations == options.iterations) return first;
  if (m.alpha != canonical_metric) {
    auto const start = algebraic_logarithm(ctx, stiefel{m.n, m.p, canonical_metric}, base, v, few);
    if (!start.converged) return first;
  } else if (!(first.defect < 1e-3)) {
    return first;
  }
  return shoot(ctx, m, base, v, options);
}

// For n = p: v = x log(x^H y), the same for every metric.
template <class Ctx, class X, class Y, class V, class Finite>
logarithm_report square_logarithm(Ctx& ctx, X const& x, Y const& y, V& v, Finite& finite) {
  auto const point = clone(ctx, x);
  auto turn = product(ctx, point.adjoint(), dense(ctx, y));
  all_finite(ctx, turn, finite);
  auto bits = clear_status(ctx, 1);
  unitary_logarithm(ctx, turn, turn, bits);
  multiply(ctx, point, turn, v);
  return {1, 0, value(ctx, bits) == 0};
}

}  // namespace detail

/// \brief Finds the geodesic from x to y: the v with \f$ \exp_x(v) = y \f$.
/// \ingroup stiefel
///
/// With \f$ M = x^H y \f$ and \f$ q\,N = y - x M \f$, completed to a unitary 2p x 2p matrix, the
/// completion is turned until the matrix logarithm has the form of a geodesic: a zero block for the
/// canonical metric \cite zimmermann2017, and for the others, where the given columns turn as well,
/// an upper left block in step with that turn \cite mataigne2025. The steps solve a Lyapunov
/// equation a block, and are corrected by the Baker-Campbell-Hausdorff series to higher order, so
/// that few logarithms are needed: 3 to 4 for 1e-11 between points of St(90, 30) or St(200, 10)
/// that are 0.5 to \f$ 0.9\,\pi \f$ apart. Where the small matrix has no logarithm, as when
/// \f$ x^H v / (\alpha + 1) \f$ turns by more than \f$ \pi \f$, shooting takes over: geodesics from
/// x whose error at the end comes back by parallel transport, mixed by Anderson's method.
/// For n = p, v is \f$ x \log(x^H y) \f$.
///
/// Below the injectivity radius (injectivity_radius()) the geodesic that is found is the shortest
/// one; beyond it, when one is found, it leads to y and may be longer than another. Where none is
/// found, as for n = p and determinants of different sign, v is NaN and the status says so.
///
/// \param[in]     ctx      where to run; waits, several times an iteration
/// \param[in]     m        \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]     x        n x p, a point
/// \param[in]     y        n x p, another point
/// \param[out]    v        n x p, tangent at x; NaN where the iteration fails; may be x or y
/// \param[in,out] status   1 x 1 int, or no_status{}: `not_converged`, `not_finite`
/// \param[in]     options  tolerance and iterations
/// \returns how many iterations it took, and whether they converged
/// \throws shape_error   if x, y or v is not n x p
/// \throws alias_error   if v overlaps x or y without being it
/// \throws option_error  if m.alpha is not above -1, or an option is out of range
/// \par Cost
/// \f$ 12np^2 \f$ flops, and an iteration about \f$ 1500p^3 \f$ for the canonical metric and
/// \f$ 4000p^3 \f$ for another; one n x 2p and some 2p x 2p scratch matrices.
/// \see \cite zimmermann2022, \cite mataigne2025
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
logarithm_report log(Ctx& ctx, stiefel m, X const& x, Y const& y, V&& v, Status&& status = {},
                     logarithm_options options = {}) {
  using S = scalar_t<X>;
  using W = wide_t<S>;
  detail::expect_geodesic(ctx, "log", m, x, "y", y, "v", v);
  expect_option(options.tolerance > 0, "log", "tolerance", options.tolerance, "a number above 0");
  expect_option(options.iterations >= 1, "log", "iterations", options.iterations,
                "a number of at least 1");
  index_t const p = m.p;
  if (p == 0) return {0, 0, true};
  logarithm_report found;
  auto finite = scratch<double>(ctx, 1, 1);
  if (m.n == p) {
    found = detail::square_logarithm(ctx, x, y, v, finite);
  } else {
    auto frame = scratch<S>(ctx, m.n, 2 * p);
    auto point = frame.middleCols(0, p), normal = frame.middleCols(p, p);
    copy(ctx, x, point);
    copy(ctx, y, normal);
    auto const cosines = product(ctx, point.adjoint(), normal);
    multiply_add(ctx, -1, point, cosines, normal);
    auto r = scratch<S>(ctx, p, p);
    householder_qr(ctx, normal, normal, r);
    auto base = scratch<W>(ctx, 2 * p, p);
    copy(ctx, cosines, base.middleRows(0, p));
    copy(ctx, r, base.middleRows(p, p));
    all_finite(ctx, base, finite);
    if (value(ctx, finite) != 0) {
      // Rounding of a narrow scalar would be a defect that no iteration takes away.
      auto triangle = scratch<W>(ctx, p, p);
      householder_qr(ctx, base, base, triangle);
      auto small = clone(ctx, base);
      found = detail::thin_logarithm(ctx, m, base, small, options);
      auto coefficients = scratch<S>(ctx, 2 * p, p);
      copy(ctx, small, coefficients);
      multiply(ctx, frame, coefficients, v);
    }
  }
  if (found.converged) return found;
  fill(ctx, std::numeric_limits<double>::quiet_NaN(), v);
  raise(ctx, status, value(ctx, finite) != 0 ? not_converged : not_converged | not_finite);
  return found;
}

/// \brief Distance of two points: the length of the geodesic that log() finds.
/// \ingroup stiefel
///
/// Below the injectivity radius it is the distance; beyond, at least an upper bound.
///
/// \param[in]     ctx      where to run; waits, as log() does
/// \param[in]     m        \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]     x        n x p, a point
/// \param[in]     y        n x p, another point
/// \param[out]    s        1 x 1, real; NaN where log() fails
/// \param[in,out] status   1 x 1 int, or no_status{}; as for log()
/// \param[in]     options  as for log()
/// \returns what log() did
/// \throws shape_error   if x or y is not n x p, or s not 1 x 1
/// \throws option_error  if m.alpha is not above -1, or an option is out of range
/// \par Cost
/// That of log() and norm(); one more n x p scratch matrix.
template <class Ctx, Matrix X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S> && SameScalar<X, Y>
logarithm_report distance(Ctx& ctx, stiefel m, X const& x, Y const& y, S&& s, Status&& status = {},
                          logarithm_options options = {}) {
  detail::expect_stiefel("distance", "x", m, x);
  expect_shape("distance", "y", y, m.n, m.p);
  expect_shape("distance", "s", s, 1, 1);
  auto v = scratch<scalar_t<X>>(ctx, m.n, m.p);
  auto const found = log(ctx, m, x, y, v, status, options);
  norm(ctx, m, x, v, s);
  return found;
}

/// \brief Inverts the exponential: log() under the name that goes with retract().
/// \ingroup stiefel
/// \param[in]     ctx     where to run; waits, as log() does
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another point
/// \param[out]    v       n x p, tangent at x; NaN where log() fails; may be x or y
/// \param[in]     how     no options
/// \param[in,out] status  1 x 1 int, or no_status{}; as for log()
/// \throws shape_error   if x, y or v is not n x p
/// \throws alias_error   if v overlaps x or y without being it
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// That of log().
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, stiefel m, X const& x, Y const& y, V&& v,
                     [[maybe_unused]] exponential_retraction how, Status&& status = {}) {
  detail::expect_geodesic(ctx, "inverse_retract", m, x, "y", y, "v", v);
  log(ctx, m, x, y, v, status);
}

}  // namespace stiefelx
