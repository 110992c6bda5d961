// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/shape.hpp>

namespace stiefelx {

/// \brief The factor of a low-rank update, \f$ s = \alpha / r \f$.
/// \ingroup nn
/// \param[in] alpha  \f$ \alpha \f$
/// \param[in] rank   r, at least 1; the logical one where factors are padded with zero columns
/// \returns s
/// \throws option_error  if the rank is below 1
/// \see \cite hu2022lora
inline double lora_scaling(double alpha, index_t rank) {
  expect_option(rank >= 1, "lora_scaling", "rank", rank, "a number of at least 1");
  return alpha / static_cast<double>(rank);
}

/// \brief The rank-stabilized factor, \f$ s = \alpha / \sqrt r \f$.
/// \ingroup nn
///
/// With \f$ \alpha / r \f$ the gradients of a larger rank shrink; with the root they keep their size.
/// \param[in] alpha  \f$ \alpha \f$
/// \param[in] rank   r, at least 1
/// \returns s
/// \throws option_error  if the rank is below 1
/// \see \cite kalajdzievski2023
inline double rank_stabilized_scaling(double alpha, index_t rank) {
  expect_option(rank >= 1, "rank_stabilized_scaling", "rank", rank, "a number of at least 1");
  return alpha / std::sqrt(static_cast<double>(rank));
}

}  // namespace stiefelx
