// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <span>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>

namespace stiefelx {

namespace detail {

inline void expect_bound(double bound) {
  expect_option(bound > 0, "clip_by_global_norm", "bound", bound, "a number above 0");
}

template <class Ctx, class G, class Sum>
void add_squared_norm(Ctx& ctx, G const& gradient, Sum& sum) {
  auto squared = scratch<double>(ctx, 1, 1);
  inner(ctx, gradient, gradient, squared);
  axpy(ctx, 1, squared, sum);
}

}  // namespace detail

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
  detail::expect_bound(bound);
  auto sum = scratch<double>(ctx, 1, 1);
  auto factor = scratch<double>(ctx, 1, 1);
  fill(ctx, 0, sum);
  (detail::add_squared_norm(ctx, g, sum), ...);
  transform(ctx, clip_element{bound}, outputs(factor), inputs(sum));
  (scale(ctx, factor, g), ...);
}

/// \brief The same for a list of gradients whose length is known at run time.
/// \ingroup optim
/// \param[in]     ctx    where to run; nothing waits
/// \param[in]     bound  largest joint norm, above 0
/// \param[in,out] g      pointers to gradients of any shapes, none of them null
/// \throws option_error  if bound is not above 0
template <class Ctx, Matrix G>
void clip_by_global_norm(Ctx& ctx, double bound, std::span<G* const> g) {
  detail::expect_bound(bound);
  auto sum = scratch<double>(ctx, 1, 1);
  auto factor = scratch<double>(ctx, 1, 1);
  fill(ctx, 0, sum);
  for (G* gradient : g) detail::add_squared_norm(ctx, *gradient, sum);
  transform(ctx, clip_element{bound}, outputs(factor), inputs(sum));
  for (G* gradient : g) scale(ctx, factor, *gradient);
}

}  // namespace stiefelx
