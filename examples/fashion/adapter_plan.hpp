// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/nn/mixing_options.hpp>
#include <stiefelx/nn/router_options.hpp>

namespace example {

/// How a frozen layer is adapted.
struct adapter_plan {
  /// What is added to the layer's output.
  enum class form : std::uint8_t { none, lora, mixture, stiefel } kind = form::none;
  stiefelx::index_t experts = 1;                  ///< E
  stiefelx::index_t rank = 4;                     ///< r
  stiefelx::router_options routing{};             ///< of a mixture
  stiefelx::mixing mix = stiefelx::mixing::none;  ///< of a mixture
  double balance = 0;                             ///< coefficient of the balance loss
  bool uniform_gate = false;                      ///< a router that stays at zero
  bool kept_apart = false;                        ///< trained by the orthogonal optimizer
};

}  // namespace example
