// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Adapters with the archetype backend: what compiles here compiles for any backend.

#include <stiefelx/nn/dora.hpp>
#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/nn/expert_layer.hpp>
#include <stiefelx/nn/factored_lora.hpp>
#include <stiefelx/nn/ffn_experts.hpp>
#include <stiefelx/nn/hydra_lora.hpp>
#include <stiefelx/nn/lora_dropout.hpp>
#include <stiefelx/nn/lora_initialization.hpp>
#include <stiefelx/nn/lora_scaling.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <stiefelx/nn/moe_lora_dropout.hpp>
#include <stiefelx/nn/presets.hpp>
#include <stiefelx/nn/spectral_initialization.hpp>
#include <stiefelx/nn/swiglu.hpp>
#include <stiefelx/nn/token_slots.hpp>
#include <stiefelx/orth/randomized_svd.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S>
using owned = archetype::matrix<S>;

template <class S>
void adapters(archetype::context& ctx, owned<S>& down, owned<S>& middle, owned<S>& up, owned<S>& x,
              owned<S>& y, owned<S>& h, owned<S>& m, owned<double>& norms, owned<int> const& ids) {
  random_stream stream{1, 0};
  auto const mask = next_dropout_mask(stream, 0.1);
  double const s = rank_stabilized_scaling(lora_scaling(16, 8), 8);
  dropout(ctx, mask, x, x);
  expert_dropout(ctx, mask, ids, x.middleRows(0, 4), x.middleRows(0, 4));
  lora_forward(ctx, down, up, s, mask, x, y, h);
  lora_backward(ctx, down, up, s, mask, x, h, y, down, up, 1, x);
  factored_lora_forward(ctx, down, middle, up, s, x, y, h, h);
  factored_lora_backward(ctx, down, middle, up, s, x, h, h, y, down, middle, up, 0, x);
  dora_norms(ctx, y, down, up, s, norms);
  dora_forward(ctx, m, norms, down, up, s, x, y, y, h);
  dora_backward(ctx, m, norms, down, up, s, x, y, h, y, m, down, up, y, 0, x);
  merge_lora(ctx, down, up, s, y);
  merge_factored_lora(ctx, down, middle, up, s, y);
  merge_dora(ctx, m, down, up, s, y);
  kaiming_lora(ctx, stream, down);
  gaussian_lora(ctx, stream, 8, down.middleCols(0, 8));
  orthogonal_lora(ctx, stream, 0.1, down, up);
  pissa_lora(ctx, stream, s, y, down, up);
  olora(ctx, s, y, down, up);
  goat_lora(ctx, stream, 2, s, y, down, up);
}

template void adapters(archetype::context&, owned<float>&, owned<float>&, owned<float>&,
                       owned<float>&, owned<float>&, owned<float>&, owned<float>&, owned<double>&,
                       owned<int> const&);

void blocks(archetype::context& ctx, owned<double>& w, owned<double>& x, owned<double>& e,
            owned<int> const& ids);

void blocks(archetype::context& ctx, owned<double>& w, owned<double>& x, owned<double>& e,
            owned<int> const& ids) {
  auto const bank = lora_experts(w, w, 2, 1.0);
  merge_experts(ctx, bank, x, mixing::none, w);
  auto const block = ffn_experts(w, w, w, bank, bank, bank);
  auto saved = ffn_experts_forward(ctx, block, ids, x, e);
  ffn_experts_backward(ctx, block, ids, saved, x, e, lora_gradients(w, w), lora_gradients(w, w),
                       lora_gradients(w, w), 1, x);
  auto const layer = omoe_lora_preset(2).layer(bank, w);
  auto kept = expert_layer_forward(ctx, layer, x, e);
  expert_layer_backward(ctx, layer, kept, x, e, no_routing_loss{}, expert_layer_gradients(w, w, w),
                        1, x);
  dropout_mask const mask{0.1, 1, 0, 0};
  auto dropped = moe_lora_forward(ctx, bank, kept.routes, mask, dropout_place::expert_input, x, e);
  moe_lora_backward(ctx, bank, kept.routes, dropped, mask, dropout_place::expert_input, x, e, w, w,
                    x, 1, x);
  auto const hydra = hydra_experts(w, w, 2, 1.0);
  merge_experts(ctx, hydra, x, mixing::none, w);
  auto held = hydra_lora_forward(ctx, hydra, kept.routes, x, e);
  hydra_lora_backward(ctx, hydra, kept.routes, held, x, e, w, w, w, 1, x);
}

}  // namespace stiefelx
