// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_rotation.hpp>

namespace stiefelx {

/// Selects a diagonal Pade approximant of the exponential of rotation_factors().
/// \ingroup stiefel
struct pade_retraction {
  int order = 2;  ///< degree of numerator and denominator, 1 or 2; 1 is the Cayley transform
};

/// \brief Retracts a tangent vector to the Stiefel manifold by a Pade approximant.
/// \ingroup stiefel
///
/// With the skew W of rotation_factors(), for which \f$ \exp(W)\,x \f$ is the canonical geodesic,
/// \f[ R_x(v) = q(W)^{-1}\,q(-W)\,x, \qquad q_1(z) = 1 - \tfrac12 z, \quad q_2(z) = 1 - \tfrac12 z +
/// \tfrac1{12} z^2 . \f]
/// As W is skew, the quotient is unitary and q(W) never singular. In factors \f$ R_x(v) = x + A\,
/// q(K)^{-1} c \f$ for both orders.
///
/// Of second order for the canonical metric: order m follows its geodesic to an error of order
/// \f$ t^{2m+1} \f$, three with the Cayley transform and five with order 2. For every other metric
/// both are of first order, because the geodesics themselves part at \f$ t^2 \f$. It is an isometry:
/// drift of x stays.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  order
/// \throws shape_error   if x, v or y is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if how.order is neither 1 nor 2
/// \par Cost
/// \f$ 12np^2 + O(p^3) \f$ flops; one n x 2p and up to three 2p x 2p scratch matrices.
/// \see \cite zhu2019, \cite higham2008, section 10.3
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, pade_retraction how) {
  using S = scalar_t<X>;
  detail::expect_retraction(ctx, m, x, v, y);
  expect_option(how.order == 1 || how.order == 2, "retract", "pade_retraction::order", how.order,
                "1 or 2");
  index_t const p = m.p;
  auto a = scratch<S>(ctx, m.n, 2 * p);
  auto k = scratch<S>(ctx, 2 * p, 2 * p);
  rotation_factors(ctx, m, x, v, a, k);
  auto denominator = scratch<S>(ctx, 2 * p, 2 * p);
  set_identity(ctx, denominator);
  axpy(ctx, -0.5, k, denominator);
  if (how.order == 2) multiply_add(ctx, 1.0 / 12, k, k, denominator);
  auto c = clone(ctx, k.middleCols(p, p));
  solve(ctx, denominator, c, no_status{});
  copy(ctx, a.middleCols(p, p), y);
  multiply_add(ctx, 1, a, c, y);
}

}  // namespace stiefelx
