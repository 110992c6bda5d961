// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <numbers>
#include <string>

#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/skew_exponential.hpp>
#include <stiefelx/orth/unitary_logarithm.hpp>

/// \file
/// \brief Geometry that orthogonal, special_orthogonal and unitary share.
/// \ingroup manifolds

namespace stiefelx {

/// \brief Whether a type is one of the groups of n x n matrices with \f$ x^H x = I \f$.
/// \ingroup manifolds
template <class M>
inline constexpr bool is_matrix_group = false;

/// \brief A group of n x n matrices with \f$ x^H x = I \f$, and its geometry.
/// \ingroup manifolds
///
/// Such a type has `n`, a `name` for messages and says by `is_complex` which entries its points
/// have. A tangent vector at x is \f$ v = x a \f$ with a skew-Hermitian a, stored as v. The metric
/// \f$ \mathrm{Re\,tr}(u^H v) \f$ is the same from the left and from the right, so geodesics are
/// \f$ x \exp(t a) \f$.
template <class M>
concept MatrixGroup = is_matrix_group<M>;

/// \brief The entries of a matrix are those of a group's points: real, or complex.
/// \ingroup manifolds
template <class X, class M>
concept PointOf = Matrix<X> && (std::floating_point<scalar_t<X>> != M::is_complex);

/// \brief Throws unless a matrix has the shape of a point.
/// \ingroup manifolds
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the group
/// \param[in] x         the matrix
/// \throws shape_error  if m.n is negative, or x is not n x n
template <MatrixGroup M, Matrix X>
void expect_point(char const* function, char const* argument, M m, X const& x) {
  if (m.n < 0)
    throw shape_error(std::string(function) + ": the manifold is " + M::name + "{" +
                      std::to_string(m.n) + "}, expected n >= 0");
  expect_shape(function, argument, x, m.n, m.n);
}

/// \brief Longest tangent vector below which exp() is one to one, whatever its direction.
/// \ingroup manifolds
/// \returns \f$ \sqrt 2\,\pi \f$, a plane turned by \f$ \pi \f$, for real groups; \f$ \pi \f$ for
///          unitary
template <MatrixGroup M>
constexpr double injectivity_radius(M) {
  return M::is_complex ? std::numbers::pi : std::numbers::sqrt2 * std::numbers::pi;
}

/// \brief Projects onto the tangent space: \f$ v = x\,\mathrm{skew}(x^H z) \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the group
/// \param[in]  x    n x n, a point
/// \param[in]  z    n x n, any matrix or expression
/// \param[out] v    n x n, tangent at x; may be z, must not overlap x
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if v overlaps x, or z without being z
/// \par Cost
/// 4 n^3 flops, one n x n scratch matrix.
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, M m, X const& x, Z const& z, V&& v) {
  detail::expect_tangent_map(ctx, "project", m, x, "z", z, "v", v);
  project(ctx, stiefel{m.n, m.n}, x, z, v);
}

/// \brief Riemannian gradient: the projection of the Euclidean one.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the group
/// \param[in]  x    n x n, a point
/// \param[in]  g    n x n, Euclidean gradient at x
/// \param[out] v    n x n, tangent at x; may be g, must not overlap x
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if v overlaps x, or g without being g
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, M m, X const& x, G const& g, V&& v) {
  detail::expect_tangent_map(ctx, "riemannian_gradient", m, x, "g", g, "v", v);
  project(ctx, m, x, g, v);
}

/// \brief Riemannian Hessian along v: \f$ w = P_x(h - v\,\mathrm{sym}(x^H g)) \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the group
/// \param[in]  x    n x n, a point
/// \param[in]  g    n x n, Euclidean gradient at x
/// \param[in]  h    n x n, Euclidean Hessian at x applied to v
/// \param[in]  v    n x n, tangent at x
/// \param[out] w    n x n, tangent at x; may be h, must not overlap x, g or v
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if w overlaps x, g or v, or h without being h
/// \par Cost
/// 8 n^3 flops, one n x n scratch matrix.
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, G, H, V, W>
void riemannian_hessian(Ctx& ctx, M m, X const& x, G const& g, H const& h, V const& v, W&& w) {
  detail::expect_hessian(ctx, m, x, g, h, v, w);
  copy(ctx, h, w);
  {
    auto s = product(ctx, x.adjoint(), g);
    symmetrize(ctx, s);
    multiply_add(ctx, -1, v, s, w);
  }
  project(ctx, m, x, w, w);
}

/// \brief The metric: \f$ s = \mathrm{Re\,tr}(u^H v) \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the group
/// \param[in]  x    n x n, a point
/// \param[in]  u    n x n, tangent at x
/// \param[in]  v    n x n, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, U, V>
void inner(Ctx& ctx, M m, X const& x, U const& u, V const& v, S&& s) {
  detail::expect_pairing("inner", m, x, u, v, s);
  inner(ctx, u, v, s);
}

/// \brief Length of a tangent vector: \f$ s = \lVert v \rVert_F \f$.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the group
/// \param[in]  x    n x n, a point
/// \param[in]  v    n x n, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void norm(Ctx& ctx, M m, X const& x, V const& v, S&& s) {
  detail::expect_number("norm", m, x, "v", v, s);
  norm(ctx, v, s);
}

/// \brief Moves from x along v by a retraction of stiefel with n = p.
/// \ingroup manifolds
///
/// For n = p all metrics of stiefel have the same geodesics; so both polar_retraction and
/// cayley_retraction are of second order, qr_retraction is of first. The determinant moves
/// continuously, so a real point stays in its component.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the group
/// \param[in]  x    n x n, a point
/// \param[in]  v    n x n, tangent at x
/// \param[out] y    n x n, the new point; may be x, must not overlap v
/// \param[in]  how  any retraction of stiefel; qr_retraction{} by default
/// \throws shape_error   if a matrix is not n x n
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if the retraction refuses its options
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix V, class Y, class How = qr_retraction>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, M m, X const& x, V const& v, Y&& y, How how = {}) {
  detail::expect_step(ctx, "retract", m, x, v, y);
  retract(ctx, stiefel{m.n, m.n}, x, v, y, how);
}

/// \brief The tangent vector that a retraction takes to y, by that of stiefel with n = p.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if the function of stiefel does
/// \param[in]     m       the group
/// \param[in]     x       n x n, a point
/// \param[in]     y       n x n, another
/// \param[out]    v       n x n, tangent at x; must not overlap x or y
/// \param[in]     how     which retraction
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if v overlaps x or y
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix Y, class V, class How = qr_retraction,
          class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, M m, X const& x, Y const& y, V&& v, How how = {},
                     Status&& status = {}) {
  detail::expect_inverse_step(ctx, "inverse_retract", m, x, y, v);
  inverse_retract(ctx, stiefel{m.n, m.n}, x, y, v, how, status);
}

/// \brief Follows the geodesic from x with velocity v for unit time: \f$ y = x \exp(x^H v) \f$.
/// \ingroup manifolds
///
/// A Newton-Schulz step removes what rounding and drift of x leave.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in]     x       n x n, a point
/// \param[in]     v       n x n, tangent at x
/// \param[out]    y       n x n, the new point; may be x, must not overlap v
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of skew_exponential()
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if y overlaps v, or x without being x
/// \par Cost
/// 8 n^3 flops and one skew_exponential(); some n x n scratch matrices.
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix V, class Y, class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void exp(Ctx& ctx, M m, X const& x, V const& v, Y&& y, Status&& status = {}) {
  detail::expect_step(ctx, "exp", m, x, v, y);
  auto const& point = dense(ctx, x);
  auto a = product(ctx, point.adjoint(), v);
  skew_exponential(ctx, a, a, status);
  auto const moved = product(ctx, point, a);
  detail::newton_schulz_repair(ctx, moved, y);
}

/// \brief The shortest tangent vector at x with exp(x, v) = y: \f$ v = x \log(x^H y) \f$.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in]     x       n x n, a point
/// \param[in]     y       n x n, another
/// \param[out]    v       n x n, tangent at x; must not overlap x or y
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_converged` where an angle of \f$ x^H y
///                        \f$ is about \f$ \pi \f$, or where x and y have different determinants
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if v overlaps x or y
/// \par Cost
/// 4 n^3 flops and one unitary_logarithm(); some n x n scratch matrices.
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void log(Ctx& ctx, M m, X const& x, Y const& y, V&& v, Status&& status = {}) {
  detail::expect_inverse_step(ctx, "log", m, x, y, v);
  auto const& point = dense(ctx, x);
  auto a = product(ctx, point.adjoint(), y);
  unitary_logarithm(ctx, a, a, status);
  multiply(ctx, point, a, v);
}

/// \brief Length of the shortest geodesic: \f$ \lVert \log(x^H y) \rVert_F \f$.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in]     x       n x n, a point
/// \param[in]     y       n x n, another
/// \param[out]    s       1 x 1, real
/// \param[in,out] status  1 x 1 int, or no_status{}: as for log()
/// \throws shape_error  if a shape is wrong
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S> && SameScalar<X, Y>
void distance(Ctx& ctx, M m, X const& x, Y const& y, S&& s, Status&& status = {}) {
  detail::expect_number("distance", m, x, "y", y, s);
  auto a = product(ctx, x.adjoint(), y);
  unitary_logarithm(ctx, a, a, status);
  norm(ctx, a, s);
}

/// \brief Transports a tangent vector by projection onto the new tangent space.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the group
/// \param[in]  x    n x n, the point that v is tangent at
/// \param[in]  y    n x n, the point that w is tangent at
/// \param[in]  v    n x n, tangent at x
/// \param[out] w    n x n, tangent at y; may be v, must not overlap y
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if w overlaps y, or v without being v
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, Y, V, W>
void transport(Ctx& ctx, M m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_transport(ctx, m, x, y, v, w);
  project(ctx, m, y, v, w);
}

/// \brief Parallel transport along the geodesic that exp() follows: an isometry.
/// \ingroup manifolds
///
/// With \f$ e = \exp(x^H d / 2) \f$, half of the way, \f$ w = x\,e\,x^H v\,e \f$.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the group
/// \param[in]  x    n x n, a point
/// \param[in]  d    n x n, tangent at x
/// \param[in]  y    n x n, exp(x, d)
/// \param[in]  v    n x n, tangent at x
/// \param[out] w    n x n, tangent at y; may be v, must not overlap x or d
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if w overlaps x or d, or v without being v
/// \par Cost
/// 10 n^3 flops and one skew_exponential(); some n x n scratch matrices.
template <class Ctx, MatrixGroup M, PointOf<M> X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, M m, X const& x, D const& d, Y const& y, V const& v, W&& w) {
  detail::expect_transport_along(ctx, m, x, d, y, v, w);
  auto const& point = dense(ctx, x);
  auto e = product(ctx, point.adjoint(), d);
  scale(ctx, 0.5, e);
  skew_exponential(ctx, e, e);
  auto const b = product(ctx, point.adjoint(), v);
  auto const half = product(ctx, e, b);
  auto const turned = product(ctx, half, e);
  multiply(ctx, point, turned, w);
}

/// \brief Draws a tangent vector of norm one, with no preferred direction.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       n x n, a point
/// \param[out]    v       n x n, tangent at x; must not overlap x
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if v overlaps x
template <class Ctx, MatrixGroup M, PointOf<M> X, class V>
  requires OutputMatrix<V> && SameScalar<X, V>
void random_tangent(Ctx& ctx, M m, random_stream& stream, X const& x, V&& v) {
  detail::expect_random_tangent(ctx, m, x, v);
  detail::draw_tangent(ctx, m, stream, x, v);
}

}  // namespace stiefelx
