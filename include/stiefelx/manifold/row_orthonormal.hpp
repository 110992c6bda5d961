// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_nearest.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>

namespace stiefelx {

/// \brief The Stiefel manifold with points turned: p x n matrices with orthonormal rows.
/// \ingroup stiefel
///
/// \f$ \{ x \in \mathbb{F}^{p \times n} : x x^H = I_p \} \f$, whose points, tangent vectors and
/// gradients are the adjoints of those of stiefel{n, p}: `row_orthonormal{stiefel{n, p}}` has
/// points of p x n. It is a type of its own, so that a wide matrix is never taken for a tall one:
/// stiefel refuses it by name. Every function here turns its inputs, calls the one of stiefel with
/// the same name, and turns the result, so that formulas, accuracy, errors and metric are found on
/// its page.
///
/// The copies cost one n x p scratch matrix for each matrix argument. Since results are made in
/// scratch, an output may be or overlap any input.
struct row_orthonormal {
  stiefel tall;  ///< the manifold of the adjoints
};

namespace detail {

template <class X>
void expect_rows(char const* function, char const* argument, row_orthonormal m, X const& x) {
  expect_stiefel(function, m.tall);
  expect_shape(function, argument, x, m.tall.p, m.tall.n);
}

}  // namespace detail

/// \brief Dimension of the real manifold: that of the tall one.
/// \ingroup stiefel
/// \param[in] m  the manifold
/// \returns n p - p (p + 1) / 2
constexpr index_t dimension(row_orthonormal m) { return dimension(m.tall); }

/// \brief Dimension of the complex manifold as a real one: that of the tall one.
/// \ingroup stiefel
/// \param[in] m  the manifold
/// \returns 2 n p - p^2
constexpr index_t complex_dimension(row_orthonormal m) { return complex_dimension(m.tall); }

/// \brief Injectivity radius: that of the tall manifold.
/// \ingroup stiefel
/// \param[in] m  the manifold, of real points
/// \returns the radius in the metric of m
/// \throws option_error  where nothing is proven
inline double injectivity_radius(row_orthonormal m) { return injectivity_radius(m.tall); }

/// \brief Projects an ambient matrix onto the tangent space: \f$ z - \mathrm{sym}(z x^H)\,x \f$.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  z    p x n, any matrix or expression
/// \param[out] v    p x n, tangent at x; may be z
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, row_orthonormal m, X const& x, Z const& z, V&& v) {
  detail::expect_rows("project", "x", m, x);
  detail::expect_rows("project", "z", m, z);
  detail::expect_rows("project", "v", m, v);
  auto const tx = clone(ctx, x.adjoint());
  auto const tz = clone(ctx, z.adjoint());
  auto tv = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  project(ctx, m.tall, tx, tz, tv);
  copy(ctx, tv.adjoint(), v);
}

/// \brief Turns a Euclidean gradient into the one of the metric.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  g    p x n, Euclidean gradient at x
/// \param[out] v    p x n, tangent at x; may be g
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, row_orthonormal m, X const& x, G const& g, V&& v) {
  detail::expect_rows("riemannian_gradient", "x", m, x);
  detail::expect_rows("riemannian_gradient", "g", m, g);
  detail::expect_rows("riemannian_gradient", "v", m, v);
  auto const tx = clone(ctx, x.adjoint());
  auto const tg = clone(ctx, g.adjoint());
  auto tv = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  riemannian_gradient(ctx, m.tall, tx, tg, tv);
  copy(ctx, tv.adjoint(), v);
}

/// \brief Retracts a tangent vector, by any retraction of stiefel.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  v    p x n, tangent at x
/// \param[out] y    p x n, the new point; may be x or v
/// \param[in]  how  options of a retraction of stiefel, or nothing for the QR retraction
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix V, class Y, class... How>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, row_orthonormal m, X const& x, V const& v, Y&& y, How const&... how) {
  detail::expect_rows("retract", "x", m, x);
  detail::expect_rows("retract", "v", m, v);
  detail::expect_rows("retract", "y", m, y);
  auto const tx = clone(ctx, x.adjoint());
  auto const tv = clone(ctx, v.adjoint());
  auto ty = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  retract(ctx, m.tall, tx, tv, ty, how...);
  copy(ctx, ty.adjoint(), y);
}

/// \brief Transports a tangent vector by projection onto the new tangent space.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  y    p x n, a point
/// \param[in]  v    p x n, tangent at x
/// \param[out] w    p x n, tangent at y; may be v
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, Y, V, W>
void transport(Ctx& ctx, row_orthonormal m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_rows("transport", "x", m, x);
  detail::expect_rows("transport", "y", m, y);
  detail::expect_rows("transport", "v", m, v);
  detail::expect_rows("transport", "w", m, w);
  auto const tx = clone(ctx, x.adjoint());
  auto const ty = clone(ctx, y.adjoint());
  auto const tv = clone(ctx, v.adjoint());
  auto tw = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  transport(ctx, m.tall, tx, ty, tv, tw);
  copy(ctx, tw.adjoint(), w);
}

/// \brief The point nearest to a matrix of full rank: its unitary polar factor.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  z    p x n, any matrix or expression
/// \param[out] x    p x n, the point; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of polar()
/// \throws shape_error  if a matrix is not p x n
template <class Ctx, Matrix Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, row_orthonormal m, Z const& z, X&& x, Status&& status = {}) {
  detail::expect_rows("nearest_point", "z", m, z);
  detail::expect_rows("nearest_point", "x", m, x);
  auto const tz = clone(ctx, z.adjoint());
  auto tx = scratch<scalar_t<Z>>(ctx, m.tall.n, m.tall.p);
  nearest_point(ctx, m.tall, tz, tx, status);
  copy(ctx, tx.adjoint(), x);
}

/// \brief The metric of the tall manifold.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  u    p x n, tangent at x
/// \param[in]  v    p x n, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, U, V>
void inner(Ctx& ctx, row_orthonormal m, X const& x, U const& u, V const& v, S&& s) {
  detail::expect_rows("inner", "x", m, x);
  detail::expect_rows("inner", "u", m, u);
  detail::expect_rows("inner", "v", m, v);
  auto const tx = clone(ctx, x.adjoint());
  auto const tu = clone(ctx, u.adjoint());
  auto const tv = clone(ctx, v.adjoint());
  inner(ctx, m.tall, tx, tu, tv, s);
}

/// \brief Length of a tangent vector in the metric.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    p x n, a point
/// \param[in]  v    p x n, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void norm(Ctx& ctx, row_orthonormal m, X const& x, V const& v, S&& s) {
  detail::expect_rows("norm", "x", m, x);
  detail::expect_rows("norm", "v", m, v);
  auto const tx = clone(ctx, x.adjoint());
  auto const tv = clone(ctx, v.adjoint());
  norm(ctx, m.tall, tx, tv, s);
}

/// \brief Draws a point from the Haar measure.
/// \ingroup stiefel
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       p x n, orthonormal rows
/// \throws shape_error  if x is not p x n
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, row_orthonormal m, random_stream& stream, X&& x) {
  detail::expect_rows("random_point", "x", m, x);
  auto tx = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  random_point(ctx, m.tall, stream, tx);
  copy(ctx, tx.adjoint(), x);
}

/// \brief Draws a tangent vector of length one in the metric, with no preferred direction there.
/// \ingroup stiefel
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       p x n, a point
/// \param[out]    v       p x n, tangent at x; may be x
/// \throws shape_error  if x or v is not p x n
template <class Ctx, Matrix X, class V>
  requires OutputMatrix<V> && SameScalar<X, V>
void random_tangent(Ctx& ctx, row_orthonormal m, random_stream& stream, X const& x, V&& v) {
  detail::expect_rows("random_tangent", "x", m, x);
  detail::expect_rows("random_tangent", "v", m, v);
  auto const tx = clone(ctx, x.adjoint());
  auto tv = scratch<scalar_t<X>>(ctx, m.tall.n, m.tall.p);
  random_tangent(ctx, m.tall, stream, tx, tv);
  copy(ctx, tv.adjoint(), v);
}

}  // namespace stiefelx
