// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/moe_lora.hpp>

namespace stiefelx {

/// \brief Experts that share one down-factor.
/// \ingroup nn
///
/// Expert e is \f$ B_e A \f$ with one A for all. Made from lvalues, it refers to them. Factors are those
/// of lora_experts.
template <class Down, class Up, class Scaling = double>
struct hydra_experts {
  Down down;        ///< d_in x r
  Up up;            ///< (E r) x d_out
  index_t count;    ///< E
  Scaling scaling;  ///< \f$ s \f$, applied after the mixture; or 1 x E, real, applied before it
};

/// Refers to the matrices it is made from.
/// \ingroup nn
template <class Down, class Up, class Number>
  requires std::is_arithmetic_v<Number>
hydra_experts(Down&, Up&, index_t, Number) -> hydra_experts<Down&, Up&, double>;

/// Refers to the matrices it is made from, the factors too.
/// \ingroup nn
template <class Down, class Up, RealMatrix Scaling>
hydra_experts(Down&, Up&, index_t, Scaling&) -> hydra_experts<Down&, Up&, Scaling&>;

/// \brief Team text: one token's rank-space vector in each of its slots.
/// \ingroup nn
struct share_slots_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes share the rows
  /// \param[in]  t       the token
  /// \param[in]  shared  r x T
  /// \param[out] h       (k r) x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> shared,
                              matrix_ref<S> h) const {
    for (index_t row = team.rank(); row < h.rows; row += team.size())
      h(row, t) = shared(row % shared.rows, t);
  }
};

/// \brief Team text: the sum of a token's slots; empty ones hold zeros.
/// \ingroup nn
struct sum_shared_slots_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes share the rows
  /// \param[in]  t       the token
  /// \param[in]  h       (k r) x T
  /// \param[out] shared  r x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> h,
                              matrix_ref<S> shared) const {
    for (index_t row = team.rank(); row < shared.rows; row += team.size()) {
      S sum = S(0);
      for (index_t i = row; i < h.rows; i += shared.rows) sum += h(i, t);
      shared(row, t) = sum;
    }
  }
};

namespace detail {

template <class Experts, class Routing>
void expect_hydra(char const* function, Experts const& experts, Routing const& routes, index_t d_in,
                  index_t d_out, index_t tokens) {
  index_t const rank = experts.down.cols();
  expect_option(experts.count >= 1, function, "experts.count", experts.count,
                "a number of at least 1");
  expect_shape(function, "experts.down", experts.down, d_in, rank);
  expect_shape(function, "experts.up", experts.up, rank * experts.count, d_out);
  expect_scaling(function, "experts.scaling", experts.scaling, experts.count);
  expect_option(expert_count(routes) == experts.count, function, "routes.experts",
                expert_count(routes), "the number of experts");
  expect_shape(function, "routes.ids", routes.ids, routes.ids.rows(), tokens);
  expect_shape(function, "routes.weights", routes.weights, routes.ids.rows(), tokens);
}

template <class Ctx, class Experts, class Routing, class Saved, class X, class DY, class DDown,
          class DUp, class DW, class DX>
void expect_hydra_backward(Ctx& ctx, char const* function, Experts const& experts,
                           Routing const& routes, Saved const& saved, X const& x, DY const& dy,
                           DDown const& ddown, DUp const& dup, DW const& dweights, DX const& dx) {
  index_t const tokens = x.cols(), k = routes.ids.rows(), rank = experts.down.cols();
  expect_hydra(function, experts, routes, x.rows(), dy.rows(), tokens);
  expect_shape(function, "saved.h", saved.h, k * rank, tokens);
  expect_shape(function, "dy", dy, experts.up.cols(), tokens);
  expect_shape(function, "ddown", ddown, x.rows(), rank);
  expect_shape(function, "dup", dup, experts.up.rows(), experts.up.cols());
  expect_shape(function, "dweights", dweights, k, tokens);
  expect_shape(function, "dx", dx, x.rows(), tokens);
  expect_distinct(ctx, function, "dx", dx, "dy", dy);
  expect_apart_from_inputs(ctx, function, experts, x, dy, ddown, dup);
}

}  // namespace detail

/// \brief Adds a mixture of experts that share their down-factor to the frozen layer's output.
/// \ingroup nn
///
/// \f$ h = A x \f$ once a token, then as moe_lora_forward() with \f$ h_i = h \f$ for every expert. With
/// the choice `soft` and `mixing::none` this is HydraLoRA \cite tian2024hydralora ; every other form of
/// the mixture works as well. With \f$ B_e = 0 \f$ all experts are alike and stay alike: draw them.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  hydra_experts
/// \param[in]     routes   of route() on the same x
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}, as in moe_lora_forward()
/// \returns a moe_lora_saved for hydra_lora_backward(), in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if there is no expert, routes has another number of them, or an option is
///                       outside its range
/// \par Cost
/// 2 r (d_in + k d_out) T flops for the products, the rest as moe_lora_forward().
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class Y,
          class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, Y> && StoredAs<scalar_t<X>, Down, Up>
auto hydra_lora_forward(Ctx& ctx, hydra_experts<Down, Up, Scaling> const& experts,
                        Routing const& routes, X const& x, Y&& y, mixing_options options = {},
                        Status&& status = {}) {
  using S = scalar_t<X>;
  char const* const name = "hydra_lora_forward";
  index_t const tokens = x.cols(), k = routes.ids.rows(), rank = experts.down.cols();
  detail::expect_hydra(name, experts, routes, x.rows(), y.rows(), tokens);
  expect_shape(name, "y", y, y.rows(), tokens);
  detail::expect_mixing(name, options);
  expect_distinct(ctx, name, "y", y, "x", x);
  auto saved = detail::saved_in_scratch<S>(ctx, k, rank, experts.up.rows(), tokens, options);
  auto const shared = product(ctx, widened_weight(ctx, experts.down).adjoint(), x);
  run_batch(ctx, rank > 0 ? tokens : 0, share_slots_body{}, shared, saved.h);
  detail::add_mixture(ctx, widened_weight(ctx, experts.up), experts.scaling, rank, routes, saved, 1,
                      y, status);
  return saved;
}

/// \brief Gradients of hydra_lora_forward().
/// \ingroup nn
///
/// \f$ \bar h = \sum_i \bar h_i \f$ with those of moe_lora_backward(), \f$ \bar A \mathrel{+}= \sum_t \bar h
/// x^T \f$, \f$ \bar x = \beta \bar x + A^T \bar h \f$. Parameter gradients accumulate, dweights is
/// overwritten, dx takes beta. saved is used up.
///
/// \param[in]     ctx       where to run; nothing waits
/// \param[in]     experts   as in the forward call
/// \param[in]     routes    as in the forward call
/// \param[in,out] saved     of hydra_lora_forward()
/// \param[in]     x         d_in x T
/// \param[in]     dy        d_out x T
/// \param[in,out] ddown     d_in x r, accumulates
/// \param[in,out] dup       (E r) x d_out, accumulates
/// \param[out]    dweights  k x T, for gate_backward(); 0 in empty slots
/// \param[in]     beta      factor of what dx holds; with 0 it is not read
/// \param[in,out] dx        d_in x T; must not overlap dy
/// \param[in]     gram_losses  as in moe_lora_backward()
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dx overlaps dy, or a gradient what it is formed from
/// \par Cost
/// 4 r (d_in + k d_out) T flops for the products, the rest as moe_lora_backward().
template <class Ctx, class Down, class Up, class Scaling, class Routing, class Saved, RealMatrix X,
          RealMatrix DY, class DDown, class DUp, class DW, class DX,
          class GramLosses = no_gram_loss>
  requires OutputMatrix<DDown> && OutputMatrix<DUp> && OutputMatrix<DW> && OutputMatrix<DX> &&
           SameScalar<X, DY, DDown, DUp, DW, DX> && StoredAs<scalar_t<X>, Down, Up>
void hydra_lora_backward(Ctx& ctx, hydra_experts<Down, Up, Scaling> const& experts,
                         Routing const& routes, Saved& saved, X const& x, DY const& dy,
                         DDown&& ddown, DUp&& dup, DW&& dweights, double beta, DX&& dx,
                         GramLosses const& gram_losses = {}) {
  using S = scalar_t<X>;
  index_t const tokens = x.cols(), rank = experts.down.cols();
  detail::expect_hydra_backward(ctx, "hydra_lora_backward", experts, routes, saved, x, dy, ddown,
                                dup, dweights, dx);
  auto const dh =
      detail::mixture_backward(ctx, widened_weight(ctx, experts.up), experts.count, experts.scaling,
                               routes, saved, dy, dup, dweights, gram_losses);
  auto shared = scratch<S>(ctx, rank, tokens);
  run_batch(ctx, tokens, sum_shared_slots_body{}, dh, shared);
  multiply_add(ctx, 1, x, shared.adjoint(), ddown);
  apply_beta(ctx, beta, dx);
  multiply_add(ctx, 1, widened_weight(ctx, experts.down), shared, dx);
}

}  // namespace stiefelx
