// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Mixtures of experts in rank space and in token space with the archetype backend: what compiles
// here compiles for any backend.

#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

// Routing that refers to matrices of the caller.
template <class S>
struct given_routes {
  archetype::matrix<S>& probabilities;
  archetype::matrix<S>& weights;
  archetype::matrix<int>& ids;
  index_t experts;
};

template <class S>
void mixtures(archetype::context& ctx, given_routes<S> routes, archetype::matrix<S>& down,
              archetype::matrix<S>& up, archetype::matrix<S>& x, archetype::matrix<S>& y,
              archetype::matrix<double>& wide, archetype::matrix<int>& status) {
  lora_experts const experts(down, up, routes.experts, 2);
  auto ddown = zeros_like(ctx, down), dup = zeros_like(ctx, up);
  auto dweights = clone(ctx, x), dx = clone(ctx, x);
  mixing_options const options{.kind = mixing::symmetric, .policy = dependent_experts::ridge};

  auto saved = moe_lora_forward(ctx, experts, routes, x, y, options, status);
  moe_lora_backward(ctx, experts, routes, saved, x, y, ddown, dup, dweights, 0, dx);

  auto h = clone(ctx, x);
  moe_lora_saved mine{h, wide, wide, wide};
  moe_lora_forward(ctx, experts, routes, x.middleCols(0, 3), y.middleCols(0, 3), mine);
  moe_lora_forward(ctx, experts, routes, x, y, mine, options, status);
  moe_lora_backward(ctx, experts, routes, mine, x, y, ddown.middleCols(0, 2), dup, dweights, 1,
                    dx.middleCols(0, 3));

  auto kept = expert_gram_schmidt(ctx, x, routes.weights, y, options, status);
  expert_gram_schmidt_backward(ctx, x, routes.weights, kept, y, dx, dweights.middleCols(0, 3));
}

template void mixtures(archetype::context&, given_routes<float>, archetype::matrix<float>&,
                       archetype::matrix<float>&, archetype::matrix<float>&,
                       archetype::matrix<float>&, archetype::matrix<double>&,
                       archetype::matrix<int>&);
template void mixtures(archetype::context&, given_routes<double>, archetype::matrix<double>&,
                       archetype::matrix<double>&, archetype::matrix<double>&,
                       archetype::matrix<double>&, archetype::matrix<double>&,
                       archetype::matrix<int>&);

}  // namespace stiefelx
