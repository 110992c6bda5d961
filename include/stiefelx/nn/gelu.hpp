// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <numbers>

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// Element text of gelu().
/// \ingroup nn
struct gelu_element {
  /// \param[out] y      x Phi(x)
  /// \param[out] slope  its derivative
  /// \param[in]  x      a number; may be y
  template <class S>
  STIEFELX_HD void operator()(S& y, S& slope, S const& x) const {
    constexpr S root_half = std::numbers::sqrt2_v<S> / 2;
    constexpr S density = std::numbers::inv_sqrtpi_v<S> * root_half;
    S const v = x;
    S const below = S(0.5) * (S(1) + std::erf(v * root_half));
    y = v * below;
    slope = below + v * density * std::exp(-v * v / 2);
  }
};

/// \brief The exact Gaussian error linear unit and its derivative.
/// \ingroup nn
///
/// \f$ y = x\,\Phi(x) \f$ and \f$ y' = \Phi(x) + x\,\varphi(x) \f$, with the normal distribution's
/// \f$ \Phi(x) = \tfrac12 (1 + \mathrm{erf}(x/\sqrt 2)) \f$. The backward pass is the product of the
/// incoming gradient with the slope, entry by entry.
///
/// \param[in]  ctx    where to run; nothing waits
/// \param[in]  x      any shape
/// \param[out] y      of x's shape; may be x
/// \param[out] slope  of x's shape; must not overlap x or y
/// \throws shape_error  if a shape differs
/// \throws alias_error  if slope overlaps x or y, or y overlaps x without being x
/// \par Cost
/// One error function and one exponential an entry.
template <class Ctx, RealMatrix X, class Y, class Slope>
  requires OutputMatrix<Y> && OutputMatrix<Slope> && SameScalar<X, Y, Slope>
void gelu(Ctx& ctx, X const& x, Y&& y, Slope&& slope) {
  expect_shape("gelu", "y", y, x.rows(), x.cols());
  expect_shape("gelu", "slope", slope, x.rows(), x.cols());
  expect_same_or_distinct(ctx, "gelu", "y", y, "x", x);
  expect_distinct(ctx, "gelu", "slope", slope, "x", x);
  expect_distinct(ctx, "gelu", "slope", slope, "y", y);
  transform(ctx, gelu_element{}, outputs(y, slope), inputs(x));
}

}  // namespace stiefelx
