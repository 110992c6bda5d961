// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>

namespace stiefelx {

/// \brief Turns a Euclidean Hessian along a tangent vector into the Riemannian one.
/// \ingroup stiefel
///
/// With the Euclidean metric
/// \f[ \mathrm{Hess} f(x)[v] = P_x\bigl( h - v\,\mathrm{sym}(x^H g) \bigr) , \f]
/// and with the metric of parameter \f$ \alpha \f$
/// \f[ h' = P_x\Bigl( h - v\,\mathrm{sym}(x^H g) - \tfrac{2\alpha + 1}{\alpha + 1}\,
///     \mathrm{sym}\bigl( (I - x x^H)\, g\, x^H \bigr)\, v \Bigr), \qquad
///     \mathrm{Hess} f(x)[v] = (I - x x^H)\, h' + 2 (\alpha + 1)\, x\, x^H h' . \f]
/// The result w is the tangent vector of the metric: the second derivative along directions v and u
/// is \f$ \langle w, u \rangle_\alpha = \mathrm{Re\,tr}(h'^H u) \f$. No n x n matrix is formed.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[in]  h    n x p, Euclidean Hessian at x applied to v
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at x; may be h, must not overlap x, g or v
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps x, g or v, or h without being h
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// 8 n p^2 flops for the Euclidean metric and two p x p scratch matrices; 14 n p^2 and five for
/// another.
/// \see \cite absil2013, \cite huper2021; check_hessian()
template <class Ctx, Matrix X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, G, H, V, W>
void riemannian_hessian(Ctx& ctx, stiefel m, X const& x, G const& g, H const& h, V const& v,
                        W&& w) {
  detail::expect_stiefel("riemannian_hessian", "x", m, x);
  expect_shape("riemannian_hessian", "g", g, m.n, m.p);
  expect_shape("riemannian_hessian", "h", h, m.n, m.p);
  expect_shape("riemannian_hessian", "v", v, m.n, m.p);
  expect_shape("riemannian_hessian", "w", w, m.n, m.p);
  expect_distinct(ctx, "riemannian_hessian", "w", w, "x", x);
  expect_distinct(ctx, "riemannian_hessian", "w", w, "g", g);
  expect_distinct(ctx, "riemannian_hessian", "w", w, "v", v);
  expect_same_or_distinct(ctx, "riemannian_hessian", "w", w, "h", h);
  auto const& point = dense(ctx, x);
  auto const& gradient = dense(ctx, g);
  auto const& direction = dense(ctx, v);
  copy(ctx, h, w);
  auto const xg = product(ctx, point.adjoint(), gradient);
  {
    auto s = clone(ctx, xg);
    symmetrize(ctx, s);
    multiply_add(ctx, -1, direction, s, w);
  }
  if (m.alpha == euclidean_metric) {
    auto a = product(ctx, point.adjoint(), w);
    detail::raise_index(ctx, m, point, a, w);
    return;
  }
  // With c = (2 alpha + 1) / (2 alpha + 2) the last term is c (g' a + x e'), g' = (I - x x^H) g,
  // a = x^H v and e' = g'^H v. Its parts in the range of x, the p x p matrix e, join those of w.
  double const c = 1 - detail::metric_weight(m);
  auto const a = product(ctx, point.adjoint(), direction);
  multiply_add(ctx, -c, gradient, a, w);
  auto e = product(ctx, gradient.adjoint(), direction);
  multiply_add(ctx, -1, xg.adjoint(), a, e);
  scale(ctx, -c, e);
  multiply_add(ctx, c, xg, a, e);
  auto inside = product(ctx, point.adjoint(), w);
  axpy(ctx, 1, e, inside);
  axpy(ctx, m.alpha, inside, e);
  axpy(ctx, -(m.alpha + 1), inside.adjoint(), e);
  multiply_add(ctx, 1, point, e, w);
}

/// \brief The Weingarten map of the Stiefel manifold in the space around it.
/// \ingroup stiefel
///
/// \f[ \mathfrak{A}_x(v, z) = P_x\bigl( \mathrm{D}P_x[v]\,z \bigr)
///     = -v\,(x^H z) - x\,\mathrm{sym}(v^H z) , \f]
/// the tangent part of how a normal vector z turns as x moves along v. With it
/// \f$ \mathrm{Hess} f(x)[v] = P_x(h) + \mathfrak{A}_x(v, z) \f$ for the normal part
/// \f$ z = x\,\mathrm{sym}(x^H g) \f$ of the Euclidean gradient. The map belongs to the metric of
/// the space around, so that of m has to be the Euclidean one. A z that is not normal gives the
/// formula's value.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ with the Euclidean metric
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[in]  z    n x p, normal at x: x times a Hermitian matrix
/// \param[out] w    n x p, tangent at x; must not overlap x, v or z
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps x, v or z
/// \throws option_error  if m.alpha is not euclidean_metric
/// \par Cost
/// 8 n p^2 flops, two p x p scratch matrices.
/// \see \cite absil2013
template <class Ctx, Matrix X, Matrix V, Matrix Z, class W>
  requires OutputMatrix<W> && SameScalar<X, V, Z, W>
void weingarten(Ctx& ctx, stiefel m, X const& x, V const& v, Z const& z, W&& w) {
  detail::expect_stiefel("weingarten", "x", m, x);
  expect_option(m.alpha == euclidean_metric, "weingarten", "stiefel::alpha", m.alpha,
                "euclidean_metric");
  expect_shape("weingarten", "v", v, m.n, m.p);
  expect_shape("weingarten", "z", z, m.n, m.p);
  expect_shape("weingarten", "w", w, m.n, m.p);
  expect_distinct(ctx, "weingarten", "w", w, "x", x);
  expect_distinct(ctx, "weingarten", "w", w, "v", v);
  expect_distinct(ctx, "weingarten", "w", w, "z", z);
  auto const& point = dense(ctx, x);
  auto const& direction = dense(ctx, v);
  auto const& normal = dense(ctx, z);
  auto s = product(ctx, direction.adjoint(), normal);
  symmetrize(ctx, s);
  multiply(ctx, point, s, w);
  auto const a = product(ctx, point.adjoint(), normal);
  multiply_add(ctx, 1, direction, a, w);
  scale(ctx, -1, w);
}

}  // namespace stiefelx
