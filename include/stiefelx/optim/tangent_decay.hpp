// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>

namespace stiefelx {

/// \brief Adds weight decay that respects a manifold to a direction: \f$ d \leftarrow d + \lambda P_x(x)
/// \f$.
/// \ingroup optim
///
/// It is the Riemannian gradient of \f$ \lambda \lVert x \rVert_F^2 / 2 \f$ in the metric of the space
/// around: x itself on `euclidean`, and zero where all points have one norm.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     lambda  strength; 0 does nothing and costs nothing
/// \param[in]     x       a point
/// \param[in,out] d       of x's shape, tangent at x; must not overlap x
/// \par Cost
/// That of project(), and one scratch matrix.
template <class Ctx, class M, Matrix X, class D>
  requires OutputMatrix<D>
void add_tangent_decay(Ctx& ctx, M const& m, double lambda, X const& x, D&& d) {
  if (lambda == 0) return;
  auto inward = clone(ctx, x);
  project(ctx, m, x, inward, inward);
  axpy(ctx, lambda, inward, d);
}

}  // namespace stiefelx
