// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>

/// \file
/// \brief Which slots of a token name an expert.
/// \ingroup nn
///
/// An id that is negative, or of no expert, makes a slot empty. The host's routed verbs refuse the
/// latter; a device cannot, so whatever reads ids asks here, and nothing outside the experts is read.

namespace stiefelx::detail {

// For who does not know the number of experts: then a negative id alone makes a slot empty.
inline constexpr index_t any_expert = std::numeric_limits<int>::max();

// Whether a slot names one of so many experts. A kernel that counts them in int compares in int.
template <class Count>
STIEFELX_HD bool is_filled(int id, Count experts) {
  return id >= 0 && id < experts;
}

}  // namespace stiefelx::detail
