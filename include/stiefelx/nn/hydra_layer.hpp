// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/expert_layer.hpp>
#include <stiefelx/nn/hydra_lora.hpp>
#include <stiefelx/nn/presets.hpp>

/// \file
/// \brief HydraLoRA as a ready layer: hydra_experts in an expert_layer.
/// \ingroup nn
///
/// `hydra_lora_preset().layer(hydra_experts(down, up, E, s), router)` goes through
/// expert_layer_forward() and expert_layer_backward(), with or without dropout. The gradient `down` is
/// that of the shared factor, d_in x r. `expert_layer_sizes` with `shared_down` counts its memory.

namespace stiefelx {

/// \brief HydraLoRA: one down-factor, all experts, weighted by softmax.
/// \ingroup nn
/// \returns the options, for a layer of hydra_experts
/// \see \cite tian2024hydralora
inline layer_preset<soft> hydra_lora_preset() { return {{}, {.kind = mixing::none}}; }

/// \brief hydra_lora_forward() under the name that an expert_layer calls.
/// \ingroup nn
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  hydra_experts
/// \param[in]     routes   of route() on the same x
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}
/// \returns a moe_lora_saved in scratch
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class Y,
          class Status = no_status>
auto moe_lora_forward(Ctx& ctx, hydra_experts<Down, Up, Scaling> const& experts,
                      Routing const& routes, X const& x, Y&& y, mixing_options options = {},
                      Status&& status = {}) {
  return hydra_lora_forward(ctx, experts, routes, x, y, options, status);
}

/// \brief hydra_lora_backward() under the name that an expert_layer calls.
/// \ingroup nn
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     experts      as in the forward call
/// \param[in]     routes       as in the forward call
/// \param[in,out] saved        of the forward call, used up
/// \param[in]     x            d_in x T
/// \param[in]     dy           d_out x T
/// \param[in,out] ddown        d_in x r, accumulates
/// \param[in,out] dup          (E r) x d_out, accumulates
/// \param[out]    dweights     k x T
/// \param[in]     beta         factor of what dx holds; with 0 it is not read
/// \param[in,out] dx           d_in x T; must not overlap dy
/// \param[in]     gram_losses  as in moe_lora_backward()
template <class Ctx, class Down, class Up, class Scaling, class Routing, class Saved, RealMatrix X,
          RealMatrix DY, class DDown, class DUp, class DW, class DX,
          class GramLosses = no_gram_loss>
void moe_lora_backward(Ctx& ctx, hydra_experts<Down, Up, Scaling> const& experts,
                       Routing const& routes, Saved& saved, X const& x, DY const& dy, DDown&& ddown,
                       DUp&& dup, DW&& dweights, double beta, DX&& dx,
                       GramLosses const& gram_losses = {}) {
  hydra_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dup, dweights, beta, dx,
                      gram_losses);
}

namespace detail {

// h of the dropped tokens in every slot, from one factor.
template <class Ctx, class Down, class Ids, class X, class H>
void shared_dropped_rank_space(Ctx& ctx, Down const& down, Ids const& ids, dropout_mask const& mask,
                               dropout_place place, X const& x, H& h) {
  using S = scalar_t<X>;
  index_t const rank = down.cols(), tokens = x.cols();
  if (place == dropout_place::expert_input) {
    auto seen = scratch<S>(ctx, x.rows(), tokens);
    for (index_t i = 0; i < ids.rows(); ++i) {
      expert_dropout(ctx, mask, ids.middleRows(i, 1), x, seen);
      multiply(ctx, down.adjoint(), seen, h.middleRows(i * rank, rank));
    }
    return;
  }
  auto shared = scratch<S>(ctx, rank, tokens);
  if (place == dropout_place::shared_input) {
    auto seen = scratch<S>(ctx, x.rows(), tokens);
    dropout(ctx, mask, x, seen);
    multiply(ctx, down.adjoint(), seen, shared);
  } else {
    multiply(ctx, down.adjoint(), x, shared);
  }
  run_batch(ctx, rank > 0 ? tokens : 0, share_slots_body{}, std::as_const(shared), h);
  if (place == dropout_place::rank_space) dropout(ctx, mask, h, h);
}

// From the gradient of h to those of A and x; dx accumulates.
template <class Ctx, class Down, class Ids, class X, class DH, class DDown, class DX>
void shared_dropped_rank_space_backward(Ctx& ctx, Down const& down, Ids const& ids,
                                        dropout_mask const& mask, dropout_place place, X const& x,
                                        DH& dh, DDown&& ddown, DX&& dx) {
  using S = scalar_t<X>;
  index_t const rank = down.cols(), tokens = x.cols();
  auto seen = scratch<S>(ctx, x.rows(), tokens);
  auto dseen = scratch<S>(ctx, x.rows(), tokens);
  if (place == dropout_place::expert_input) {
    for (index_t i = 0; i < ids.rows(); ++i) {
      auto const own = ids.middleRows(i, 1);
      auto const dh_own = dh.middleRows(i * rank, rank);
      expert_dropout(ctx, mask, own, x, seen);
      multiply_add(ctx, 1, seen, dh_own.adjoint(), ddown);
      multiply(ctx, down, dh_own, dseen);
      expert_dropout(ctx, mask, own, dseen, dseen);
      axpy(ctx, 1, dseen, dx);
    }
    return;
  }
  bool const in_rank_space = place == dropout_place::rank_space;
  dropout_mask const none{};
  if (in_rank_space) dropout(ctx, mask, dh, dh);
  auto shared = scratch<S>(ctx, rank, tokens);
  run_batch(ctx, tokens, sum_shared_slots_body{}, std::as_const(dh), shared);
  dropout(ctx, in_rank_space ? none : mask, x, seen);
  multiply_add(ctx, 1, seen, shared.adjoint(), ddown);
  multiply(ctx, down, shared, dseen);
  dropout(ctx, in_rank_space ? none : mask, dseen, dseen);
  axpy(ctx, 1, dseen, dx);
}

}  // namespace detail

/// \brief moe_lora_forward() with dropout, of experts that share their down-factor.
/// \ingroup nn
///
/// With `expert_input` the experts see tokens dropped by masks of their own, so A x is computed once a
/// slot and not once a token: HydraLoRA's code, which calls dropout in its loop over experts.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  hydra_experts
/// \param[in]     routes   of route() on the same x
/// \param[in]     mask     which mask; rate 0 is hydra_lora_forward()
/// \param[in]     place    what it applies to
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}
/// \returns a moe_lora_saved in scratch; its h is that of the dropped tokens
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option or the rate is outside its range
/// \par Cost
/// That of hydra_lora_forward() and one dropout(), for `expert_input` k of them and of the products with
/// A; one d_in x T scratch matrix, none for `rank_space`.
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class Y,
          class Status = no_status>
auto moe_lora_forward(Ctx& ctx, hydra_experts<Down, Up, Scaling> const& experts,
                      Routing const& routes, dropout_mask const& mask, dropout_place place,
                      X const& x, Y&& y, mixing_options options = {}, Status&& status = {}) {
  using S = scalar_t<X>;
  char const* const name = "hydra_lora_forward";
  index_t const tokens = x.cols(), k = routes.ids.rows(), rank = experts.down.cols();
  detail::expect_hydra(name, experts, routes, x.rows(), y.rows(), tokens);
  expect_shape(name, "y", y, y.rows(), tokens);
  detail::expect_mixing(name, options);
  expect_option(mask.rate >= 0 && mask.rate < 1, name, "rate", mask.rate, "a number in [0, 1)");
  expect_distinct(ctx, name, "y", y, "x", x);
  auto saved = detail::saved_in_scratch<S>(ctx, k, rank, experts.up.rows(), tokens, options);
  detail::shared_dropped_rank_space(ctx, widened_weight(ctx, experts.down), routes.ids, mask, place,
                                    x, saved.h);
  detail::add_mixture(ctx, widened_weight(ctx, experts.up), experts.scaling, rank, routes, saved, 1,
                      y, status);
  return saved;
}

/// \brief Gradients of it.
/// \ingroup nn
///
/// The masks are made again. Parameter gradients accumulate, dweights is overwritten, dx takes beta.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     experts      as in the forward call
/// \param[in]     routes       as in the forward call
/// \param[in,out] saved        of the forward call, used up
/// \param[in]     mask         as in the forward call
/// \param[in]     place        as in the forward call
/// \param[in]     x            d_in x T
/// \param[in]     dy           d_out x T
/// \param[in,out] ddown        d_in x r, accumulates
/// \param[in,out] dup          (E r) x d_out, accumulates
/// \param[out]    dweights     k x T
/// \param[in]     beta         factor of what dx holds; with 0 it is not read
/// \param[in,out] dx           d_in x T; must not overlap x or dy
/// \param[in]     gram_losses  as in moe_lora_backward()
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if dx overlaps x or dy, or a gradient what it is formed from
/// \throws option_error  if the rate is outside [0, 1)
/// \par Cost
/// That of hydra_lora_backward() and two dropout(), for `expert_input` 2 k of them; two d_in x T
/// scratch matrices.
template <class Ctx, class Down, class Up, class Scaling, class Routing, class Saved, RealMatrix X,
          RealMatrix DY, class DDown, class DUp, class DW, class DX,
          class GramLosses = no_gram_loss>
void moe_lora_backward(Ctx& ctx, hydra_experts<Down, Up, Scaling> const& experts,
                       Routing const& routes, Saved& saved, dropout_mask const& mask,
                       dropout_place place, X const& x, DY const& dy, DDown&& ddown, DUp&& dup,
                       DW&& dweights, double beta, DX&& dx, GramLosses const& gram_losses = {}) {
  char const* const name = "hydra_lora_backward";
  detail::expect_hydra_backward(ctx, name, experts, routes, saved, x, dy, ddown, dup, dweights, dx);
  expect_option(mask.rate >= 0 && mask.rate < 1, name, "rate", mask.rate, "a number in [0, 1)");
  expect_distinct(ctx, name, "dx", dx, "x", x);
  auto dh =
      detail::mixture_backward(ctx, widened_weight(ctx, experts.up), experts.count, experts.scaling,
                               routes, saved, dy, dup, dweights, gram_losses);
  apply_beta(ctx, beta, dx);
  detail::shared_dropped_rank_space_backward(ctx, widened_weight(ctx, experts.down), routes.ids,
                                             mask, place, x, dh, ddown, dx);
}

}  // namespace stiefelx
