// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/nn/moe_lora.hpp>

namespace stiefelx {

/// What a dropout_mask of a mixture applies to.
/// \ingroup nn
enum class dropout_place {
  shared_input,  ///< the tokens, one mask for all experts
  expert_input,  ///< the tokens, a mask of its own for every expert
  rank_space,    ///< the rank-space vectors, one entry a slot and rank: the cheapest
};

namespace detail {

// h of the dropped tokens.
template <class Ctx, class Down, class Ids, class X, class H>
void dropped_rank_space(Ctx& ctx, Down const& down, Ids const& ids, dropout_mask const& mask,
                        dropout_place place, index_t rank, X const& x, H& h) {
  using S = scalar_t<X>;
  if (place == dropout_place::rank_space) {
    routed_multiply(ctx, ids, down, x, h);
    dropout(ctx, mask, h, h);
    return;
  }
  auto seen = scratch<S>(ctx, x.rows(), x.cols());
  if (place == dropout_place::shared_input) {
    dropout(ctx, mask, x, seen);
    routed_multiply(ctx, ids, down, seen, h);
    return;
  }
  for (index_t i = 0; i < ids.rows(); ++i) {
    auto const own = ids.middleRows(i, 1);
    expert_dropout(ctx, mask, own, x, seen);
    routed_multiply(ctx, own, down, seen, h.middleRows(i * rank, rank));
  }
}

// From the gradient of h to those of A and x; dx accumulates.
template <class Ctx, class Down, class Ids, class X, class DH, class DDown, class DX>
void dropped_rank_space_backward(Ctx& ctx, Down const& down, Ids const& ids,
                                 dropout_mask const& mask, dropout_place place, index_t rank,
                                 X const& x, DH& dh, DDown&& ddown, DX&& dx) {
  using S = scalar_t<X>;
  if (place == dropout_place::rank_space) {
    dropout(ctx, mask, dh, dh);
    routed_outer_add(ctx, 1, ids, x, dh, ddown);
    routed_multiply_add(ctx, 1, ids, down, dh, dx);
    return;
  }
  auto seen = scratch<S>(ctx, x.rows(), x.cols());
  auto dseen = scratch<S>(ctx, x.rows(), x.cols());
  if (place == dropout_place::shared_input) {
    dropout(ctx, mask, x, seen);
    routed_outer_add(ctx, 1, ids, seen, dh, ddown);
    fill(ctx, 0, dseen);
    routed_multiply_add(ctx, 1, ids, down, dh, dseen);
    dropout(ctx, mask, dseen, dseen);
    axpy(ctx, 1, dseen, dx);
    return;
  }
  for (index_t i = 0; i < ids.rows(); ++i) {
    auto const own = ids.middleRows(i, 1);
    auto const dh_own = dh.middleRows(i * rank, rank);
    expert_dropout(ctx, mask, own, x, seen);
    routed_outer_add(ctx, 1, own, seen, dh_own, ddown);
    fill(ctx, 0, dseen);
    routed_multiply_add(ctx, 1, own, down, dh_own, dseen);
    expert_dropout(ctx, mask, own, dseen, dseen);
    axpy(ctx, 1, dseen, dx);
  }
}

}  // namespace detail

/// \brief moe_lora_forward() with dropout.
/// \ingroup nn
///
/// The experts see dropped tokens, or their rank-space vectors are dropped; the frozen layer and the
/// router see the whole token. Entries kept are divided by the probability of being kept.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  E experts of rank r
/// \param[in]     routes   of route() on the same x
/// \param[in]     mask     which mask; rate 0 is moe_lora_forward()
/// \param[in]     place    what it applies to
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}, as in moe_lora_forward()
/// \returns a moe_lora_saved in scratch; its h is that of the dropped tokens
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if an option or the rate is outside its range
/// \par Cost
/// That of moe_lora_forward() and one dropout(), for `expert_input` k of them and of the products'
/// passes over x; one d_in x T scratch matrix, none for `rank_space`.
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class Y,
          class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, Y> && StoredAs<scalar_t<X>, Down, Up>
auto moe_lora_forward(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                      Routing const& routes, dropout_mask const& mask, dropout_place place,
                      X const& x, Y&& y, mixing_options options = {}, Status&& status = {}) {
  using S = scalar_t<X>;
  char const* const name = "moe_lora_forward";
  index_t const tokens = x.cols(), k = routes.ids.rows(), all = experts.down.cols();
  detail::expect_experts(name, experts, routes, x.rows(), y.rows(), tokens);
  index_t const rank = all / experts.count;
  expect_shape(name, "y", y, y.rows(), tokens);
  detail::expect_mixing(name, options);
  expect_option(mask.rate >= 0 && mask.rate < 1, name, "rate", mask.rate, "a number in [0, 1)");
  expect_distinct(ctx, name, "y", y, "x", x);
  auto saved = detail::saved_in_scratch<S>(ctx, k, rank, all, tokens, options);
  detail::dropped_rank_space(ctx, widened_weight(ctx, experts.down), routes.ids, mask, place, rank,
                             x, saved.h);
  detail::add_mixture(ctx, widened_weight(ctx, experts.up), experts.scaling, rank, routes, saved, 1,
                      y, status);
  return saved;
}

/// \brief Gradients of moe_lora_forward() with dropout.
/// \ingroup nn
///
/// The masks are made again. Parameter gradients accumulate, dweights is overwritten, dx takes beta.
/// saved is used up.
///
/// \param[in]     ctx       where to run; nothing waits
/// \param[in]     experts   as in the forward call
/// \param[in]     routes    as in the forward call
/// \param[in,out] saved     of the forward call
/// \param[in]     mask      as in the forward call
/// \param[in]     place     as in the forward call
/// \param[in]     x         d_in x T
/// \param[in]     dy        d_out x T
/// \param[in,out] ddown     d_in x (E r), accumulates
/// \param[in,out] dup       (E r) x d_out, accumulates
/// \param[out]    dweights  k x T, for gate_backward(); 0 in empty slots
/// \param[in]     beta      factor of what dx holds; with 0 it is not read
/// \param[in,out] dx        d_in x T; must not overlap x or dy
/// \param[in]     gram_losses  as in moe_lora_backward(); Gram matrices are those of what is dropped
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if dx overlaps x or dy, or a gradient what it is formed from
/// \throws option_error  if the rate is outside [0, 1)
/// \par Cost
/// That of moe_lora_backward() and two dropout(), for `expert_input` 2 k of them; two d_in x T
/// scratch matrices, none for `rank_space`.
template <class Ctx, class Down, class Up, class Scaling, class Routing, class Saved, RealMatrix X,
          RealMatrix DY, class DDown, class DUp, class DW, class DX,
          class GramLosses = no_gram_loss>
  requires OutputMatrix<DDown> && OutputMatrix<DUp> && OutputMatrix<DW> && OutputMatrix<DX> &&
           SameScalar<X, DY, DDown, DUp, DW, DX> && StoredAs<scalar_t<X>, Down, Up>
void moe_lora_backward(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                       Routing const& routes, Saved& saved, dropout_mask const& mask,
                       dropout_place place, X const& x, DY const& dy, DDown&& ddown, DUp&& dup,
                       DW&& dweights, double beta, DX&& dx, GramLosses const& gram_losses = {}) {
  char const* const name = "moe_lora_backward";
  detail::expect_moe_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dup, dweights, dx);
  index_t const rank = experts.down.cols() / experts.count;
  expect_option(mask.rate >= 0 && mask.rate < 1, name, "rate", mask.rate, "a number in [0, 1)");
  expect_distinct(ctx, name, "dx", dx, "x", x);
  auto dh =
      detail::mixture_backward(ctx, widened_weight(ctx, experts.up), experts.count, experts.scaling,
                               routes, saved, dy, dup, dweights, gram_losses);
  apply_beta(ctx, beta, dx);
  detail::dropped_rank_space_backward(ctx, widened_weight(ctx, experts.down), routes.ids, mask,
                                      place, rank, x, dh, ddown, dx);
}

}  // namespace stiefelx
