// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Losses and statistics of mixtures with the archetype backend; nvcc compiles this file as well,
// without Eigen.

#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/expert_counts.hpp>
#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/expert_similarity.hpp>
#include <stiefelx/nn/importance_loss.hpp>
#include <stiefelx/nn/localized_balance.hpp>
#include <stiefelx/nn/mixture_statistics.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/router_orthogonality.hpp>
#include <stiefelx/nn/routing_statistics.hpp>
#include <stiefelx/nn/score_variance_loss.hpp>
#include <stiefelx/nn/token_grams.hpp>
#include <stiefelx/nn/z_loss.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S, class W>
void losses(archetype::context& ctx, archetype::matrix<S>& router, archetype::matrix<S> const& x,
            W const& w, archetype::matrix<int> const& offsets, archetype::matrix<double>& loss,
            archetype::matrix<double>& numbers) {
  auto routes = route(ctx, router, x, {.top_k = 2});
  auto const nulls = route(ctx, router, x, top_k{.k = 3, .score = score_kind::sigmoid, .nulls = 1});
  auto const any = route(ctx, router, x, expert_choice{});
  auto scores = product(ctx, router.adjoint(), x);
  auto dscores = zeros_like(ctx, x);
  balance_loss(ctx, 1, routes, loss, dscores);
  balance_loss(ctx, 1, routes, w, loss, dscores, {.share = balance_share::of_tokens});
  balance_loss(ctx, 1, nulls, w, loss, dscores, {.normalize = true});
  balance_loss(ctx, 1, any, w, loss, dscores);
  expert_counts(ctx, routes, w, numbers);
  balance_loss_of_counts(ctx, 1, routes, w, numbers, loss, dscores);
  sequence_balance_loss(ctx, 1, routes, w, offsets, loss, dscores);
  z_loss(ctx, 1, scores, w, loss, dscores);
  importance_loss(ctx, 1, routes, w, loss, dscores);
  importance_loss_of_gates(ctx, 1, routes, w, loss, dscores);
  variation_loss(ctx, 1, numbers, loss, numbers);
  localized_balance_loss(ctx, 1, routes, w, offsets, offsets, offsets, loss, dscores);
  score_variance_loss(ctx, 1, routes, w, loss, dscores);
  expert_orthogonality_loss(ctx, 1, x, routes.ids, w, loss, dscores);
  gram_orthogonality_loss(ctx, 1, numbers, routes.ids, w, loss, numbers);
  router_orthogonality_loss(ctx, 1, router, loss, router);
  cross_orthogonality_loss(ctx, 1, router, x, loss, dscores);

  routing_statistics of_routing(ctx, router.cols());
  measure_routing(ctx, routes, w, of_routing);
  mixture_statistics of_mixture(ctx);
  token_grams(ctx, x, routes.ids, numbers, 2, numbers);
  token_grams(ctx, lora_experts(router, router, router.cols(), 1), x, routes.ids, numbers);
  measure_mixture(ctx, numbers, routes.ids, w, of_mixture);
  expert_similarity(ctx, lora_experts(router, router, router.cols(), 1), routes, x, {}, numbers);
}

template void losses(archetype::context&, archetype::matrix<float>&,
                     archetype::matrix<float> const&, every_token const&,
                     archetype::matrix<int> const&, archetype::matrix<double>&,
                     archetype::matrix<double>&);
template void losses(archetype::context&, archetype::matrix<double>&,
                     archetype::matrix<double> const&, archetype::matrix<double> const&,
                     archetype::matrix<int> const&, archetype::matrix<double>&,
                     archetype::matrix<double>&);

}  // namespace stiefelx
