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

/// \brief An activation gradient that takes beta, and one product: \f$ \bar x = \beta \bar x + a b \f$.
/// \ingroup nn
///
/// \param[in]     ctx   where to run; nothing waits
/// \param[in]     a     m x k
/// \param[in]     b     k x n
/// \param[in]     beta  factor; with 0 what dx holds is not read
/// \param[in,out] dx    m x n; must not overlap a or b
/// \par Cost
/// That of the product alone where beta is 0 or 1, else one pass over dx more.
template <class Ctx, Matrix A, Matrix B, class DX>
  requires OutputMatrix<DX>
void multiply_with_beta(Ctx& ctx, A const& a, B const& b, double beta, DX&& dx) {
  if (beta == 0) {
    multiply(ctx, a, b, dx);
  } else {
    apply_beta(ctx, beta, dx);
    multiply_add(ctx, 1, a, b, dx);
  }
}

}  // namespace stiefelx
