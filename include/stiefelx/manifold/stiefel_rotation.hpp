// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel.hpp>

namespace stiefelx {

/// \brief The skew matrix that turns x along v, as a product of two thin factors.
/// \ingroup stiefel
///
/// With \f$ d = v - \tfrac12 x\,x^{H} v \f$, \f$ W = d x^{H} - x d^{H} \f$ is skew-Hermitian,
/// \f$ W x = v \f$, and \f$ \exp(tW)\,x \f$ is the geodesic of the canonical metric. W is never
/// formed: with \f$ A = [d, x] \f$ and \f$ B = [x, -d] \f$ it is \f$ A B^{H} \f$, so that with
/// \f$ K = B^{H} A \f$ and \f$ c = B^{H} x \f$, the last p columns of K, a function of W acts on x
/// by \f[ f(W)\,x = f(0)\,x + A\,g(K)\,c, \qquad g(z) = (f(z) - f(0))/z . \f]
/// K consists of the blocks of the Gram matrix of A, so x need not be orthonormal to the last bit.
///
/// The spectral norm of W is at most \f$ \tfrac{2}{\sqrt 3} \lVert v \rVert_F \f$, and at most
/// 1.62 times that of v.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] a    n x 2p, A; its last p columns are x; must not overlap x or v
/// \param[out] k    2p x 2p, K; must not overlap x, v or a
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if an output overlaps another argument
/// \par Cost
/// 8 n p^2 flops, three matrices of at most 2p x 2p.
/// \see \cite wen2013
template <class Ctx, Matrix X, Matrix V, class A, class K>
  requires OutputMatrix<A> && OutputMatrix<K> && SameScalar<X, V, A, K>
void rotation_factors(Ctx& ctx, stiefel m, X const& x, V const& v, A&& a, K&& k) {
  index_t const p = m.p;
  detail::expect_stiefel("rotation_factors", "x", m, x);
  expect_shape("rotation_factors", "v", v, m.n, p);
  expect_shape("rotation_factors", "a", a, m.n, 2 * p);
  expect_shape("rotation_factors", "k", k, 2 * p, 2 * p);
  expect_distinct(ctx, "rotation_factors", "a", a, "x", x);
  expect_distinct(ctx, "rotation_factors", "a", a, "v", v);
  expect_distinct(ctx, "rotation_factors", "k", k, "x", x);
  expect_distinct(ctx, "rotation_factors", "k", k, "v", v);
  expect_distinct(ctx, "rotation_factors", "k", k, "a", a);
  auto d = a.middleCols(0, p);
  auto point = a.middleCols(p, p);
  copy(ctx, v, d);
  copy(ctx, x, point);
  {
    auto const xv = product(ctx, point.adjoint(), d);
    multiply_add(ctx, -0.5, point, xv, d);
  }
  auto const g = gram(ctx, a);
  copy(ctx, g.middleRows(p, p), k.middleRows(0, p));
  copy(ctx, g.middleRows(0, p), k.middleRows(p, p));
  scale(ctx, -1, k.middleRows(p, p));
}

}  // namespace stiefelx
