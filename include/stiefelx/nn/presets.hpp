// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/nn/expert_layer.hpp>

/// \file
/// \brief Options of published mixtures of low-rank experts.
/// \ingroup nn
///
/// | method | what makes it | its losses on the routing |
/// | --- | --- | --- |
/// | LoRA \cite hu2022lora | lora_forward(), no router | |
/// | OMoE-LoRA \cite omoe2025 | omoe_lora_preset() in an expert_layer | none |
/// | MoLA \cite gao2024mola | mola_preset(), other numbers of experts for other layers | balance_loss() |
/// | LoRAMoE \cite dou2024loramoe | loramoe_preset() | localized_balance_loss() |
/// | AdaMoE \cite zeng2024adamoe | adamoe_preset() | balance_loss() with its nulls as one group |
/// | HydraLoRA \cite tian2024hydralora | hydra_lora_preset() in an expert_layer of hydra_experts (nn/hydra_layer.hpp) | none |
/// | MOELoRA \cite liu2024moelora | a task_layer (nn/task_layer.hpp) | none |
/// | MixLoRA \cite li2024mixlora | a mixlora_layer with `top_k` (nn/mixlora_layer.hpp) | balance_loss(), 1e-3 E k by its own normalizer |
/// | StelLA \cite li2025 | factored_lora_forward() and the optimizer `stella` | |
///
/// All of them are tested against definitions written out in PyTorch.

namespace stiefelx {

/// \brief How a published method chooses its experts and mixes their outputs.
/// \ingroup nn
template <class Choice>
struct layer_preset {
  Choice choice;          ///< which experts a token gets and how they are weighted
  mixing_options mixing;  ///< what happens to their outputs

  /// \brief A layer with these options.
  /// \param[in] experts  lora_experts, or hydra_experts
  /// \param[in] router   d_in x E, with more columns for null experts; it is referred to
  /// \returns the layer
  template <class Experts, class Router>
  auto layer(Experts const& experts, Router& router) const {
    return expert_layer<Experts, Router&, Choice>{experts, router, choice, mixing};
  }
};

/// \brief OMoE-LoRA with a soft router: all experts, orthogonalized by index.
/// \ingroup nn
/// \returns the options
inline layer_preset<soft> omoe_lora_preset() { return {{}, {.kind = mixing::orthogonal}}; }

/// \brief OMoE-LoRA with k experts a token, orthogonalized by falling score.
/// \ingroup nn
/// \param[in] k  experts a token, at least 2
/// \returns the options
inline layer_preset<top_k> omoe_lora_preset(index_t k) {
  return {{.k = k}, {.kind = mixing::orthogonal}};
}

/// \brief MoLA: k experts a token, weights renormalized.
/// \ingroup nn
/// \param[in] k  experts a token, at least 2
/// \returns the options
inline layer_preset<top_k> mola_preset(index_t k = 2) { return {{.k = k}, {.kind = mixing::none}}; }

/// \brief LoRAMoE: all experts, weighted by softmax.
/// \ingroup nn
/// \returns the options
inline layer_preset<soft> loramoe_preset() { return {{}, {.kind = mixing::none}}; }

/// \brief AdaMoE: k choices a token among true and null experts.
/// \ingroup nn
///
/// The router has E + nulls columns. A null choice costs nothing, and the weights are renormalized
/// over the true ones.
/// \param[in] k      choices a token, at least 2
/// \param[in] nulls  null experts
/// \returns the options
inline layer_preset<top_k> adamoe_preset(index_t k, index_t nulls) {
  return {{.k = k, .nulls = nulls}, {.kind = mixing::none}};
}

}  // namespace stiefelx
