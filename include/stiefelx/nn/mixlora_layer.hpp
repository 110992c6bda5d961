// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <stiefelx/nn/expert_layer.hpp>
#include <stiefelx/nn/ffn_experts.hpp>
#include <stiefelx/nn/router.hpp>

namespace stiefelx {

/// \brief MixLoRA: a routed feed-forward block with experts' adapters on its three products.
/// \ingroup nn
///
/// Made from lvalues, it refers to them. As it stands it has the published options; with others it is
/// a layer of feed-forward experts whose outputs are orthogonalized.
template <class Block, class Router, class Choice = top_k>
struct mixlora_layer {
  Block block;      ///< ffn_experts
  Router router;    ///< d x E, with more columns for null experts
  Choice choice{};  ///< which experts a token gets and how they are weighted
  mixing_options mixing{.kind = mixing::none};  ///< what happens to their outputs
};

/// Refers to the router; the block refers to its weights.
/// \ingroup nn
template <class Block, class Router>
mixlora_layer(Block, Router&) -> mixlora_layer<Block, Router&>;

/// Refers to the router; the block refers to its weights.
/// \ingroup nn
template <class Block, class Router, class Choice, class... Rest>
mixlora_layer(Block, Router&, Choice, Rest...) -> mixlora_layer<Block, Router&, Choice>;

/// What mixlora_forward() keeps for the backward pass.
/// \ingroup nn
template <class Routing, class Outputs, class Block, class Mixed>
struct mixlora_saved {
  Routing routes;   ///< of route()
  Outputs outputs;  ///< d x (k T), the experts' outputs
  Block block;      ///< of ffn_experts_forward()
  Mixed mixed;      ///< of expert_gram_schmidt()
};

/// \brief Gradients of a mixlora_layer's parameters; all of them accumulate.
/// \ingroup nn
///
/// Made from lvalues, it refers to them.
template <class Gate, class Up, class Down, class Router>
struct mixlora_gradients {
  Gate gate;      ///< lora_gradients of the gate's bank
  Up up;          ///< of the values' bank
  Down down;      ///< of the output's bank
  Router router;  ///< d x E
};

/// Refers to the router's gradient; the banks' refer to theirs.
/// \ingroup nn
template <class Gate, class Up, class Down, class Router>
mixlora_gradients(Gate, Up, Down, Router&) -> mixlora_gradients<Gate, Up, Down, Router&>;

namespace detail {

// Both mixlora_forward().
template <class Ctx, class Layer, class Dropped, class X, class Y, class... Terms>
auto mixlora_output(Ctx& ctx, Layer const& layer, Dropped const& dropped, X const& x, Y&& y,
                    Terms const&... terms) {
  char const* const name = "mixlora_forward";
  expect_shape(name, "y", y, layer.block.frozen_down.rows(), x.cols());
  expect_distinct(ctx, name, "y", y, "x", x);
  auto routes = route(ctx, layer.router, x, layer.choice, terms...);
  auto outputs = scratch<scalar_t<X>>(ctx, y.rows(), routes.ids.rows() * x.cols());
  auto block = ffn_experts_outputs(ctx, layer.block, dropped, routes.ids, x, outputs);
  // Every column is in Loewdin's frame, and an empty slot has no output.
  if (layer.mixing.kind == mixing::symmetric)
    expert_dropout(ctx, dropout_mask{}, block.ids, outputs, outputs);
  auto mixed = expert_gram_schmidt(ctx, outputs, routes.weights, y, layer.mixing);
  return mixlora_saved<decltype(routes), decltype(outputs), decltype(block), decltype(mixed)>{
      std::move(routes), std::move(outputs), std::move(block), std::move(mixed)};
}

}  // namespace detail

/// \brief The output of a routed feed-forward block.
/// \ingroup nn
///
/// route(), ffn_experts_forward() and expert_gram_schmidt(), one after the other. The block has no
/// frozen output beside the mixture's, so y is overwritten.
/// \param[in]  ctx    where to run; nothing waits
/// \param[in]  layer  block, router and options
/// \param[in]  x      d x T, a token is a column
/// \param[out] y      d x T; must not overlap x
/// \param[in]  terms  of route(): token_weights, selection_bias and the others
/// \returns what mixlora_backward() needs, in scratch: (3 d_ff + d + 3 r) k T entries
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option is out of range, or the banks have different numbers of experts
/// \par Cost
/// That of route(), ffn_experts_forward() and expert_gram_schmidt().
/// \see \cite li2024mixlora
template <class Ctx, class Layer, RealMatrix X, class Y, RoutingTerm... Terms>
  requires OutputMatrix<Y> && SameScalar<X, Y>
auto mixlora_forward(Ctx& ctx, Layer const& layer, X const& x, Y&& y, Terms const&... terms) {
  return detail::mixlora_output(ctx, layer, no_ffn_dropout{}, x, y, terms...);
}

/// \brief The same with dropout of what the adapters see.
/// \ingroup nn
///
/// The router and the frozen weights see all of their input. The masks are made again by
/// mixlora_backward(), which finds their names in what is returned.
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  layer    block, router and options
/// \param[in]  dropped  of next_ffn_dropout(); a rate of 0 drops nothing
/// \param[in]  x        d x T, a token is a column
/// \param[out] y        d x T; must not overlap x
/// \param[in]  terms    of route()
/// \returns what mixlora_backward() needs, in scratch: as much as without dropout
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option or a rate is out of range
/// \par Cost
/// That of route(), ffn_experts_forward() with dropout and expert_gram_schmidt().
template <class Ctx, class Layer, RealMatrix X, class Y, RoutingTerm... Terms>
  requires OutputMatrix<Y> && SameScalar<X, Y>
auto mixlora_forward(Ctx& ctx, Layer const& layer, ffn_dropout const& dropped, X const& x, Y&& y,
                     Terms const&... terms) {
  detail::expect_ffn_dropout("mixlora_forward", dropped);
  return detail::mixlora_output(ctx, layer, dropped, x, y, terms...);
}

/// No loss on the experts' outputs.
/// \ingroup nn
struct no_output_loss {
  /// Adds nothing.
  template <class Routing, class E, class DE>
  void operator()(Routing const&, E const&, DE&) const {}
};

namespace detail {

template <class Ctx, class Layer, class Saved, class X, class DY, class Gradients, class DX>
void expect_mixlora_backward(Ctx& ctx, char const* function, Layer const& layer, Saved const& saved,
                             X const& x, DY const& dy, Gradients const& gradients, DX const& dx) {
  auto const& block = layer.block;
  auto const& router = gradients.router;
  char const* const name = "gradients.router";
  expect_ffn_experts(function, block, saved.routes.ids, x, "saved.outputs", saved.outputs);
  expect_shape(function, "dy", dy, saved.outputs.rows(), x.cols());
  expect_shape(function, name, router, x.rows(), layer.router.cols());
  expect_shape(function, "dx", dx, x.rows(), x.cols());
  auto const expect_bank = [&](char const* down, char const* up, auto const& gradient,
                               auto const& bank) {
    expect_bank_gradients(ctx, function, down, up, gradient, bank, x, "dy", dy, dx);
  };
  expect_bank("gradients.gate.down", "gradients.gate.up", gradients.gate, block.gate);
  expect_bank("gradients.up.down", "gradients.up.up", gradients.up, block.up);
  expect_bank("gradients.down.down", "gradients.down.up", gradients.down, block.down);
  expect_distinct(ctx, function, name, router, "the router", layer.router);
  expect_distinct(ctx, function, name, router, "x", x);
  expect_distinct(ctx, function, name, router, "dy", dy);
  expect_distinct(ctx, function, name, router, "dx", dx);
  expect_distinct(ctx, function, "dx", dx, "dy", dy);
  expect_distinct(ctx, function, "dx", dx, "x", x);
}

}  // namespace detail

/// \brief Gradients of mixlora_forward(), with losses on the routing and on the experts' outputs.
/// \ingroup nn
///
/// `losses(routes, dscores)` adds to the gradients of the router's scores, as in
/// expert_layer_backward(). `output_losses(routes, outputs, doutputs)` is called once, with the
/// outputs and their gradients by the mixture, and adds to the gradients of filled slots:
/// expert_orthogonality_loss() takes them as they are. Parameter gradients accumulate, dx takes beta
/// and has the part of the frozen weights in it. Banks may share gradients; no gradient may overlap
/// its parameter, x, dy or dx. layer, x and saved are those of the forward call, whose masks of
/// dropout are made again; saved is used up.
///
/// \param[in]     ctx        where to run; nothing waits beyond what losses do
/// \param[in]     layer      as in the forward call
/// \param[in,out] saved      what mixlora_forward() returned
/// \param[in]     x          d x T
/// \param[in]     dy         d x T
/// \param[in]     losses     callable(routes, dscores), or no_routing_loss{}
/// \param[in,out] gradients  mixlora_gradients
/// \param[in]     beta       factor of what dx holds; with 0 it is not read
/// \param[in,out] dx         d x T; must not overlap x or dy
/// \param[in]     output_losses  callable(routes, outputs, doutputs), or no_output_loss{}
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dx overlaps x or dy, or a gradient what it may not
/// \par Cost
/// That of ffn_experts_backward(), expert_gram_schmidt_backward() and the router's; scratch d k T + (E +
/// k) T entries.
template <class Ctx, class Layer, class Saved, RealMatrix X, RealMatrix DY, class Losses,
          class Gradients, class DX, class OutputLosses = no_output_loss>
  requires OutputMatrix<DX> && SameScalar<X, DY, DX>
void mixlora_backward(Ctx& ctx, Layer const& layer, Saved& saved, X const& x, DY const& dy,
                      Losses const& losses, Gradients const& gradients, double beta, DX&& dx,
                      OutputLosses const& output_losses = {}) {
  using S = scalar_t<X>;
  char const* const name = "mixlora_backward";
  auto& routes = saved.routes;
  detail::expect_mixlora_backward(ctx, name, layer, saved, x, dy, gradients, dx);
  auto dweights = scratch<S>(ctx, routes.weights.rows(), x.cols());
  auto dscores = scratch<S>(ctx, routes.probabilities.rows(), x.cols());
  auto doutputs = scratch<S>(ctx, saved.outputs.rows(), saved.outputs.cols());
  expert_gram_schmidt_backward(ctx, saved.outputs, routes.weights, saved.mixed, dy, doutputs,
                               dweights);
  output_losses(routes, std::as_const(saved.outputs), doutputs);
  ffn_experts_backward(ctx, layer.block, routes.ids, saved.block, x, doutputs, gradients.gate,
                       gradients.up, gradients.down, beta, dx);
  gate_backward(ctx, routes, dweights, dscores);
  losses(routes, dscores);
  router_backward(ctx, layer.router, x, dscores, gradients.router, 1, dx);
}

}  // namespace stiefelx
