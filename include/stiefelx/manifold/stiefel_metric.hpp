// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_space.hpp>

namespace stiefelx {

/// \brief Projects an ambient matrix onto the tangent space.
/// \ingroup stiefel
///
/// \f[ P_x(z) = z - x\,\mathrm{sym}(x^H z), \qquad \mathrm{sym}(a) = (a + a^H)/2 . \f]
/// It is orthogonal in the space around, and the same for every metric of the manifold.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  z    n x p, any matrix or expression
/// \param[out] v    n x p, tangent at x; may be z, must not overlap x
/// \throws shape_error   if x, z or v is not n x p
/// \throws alias_error   if v overlaps x, or z without being z
/// \throws option_error  if m.alpha is not above -1
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

namespace detail {

// With a = x^H v: v becomes v - x ((alpha + 1) a^H - alpha a), the tangent vector whose inner
// product in the metric with any tangent u is Re tr(v^H u). a is overwritten.
template <class Ctx, class X, class A, class V>
void raise_index(Ctx& ctx, stiefel m, X const& x, A&& a, V&& v) {
  if (m.alpha == euclidean_metric) {
    symmetrize(ctx, a);
    multiply_add(ctx, -1, x, a, v);
  } else {
    auto s = clone(ctx, a);
    scale(ctx, -m.alpha, s);
    axpy(ctx, m.alpha + 1, a.adjoint(), s);
    multiply_add(ctx, -1, x, s, v);
  }
}

}  // namespace detail

/// \brief Turns a Euclidean gradient into the Riemannian one.
/// \ingroup stiefel
///
/// The tangent vector whose inner product with every tangent u is the derivative
/// \f$ \mathrm{Re\,tr}(g^H u) \f$,
/// \f[ \mathrm{grad} = (I - x x^H)\,g + (\alpha + 1)\,x\,(x^H g - g^H x)
///                   = g - x \bigl( (\alpha + 1)\,g^H x - \alpha\,x^H g \bigr) . \f]
/// With the Euclidean metric it is the projection \f$ P_x(g) \f$, with the canonical one
/// \f$ g - x\,g^H x \f$.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[out] v    n x p, tangent at x; may be g, must not overlap x
/// \throws shape_error   if x, g or v is not n x p
/// \throws alias_error   if v overlaps x, or g without being g
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// 4 n p^2 flops for every metric, at most two p x p scratch matrices.
/// \see \cite absil2008, section 3.6, \cite zimmermann2022
template <class Ctx, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, stiefel m, X const& x, G const& g, V&& v) {
  detail::expect_stiefel("riemannian_gradient", "x", m, x);
  expect_shape("riemannian_gradient", "g", g, m.n, m.p);
  expect_shape("riemannian_gradient", "v", v, m.n, m.p);
  expect_distinct(ctx, "riemannian_gradient", "v", v, "x", x);
  expect_same_or_distinct(ctx, "riemannian_gradient", "v", v, "g", g);
  auto const& point = dense(ctx, x);
  copy(ctx, g, v);
  auto a = product(ctx, point.adjoint(), v);
  detail::raise_index(ctx, m, point, a, v);
}

/// \brief The metric: \f$ s = \langle u, v \rangle_\alpha \f$.
/// \ingroup stiefel
///
/// \f[ s = \mathrm{Re\,tr}(u^H v) - \tfrac{2\alpha + 1}{2(\alpha + 1)}\,
///     \mathrm{Re\,tr}\bigl( (x^H u)^H\, x^H v \bigr) . \f]
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]  x    n x p, a point
/// \param[in]  u    n x p, tangent at x
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error   if a shape is wrong
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// 2 n p flops for the Euclidean metric, 4 n p^2 more and two p x p scratch matrices for another.
/// \see \cite huper2021
template <class Ctx, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, U, V>
void inner(Ctx& ctx, stiefel m, X const& x, U const& u, V const& v, S&& s) {
  detail::expect_stiefel("inner", "x", m, x);
  expect_shape("inner", "u", u, m.n, m.p);
  expect_shape("inner", "v", v, m.n, m.p);
  expect_shape("inner", "s", s, 1, 1);
  inner(ctx, u, v, s);
  if (m.alpha == euclidean_metric) return;
  auto const& point = dense(ctx, x);
  auto const a = product(ctx, point.adjoint(), u);
  auto const b = product(ctx, point.adjoint(), v);
  auto part = scratch<scalar_t<S>>(ctx, 1, 1);
  inner(ctx, a, b, part);
  axpy(ctx, detail::metric_weight(m) - 1, part, s);
}

/// \brief Element text: the length of a vector from its norm and that of its skew part.
/// \ingroup stiefel
struct metric_length_element {
  double weight;  ///< how often the square of the skew part counts

  /// \param[in,out] length  Frobenius norm; becomes the length, without overflow on the way
  /// \param[in]     skew    Frobenius norm of x^H v
  template <class Y, class X>
  STIEFELX_HD void operator()(Y& length, X const& skew) const {
    double const whole = static_cast<double>(length);
    if (whole == 0) return;
    double const share = static_cast<double>(skew) / whole;
    double const square = 1 + (weight - 1) * share * share;
    // A rounding above one of the share may leave a negative number for the smallest weights.
    length = static_cast<Y>(whole * std::sqrt(square < 0 ? 0 : square));
  }
};

/// \brief Length of a tangent vector in the metric: \f$ s = \langle v, v \rangle_\alpha^{1/2} \f$.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error   if a shape is wrong
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// 2 n p flops for the Euclidean metric, 2 n p^2 more and one p x p scratch matrix for another.
template <class Ctx, Matrix X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void norm(Ctx& ctx, stiefel m, X const& x, V const& v, S&& s) {
  detail::expect_stiefel("norm", "x", m, x);
  expect_shape("norm", "v", v, m.n, m.p);
  expect_shape("norm", "s", s, 1, 1);
  norm(ctx, v, s);
  if (m.alpha == euclidean_metric) return;
  auto const& point = dense(ctx, x);
  auto const a = product(ctx, point.adjoint(), v);
  auto skew = scratch<scalar_t<S>>(ctx, 1, 1);
  norm(ctx, a, skew);
  transform(ctx, metric_length_element{detail::metric_weight(m)}, outputs(s), inputs(skew));
}

}  // namespace stiefelx
