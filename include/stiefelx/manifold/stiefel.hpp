// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/orth/householder_qr.hpp>

namespace stiefelx {

/// \brief The Stiefel manifold: n x p matrices with orthonormal columns, with the Euclidean metric.
/// \ingroup stiefel
///
/// \f$ \mathrm{St}(n, p) = \{ x : x^H x = I_p \} \f$, real or complex by the scalar of the points,
/// \f$ n \ge p \f$. The tangent space at x is \f$ \{ v : x^H v + v^H x = 0 \} \f$, the metric
/// \f$ \langle u, v \rangle = \mathrm{Re\,tr}(u^H v) \f$.
///
/// Invariant of every function here: points that come in with orthonormal columns go out with
/// orthonormal columns, to the accuracy on the function's page.
/// \see \cite absil2008, \cite edelman1998
struct stiefel {
  index_t n;  ///< rows
  index_t p;  ///< columns, at most n
};

namespace detail {

template <class X>
void expect_stiefel(char const* function, char const* argument, stiefel m, X const& x) {
  if (m.p > m.n || m.p < 0)
    throw shape_error(std::string(function) + ": the manifold is stiefel{" + std::to_string(m.n) +
                      ", " + std::to_string(m.p) + "}, expected 0 <= p <= n");
  expect_shape(function, argument, x, m.n, m.p);
}

}  // namespace detail

/// \brief Dimension of the real Stiefel manifold as a real manifold.
/// \ingroup stiefel
/// \param[in] m  the manifold
/// \returns n p - p (p + 1) / 2
constexpr index_t dimension(stiefel m) { return m.n * m.p - m.p * (m.p + 1) / 2; }

/// \brief Dimension of the complex Stiefel manifold as a real manifold.
/// \ingroup stiefel
/// \param[in] m  the manifold
/// \returns 2 n p - p^2
constexpr index_t complex_dimension(stiefel m) { return 2 * m.n * m.p - m.p * m.p; }

/// \brief Projects an ambient matrix onto the tangent space.
/// \ingroup stiefel
///
/// \f[ P_x(z) = z - x\,\mathrm{sym}(x^H z), \qquad \mathrm{sym}(a) = (a + a^H)/2 . \f]
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  z    n x p, any matrix or expression
/// \param[out] v    n x p, tangent at x; may be z, must not overlap x
/// \throws shape_error  if x, z or v is not n x p
/// \throws alias_error  if v overlaps x, or z without being z
/// \par Cost
/// 4 n p^2 flops, one p x p scratch matrix.
/// \see \cite absil2008, example 3.6.2
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, stiefel m, X const& x, Z const& z, V&& v) {
  detail::expect_stiefel("project", "x", m, x);
  expect_shape("project", "z", z, m.n, m.p);
  expect_shape("project", "v", v, m.n, m.p);
  expect_distinct(ctx, "project", "v", v, "x", x);
  expect_same_or_distinct(ctx, "project", "v", v, "z", z);
  auto const& point = dense(ctx, x);
  copy(ctx, z, v);
  auto s = product(ctx, point.adjoint(), v);
  symmetrize(ctx, s);
  multiply_add(ctx, -1, point, s, v);
}

/// \brief Turns a Euclidean gradient into the Riemannian one.
/// \ingroup stiefel
///
/// With the Euclidean metric it is the projection \f$ P_x(g) \f$.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[out] v    n x p, tangent at x; may be g, must not overlap x
/// \throws shape_error  if x, g or v is not n x p
/// \throws alias_error  if v overlaps x, or g without being g
/// \par Cost
/// That of project().
/// \see \cite absil2008, section 3.6
template <class Ctx, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, stiefel m, X const& x, G const& g, V&& v) {
  detail::expect_stiefel("riemannian_gradient", "x", m, x);
  expect_shape("riemannian_gradient", "g", g, m.n, m.p);
  expect_shape("riemannian_gradient", "v", v, m.n, m.p);
  expect_distinct(ctx, "riemannian_gradient", "v", v, "x", x);
  expect_same_or_distinct(ctx, "riemannian_gradient", "v", v, "g", g);
  project(ctx, m, x, g, v);
}

/// \brief The metric: \f$ s = \mathrm{Re\,tr}(u^H v) \f$.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  u    n x p, tangent at x
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, U, V>
void inner(Ctx& ctx, stiefel m, X const& x, U const& u, V const& v, S&& s) {
  detail::expect_stiefel("inner", "x", m, x);
  expect_shape("inner", "u", u, m.n, m.p);
  expect_shape("inner", "v", v, m.n, m.p);
  expect_shape("inner", "s", s, 1, 1);
  inner(ctx, u, v, s);
}

/// \brief Length of a tangent vector: \f$ s = \lVert v \rVert_F \f$.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void norm(Ctx& ctx, stiefel m, X const& x, V const& v, S&& s) {
  detail::expect_stiefel("norm", "x", m, x);
  expect_shape("norm", "v", v, m.n, m.p);
  expect_shape("norm", "s", s, 1, 1);
  norm(ctx, v, s);
}

/// \brief Draws a point from the Haar measure: the one that no rotation changes.
/// \ingroup stiefel
///
/// The Q factor of a normal matrix, with R's diagonal positive; without that sign convention the
/// distribution would depend on the QR algorithm \cite mezzadri2007.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x p, orthonormal columns
/// \throws shape_error  if x is not n x p
/// \par Cost
/// That of householder_qr().
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, stiefel m, random_stream& stream, X&& x) {
  detail::expect_stiefel("random_point", "x", m, x);
  fill_normal(ctx, stream, 1, x);
  auto r = scratch<scalar_t<X>>(ctx, m.p, m.p);
  householder_qr(ctx, x, x, r);
}

/// \brief Draws a unit tangent vector, with no preferred direction.
/// \ingroup stiefel
///
/// The projection of a normal matrix, divided by its norm.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       n x p, a point
/// \param[out]    v       n x p, tangent at x, of norm one (zero where the space is a point); must
///                        not overlap x
/// \throws shape_error  if x or v is not n x p
/// \throws alias_error  if v overlaps x
/// \par Cost
/// That of project().
template <class Ctx, Matrix X, class V>
  requires OutputMatrix<V> && SameScalar<X, V>
void random_tangent(Ctx& ctx, stiefel m, random_stream& stream, X const& x, V&& v) {
  detail::expect_stiefel("random_tangent", "x", m, x);
  expect_shape("random_tangent", "v", v, m.n, m.p);
  expect_distinct(ctx, "random_tangent", "v", v, "x", x);
  fill_normal(ctx, stream, 1, v);
  project(ctx, m, x, v, v);
  auto length = scratch<real_t<X>>(ctx, 1, 1);
  auto inverse = scratch<real_t<X>>(ctx, 1, 1);
  norm(ctx, v, length);
  transform(ctx, reciprocal_element{}, outputs(inverse), inputs(length));
  scale(ctx, inverse, v);
  // A second projection removes the rounding that the first one left on a large normal matrix.
  project(ctx, m, x, v, v);
}

}  // namespace stiefelx
