// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// \brief Prepares an activation gradient that takes beta: \f$ \bar x = \beta \bar x \f$.
/// \ingroup nn
///
/// Every backward pass here overwrites with beta 0, adds with beta 1, and may do anything between.
///
/// \param[in]     ctx   where to run; nothing waits
/// \param[in]     beta  factor; with 0 what dx holds is not read
/// \param[in,out] dx    any shape
template <class Ctx, class DX>
  requires OutputMatrix<DX>
void apply_beta(Ctx& ctx, double beta, DX&& dx) {
  if (beta == 0)
    fill(ctx, 0, dx);
  else if (beta != 1)  // the usual sum of two gradients costs no pass over dx
    scale(ctx, beta, dx);
}

/// \brief An activation that takes beta, and one product: \f$ y = \beta y + s\,a b \f$.
/// \ingroup nn
///
/// \param[in]     ctx   where to run; nothing waits
/// \param[in]     s     number
/// \param[in]     a     m x k
/// \param[in]     b     k x n
/// \param[in]     beta  factor; with 0 what y holds is not read
/// \param[in,out] y     m x n; must not overlap a or b
/// \par Cost
/// That of the product alone where beta is 1, or 0 with s 1; else one pass over y more.
template <class Ctx, Matrix A, Matrix B, class Y>
  requires OutputMatrix<Y>
void multiply_with_beta(Ctx& ctx, double s, A const& a, B const& b, double beta, Y&& y) {
  if (beta == 0 && s == 1) {
    multiply(ctx, a, b, y);
  } else {
    apply_beta(ctx, beta, y);
    multiply_add(ctx, s, a, b, y);
  }
}

/// \brief The same with the sums over the experts of each token.
/// \ingroup nn
///
/// \param[in]     ctx   where to run; nothing waits
/// \param[in]     s     number
/// \param[in]     ids   k x T of int; an empty slot adds nothing
/// \param[in]     a     d x (E r)
/// \param[in]     h     (k r) x T
/// \param[in]     beta  factor; with 0 what y holds is not read
/// \param[in,out] y     d x T; must not overlap an input
/// \par Cost
/// That of the sums alone where beta is 0 or 1, else one pass over y more.
template <class Ctx, Matrix Ids, Matrix A, Matrix H, class Y>
  requires OutputMatrix<Y>
void combine_with_beta(Ctx& ctx, double s, Ids const& ids, A const& a, H const& h, double beta,
                       Y&& y) {
  if (beta == 0) {
    routed_combine(ctx, s, ids, a, h, y);
  } else {
    apply_beta(ctx, beta, y);
    routed_multiply_add(ctx, s, ids, a, h, y);
  }
}

}  // namespace stiefelx
