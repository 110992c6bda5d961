// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>

#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/manifold.hpp>

namespace stiefelx {

/// \brief All n x p matrices. Every optimizer on it is its ordinary, unconstrained self.
/// \ingroup manifolds
struct euclidean {
  index_t n;  ///< rows
  index_t p;  ///< columns
};

/// Dimension as a real manifold of real matrices: n p.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns n p
constexpr index_t dimension(euclidean m) { return m.n * m.p; }

/// Dimension as a real manifold of complex matrices: 2 n p.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns 2 n p
constexpr index_t complex_dimension(euclidean m) { return 2 * m.n * m.p; }

/// Longest vector below which exp() is one to one: there is none.
/// \ingroup manifolds
/// \returns infinity
constexpr double injectivity_radius(euclidean) { return std::numeric_limits<double>::infinity(); }

/// \brief Throws unless a matrix has the shape of a point.
/// \ingroup manifolds
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the manifold
/// \param[in] x         the matrix
/// \throws shape_error  if x is not n x p
template <Matrix X>
void expect_point(char const* function, char const* argument, euclidean m, X const& x) {
  expect_shape(function, argument, x, m.n, m.p);
}

/// v = z: every direction is tangent.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  z    n x p
/// \param[out] v    n x p; may be z
/// \throws shape_error  if a matrix is not n x p
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, euclidean m, X const& x, Z const& z, V&& v) {
  expect_shape("project", "x", x, m.n, m.p);
  expect_shape("project", "z", z, m.n, m.p);
  expect_shape("project", "v", v, m.n, m.p);
  expect_same_or_distinct(ctx, "project", "v", v, "z", z);
  copy(ctx, z, v);
}

/// y = x + v.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p
/// \param[out] y    n x p; may be x, must not overlap v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, euclidean m, X const& x, V const& v, Y&& y) {
  expect_shape("retract", "x", x, m.n, m.p);
  expect_shape("retract", "v", v, m.n, m.p);
  expect_shape("retract", "y", y, m.n, m.p);
  expect_same_or_distinct(ctx, "retract", "y", y, "x", x);
  expect_distinct(ctx, "retract", "y", y, "v", v);
  auto const& step = dense(ctx, v);
  copy(ctx, x, y);
  axpy(ctx, 1, step, y);
}

/// s = Re tr(u^H v).
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  u    n x p
/// \param[in]  v    n x p
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S>
void inner(Ctx& ctx, euclidean m, X const& x, U const& u, V const& v, S&& s) {
  expect_shape("inner", "x", x, m.n, m.p);
  expect_shape("inner", "u", u, m.n, m.p);
  expect_shape("inner", "v", v, m.n, m.p);
  expect_shape("inner", "s", s, 1, 1);
  inner(ctx, u, v, s);
}

/// \brief Euclidean Hessian along v, as it is: \f$ w = h \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[in]  h    n x p, Euclidean Hessian at x applied to v
/// \param[in]  v    n x p
/// \param[out] w    n x p; may be h
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps x, g or v, or h without being h
template <class Ctx, Matrix X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, G, H, V, W>
void riemannian_hessian(Ctx& ctx, euclidean m, X const& x, G const& g, H const& h, V const& v,
                        W&& w) {
  detail::expect_hessian(ctx, m, x, g, h, v, w);
  copy(ctx, h, w);
}

/// \brief Length of a vector: \f$ s = \lVert v \rVert_F \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void norm(Ctx& ctx, euclidean m, X const& x, V const& v, S&& s) {
  detail::expect_number("norm", m, x, "v", v, s);
  norm(ctx, v, s);
}

/// \brief v = g: the gradient is what it is.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[out] v    n x p; may be g
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps g without being g
template <class Ctx, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, euclidean m, X const& x, G const& g, V&& v) {
  project(ctx, m, x, g, v);
}

/// \brief x = z: every matrix is a point.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  z    n x p
/// \param[out] x    n x p; may be z
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if x overlaps z without being z
template <class Ctx, Matrix Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, euclidean m, Z const& z, X&& x, Status&& = {}) {
  detail::expect_nearest(ctx, m, z, x);
  copy(ctx, z, x);
}

/// \brief y = x + v: geodesics are straight lines.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p
/// \param[out] y    n x p; may be x, must not overlap v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void exp(Ctx& ctx, euclidean m, X const& x, V const& v, Y&& y) {
  detail::expect_step(ctx, "exp", m, x, v, y);
  retract(ctx, m, x, v, y);
}

/// \brief v = y - x.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  y    n x p, another
/// \param[out] v    n x p; must not overlap x or y
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x or y
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void log(Ctx& ctx, euclidean m, X const& x, Y const& y, V&& v, Status&& = {}) {
  detail::expect_inverse_step(ctx, "log", m, x, y, v);
  copy(ctx, y, v);
  axpy(ctx, -1, x, v);
}

/// \brief \f$ s = \lVert y - x \rVert_F \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  y    n x p, another
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S> && SameScalar<X, Y>
void distance(Ctx& ctx, euclidean m, X const& x, Y const& y, S&& s, Status&& = {}) {
  detail::expect_number("distance", m, x, "y", y, s);
  auto chord = clone(ctx, y);
  axpy(ctx, -1, x, chord);
  norm(ctx, chord, s);
}

/// \brief w = v: tangent spaces are all the same.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, the point that v is at
/// \param[in]  y    n x p, the point that w is at
/// \param[in]  v    n x p
/// \param[out] w    n x p; may be v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps y, or v without being v
template <class Ctx, Matrix X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, Y, V, W>
void transport(Ctx& ctx, euclidean m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_transport(ctx, m, x, y, v, w);
  copy(ctx, v, w);
}

/// \brief w = v along any step.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, the step
/// \param[in]  y    n x p, where it leads
/// \param[in]  v    n x p
/// \param[out] w    n x p; may be v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps x or d, or v without being v
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, euclidean m, X const& x, D const& d, Y const& y, V const& v, W&& w) {
  detail::expect_transport_along(ctx, m, x, d, y, v, w);
  copy(ctx, v, w);
}

/// \brief Draws a vector of norm one, with no preferred direction.
/// \ingroup manifolds
/// \param[in]     ctx     where to run
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       n x p, a point
/// \param[out]    v       n x p; must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x
template <class Ctx, Matrix X, class V>
  requires OutputMatrix<V> && SameScalar<X, V>
void random_tangent(Ctx& ctx, euclidean m, random_stream& stream, X const& x, V&& v) {
  detail::expect_random_tangent(ctx, m, x, v);
  detail::draw_tangent(ctx, m, stream, x, v);
}

/// Normal entries of deviation one.
/// \ingroup manifolds
/// \param[in]     ctx     where to run
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x p
/// \throws shape_error  if x is not n x p
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, euclidean m, random_stream& stream, X&& x) {
  expect_shape("random_point", "x", x, m.n, m.p);
  fill_normal(ctx, stream, 1, x);
}

}  // namespace stiefelx
