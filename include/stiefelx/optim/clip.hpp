// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>

namespace stiefelx {

/// \brief Scales several gradients by one factor so that their joint norm is at most a bound.
/// \ingroup optim
///
/// With \f$ n = \sqrt{\sum_i \lVert g_i \rVert_F^2} \f$ every gradient is multiplied by \f$ \min(1,
/// b/n) \f$. When n is not finite nothing is scaled, so that the optimizers can report it.
///
/// \param[in]     ctx    where to run; nothing waits
/// \param[in]     bound  largest joint norm, above 0
/// \param[in,out] g      gradients of any shapes
/// \throws option_error  if bound is not above 0
template <class Ctx, class... G>
  requires(OutputMatrix<G> && ...)
void clip_by_global_norm(Ctx& ctx, double bound, G&&... g) {
  expect_option(bound > 0, "clip_by_global_norm", "bound", bound, "a number above 0");
  auto sum = scratch<double>(ctx, 1, 1);
  auto factor = scratch<double>(ctx, 1, 1);
  fill(ctx, 0, sum);
  auto const add = [&](auto const& gradient) {
    auto squared = scratch<double>(ctx, 1, 1);
    inner(ctx, gradient, gradient, squared);
    axpy(ctx, 1, squared, sum);
  };
  (add(g), ...);
  transform(ctx, clip_element{bound}, outputs(factor), inputs(sum));
  (scale(ctx, factor, g), ...);
}

}  // namespace stiefelx
