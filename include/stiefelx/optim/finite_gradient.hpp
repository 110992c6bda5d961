// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// \brief Largest squared norm of a gradient that optimizers take: a quarter of the largest number.
/// \ingroup optim
///
/// Second moments are sums of squares in the gradient's scalar, and one that overflowed would stay
/// infinite and hold the parameter still for ever. A gradient in another metric is at most twice as
/// long as the Euclidean one, which is why a quarter is left. In float the norm may be 9.2e18, in
/// double 6.7e153.
template <class G>
inline constexpr double largest_squared_gradient =
    static_cast<double>(std::numeric_limits<real_t<G>>::max()) / 4;

/// Whether a squared norm is one that optimizers take, and the status bit when it is not.
/// \ingroup optim
struct finite_gradient_element {
  double largest;  ///< largest squared norm

  /// \param[out] finite   1 or 0
  /// \param[out] bits     status
  /// \param[in]  squared  squared norm; NaN is refused as well
  STIEFELX_HD void operator()(double& finite, int& bits, double const& squared) const {
    finite = squared <= largest ? 1 : 0;
    bits = squared <= largest ? 0 : not_finite;
  }
};

/// \brief Asks whether a gradient is finite, where it lives, and reports it when it is not.
/// \ingroup optim
///
/// Finite means that its squared norm is at most largest_squared_gradient: no entry is NaN or
/// infinite, and no second moment overflows. Optimizers leave their point and state alone when it is
/// not, without waiting to know.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     g       any matrix
/// \param[in,out] status  1 x 1 int, or no_status{}; gets `not_finite`
/// \returns 1 x 1 scratch of double: 1 or 0
/// \par Cost
/// One pass over g.
template <class Ctx, Matrix G, class Status>
auto finite_gradient(Ctx& ctx, G const& g, Status&& status) {
  auto finite = scratch<double>(ctx, 1, 1);
  auto squared = scratch<double>(ctx, 1, 1);
  auto bits = scratch<int>(ctx, 1, 1);
  inner(ctx, g, g, squared);
  transform(ctx, finite_gradient_element{largest_squared_gradient<G>}, outputs(finite, bits),
            inputs(squared));
  raise(ctx, status, bits);
  return finite;
}

}  // namespace stiefelx
