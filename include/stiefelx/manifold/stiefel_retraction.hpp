// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/orth/inverse_sqrt.hpp>

namespace stiefelx {

/// Selects the Q factor of a QR factorization with positive diagonal of R.
/// \ingroup stiefel
struct qr_retraction {};

/// Selects the orthogonal polar factor, by Newton-Schulz.
/// \ingroup stiefel
struct polar_retraction {
  /// Newton-Schulz iterations, at least 1. The default reaches the unit roundoff of double for
  /// tangent vectors of spectral norm up to about 20; steps below 1 need 6.
  int iterations = 14;
};

/// Selects the Cayley transform, by a 2p x 2p system.
/// \ingroup stiefel
struct cayley_retraction {};

namespace detail {

template <class Ctx, class X, class V, class Y>
void expect_retraction(Ctx& ctx, stiefel m, X const& x, V const& v, Y const& y) {
  expect_stiefel("retract", "x", m, x);
  expect_shape("retract", "v", v, m.n, m.p);
  expect_shape("retract", "y", y, m.n, m.p);
  expect_same_or_distinct(ctx, "retract", "y", y, "x", x);
  expect_distinct(ctx, "retract", "y", y, "v", v);
}

}  // namespace detail

/// \brief Retracts a tangent vector to the Stiefel manifold by QR.
/// \ingroup stiefel
///
/// Computes \f$ R_x(v) = \mathrm{qf}(x + v) \f$ through a Cholesky factor: with \f$ y = x + v \f$
/// and \f$ y^{H} y = r^{H} r \f$, the result is \f$ y\,r^{-1} \f$. A first-order retraction.
///
/// Squaring the condition number is harmless here. Tangency gives \f$ y^{H} y = I + v^{H} v \f$, so
/// the Gram matrix is never smaller than the identity and the orthonormality error is of order
/// \f$ \epsilon\,(1 + \lVert v \rVert_2^2) \f$. The Gram matrix is that of y itself, so drift of x is
/// repaired too. A NaN or an infinity in x or v spreads to y.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point: \f$ x^{H} x = I \f$
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \throws shape_error  if x, v or y is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
/// \par Cost
/// \f$ 2np^2 + O(p^3) \f$ flops, one p x p scratch matrix.
/// \see \cite absil2008, section 4.1.1; example stiefel_procrustes.cpp
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, qr_retraction = {}) {
  detail::expect_retraction(ctx, m, x, v, y);
  auto const& step = dense(ctx, v);
  copy(ctx, x, y);
  axpy(ctx, 1, step, y);
  auto r = gram(ctx, y);
  cholesky(ctx, r, no_status{});
  solve_right(ctx, r, y);
}

/// \brief Retracts a tangent vector to the Stiefel manifold by the polar factor.
/// \ingroup stiefel
///
/// Computes \f$ R_x(v) = (x + v)(I + v^{H} v)^{-1/2} \f$, the point nearest to x + v. Second order
/// for the Euclidean metric: it follows the geodesic to an error of third order. The inverse square
/// root comes from inverse_sqrt() on the Gram matrix of x + v in the wide scalar, whose eigenvalues
/// are at least one. Drift of x is repaired.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  iterations
/// \throws shape_error   if x, v or y is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if how.iterations is below 1
/// \par Cost
/// \f$ 3np^2 + 6p^3 \f$ flops an iteration; one n x p and some p x p scratch matrices.
/// \see \cite absil2008, section 4.1.1, \cite higham2008
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, polar_retraction how) {
  detail::expect_retraction(ctx, m, x, v, y);
  expect_option(how.iterations >= 1, "retract", "polar_retraction::iterations", how.iterations,
                "a number of at least 1");
  auto sum = clone(ctx, x);
  axpy(ctx, 1, v, sum);
  auto z = gram(ctx, sum);
  {
    auto const g = widen(ctx, z);
    auto root = clone(ctx, g);
    inverse_sqrt(ctx, g, 1, how.iterations, root);
    copy(ctx, root, z);
  }
  multiply(ctx, sum, z, y);
}

/// \brief Retracts a tangent vector to the Stiefel manifold by the Cayley transform.
/// \ingroup stiefel
///
/// With \f$ d = v - \tfrac12 x\,x^{H} v \f$ and the skew \f$ W = d x^{H} - x d^{H} \f$, \f$ R_x(v) =
/// (I - W/2)^{-1}(I + W/2)\,x \f$. First order for the Euclidean metric, second order for the
/// canonical one. W is never formed: with \f$ A = [d, x] \f$ and \f$ B = [x, -d] \f$,
/// \f$ y = x + A\,(I - B^{H} A/2)^{-1} B^{H} x \f$, and all products in it are blocks of the Gram
/// matrix of A, so x need not be orthonormal to the last bit. It is an isometry: drift of x stays.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  no options
/// \throws shape_error  if x, v or y is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
/// \par Cost
/// \f$ 12np^2 + O(p^3) \f$ flops; one n x 2p and two 2p x 2p scratch matrices.
/// \see \cite wen2013
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y,
             [[maybe_unused]] cayley_retraction how) {
  using S = scalar_t<X>;
  detail::expect_retraction(ctx, m, x, v, y);
  index_t const p = m.p;
  auto a = scratch<S>(ctx, m.n, 2 * p);
  auto d = a.middleCols(0, p);
  auto point = a.middleCols(p, p);
  copy(ctx, v, d);
  copy(ctx, x, point);
  {
    auto const xv = product(ctx, point.adjoint(), d);
    multiply_add(ctx, -0.5, point, xv, d);
  }
  auto const g = gram(ctx, a);
  auto const gd = g.middleRows(0, p), gx = g.middleRows(p, p);
  // system = I - B^H A / 2 and right = B^H x, block by block from g.
  auto system = scratch<S>(ctx, 2 * p, 2 * p);
  set_identity(ctx, system);
  axpy(ctx, -0.5, gx, system.middleRows(0, p));
  axpy(ctx, 0.5, gd, system.middleRows(p, p));
  auto right = scratch<S>(ctx, 2 * p, p);
  copy(ctx, gx.middleCols(p, p), right.middleRows(0, p));
  copy(ctx, gd.middleCols(p, p), right.middleRows(p, p));
  scale(ctx, -1, right.middleRows(p, p));
  solve(ctx, system, right, no_status{});
  copy(ctx, point, y);
  multiply_add(ctx, 1, a, right, y);
}

}  // namespace stiefelx
