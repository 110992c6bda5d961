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

}  // namespace stiefelx
