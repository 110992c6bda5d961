// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Layers over weights of two bytes an entry, with the archetype backend.

#include <stiefelx/nn/dora.hpp>
#include <stiefelx/nn/expert_layer.hpp>
#include <stiefelx/nn/factored_lora.hpp>
#include <stiefelx/nn/ffn_experts.hpp>
#include <stiefelx/nn/hydra_lora.hpp>
#include <stiefelx/nn/lora_dropout.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <stiefelx/nn/moe_lora_dropout.hpp>
#include <stiefelx/nn/spectral_initialization.hpp>
#include <stiefelx/nn/task_layer.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

using floats = archetype::matrix<float>;
template <class Stored>
using stored = archetype::matrix<Stored>;

template <class W, class V>
void stored_layers(archetype::context& ctx, stored<W>& w, stored<V>& v, floats& x, floats& g,
                   archetype::matrix<double>& norms) {
  multiply(ctx, w, v.adjoint(), x);
  multiply_add(ctx, 1, w.adjoint(), x, g);
  dropout_mask const mask{0.1, 1, 0, 0};
  lora_forward(ctx, w, v, 1, mask, x, g, g);
  lora_backward(ctx, w, v, 1, mask, x, g, x, g, g, 1, g);
  factored_lora_forward(ctx, w, v, w, 1, x, g, g, g);
  factored_lora_backward(ctx, w, v, w, 1, x, g, g, g, g, g, g, 0, g);
  dora_norms(ctx, w, v, v, 1, norms);
  dora_forward(ctx, w, norms, v, w, 1, x, g, g, g);
  dora_backward(ctx, w, norms, v, w, 1, x, g, g, g, g, g, g, g, 0, g);
  merge_lora(ctx, v, v, 1, w);
  merge_factored_lora(ctx, v, w, v, 1, w);
  merge_dora(ctx, w, v, v, 1, w);
  random_stream stream{1, 0};
  pissa_lora(ctx, stream, 1, w, g, g);
  olora(ctx, 1, v, g, g);
  goat_lora(ctx, stream, 2, 1, w, g, g);
  merge_lora(ctx, v, g, 1, g);
}

template void stored_layers(archetype::context&, stored<bfloat16>&, stored<float16>&, floats&,
                            floats&, archetype::matrix<double>&);

void stored_experts(archetype::context& ctx, stored<bfloat16>& w, stored<float16>& v, floats& x,
                    floats& g, archetype::matrix<int> const& ids);

void stored_experts(archetype::context& ctx, stored<bfloat16>& w, stored<float16>& v, floats& x,
                    floats& g, archetype::matrix<int> const& ids) {
  auto const bank = lora_experts(w, v, 2, 1.0);
  merge_experts(ctx, bank, x, mixing::none, w);
  auto const block = ffn_experts(w, v, w, bank, bank, bank);
  auto saved = ffn_experts_forward(ctx, block, ids, x, g);
  ffn_experts_backward(ctx, block, ids, saved, x, g, lora_gradients(g, g), lora_gradients(g, g),
                       lora_gradients(g, g), 1, g);
  auto some = ffn_experts_forward(ctx, block, ffn_dropout{}, ids, x, g);
  ffn_experts_backward(ctx, block, ids, some, x, g, lora_gradients(g, g), lora_gradients(g, g),
                       lora_gradients(g, g), 1, g);
  expert_layer const layer{bank, v, top_k{.k = 2}, mixing_options{.kind = mixing::orthogonal}};
  auto kept = expert_layer_forward(ctx, layer, x, g);
  expert_layer_backward(ctx, layer, kept, x, g, no_routing_loss{}, expert_layer_gradients(g, g, g),
                        1, g);
  dropout_mask const mask{0.1, 1, 0, 0};
  auto dropped = moe_lora_forward(ctx, bank, kept.routes, mask, dropout_place::expert_input, x, g);
  moe_lora_backward(ctx, bank, kept.routes, dropped, mask, dropout_place::expert_input, x, g, g, g,
                    g, 1, g);
  auto const hydra = hydra_experts(w, v, 2, 1.0);
  merge_experts(ctx, hydra, x, mixing::none, v);
  task_layer const task(bank, w, v);
  auto of_tasks = task_layer_forward(ctx, task, ids, x, g, token_weights(x));
  task_layer_backward(ctx, task, of_tasks, ids, x, g, no_routing_loss{},
                      task_layer_gradients(g, g, g, g), 1, g);
  auto held = hydra_lora_forward(ctx, hydra, kept.routes, x, g);
  hydra_lora_backward(ctx, hydra, kept.routes, held, x, g, g, g, g, 1, g);
}

}  // namespace stiefelx
