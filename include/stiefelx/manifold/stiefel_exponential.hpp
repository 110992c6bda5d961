// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/skew_exponential.hpp>

namespace stiefelx {

/// Selects the geodesic of the manifold's own metric, exp().
/// \ingroup stiefel
struct exponential_retraction {};

namespace detail {

template <class Ctx, class X, class V, class Y>
void expect_geodesic(Ctx& ctx, char const* function, stiefel m, X const& x, char const* argument,
                     V const& v, char const* output, Y const& y) {
  expect_stiefel(function, "x", m, x);
  expect_shape(function, argument, v, m.n, m.p);
  expect_shape(function, output, y, m.n, m.p);
  expect_same_or_distinct(ctx, function, output, y, "x", x);
  expect_same_or_distinct(ctx, function, output, y, argument, v);
}

// g = [[a / (alpha + 1), -r^H], [r, 0]], the generator of a geodesic in the basis of its frame.
template <class Ctx, class A, class R, class G>
void geodesic_generator(Ctx& ctx, stiefel m, A const& a, R const& r, G& g) {
  index_t const p = m.p;
  fill(ctx, 0, g);
  auto left = g.middleCols(0, p), right = g.middleCols(p, p);
  copy(ctx, a, left.middleRows(0, p));
  scale(ctx, 1 / (m.alpha + 1), left.middleRows(0, p));
  copy(ctx, r, left.middleRows(p, p));
  copy(ctx, r.adjoint(), right.middleRows(0, p));
  scale(ctx, -1, right.middleRows(0, p));
}

// b becomes b exp(c a), for skew a.
template <class Ctx, class A, class B>
void turn_columns(Ctx& ctx, double c, A const& a, B& b) {
  if (c == 0) return;
  auto turn = clone(ctx, a);
  scale(ctx, c, turn);
  skew_exponential(ctx, turn, turn);
  auto const before = clone(ctx, b);
  multiply(ctx, before, turn, b);
}

}  // namespace detail

/// \brief Follows the geodesic that starts at x along v, for time one.
/// \ingroup stiefel
///
/// For the metric of m, with \f$ a = x^H v \f$ and \f$ q\,r = v - x\,a \f$,
/// \f[ \exp_x(v) = [x\ \ q]\,\exp\begin{pmatrix} \frac{a}{\alpha+1} & -r^H \\ r & 0 \end{pmatrix}
///     \begin{pmatrix} I \\ 0 \end{pmatrix} \exp\Bigl( \frac{\alpha}{\alpha+1}\,a \Bigr) . \f]
/// Both exponentials are those of skew matrices, by skew_exponential() in the wide scalar. What
/// remains for n = p is \f$ x\,\exp(a) \f$ with every metric. A part of v that is not tangent does
/// not count, and \f$ v - x\,a \f$ may have any rank: the columns of q that it does not determine
/// are multiplied by zero.
///
/// Drift contract: an isometry of the frame, so drift of x stays and each step adds rounding, which
/// shows in float after some thousand steps (corrects_drift() is false). restabilized cleans the
/// point now and then; other retractions repair drift by themselves.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]     x       n x p, a point
/// \param[in]     v       n x p, tangent at x
/// \param[out]    y       n x p, the end of the geodesic; may be x or v
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_converged` when v turns by more than 80
///                        radians, where y is a point, and the wrong one; `not_finite`
/// \throws shape_error   if x, v or y is not n x p
/// \throws alias_error   if y overlaps x or v without being it
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// \f$ 12np^2 + 200p^3 \f$ flops; one n x 2p, one n x p and some 2p x 2p scratch matrices.
/// \see \cite zimmermann2022, \cite edelman1998, section 2.4
template <class Ctx, Matrix X, Matrix V, class Y, class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void exp(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, Status&& status = {}) {
  using S = scalar_t<X>;
  using W = wide_t<S>;
  detail::expect_geodesic(ctx, "exp", m, x, "v", v, "y", y);
  index_t const p = m.p;
  bool const square = m.n == p;
  auto frame = scratch<S>(ctx, m.n, square ? p : 2 * p);
  auto point = frame.middleCols(0, p);
  copy(ctx, x, point);
  if (square) {
    auto turn = product(ctx, point.adjoint(), dense(ctx, v));
    skew_exponential(ctx, turn, turn, status);
    multiply(ctx, point, turn, y);
    return;
  }
  auto normal = frame.middleCols(p, p);
  copy(ctx, v, normal);
  auto const a = product(ctx, point.adjoint(), normal);
  multiply_add(ctx, -1, point, a, normal);
  auto r = scratch<S>(ctx, p, p);
  householder_qr(ctx, normal, normal, r);
  auto g = scratch<W>(ctx, 2 * p, 2 * p);
  detail::geodesic_generator(ctx, m, a, r, g);
  skew_exponential(ctx, g, g, status);
  auto columns = g.middleCols(0, p);
  auto const wide_a = widen(ctx, a);
  detail::turn_columns(ctx, m.alpha / (m.alpha + 1), wide_a, columns);
  auto coefficients = scratch<S>(ctx, 2 * p, p);
  copy(ctx, columns, coefficients);
  multiply(ctx, frame, coefficients, y);
}

/// \brief Retracts a tangent vector by the exponential of the manifold's metric.
/// \ingroup stiefel
///
/// exp() under the name that optimizers call. Of every order for the metric of m, since it is the
/// geodesic itself; of first order for the other metrics. It does not repair drift.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \throws shape_error   if x, v or y is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// That of exp().
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, exponential_retraction) {
  detail::expect_geodesic(ctx, "retract", m, x, "v", v, "y", y);
  expect_distinct(ctx, "retract", "y", y, "v", v);
  exp(ctx, m, x, v, y);
}

}  // namespace stiefelx
