// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/moe_lora_dropout.hpp>
#include <stiefelx/nn/router.hpp>

namespace stiefelx {

/// \brief A mixture of low-rank experts with its router: everything between x and y.
/// \ingroup nn
///
/// A ready layer is this with other options; nn/presets.hpp names those of published ones. Made from
/// lvalues, it refers to them.
template <class Experts, class Router, class Choice = router_options>
struct expert_layer {
  Experts experts;        ///< lora_experts, or hydra_experts with nn/hydra_layer.hpp
  Router router;          ///< d_in x E, with more columns for null experts
  Choice choice;          ///< which experts a token gets and how they are weighted
  mixing_options mixing;  ///< what happens to their outputs
};

/// Refers to the router; the experts refer to theirs.
/// \ingroup nn
template <class Experts, class Router, class Choice>
expert_layer(Experts, Router&, Choice, mixing_options) -> expert_layer<Experts, Router&, Choice>;

/// \brief Which dropout a call of a layer has.
/// \ingroup nn
struct layer_dropout {
  dropout_mask mask{};                                ///< which mask, of next_dropout_mask()
  dropout_place place = dropout_place::shared_input;  ///< what it applies to
};

/// No dropout.
/// \ingroup nn
struct no_layer_dropout {};

/// What expert_layer_forward() keeps for the backward pass.
/// \ingroup nn
template <class Routing, class Mixed, class Dropout = no_layer_dropout>
struct expert_layer_saved {
  Routing routes;     ///< of route()
  Mixed mixed;        ///< of moe_lora_forward()
  Dropout dropped{};  ///< layer_dropout, whose masks the backward pass makes again
};

/// \brief Gradients of an expert_layer's parameters; all of them accumulate.
/// \ingroup nn
///
/// Made from lvalues, it refers to them.
template <class Down, class Up, class Router>
struct expert_layer_gradients {
  Down down;      ///< d_in x (E r)
  Up up;          ///< (E r) x d_out
  Router router;  ///< d_in x E
};

/// Refers to the matrices it is made from.
/// \ingroup nn
template <class Down, class Up, class Router>
expert_layer_gradients(Down&, Up&, Router&) -> expert_layer_gradients<Down&, Up&, Router&>;

/// \brief Routes the tokens and adds the mixture to the frozen layer's output.
/// \ingroup nn
///
/// route() and moe_lora_forward(), one after the other. The gradient of a router_bias is the sum of the
/// score gradients over the tokens, which a loss of expert_layer_backward() sees.
/// \param[in]     ctx    where to run; nothing waits
/// \param[in]     layer  experts, router and options
/// \param[in]     x      d_in x T, a token is a column
/// \param[in,out] y      d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     terms  of route(): token_weights, selection_bias and the others
/// \returns routing and what expert_layer_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option is out of range
/// \par Cost
/// That of route() and moe_lora_forward().
template <class Ctx, class Layer, RealMatrix X, class Y, RoutingTerm... Terms>
  requires OutputMatrix<Y> && SameScalar<X, Y>
auto expert_layer_forward(Ctx& ctx, Layer const& layer, X const& x, Y&& y, Terms const&... terms) {
  auto routes = route(ctx, layer.router, x, layer.choice, terms...);
  auto mixed = moe_lora_forward(ctx, layer.experts, routes, x, y, layer.mixing);
  return expert_layer_saved<decltype(routes), decltype(mixed)>{std::move(routes), std::move(mixed)};
}

/// \brief The same with a factor of what y holds, of lora_experts.
/// \ingroup nn
///
/// With 0 y is not read, and the frozen layer's product is added to it afterwards, which saves a pass
/// over y.
/// \param[in]     ctx    where to run; nothing waits
/// \param[in]     layer  experts, router and options
/// \param[in]     x      d_in x T, a token is a column
/// \param[in]     beta   factor of what y holds
/// \param[in,out] y      d_out x T; must not overlap x
/// \param[in]     terms  of route()
/// \returns routing and what expert_layer_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option is out of range
/// \par Cost
/// That of route() and moe_lora_forward().
template <class Ctx, class Layer, RealMatrix X, class Y, RoutingTerm... Terms>
  requires OutputMatrix<Y> && SameScalar<X, Y>
auto expert_layer_forward(Ctx& ctx, Layer const& layer, X const& x, double beta, Y&& y,
                          Terms const&... terms) {
  auto routes = route(ctx, layer.router, x, layer.choice, terms...);
  auto mixed = moe_lora_forward(ctx, layer.experts, routes, x, beta, y, layer.mixing);
  return expert_layer_saved<decltype(routes), decltype(mixed)>{std::move(routes), std::move(mixed)};
}

/// \brief The same with dropout of what the experts see.
/// \ingroup nn
///
/// The router and the frozen layer see the whole token. The masks are made again by
/// expert_layer_backward(), which finds their names in what is returned.
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     layer    experts, router and options
/// \param[in]     dropped  which mask, and what it applies to; a rate of 0 drops nothing
/// \param[in]     x        d_in x T, a token is a column
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     terms    of route()
/// \returns routing and what expert_layer_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option or the rate is out of range
/// \par Cost
/// That of route() and of moe_lora_forward() with dropout.
template <class Ctx, class Layer, RealMatrix X, class Y, RoutingTerm... Terms>
  requires OutputMatrix<Y> && SameScalar<X, Y>
auto expert_layer_forward(Ctx& ctx, Layer const& layer, layer_dropout const& dropped, X const& x,
                          Y&& y, Terms const&... terms) {
  auto routes = route(ctx, layer.router, x, layer.choice, terms...);
  auto mixed =
      moe_lora_forward(ctx, layer.experts, routes, dropped.mask, dropped.place, x, y, layer.mixing);
  return expert_layer_saved<decltype(routes), decltype(mixed), layer_dropout>{
      std::move(routes), std::move(mixed), dropped};
}

/// No loss on the routing.
/// \ingroup nn
struct no_routing_loss {
  /// Adds nothing.
  template <class Routing, class DS>
  void operator()(Routing const&, DS&) const {}
};

namespace detail {

template <class T>
inline constexpr bool is_lora_experts = false;
template <class Down, class Up, class Scaling>
inline constexpr bool is_lora_experts<lora_experts<Down, Up, Scaling>> = true;

// moe_lora_backward(), with the dropout that the forward call had.
template <class Ctx, class Experts, class Saved, class X, class DY, class Gradients, class DW,
          class DX, class GramLosses>
void layer_mixture_backward(Ctx& ctx, Experts const& experts, Saved& saved, X const& x,
                            DY const& dy, Gradients const& gradients, DW& dweights, double beta,
                            DX&& dx, GramLosses const& gram_losses) {
  if constexpr (std::is_same_v<std::remove_cvref_t<decltype(saved.dropped)>, layer_dropout>)
    moe_lora_backward(ctx, experts, saved.routes, saved.mixed, saved.dropped.mask,
                      saved.dropped.place, x, dy, gradients.down, gradients.up, dweights, beta, dx,
                      gram_losses);
  else
    moe_lora_backward(ctx, experts, saved.routes, saved.mixed, x, dy, gradients.down, gradients.up,
                      dweights, beta, dx, gram_losses);
}

}  // namespace detail

/// \brief Gradients of expert_layer_forward(), with losses on the routing.
/// \ingroup nn
///
/// Losses that act on the router alone (balance_loss() and its kin) add their gradients to those of
/// the scores before these go on to the router and to x: `losses(routes, dscores)` is called once,
/// with dscores of the mixture, and adds. Parameter gradients accumulate, dx takes beta. layer, x and
/// saved are those of the forward call; saved is used up. Losses on the Gram matrices of the outputs
/// are those of moe_lora_backward().
///
/// \param[in]     ctx        where to run; nothing waits beyond what losses do
/// \param[in]     layer      as in the forward call
/// \param[in,out] saved      what expert_layer_forward() returned
/// \param[in]     x          d_in x T
/// \param[in]     dy         d_out x T
/// \param[in]     losses     callable(routes, dscores), or no_routing_loss{}
/// \param[in,out] gradients  expert_layer_gradients
/// \param[in]     beta       factor of what dx holds; with 0 it is not read
/// \param[in,out] dx         d_in x T; must not overlap x, which the router reads last, or dy
/// \param[in]     gram_losses  callable(routes, token_grams, change), or no_gram_loss{}
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dx overlaps x, dy, the router or gradients.router, a gradient what it is formed
///                      from, or gradients.router another gradient
/// \par Cost
/// That of moe_lora_backward(), gate_backward() and router_backward(); scratch (E + k) T entries.
template <class Ctx, class Layer, class Saved, RealMatrix X, RealMatrix DY, class Losses,
          class Gradients, class DX, class GramLosses = no_gram_loss>
  requires OutputMatrix<DX> && SameScalar<X, DY, DX>
void expert_layer_backward(Ctx& ctx, Layer const& layer, Saved& saved, X const& x, DY const& dy,
                           Losses const& losses, Gradients const& gradients, double beta, DX&& dx,
                           GramLosses const& gram_losses = {}) {
  using S = scalar_t<X>;
  auto& routes = saved.routes;
  expect_shape("expert_layer_backward", "gradients.router", gradients.router, x.rows(),
               layer.router.cols());
  expect_distinct(ctx, "expert_layer_backward", "dx", dx, "x", x);
  expect_distinct(ctx, "expert_layer_backward", "dx", dx, "layer.router", layer.router);
  // What router_backward() refuses comes too late there: the experts' gradients are written by then.
  auto const expect_apart = [&](char const* other, auto const& a) {
    expect_distinct(ctx, "expert_layer_backward", "gradients.router", gradients.router, other, a);
  };
  expect_apart("dx", dx);
  expect_apart("layer.router", layer.router);
  expect_apart("x", x);
  expect_apart("dy", dy);
  expect_apart("gradients.down", gradients.down);
  expect_apart("gradients.up", gradients.up);
  auto dweights = scratch<S>(ctx, routes.weights.rows(), x.cols());
  auto dscores = scratch<S>(ctx, routes.probabilities.rows(), x.cols());
  auto const through_router = [&](double factor) {
    gate_backward(ctx, routes, dweights, dscores);
    losses(routes, dscores);
    router_backward(ctx, layer.router, x, dscores, gradients.router, factor, dx);
  };
  using Dropped = std::remove_cvref_t<decltype(saved.dropped)>;
  if constexpr (detail::is_lora_experts<std::remove_cvref_t<decltype(layer.experts)>> &&
                std::is_same_v<Dropped, no_layer_dropout>) {
    // The product of the router, which has few rows, is the cheapest one to start dx with.
    detail::expect_moe_lora_backward(ctx, layer.experts, routes, saved.mixed, x, dy, gradients.down,
                                     gradients.up, dweights, dx);
    auto const dh = detail::moe_lora_backward_to_ranks(ctx, layer.experts, routes, saved.mixed, dy,
                                                       gradients.up, dweights, gram_losses);
    through_router(beta);
    detail::moe_lora_backward_from_ranks<GramLosses>(ctx, layer.experts, routes, x, dh,
                                                     gradients.down, 1, dx);
  } else {
    detail::layer_mixture_backward(ctx, layer.experts, saved, x, dy, gradients, dweights, beta, dx,
                                   gram_losses);
    through_router(1);
  }
}

}  // namespace stiefelx
