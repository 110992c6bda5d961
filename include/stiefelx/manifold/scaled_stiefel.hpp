// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <numbers>
#include <string>

#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_logarithm.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/polar.hpp>

namespace stiefelx {

/// \brief Scaled Stiefel manifold: n x p matrices with \f$ x^H x = r^2 I \f$.
/// \ingroup manifolds
///
/// \f$ x = r q \f$ with q on stiefel and a fixed radius r: weights with orthogonal columns of a
/// chosen gain. The metric is \f$ \mathrm{Re\,tr}(u^H v) \f$. Every function is that of stiefel at
/// q, with lengths r times as long: geodesics, retractions and the projection are the same maps,
/// and a step v turns q by v / r.
struct scaled_stiefel {
  index_t n;      ///< rows
  index_t p;      ///< columns, at most n
  double radius;  ///< length of a column, above 0
};

/// \brief Throws unless a matrix has the shape of a point.
/// \ingroup manifolds
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the manifold
/// \param[in] x         the matrix
/// \throws shape_error   unless 0 <= m.p <= m.n and x is n x p
/// \throws option_error  if the radius is not above 0
template <Matrix X>
void expect_point(char const* function, char const* argument, scaled_stiefel m, X const& x) {
  if (m.p > m.n || m.p < 0)
    throw shape_error(std::string(function) + ": the manifold is scaled_stiefel{" +
                      std::to_string(m.n) + ", " + std::to_string(m.p) + "}, expected 0 <= p <= n");
  expect_option(m.radius > 0 && std::isfinite(m.radius), function, "scaled_stiefel::radius",
                m.radius, "a finite number above 0");
  expect_shape(function, argument, x, m.n, m.p);
}

namespace detail {

// The same manifold of radius one.
constexpr stiefel unit_frames(scaled_stiefel m) { return {m.n, m.p}; }

// Scratch a / r.
template <class Ctx, class A>
auto divided(Ctx& ctx, scaled_stiefel m, A const& a) {
  auto scaled = clone(ctx, a);
  scale(ctx, 1 / m.radius, scaled);
  return scaled;
}

}  // namespace detail

/// \brief Dimension for real points.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns n p - p (p + 1) / 2
constexpr index_t dimension(scaled_stiefel m) { return dimension(detail::unit_frames(m)); }

/// \brief Dimension for complex points, as a real manifold.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns 2 n p - p^2
constexpr index_t complex_dimension(scaled_stiefel m) {
  return complex_dimension(detail::unit_frames(m));
}

/// \brief Longest tangent vector below which exp() is one to one, whatever its direction.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns \f$ \pi r \f$
constexpr double injectivity_radius(scaled_stiefel m) { return std::numbers::pi * m.radius; }

/// \brief Projects onto the tangent space: \f$ v = z - x\,\mathrm{sym}(x^H z) / r^2 \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  z    n x p, any matrix or expression
/// \param[out] v    n x p, tangent at x; may be z, must not overlap x
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if v overlaps x, or z without being z
/// \throws option_error  if the radius is not above 0
/// \par Cost
/// 4 n p^2 flops, one p x p scratch matrix.
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, scaled_stiefel m, X const& x, Z const& z, V&& v) {
  detail::expect_tangent_map(ctx, "project", m, x, "z", z, "v", v);
  auto const& point = dense(ctx, x);
  copy(ctx, z, v);
  auto s = product(ctx, point.adjoint(), v);
  symmetrize(ctx, s);
  multiply_add(ctx, -1 / (m.radius * m.radius), point, s, v);
}

/// \brief Riemannian gradient: the projection of the Euclidean one.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[out] v    n x p, tangent at x; may be g, must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x, or g without being g
template <class Ctx, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, scaled_stiefel m, X const& x, G const& g, V&& v) {
  detail::expect_tangent_map(ctx, "riemannian_gradient", m, x, "g", g, "v", v);
  project(ctx, m, x, g, v);
}

/// \brief Riemannian Hessian along v: \f$ w = P_x(h - v\,\mathrm{sym}(x^H g) / r^2) \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[in]  h    n x p, Euclidean Hessian at x applied to v
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at x; may be h, must not overlap x, g or v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps x, g or v, or h without being h
template <class Ctx, Matrix X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, G, H, V, W>
void riemannian_hessian(Ctx& ctx, scaled_stiefel m, X const& x, G const& g, H const& h, V const& v,
                        W&& w) {
  detail::expect_hessian(ctx, m, x, g, h, v, w);
  copy(ctx, h, w);
  {
    auto s = product(ctx, x.adjoint(), g);
    symmetrize(ctx, s);
    multiply_add(ctx, -1 / (m.radius * m.radius), v, s, w);
  }
  project(ctx, m, x, w, w);
}

/// \brief The metric: \f$ s = \mathrm{Re\,tr}(u^H v) \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  u    n x p, tangent at x
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, U, V>
void inner(Ctx& ctx, scaled_stiefel m, X const& x, U const& u, V const& v, S&& s) {
  detail::expect_pairing("inner", m, x, u, v, s);
  inner(ctx, u, v, s);
}

/// \brief Length of a tangent vector: \f$ s = \lVert v \rVert_F \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void norm(Ctx& ctx, scaled_stiefel m, X const& x, V const& v, S&& s) {
  detail::expect_number("norm", m, x, "v", v, s);
  norm(ctx, v, s);
}

/// \brief Moves from x along v by a retraction of stiefel.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  any retraction of stiefel; qr_retraction{} by default
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if the retraction refuses its options, or the radius is not above 0
/// \par Cost
/// That of the retraction, and two n x p scratch matrices.
template <class Ctx, Matrix X, Matrix V, class Y, class How = qr_retraction>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, scaled_stiefel m, X const& x, V const& v, Y&& y, How how = {}) {
  detail::expect_step(ctx, "retract", m, x, v, y);
  auto const q = detail::divided(ctx, m, x), step = detail::divided(ctx, m, v);
  retract(ctx, detail::unit_frames(m), q, step, y, how);
  scale(ctx, m.radius, y);
}

/// \brief The tangent vector that a retraction takes to y, by that of stiefel.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if the function of stiefel does
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in]     how     which retraction
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x or y
template <class Ctx, Matrix X, Matrix Y, class V, class How = qr_retraction,
          class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, scaled_stiefel m, X const& x, Y const& y, V&& v, How how = {},
                     Status&& status = {}) {
  detail::expect_inverse_step(ctx, "inverse_retract", m, x, y, v);
  auto const q = detail::divided(ctx, m, x), end = detail::divided(ctx, m, y);
  inverse_retract(ctx, detail::unit_frames(m), q, end, v, how, status);
  scale(ctx, m.radius, v);
}

/// \brief The point nearest to a matrix: r times its polar factor.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     z       n x p, of full rank
/// \param[out]    x       n x p, a point; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of polar()
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if x overlaps z without being z
template <class Ctx, Matrix Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, scaled_stiefel m, Z const& z, X&& x, Status&& status = {}) {
  detail::expect_nearest(ctx, m, z, x);
  polar(ctx, z, x, status);
  scale(ctx, m.radius, x);
}

/// \brief Follows the geodesic from x with velocity v for unit time, by exp() of stiefel.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if the function of stiefel does
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     v       n x p, tangent at x
/// \param[out]    y       n x p, the new point; may be x, must not overlap v
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
template <class Ctx, Matrix X, Matrix V, class Y, class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void exp(Ctx& ctx, scaled_stiefel m, X const& x, V const& v, Y&& y, Status&& status = {}) {
  detail::expect_step(ctx, "exp", m, x, v, y);
  auto const q = detail::divided(ctx, m, x), step = detail::divided(ctx, m, v);
  exp(ctx, detail::unit_frames(m), q, step, y, status);
  scale(ctx, m.radius, y);
}

/// \brief The shortest tangent vector at x with exp(x, v) = y, by log() of stiefel.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if the function of stiefel does
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x or y
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void log(Ctx& ctx, scaled_stiefel m, X const& x, Y const& y, V&& v, Status&& status = {}) {
  detail::expect_inverse_step(ctx, "log", m, x, y, v);
  auto const q = detail::divided(ctx, m, x), end = detail::divided(ctx, m, y);
  log(ctx, detail::unit_frames(m), q, end, v, status);
  scale(ctx, m.radius, v);
}

/// \brief Length of the shortest geodesic: r times that of stiefel.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if the function of stiefel does
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another
/// \param[out]    s       1 x 1, real
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S> && SameScalar<X, Y>
void distance(Ctx& ctx, scaled_stiefel m, X const& x, Y const& y, S&& s, Status&& status = {}) {
  detail::expect_number("distance", m, x, "y", y, s);
  auto const q = detail::divided(ctx, m, x), end = detail::divided(ctx, m, y);
  distance(ctx, detail::unit_frames(m), q, end, s, status);
  scale(ctx, m.radius, s);
}

/// \brief Transports a tangent vector by projection onto the new tangent space.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, the point that v is tangent at
/// \param[in]  y    n x p, the point that w is tangent at
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap y
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps y, or v without being v
template <class Ctx, Matrix X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, Y, V, W>
void transport(Ctx& ctx, scaled_stiefel m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_transport(ctx, m, x, y, v, w);
  project(ctx, m, y, v, w);
}

/// \brief Draws a point, uniform.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x p, a point
/// \throws shape_error  if x is not n x p
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, scaled_stiefel m, random_stream& stream, X&& x) {
  expect_point("random_point", "x", m, x);
  random_point(ctx, detail::unit_frames(m), stream, x);
  scale(ctx, m.radius, x);
}

/// \brief Draws a tangent vector of norm one, with no preferred direction.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       n x p, a point
/// \param[out]    v       n x p, tangent at x; must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x
template <class Ctx, Matrix X, class V>
  requires OutputMatrix<V> && SameScalar<X, V>
void random_tangent(Ctx& ctx, scaled_stiefel m, random_stream& stream, X const& x, V&& v) {
  detail::expect_random_tangent(ctx, m, x, v);
  detail::draw_tangent(ctx, m, stream, x, v);
}

}  // namespace stiefelx
