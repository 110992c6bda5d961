// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ready layers, factors of the experts' own and losses on Gram matrices with the archetype backend;
// nvcc compiles this file as well, without Eigen.

#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/expert_similarity.hpp>
#include <stiefelx/nn/hydra_layer.hpp>
#include <stiefelx/nn/merge_ffn_expert.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <stiefelx/nn/mixlora_layer.hpp>
#include <stiefelx/nn/task_layer.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S>
using owned = archetype::matrix<S>;

template <class S>
struct overlap_of_outputs {
  archetype::context& ctx;
  owned<double>& loss;

  template <class Routing, class G, class W>
  void operator()(Routing const& routes, G const& grams, W& change) const {
    gram_orthogonality_loss(ctx, 0.1, grams, routes.ids, every_token{}, loss, change);
  }
};

template <class S>
struct overlap_of_experts {
  archetype::context& ctx;
  owned<double>& loss;

  template <class Routing, class E, class DE>
  void operator()(Routing const& routes, E const& outputs, DE& doutputs) const {
    expert_orthogonality_loss(ctx, 0.1, outputs, routes.ids, every_token{}, loss, doutputs);
  }
};

template <class S, class Experts>
void routed_layer(archetype::context& ctx, Experts const& experts, owned<S>& w, owned<S>& x,
                  owned<S>& y, owned<double>& loss) {
  auto const layer = hydra_lora_preset().layer(experts, w);
  overlap_of_outputs<S> const overlap{ctx, loss};
  expert_layer_gradients const gradients(w, y, w);
  auto plain = expert_layer_forward(ctx, layer, x, y);
  expert_layer_backward(ctx, layer, plain, x, y, no_routing_loss{}, gradients, 1, w, overlap);
  layer_dropout const dropped{{0.1, 1, 0, 0}, dropout_place::expert_input};
  auto saved = expert_layer_forward(ctx, layer, dropped, x, y);
  expert_layer_backward(ctx, layer, saved, x, y, no_routing_loss{}, gradients, 1, w);
}

template <class S>
void layers(archetype::context& ctx, owned<S>& w, owned<S>& x, owned<S>& y, owned<S> const& factors,
            owned<double>& loss, owned<int> const& tasks) {
  auto const bank = lora_experts(w, w, 2, factors);
  routed_layer(ctx, bank, w, x, y, loss);
  routed_layer(ctx, hydra_experts(w, w, 2, 1.5), w, x, y, loss);
  expert_similarity(ctx, bank, route(ctx, w, x), x, {}, loss);
  merge_experts(ctx, bank, x, mixing::none, y);
  merge_ffn_expert(ctx, ffn_experts(w, w, w, bank, bank, bank), 1, x, y, w);
  expert_scaling_forward(ctx, factors, w, x);
  expert_scaling_backward(ctx, factors, w, x, y, w);

  task_layer const task(bank, w, x);
  auto of_tasks = task_layer_forward(ctx, task, tasks, x, y);
  task_layer_backward(ctx, task, of_tasks, tasks, x, y, no_routing_loss{},
                      task_layer_gradients(w, w, w, x), 1, x);
  auto dropped = task_layer_forward(ctx, task, layer_dropout{}, tasks, x, y);
  task_layer_backward(ctx, task, dropped, tasks, x, y, no_routing_loss{},
                      task_layer_gradients(w, w, w, x), 1, x);

  mixlora_layer const block(ffn_experts(w, w, w, bank, bank, bank), w);
  auto saved = mixlora_forward(ctx, block, x, y);
  lora_gradients const g(w, w);
  mixlora_backward(ctx, block, saved, x, y, no_routing_loss{}, mixlora_gradients(g, g, g, w), 1, x);
  mixlora_layer const orthogonal(ffn_experts(w, w, w, bank, bank, bank), w, top_p{},
                                 mixing_options{});
  auto mixed = mixlora_forward(ctx, orthogonal, ffn_dropout{}, x, y);
  mixlora_backward(ctx, orthogonal, mixed, x, y, no_routing_loss{}, mixlora_gradients(g, g, g, w),
                   1, x, overlap_of_experts<S>{ctx, loss});
}

template void layers(archetype::context&, owned<float>&, owned<float>&, owned<float>&,
                     owned<float> const&, owned<double>&, owned<int> const&);

}  // namespace stiefelx
