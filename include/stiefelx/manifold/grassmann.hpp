// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <numbers>
#include <string>

#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/polar.hpp>

namespace stiefelx {

/// \brief The Grassmann manifold: p-dimensional subspaces of the n-dimensional space.
/// \ingroup manifolds
///
/// A subspace is given by any n x p matrix x with \f$ x^H x = I \f$ whose columns span it, real or
/// complex; x q with a unitary q is the same subspace. A tangent vector at x is the horizontal one,
/// \f$ x^H v = 0 \f$; at x q it is v q. The metric is \f$ \mathrm{Re\,tr}(u^H v) \f$. Costs must be
/// the same for x and x q. Functions that give a subspace give a representative of it: which one is
/// on their page where it matters.
/// \see grassmann_geodesic.hpp for exp(), log(), distance() and parallel transport;
///      \cite edelman1998, \cite absil2008
struct grassmann {
  index_t n;  ///< rows: dimension of the space around
  index_t p;  ///< columns: dimension of the subspaces, at most n
};

/// \brief Throws unless a matrix has the shape of a point.
/// \ingroup manifolds
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the manifold
/// \param[in] x         the matrix
/// \throws shape_error  if no point has the manifold's shape, or x has another one
template <Matrix X>
void expect_point(char const* function, char const* argument, grassmann m, X const& x) {
  if (m.p > m.n || m.p < 0)
    throw shape_error(std::string(function) + ": the manifold is grassmann{" + std::to_string(m.n) +
                      ", " + std::to_string(m.p) + "}, expected 0 <= p <= n");
  expect_shape(function, argument, x, m.n, m.p);
}

namespace detail {

// v = v - x x^H v.
template <class Ctx, class X, class V>
void remove_span(Ctx& ctx, X const& x, V&& v) {
  auto const c = product(ctx, x.adjoint(), v);
  multiply_add(ctx, -1, x, c, v);
}

}  // namespace detail

/// \brief Dimension of the manifold of real subspaces.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns p (n - p)
constexpr index_t dimension(grassmann m) { return m.p * (m.n - m.p); }

/// \brief Dimension of the manifold of complex subspaces, as a real manifold.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns 2 p (n - p)
constexpr index_t complex_dimension(grassmann m) { return 2 * m.p * (m.n - m.p); }

/// \brief Longest tangent vector below which exp() is one to one, whatever its direction.
/// \ingroup manifolds
/// \returns \f$ \pi/2 \f$
constexpr double injectivity_radius(grassmann) { return std::numbers::pi / 2; }

/// \brief Projects onto the horizontal space: \f$ v = z - x\,x^H z \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  z    n x p, any matrix or expression
/// \param[out] v    n x p, tangent at x; may be z, must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x, or z without being z
/// \par Cost
/// 4 n p^2 flops, one p x p scratch matrix.
/// \see \cite absil2008, section 3.6.2
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, grassmann m, X const& x, Z const& z, V&& v) {
  detail::expect_tangent_map(ctx, "project", m, x, "z", z, "v", v);
  auto const& point = dense(ctx, x);
  copy(ctx, z, v);
  detail::remove_span(ctx, point, v);
}

/// \brief Riemannian gradient: the projection of the Euclidean one.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x of a cost that is the same for x q
/// \param[out] v    n x p, tangent at x; may be g, must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x, or g without being g
template <class Ctx, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, grassmann m, X const& x, G const& g, V&& v) {
  detail::expect_tangent_map(ctx, "riemannian_gradient", m, x, "g", g, "v", v);
  project(ctx, m, x, g, v);
}

/// \brief Riemannian Hessian along v: \f$ w = P_x(h - v\,x^H g) \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x of a cost that is the same for x q
/// \param[in]  h    n x p, Euclidean Hessian at x applied to v
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at x; may be h, must not overlap x, g or v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps x, g or v, or h without being h
/// \par Cost
/// 8 n p^2 flops, one p x p scratch matrix.
/// \see \cite edelman1998, section 2.5.4
template <class Ctx, Matrix X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, G, H, V, W>
void riemannian_hessian(Ctx& ctx, grassmann m, X const& x, G const& g, H const& h, V const& v,
                        W&& w) {
  detail::expect_hessian(ctx, m, x, g, h, v, w);
  auto const& point = dense(ctx, x);
  copy(ctx, h, w);
  {
    auto const c = product(ctx, point.adjoint(), g);
    multiply_add(ctx, -1, v, c, w);
  }
  detail::remove_span(ctx, point, w);
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
void inner(Ctx& ctx, grassmann m, X const& x, U const& u, V const& v, S&& s) {
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
void norm(Ctx& ctx, grassmann m, X const& x, V const& v, S&& s) {
  detail::expect_number("norm", m, x, "v", v, s);
  norm(ctx, v, s);
}

/// \brief Span of a matrix, by the orthonormal matrix nearest to it: its polar factor.
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
void nearest_point(Ctx& ctx, grassmann m, Z const& z, X&& x, Status&& status = {}) {
  detail::expect_nearest(ctx, m, z, x);
  polar(ctx, z, x, status);
}

/// \brief Moves from x along v: the span of x + v.
/// \ingroup manifolds
///
/// The subspace is the same for both ways and follows geodesics to an error of third order. The
/// way chooses the representative: that of polar_retraction follows exp() too, that of
/// qr_retraction is cheaper. Both repair drift of x.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  qr_retraction{}, the default, or polar_retraction{}
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if how.iterations is below 1
/// \par Cost
/// That of the retraction of stiefel.
/// \see \cite absil2008, section 4.1.2
template <class Ctx, Matrix X, Matrix V, class Y, class How = qr_retraction>
  requires OutputMatrix<Y> && SameScalar<X, V, Y> &&
           (std::same_as<How, qr_retraction> || std::same_as<How, polar_retraction>)
void retract(Ctx& ctx, grassmann m, X const& x, V const& v, Y&& y, How how = {}) {
  detail::expect_step(ctx, "retract", m, x, v, y);
  retract(ctx, stiefel{m.n, m.p}, x, v, y, how);
}

/// \brief The tangent vector that either retraction takes to the subspace of y.
/// \ingroup manifolds
///
/// \f$ v = y\,(x^H y)^{-1} - x \f$, the same for every representative of y.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another, with principal angles below \f$ \pi/2 \f$
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in]     how     qr_retraction{} or polar_retraction{}; it makes no difference
/// \param[in,out] status  1 x 1 int, or no_status{}: `rank_deficient` where a direction of x is
///                        orthogonal to y
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x or y
template <class Ctx, Matrix X, Matrix Y, class V, class How = qr_retraction,
          class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V> &&
           (std::same_as<How, qr_retraction> || std::same_as<How, polar_retraction>)
void inverse_retract(Ctx& ctx, grassmann m, X const& x, Y const& y, V&& v,
                     [[maybe_unused]] How how = {}, Status&& status = {}) {
  detail::expect_inverse_step(ctx, "inverse_retract", m, x, y, v);
  auto const& point = dense(ctx, x);
  auto inverse = scratch<scalar_t<X>>(ctx, m.p, m.p);
  {
    auto system = product(ctx, y.adjoint(), point);
    set_identity(ctx, inverse);
    solve(ctx, system, inverse, status);
  }
  multiply(ctx, y, inverse.adjoint(), v);
  axpy(ctx, -1, point, v);
  detail::remove_span(ctx, point, v);
}

/// \brief Transports a tangent vector by projection onto the new horizontal space.
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
void transport(Ctx& ctx, grassmann m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_transport(ctx, m, x, y, v, w);
  project(ctx, m, y, v, w);
}

/// \brief Draws a subspace, uniform: no rotation of the space changes the distribution.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x p, orthonormal columns
/// \throws shape_error  if x is not n x p
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, grassmann m, random_stream& stream, X&& x) {
  expect_point("random_point", "x", m, x);
  random_point(ctx, stiefel{m.n, m.p}, stream, x);
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
void random_tangent(Ctx& ctx, grassmann m, random_stream& stream, X const& x, V&& v) {
  detail::expect_random_tangent(ctx, m, x, v);
  detail::draw_tangent(ctx, m, stream, x, v);
}

}  // namespace stiefelx
