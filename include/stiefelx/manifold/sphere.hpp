// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <numbers>
#include <string>

#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/great_circle.hpp>

namespace stiefelx {

/// \brief The unit sphere: n x p matrices of Frobenius norm one, real or complex.
/// \ingroup manifolds
///
/// Complex matrices count as real vectors of twice the length. The tangent space at x is \f$ \{ v :
/// \langle x, v \rangle = 0 \} \f$ with \f$ \langle u, v \rangle = \mathrm{Re\,tr}(u^H v) \f$, the
/// metric. For matrices whose columns have length one each see oblique.
/// \see \cite absil2008, example 3.6.1
struct sphere {
  index_t n;  ///< rows
  index_t p;  ///< columns
};

/// \brief Throws unless a matrix has the shape of a point.
/// \ingroup manifolds
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the manifold
/// \param[in] x         the matrix
/// \throws shape_error  if no point has the manifold's shape, or x has another one
template <Matrix X>
void expect_point(char const* function, char const* argument, sphere m, X const& x) {
  if (m.n < 1 || m.p < 1)
    throw shape_error(std::string(function) + ": the manifold is sphere{" + std::to_string(m.n) +
                      ", " + std::to_string(m.p) + "}, expected n >= 1 and p >= 1");
  expect_shape(function, argument, x, m.n, m.p);
}

/// \brief Dimension for real points.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns n p - 1
constexpr index_t dimension(sphere m) { return m.n * m.p - 1; }

/// \brief Dimension for complex points, as a real manifold.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns 2 n p - 1
constexpr index_t complex_dimension(sphere m) { return 2 * m.n * m.p - 1; }

/// \brief Longest tangent vector below which exp() is one to one, whatever its direction.
/// \ingroup manifolds
/// \returns \f$ \pi \f$
constexpr double injectivity_radius(sphere) { return std::numbers::pi; }

/// \brief Projects onto the tangent space: \f$ v = z - \langle x, z \rangle x \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  z    n x p, any matrix or expression
/// \param[out] v    n x p, tangent at x; may be z, must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x, or z without being z
/// \par Cost
/// 4 n p flops.
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, sphere m, X const& x, Z const& z, V&& v) {
  detail::expect_tangent_map(ctx, "project", m, x, "z", z, "v", v);
  copy(ctx, z, v);
  detail::remove_component<detail::one_vector>(ctx, x, v);
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
void riemannian_gradient(Ctx& ctx, sphere m, X const& x, G const& g, V&& v) {
  detail::expect_tangent_map(ctx, "riemannian_gradient", m, x, "g", g, "v", v);
  project(ctx, m, x, g, v);
}

/// \brief Riemannian Hessian along v: \f$ w = P_x(h) - \langle x, g \rangle v \f$.
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
/// \see \cite absil2008, section 5.5
template <class Ctx, Matrix X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, G, H, V, W>
void riemannian_hessian(Ctx& ctx, sphere m, X const& x, G const& g, H const& h, V const& v, W&& w) {
  detail::expect_hessian(ctx, m, x, g, h, v, w);
  detail::sphere_hessian<detail::one_vector>(ctx, x, g, h, v, w);
}

/// \brief Weingarten map: \f$ w = -\langle x, z \rangle v \f$.
///
/// It is the tangent part of the derivative along v of a normal field that is z at x, with the
/// sign changed.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[in]  z    n x p, normal at x
/// \param[out] w    n x p, tangent at x; may be v, must not overlap x or z
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps x or z, or v without being v
template <class Ctx, Matrix X, Matrix V, Matrix Z, class W>
  requires OutputMatrix<W> && SameScalar<X, V, Z, W>
void weingarten(Ctx& ctx, sphere m, X const& x, V const& v, Z const& z, W&& w) {
  detail::expect_tangent_map(ctx, "weingarten", m, x, "v", v, "w", w);
  expect_shape("weingarten", "z", z, m.n, m.p);
  expect_distinct(ctx, "weingarten", "w", w, "z", z);
  detail::sphere_weingarten<detail::one_vector>(ctx, x, v, z, w);
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
void inner(Ctx& ctx, sphere m, X const& x, U const& u, V const& v, S&& s) {
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
void norm(Ctx& ctx, sphere m, X const& x, V const& v, S&& s) {
  detail::expect_number("norm", m, x, "v", v, s);
  norm(ctx, v, s);
}

/// \brief The point nearest to a matrix: \f$ z / \lVert z \rVert_F \f$.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     z       n x p, not zero, of a length whose square neither overflows nor vanishes
/// \param[out]    x       n x p, a point; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: `rank_deficient` for a zero z, which
///                        stays zero, `not_finite`
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if x overlaps z without being z
template <class Ctx, Matrix Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, sphere m, Z const& z, X&& x, Status&& status = {}) {
  detail::expect_nearest(ctx, m, z, x);
  copy(ctx, z, x);
  detail::to_unit_length<detail::one_vector>(ctx, x, status);
}

/// \brief Moves from x along v and back to the manifold by the shortest way: \f$ (x + v) / \lVert x
/// + v \rVert_F \f$.
///
/// Second order: it follows geodesics to an error of third order. Drift of x is repaired.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, sphere m, X const& x, V const& v, Y&& y) {
  detail::expect_step(ctx, "retract", m, x, v, y);
  auto const& step = dense(ctx, v);
  copy(ctx, x, y);
  axpy(ctx, 1, step, y);
  detail::to_unit_length<detail::one_vector>(ctx, y);
}

/// \brief The inverse of retract(): \f$ v = y / \langle x, y \rangle - x \f$.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another, less than a right angle away
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_converged` where no v leads to y,
///                        `not_finite`
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x or y
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, sphere m, X const& x, Y const& y, V&& v, Status&& status = {}) {
  detail::expect_inverse_step(ctx, "inverse_retract", m, x, y, v);
  detail::sphere_inverse_retract<detail::one_vector>(ctx, x, y, v, status);
}

/// \brief Follows the geodesic from x with velocity v for unit time.
/// \ingroup manifolds
///
/// \f$ y = \cos(t)\,x + \sin(t)\,v / t \f$ with \f$ t = \lVert v \rVert_F \f$. The result is
/// brought to length one, so that no drift grows and a long step ends on the manifold to rounding.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x, of any length
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
/// \see \cite absil2008, section 5.4
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void exp(Ctx& ctx, sphere m, X const& x, V const& v, Y&& y) {
  detail::expect_step(ctx, "exp", m, x, v, y);
  detail::sphere_exp<detail::one_vector>(ctx, x, v, y);
}

/// \brief The shortest tangent vector at x with exp(x, v) = y.
/// \ingroup manifolds
///
/// Its relative error is that of y - x: near points cost no accuracy.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_converged` for antipodal points, where
///                        every direction is as good, `not_finite`
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x or y
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void log(Ctx& ctx, sphere m, X const& x, Y const& y, V&& v, Status&& status = {}) {
  detail::expect_inverse_step(ctx, "log", m, x, y, v);
  detail::sphere_log<detail::one_vector>(ctx, x, y, v, status);
}

/// \brief Length of the shortest geodesic: the angle between x and y.
///
/// The small angle between near points has a small relative error, as has one near \f$ \pi \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  y    n x p, another
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S> && SameScalar<X, Y>
void distance(Ctx& ctx, sphere m, X const& x, Y const& y, S&& s, Status&& = {}) {
  detail::expect_number("distance", m, x, "y", y, s);
  auto angle = scratch<double>(ctx, 1, detail::one_vector::count(m.p));
  detail::sphere_angle<detail::one_vector>(ctx, x, y, angle);
  norm(ctx, angle, s);
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
void transport(Ctx& ctx, sphere m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_transport(ctx, m, x, y, v, w);
  project(ctx, m, y, v, w);
}

/// \brief Parallel transport along the geodesic that exp() follows: an isometry.
/// \ingroup manifolds
///
/// The component of v along d turns with the geodesic, the rest stays: with \f$ t = \lVert d
/// \rVert_F,\ e = d / t \f$, \f$ w = v + \langle e, v \rangle ((\cos t - 1)\,e - \sin t\,x) \f$.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, tangent at x, of any length
/// \param[in]  y    n x p, exp(x, d)
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap x or d
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps x or d, or v without being v
/// \see \cite absil2008, section 8.1
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, sphere m, X const& x, D const& d, Y const& y, V const& v, W&& w) {
  detail::expect_transport_along(ctx, m, x, d, y, v, w);
  detail::sphere_transport_along<detail::one_vector>(ctx, x, d, v, w);
}

/// \brief Draws a point, uniform on the sphere.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x p
/// \throws shape_error  if x is not n x p
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, sphere m, random_stream& stream, X&& x) {
  expect_point("random_point", "x", m, x);
  fill_normal(ctx, stream, 1, x);
  detail::to_unit_length<detail::one_vector>(ctx, x);
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
void random_tangent(Ctx& ctx, sphere m, random_stream& stream, X const& x, V&& v) {
  detail::expect_random_tangent(ctx, m, x, v);
  detail::sphere_random_tangent<detail::one_vector>(ctx, stream, x, v);
}

}  // namespace stiefelx
