// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/row_orthonormal.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_logarithm.hpp>

/// \file
/// \brief Hessians, geodesics, inverse retractions and transports of points with orthonormal rows.
/// \ingroup stiefel
///
/// Each turns its inputs, calls the function of stiefel with the same name, and turns the result.

namespace stiefelx {

/// \brief Turns a Euclidean Hessian along a tangent vector into the one of the metric.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  g    p x n, Euclidean gradient at x
/// \param[in]  h    p x n, Euclidean Hessian at x applied to v
/// \param[in]  v    p x n, tangent at x
/// \param[out] w    p x n, tangent at x; may be h
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, G, H, V, W>
void riemannian_hessian(Ctx& ctx, row_orthonormal m, X const& x, G const& g, H const& h, V const& v,
                        W&& w) {
  detail::expect_rows("riemannian_hessian", "x", m, x);
  detail::expect_rows("riemannian_hessian", "g", m, g);
  detail::expect_rows("riemannian_hessian", "h", m, h);
  detail::expect_rows("riemannian_hessian", "v", m, v);
  detail::expect_rows("riemannian_hessian", "w", m, w);
  auto const tx = clone(ctx, x.adjoint());
  auto const tg = clone(ctx, g.adjoint());
  auto const th = clone(ctx, h.adjoint());
  auto const tv = clone(ctx, v.adjoint());
  auto tw = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  riemannian_hessian(ctx, m.tall, tx, tg, th, tv, tw);
  copy(ctx, tw.adjoint(), w);
}

/// \brief The Weingarten map, for the Euclidean metric; z is normal at x.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  v    p x n, tangent at x
/// \param[in]  z    p x n, any matrix or expression
/// \param[out] w    p x n, tangent at x
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix V, Matrix Z, class W>
  requires OutputMatrix<W> && SameScalar<X, V, Z, W>
void weingarten(Ctx& ctx, row_orthonormal m, X const& x, V const& v, Z const& z, W&& w) {
  detail::expect_rows("weingarten", "x", m, x);
  detail::expect_rows("weingarten", "v", m, v);
  detail::expect_rows("weingarten", "z", m, z);
  detail::expect_rows("weingarten", "w", m, w);
  auto const tx = clone(ctx, x.adjoint());
  auto const tv = clone(ctx, v.adjoint());
  auto const tz = clone(ctx, z.adjoint());
  auto tw = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  weingarten(ctx, m.tall, tx, tv, tz, tw);
  copy(ctx, tw.adjoint(), w);
}

/// \brief The geodesic of the metric from x along v, at time one.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  v    p x n, tangent at x
/// \param[out] y    p x n, the new point; may be x or v
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix V, class Y, class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void exp(Ctx& ctx, row_orthonormal m, X const& x, V const& v, Y&& y, Status&& status = {}) {
  detail::expect_rows("exp", "x", m, x);
  detail::expect_rows("exp", "v", m, v);
  detail::expect_rows("exp", "y", m, y);
  auto const tx = clone(ctx, x.adjoint());
  auto const tv = clone(ctx, v.adjoint());
  auto ty = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  exp(ctx, m.tall, tx, tv, ty, status);
  copy(ctx, ty.adjoint(), y);
}

/// \brief The tangent vector at x whose geodesic of the metric reaches y; NaN where none is found.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  y    p x n, a point
/// \param[out] v    p x n, tangent at x
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \param[in]     options  those of log() of stiefel
/// \returns the report of log() of stiefel
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
logarithm_report log(Ctx& ctx, row_orthonormal m, X const& x, Y const& y, V&& v,
                     Status&& status = {}, logarithm_options options = {}) {
  detail::expect_rows("log", "x", m, x);
  detail::expect_rows("log", "y", m, y);
  detail::expect_rows("log", "v", m, v);
  auto const tx = clone(ctx, x.adjoint());
  auto const ty = clone(ctx, y.adjoint());
  auto tv = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  auto const report = log(ctx, m.tall, tx, ty, tv, status, options);
  copy(ctx, tv.adjoint(), v);
  return report;
}

/// \brief Distance of two points in the metric.
/// \ingroup stiefel
/// \param[in]     ctx      where to run; waits
/// \param[in]     m        the manifold
/// \param[in]     x        p x n, a point
/// \param[in]     y        p x n, a point
/// \param[out]    s        1 x 1, real
/// \param[in,out] status   1 x 1 int, or no_status{}
/// \param[in]     options  those of log() of stiefel
/// \returns the report of log() of stiefel
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S> && SameScalar<X, Y>
logarithm_report distance(Ctx& ctx, row_orthonormal m, X const& x, Y const& y, S&& s,
                          Status&& status = {}, logarithm_options options = {}) {
  detail::expect_rows("distance", "x", m, x);
  detail::expect_rows("distance", "y", m, y);
  auto const tx = clone(ctx, x.adjoint());
  auto const ty = clone(ctx, y.adjoint());
  return distance(ctx, m.tall, tx, ty, s, status, options);
}

/// \brief The tangent vector that a retraction of stiefel takes to y.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  y    p x n, a point
/// \param[out] v    p x n, tangent at x
/// \param[in]  how  options of an inverse retraction of stiefel, and a status; nothing for QR
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix Y, class V, class... How>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, row_orthonormal m, X const& x, Y const& y, V&& v, How&&... how) {
  detail::expect_rows("inverse_retract", "x", m, x);
  detail::expect_rows("inverse_retract", "y", m, y);
  detail::expect_rows("inverse_retract", "v", m, v);
  auto const tx = clone(ctx, x.adjoint());
  auto const ty = clone(ctx, y.adjoint());
  auto tv = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  inverse_retract(ctx, m.tall, tx, ty, tv, how...);
  copy(ctx, tv.adjoint(), v);
}

/// \brief Transports a tangent vector along a step, by any transport of stiefel.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  d    p x n, tangent at x, with y = R_x(d)
/// \param[in]  y    p x n, a point
/// \param[in]  v    p x n, tangent at x
/// \param[out] w    p x n, tangent at y; may be v
/// \param[in]  how  which transport of stiefel
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W, class... How>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, row_orthonormal m, X const& x, D const& d, Y const& y, V const& v,
                     W&& w, How const&... how) {
  detail::expect_rows("transport_along", "x", m, x);
  detail::expect_rows("transport_along", "d", m, d);
  detail::expect_rows("transport_along", "y", m, y);
  detail::expect_rows("transport_along", "v", m, v);
  detail::expect_rows("transport_along", "w", m, w);
  auto const tx = clone(ctx, x.adjoint());
  auto const td = clone(ctx, d.adjoint());
  auto const ty = clone(ctx, y.adjoint());
  auto const tv = clone(ctx, v.adjoint());
  auto tw = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  transport_along(ctx, m.tall, tx, td, ty, tv, tw, how...);
  copy(ctx, tw.adjoint(), w);
}

}  // namespace stiefelx
