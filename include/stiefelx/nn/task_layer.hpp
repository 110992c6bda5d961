// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/expert_layer.hpp>
#include <stiefelx/nn/task_scores.hpp>

namespace stiefelx {

/// \brief MOELoRA: a mixture of low-rank experts whose gates depend on a token's task.
/// \ingroup nn
///
/// The gates of a task are the same for all its tokens, so with `mixing::none` a task's layer is one
/// linear map and merge_experts() is exact. Made from lvalues, it refers to them.
template <class Experts, class Router, class Embeddings, class Choice = soft>
struct task_layer {
  Experts experts;        ///< lora_experts, or hydra_experts with nn/hydra_layer.hpp
  Router router;          ///< d x E
  Embeddings embeddings;  ///< d x tasks, a column for each task
  Choice choice{};        ///< which experts a task gets and how they are weighted
  mixing_options mixing{.kind = mixing::none};  ///< what happens to their outputs
};

/// Refers to router and embeddings; the experts refer to theirs.
/// \ingroup nn
template <class Experts, class Router, class Embeddings>
task_layer(Experts, Router&, Embeddings&) -> task_layer<Experts, Router&, Embeddings&>;

/// Refers to router and embeddings; the experts refer to theirs.
/// \ingroup nn
template <class Experts, class Router, class Embeddings, class Choice, class... Rest>
task_layer(Experts, Router&, Embeddings&, Choice, Rest...)
    -> task_layer<Experts, Router&, Embeddings&, Choice>;

/// \brief Gradients of a task_layer's parameters; all of them accumulate.
/// \ingroup nn
///
/// Made from lvalues, it refers to them.
template <class Down, class Up, class Router, class Embeddings>
struct task_layer_gradients {
  Down down;              ///< d_in x (E r)
  Up up;                  ///< (E r) x d_out
  Router router;          ///< d x E
  Embeddings embeddings;  ///< d x tasks
};

/// Refers to the matrices it is made from.
/// \ingroup nn
template <class Down, class Up, class Router, class Embeddings>
task_layer_gradients(Down&, Up&, Router&, Embeddings&)
    -> task_layer_gradients<Down&, Up&, Router&, Embeddings&>;

/// \brief Adds the mixture of every token's task to the frozen layer's output.
/// \ingroup nn
///
/// task_scores(), route_scores() and moe_lora_forward(), one after the other. A token of weight 0 gets no
/// expert, so it adds nothing to y, dx and gradients, as long as what it holds is finite: products with a
/// whole matrix of tokens multiply by zero.
/// \param[in]     ctx    where to run; nothing waits
/// \param[in]     layer  experts, router, embeddings and options
/// \param[in]     tasks  1 x T of int, the task of a token; one that is no task has scores of zero
/// \param[in]     x      d_in x T, a token is a column
/// \param[in,out] y      d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     terms  of route_scores(): token_weights, selection_bias and noise_scale
/// \returns what task_layer_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option is out of range
/// \par Cost
/// That of moe_lora_forward(), and 2 d E tasks flops.
/// \see \cite liu2024moelora
template <class Ctx, class Layer, Matrix Tasks, RealMatrix X, class Y, RoutingTerm... Terms>
  requires OutputMatrix<Y> && SameScalar<X, Y>
auto task_layer_forward(Ctx& ctx, Layer const& layer, Tasks const& tasks, X const& x, Y&& y,
                        Terms const&... terms) {
  expect_shape("task_layer_forward", "tasks", tasks, 1, x.cols());
  auto routes = route_scores(ctx, task_scores(ctx, layer.router, layer.embeddings, tasks),
                             layer.choice, terms...);
  auto mixed = moe_lora_forward(ctx, layer.experts, routes, x, y, layer.mixing);
  return expert_layer_saved<decltype(routes), decltype(mixed)>{std::move(routes), std::move(mixed)};
}

/// \brief The same with dropout of what the experts see.
/// \ingroup nn
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     layer    experts, router, embeddings and options
/// \param[in]     dropped  which mask, and what it applies to
/// \param[in]     tasks    1 x T of int, the task of a token
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     terms    of route_scores()
/// \returns what task_layer_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option or the rate is out of range
template <class Ctx, class Layer, Matrix Tasks, RealMatrix X, class Y, RoutingTerm... Terms>
  requires OutputMatrix<Y> && SameScalar<X, Y>
auto task_layer_forward(Ctx& ctx, Layer const& layer, layer_dropout const& dropped,
                        Tasks const& tasks, X const& x, Y&& y, Terms const&... terms) {
  expect_shape("task_layer_forward", "tasks", tasks, 1, x.cols());
  auto routes = route_scores(ctx, task_scores(ctx, layer.router, layer.embeddings, tasks),
                             layer.choice, terms...);
  auto mixed =
      moe_lora_forward(ctx, layer.experts, routes, dropped.mask, dropped.place, x, y, layer.mixing);
  return expert_layer_saved<decltype(routes), decltype(mixed), layer_dropout>{
      std::move(routes), std::move(mixed), dropped};
}

/// \brief Gradients of task_layer_forward(), with losses on the routing.
/// \ingroup nn
///
/// Parameter gradients accumulate, dx takes beta; no gradient goes through the gates to x, which they do
/// not depend on. layer, tasks, x and saved are those of the forward call; saved is used up.
///
/// \param[in]     ctx          where to run; nothing waits beyond what losses do
/// \param[in]     layer        as in the forward call
/// \param[in,out] saved        what task_layer_forward() returned
/// \param[in]     tasks        1 x T of int
/// \param[in]     x            d_in x T
/// \param[in]     dy           d_out x T
/// \param[in]     losses       callable(routes, dscores), or no_routing_loss{}
/// \param[in,out] gradients    task_layer_gradients
/// \param[in]     beta         factor of what dx holds; with 0 it is not read
/// \param[in,out] dx           d_in x T; must not overlap dy, nor x after a forward call with dropout
/// \param[in]     gram_losses  callable(routes, token_grams, change), or no_gram_loss{}
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dx overlaps what it must not, or a gradient of router or embeddings one of these
/// \par Cost
/// That of moe_lora_backward(), and 4 d E tasks flops; scratch (E + k) T entries.
template <class Ctx, class Layer, class Saved, Matrix Tasks, RealMatrix X, RealMatrix DY,
          class Losses, class Gradients, class DX, class GramLosses = no_gram_loss>
  requires OutputMatrix<DX> && SameScalar<X, DY, DX>
void task_layer_backward(Ctx& ctx, Layer const& layer, Saved& saved, Tasks const& tasks, X const& x,
                         DY const& dy, Losses const& losses, Gradients const& gradients,
                         double beta, DX&& dx, GramLosses const& gram_losses = {}) {
  using S = scalar_t<X>;
  char const* const name = "task_layer_backward";
  auto& routes = saved.routes;
  expect_shape(name, "tasks", tasks, 1, x.cols());
  expect_shape(name, "gradients.router", gradients.router, layer.router.rows(),
               layer.router.cols());
  expect_shape(name, "gradients.embeddings", gradients.embeddings, layer.embeddings.rows(),
               layer.embeddings.cols());
  detail::expect_task_gradients(ctx, name, layer.router, layer.embeddings, "gradients.router",
                                gradients.router, "gradients.embeddings", gradients.embeddings);
  auto dweights = scratch<S>(ctx, routes.weights.rows(), x.cols());
  auto dscores = scratch<S>(ctx, routes.probabilities.rows(), x.cols());
  detail::layer_mixture_backward(ctx, layer.experts, saved, x, dy, gradients, dweights, beta, dx,
                                 gram_losses);
  gate_backward(ctx, routes, dweights, dscores);
  losses(routes, dscores);
  task_scores_backward(ctx, layer.router, layer.embeddings, tasks, dscores, gradients.router,
                       gradients.embeddings);
}

}  // namespace stiefelx
