// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/manifold/stiefel_space.hpp>

namespace stiefelx {

/// \brief The Stiefel manifold with sizes known at compile time.
/// \ingroup stiefel
///
/// Serves wherever a `stiefel` does. In a power, `power<fixed_stiefel<16, 8>>{{}, count}`, the
/// functions on stacks then read no size at run time and keep their scratch on the stack.
/// \tparam N  rows
/// \tparam P  columns, at most N
template <index_t N, index_t P>
  requires(0 <= P && P <= N)
struct fixed_stiefel {
  static constexpr index_t n = N;  ///< rows
  static constexpr index_t p = P;  ///< columns
  /// Metric parameter, above -1.
  double alpha = euclidean_metric;

  /// \returns the same manifold with sizes known at run time
  constexpr operator stiefel() const { return {N, P, alpha}; }
};

}  // namespace stiefelx
