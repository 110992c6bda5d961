// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>

namespace stiefelx {

/// \brief Asks whether a gradient is finite, where it lives, and reports it when it is not.
/// \ingroup optim
///
/// Optimizers leave their point and state alone when it is not, without waiting to know.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     g       any matrix
/// \param[in,out] status  1 x 1 int, or no_status{}; gets `not_finite`
/// \returns 1 x 1 scratch of double: 1 or 0
template <class Ctx, Matrix G, class Status>
auto finite_gradient(Ctx& ctx, G const& g, Status&& status) {
  auto finite = scratch<double>(ctx, 1, 1);
  all_finite(ctx, g, finite);
  auto bits = clear_status(ctx, 1);
  transform(ctx, not_finite_element{}, outputs(bits), inputs(finite));
  raise(ctx, status, bits);
  return finite;
}

}  // namespace stiefelx
