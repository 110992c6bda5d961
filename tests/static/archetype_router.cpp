// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The router with the archetype backend: what compiles here compiles for any backend.

#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/selection_bias.hpp>
#include <stiefelx/nn/task_scores.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

static_assert(TokenChoice<router_options> && TokenChoice<soft> && TokenChoice<top_k> &&
              TokenChoice<top_p> && TokenChoice<noisy_top_k> && !TokenChoice<expert_choice>);

// A bias would change nothing of an expert's choice, and nothing has noise but noisy_top_k.
template <class Choice, class Term>
concept Routable = requires(archetype::context& ctx, archetype::matrix<double> const& scores,
                            Term const& term) { route_scores(ctx, scores, Choice{}, term); };
static_assert(Routable<top_k, selection_bias<archetype::matrix<double>>>);
static_assert(!Routable<expert_choice, selection_bias<archetype::matrix<double>>>);
static_assert(Routable<noisy_top_k, noise_scale<archetype::matrix<double>>>);
static_assert(!Routable<top_k, noise_scale<archetype::matrix<double>>>);
static_assert(!Routable<top_k, router_bias<archetype::matrix<double>>>);
static_assert(!Routable<top_k, archetype::matrix<double>>);

template <class S>
void routers(archetype::context& ctx, archetype::matrix<S> const& router,
             archetype::matrix<S> const& x, archetype::matrix<S> const& bias,
             archetype::matrix<S> const& padding, archetype::matrix<double>& selection,
             archetype::matrix<int> const& tasks, archetype::matrix<S>& dx) {
  index_t const tokens = x.cols();
  auto dscores = scratch<S>(ctx, router.cols(), tokens);
  auto drouter = zeros_like(ctx, router);
  auto dbias = zeros_like(ctx, bias);
  auto const finish = [&](auto const& routes) {
    gate_backward(ctx, routes, routes.weights, dscores);
    gate_backward(ctx, routes, routes.weights, dscores.middleCols(0, tokens));
  };
  finish(route(ctx, router, x));
  finish(route(ctx, router, x, {.top_k = 2}));
  finish(route(ctx, router.middleCols(0, 4), x.middleCols(0, tokens), soft{}));
  finish(route(ctx, router, x, top_k{}, selection_bias(selection), token_weights(padding)));
  finish(route(ctx, router, x, top_p{}, token_weights(padding.middleCols(0, tokens)),
               router_bias(bias)));
  auto const scores = router_scores(ctx, router, bias, x);
  auto const noise = router_scores(ctx, router, x);
  auto const noisy = route_scores(ctx, scores, noisy_top_k{.training = true}, noise_scale(noise));
  finish(noisy);
  noise_scale_backward(ctx, noisy, noise, dscores, scratch<S>(ctx, router.cols(), tokens));
  finish(route_scores(ctx, scores, noisy_top_k{.training = true}));
  auto const even = route_scores(ctx, scores, expert_choice{.capacity = 2}, token_weights(padding));
  finish(even);
  finish(route_replay(ctx, scores, even.ids, top_k{}, token_weights(padding)));
  finish(route_replay(ctx, scores, even.ids.middleCols(0, tokens)));

  auto counts = scratch<double>(ctx, router.cols(), 1);
  update_selection_bias(ctx, 1e-3, counts, selection);
  update_selection_bias(ctx, 1e-3, counts.middleRows(0, 2), selection.middleRows(0, 2));
  router_backward(ctx, router, x, dscores, drouter, 1, dx);
  router_bias_backward(ctx, dscores, dbias);

  finish(route_scores(ctx, task_scores(ctx, router, x, tasks), soft{}));
  task_scores_backward(ctx, router, x, tasks, dscores, drouter, dx);
  auto const one = task_scores(ctx, router, x.middleCols(0, 1), tokens);
  task_scores_backward(ctx, router, x.middleCols(0, 1), one, drouter, dx.middleCols(0, 1));
}

template void routers(archetype::context&, archetype::matrix<float> const&,
                      archetype::matrix<float> const&, archetype::matrix<float> const&,
                      archetype::matrix<float> const&, archetype::matrix<double>&,
                      archetype::matrix<int> const&, archetype::matrix<float>&);
template void routers(archetype::context&, archetype::matrix<double> const&,
                      archetype::matrix<double> const&, archetype::matrix<double> const&,
                      archetype::matrix<double> const&, archetype::matrix<double>&,
                      archetype::matrix<int> const&, archetype::matrix<double>&);

}  // namespace stiefelx
