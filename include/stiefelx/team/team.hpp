// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <cstddef>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>

namespace stiefelx {

/// \brief Lanes that cooperate on one small matrix.
/// \ingroup team
///
/// Team text strides its loops by `rank()` and `size()` and communicates only through `sum` (the
/// same value for every lane) and `barrier` (memory written before it is seen after it). With one
/// lane it is ordinary serial code.
template <class T>
concept Team = requires(T const& team) {
  { team.rank() } -> std::convertible_to<index_t>;
  { team.size() } -> std::convertible_to<index_t>;
  { team.sum(1.0) } -> std::convertible_to<double>;
  team.barrier();
};

/// One lane: team text becomes serial code.
/// \ingroup team
struct serial_team {
  /// \returns the number of this lane
  STIEFELX_HD index_t rank() const { return 0; }
  /// \returns the number of lanes
  STIEFELX_HD index_t size() const { return 1; }
  /// \param[in] v  this lane's summand
  /// \returns the sum over the lanes, the same for each
  template <class T>
  STIEFELX_HD T sum(T v) const {
    return v;
  }
  /// Waits for every lane.
  STIEFELX_HD void barrier() const {}
};

/// \brief Several sums over the lanes, for the first lane alone.
/// \ingroup team
///
/// Teams whose sums cost an exchange between lanes have one for all of them.
/// \param[in]     team  lanes
/// \param[in,out] v     this lane's summands; the first lane's become the sums
template <std::size_t N, Team T, class S>
STIEFELX_HD void sum_to_first(T const& team, S (&v)[N]) {
  if constexpr (requires { team.sum_to_first(v); })
    team.sum_to_first(v);
  else
    for (std::size_t k = 0; k < N; ++k) v[k] = team.sum(v[k]);
}

}  // namespace stiefelx
