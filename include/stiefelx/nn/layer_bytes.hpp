// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/nn/mixing_options.hpp>
#include <stiefelx/nn/moe_lora_saved.hpp>

/// \file
/// \brief What the ready layers keep and take from their context.
/// \ingroup nn
///
/// A layer's saved state is scratch: it lives in the context from the forward call to the backward
/// call, and so it counts with the workspace. Here are the sizes of a mixlora_layer; those of route(),
/// expert_layer and task_layer are in nn/expert_layer_bytes.hpp.

namespace stiefelx {

/// \brief Bytes of a routing.
/// \ingroup nn
/// \tparam S  the data's type
/// \param[in] rows    columns of the router, null experts included
/// \param[in] chosen  k
/// \param[in] tokens  T
/// \returns the sum over its matrices
template <class S>
index_t routing_bytes(index_t rows, index_t chosen, index_t tokens) {
  constexpr index_t number = sizeof(S), integer = sizeof(int);
  return (number * (rows + chosen) + integer * chosen) * tokens;
}

/// Sizes of a call of mixlora_forward().
/// \ingroup nn
struct mixlora_sizes {
  index_t rows;               ///< columns of the router, null experts included
  index_t chosen;             ///< k
  index_t ranks;              ///< sum of the ranks of the three banks
  index_t width;              ///< d, rows of x and y
  index_t inner_width;        ///< d_ff
  index_t tokens;             ///< T
  bool drops_inputs = false;  ///< dropout of the banks' inputs, which takes scratch of their size
};

/// \brief Bytes of a mixlora_saved.
/// \ingroup nn
/// \tparam S  the data's type
/// \param[in] n        sizes of the call
/// \param[in] options  form of the mixture
/// \returns the sum over its matrices
template <class S>
index_t saved_bytes(mixlora_sizes n, mixing_options const& options = {.kind = mixing::none}) {
  constexpr index_t number = sizeof(S), integer = sizeof(int), wide = sizeof(double);
  index_t const slots = n.chosen * n.tokens;
  bool const plain = detail::algebra_of<S>(options).is_plain(n.chosen);
  return routing_bytes<S>(n.rows, n.chosen, n.tokens) +
         (number * (n.width + 3 * n.inner_width + n.ranks) + integer) * slots +
         wide * slots * (plain ? 1 : n.chosen + 1);
}

/// \brief Bytes of scratch that mixlora_backward() takes at most, beside the saved state and the blocks
/// of fixed size that its verbs take.
/// \ingroup nn
/// \tparam S  the data's type
/// \param[in] n  sizes of the call
/// \returns the size of the matrices that live at the same time
template <class S>
index_t workspace_bytes(mixlora_sizes n) {
  constexpr index_t number = sizeof(S);
  index_t const slots = n.chosen * n.tokens;
  // The bank of the output has as many columns as there are slots, and others as tokens.
  index_t const wide = n.inner_width * slots, narrow = n.width * n.tokens;
  index_t const seen = n.drops_inputs ? (wide < narrow ? narrow : wide) : 0;
  return number * (slots * (n.width + n.inner_width + 2 * n.ranks + 1) +
                   (n.rows + n.inner_width) * n.tokens + 2 * seen);
}

}  // namespace stiefelx
