// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/expert_scaling.hpp>
#include <stiefelx/nn/gram_losses.hpp>
#include <stiefelx/nn/mixing_options.hpp>
#include <stiefelx/nn/moe_lora_body.hpp>
#include <stiefelx/nn/moe_lora_cross.hpp>
#include <stiefelx/team/each_item.hpp>

/// \file
/// \brief What lies between the products of a mixture of low-rank experts, forward and backward.
/// \ingroup nn
///
/// There are two ways: by slot, with products of tokens and the experts that they chose, and by expert,
/// with products of all tokens and all experts (\ref decision_dense_rank_space).

namespace stiefelx {

namespace detail {

// E r up to which a device forms every product of two experts' factors and asks for no symmetry. By the
// rates of the guide's model, the other half of them takes less time up to there than two more calls.
inline constexpr index_t most_whole_moments = 256;

// moments = up up^T in double: every product of two experts' factors, once a call.
template <class Ctx, class Up, class Moments>
void write_expert_moments(Ctx& ctx, Up const& up, Moments&& moments) {
  using Wide = wide_t<scalar_t<Up>>;
  if constexpr (has_team_an_item<Ctx>) {
    if (up.rows() <= most_whole_moments) {
      if constexpr (std::is_same_v<scalar_t<Up>, Wide>) {
        multiply(ctx, up, up.adjoint(), moments);
      } else {
        auto const wide = widen(ctx, up);
        multiply(ctx, wide, wide.adjoint(), moments);
      }
      return;
    }
  }
  // Of a tall matrix half the products suffice.
  auto tall = scratch<Wide>(ctx, up.cols(), up.rows());
  copy(ctx, up.adjoint(), tall);
  copy(ctx, gram(ctx, tall), moments);
}

template <class Ctx, class Up>
auto expert_moments(Ctx& ctx, Up const& up) {
  auto moments = scratch<wide_t<scalar_t<Up>>>(ctx, up.rows(), up.rows());
  write_expert_moments(ctx, up, moments);
  return moments;
}

// Whether every token is multiplied with every expert, of which a token uses its own. Experts with
// factors of their own take the other way.
template <class Scaling, class Ctx>
bool takes_every_expert([[maybe_unused]] Ctx& ctx, [[maybe_unused]] index_t all) {
  if constexpr (is_common_scaling<Scaling>)
    return all <= dense_expert_columns(ctx);
  else
    return false;
}

// From h in saved, or in mixed where that is by expert, to the Gram matrices, coefficients and mixed.
template <class Ctx, class Up, class Routing, class Saved, class Mixed, class Status>
void mix_slots(Ctx& ctx, Up const& up, index_t rank, Routing const& routes, Saved& saved,
               rank_layout layout, Mixed& mixed, Status&& status) {
  index_t const k = routes.ids.rows(), tokens = routes.ids.cols();
  auto const algebra = algebra_of<scalar_t<Mixed>>(saved.options);
  if (!algebra.is_plain(k)) write_expert_moments(ctx, up, saved.moments);
  auto bits = scratch<int>(ctx, 1, tokens);
  run_batch(ctx, tokens, mix_forward_body{algebra, k, rank, layout, experts_of(up, rank)}, saved.h,
            std::as_const(routes.ids), std::as_const(routes.weights), std::as_const(saved.moments),
            saved.token_grams, saved.coefficients, mixed, bits);
  raise(ctx, status, bits);
}

// From h in saved to y: Gram matrices, coefficients, and the product with the experts' up.
template <class Ctx, class Up, class Scaling, class Routing, class Saved, class Y, class Status>
void add_mixture(Ctx& ctx, Up const& up, Scaling const& scaling, index_t rank,
                 Routing const& routes, Saved& saved, double beta, Y&& y, Status&& status) {
  scale_slots(ctx, scaling, routes.ids, rank, saved.h);
  auto mixed = scratch<scalar_t<Y>>(ctx, routes.ids.rows() * rank, routes.ids.cols());
  mix_slots(ctx, up, rank, routes, saved, rank_layout::by_slot, mixed, status);
  combine_with_beta(ctx, common_scaling(scaling), routes.ids, up.adjoint(), mixed, beta, y);
}

// The same from x, by two products of all experts. Rows of experts that a token did not list are zero.
template <class Ctx, class Down, class Up, class Routing, class X, class Saved, class Y,
          class Status>
void add_dense_mixture(Ctx& ctx, Down const& down, Up const& up, double scaling, index_t rank,
                       Routing const& routes, X const& x, Saved& saved, double beta, Y&& y,
                       Status&& status) {
  auto mixed = scratch<scalar_t<Y>>(ctx, down.cols(), x.cols());
  multiply(ctx, down.adjoint(), x, mixed);
  mix_slots(ctx, up, rank, routes, saved, rank_layout::by_expert, mixed, status);
  multiply_with_beta(ctx, scaling, up.adjoint(), mixed, beta, y);
}

// The part of a backward pass between z, in dh, and the gradients of h and up.
template <class Ctx, class Up, class Routing, class Saved, class DH, class DY, class DUp, class DW>
void rank_space_backward(Ctx& ctx, Up const& up, index_t count, double scaling,
                         Routing const& routes, Saved& saved, rank_layout layout, DH& dh,
                         DY const& dy, DUp&& dup, DW&& dweights) {
  index_t const k = routes.ids.rows(), rank = up.rows() / count;
  auto mixed = scratch<scalar_t<DH>>(ctx, dh.rows(), dh.cols());
  run_batch(ctx, dh.cols(),
            mix_backward_body{algebra_of<scalar_t<DH>>(saved.options), k, rank, scaling, layout,
                              experts_of(up, rank)},
            std::as_const(saved.h), std::as_const(routes.ids), std::as_const(routes.weights),
            std::as_const(saved.moments), saved.token_grams, dh, mixed, dweights);
  if (layout == rank_layout::by_expert)
    multiply_add(ctx, scaling, mixed, dy.adjoint(), dup);
  else
    routed_adjoint_outer_add(ctx, scaling, routes.ids, mixed, dy, dup);
}

// Adds what w, the gradient of losses on the Gram matrices, is for h.
template <class Ctx, class Routing, class H, class Moments, class W, class DH>
void add_gram_gradient(Ctx& ctx, Routing const& routes, index_t rank, H const& h,
                       Moments const& moments, W const& w, DH& dh) {
  run_batch(ctx, routes.ids.cols(), gram_gradient_body{routes.ids.rows(), rank}, h,
            std::as_const(routes.ids), moments, w, dh);
}

// The way back, from dy to the gradient of A x, which is returned.
template <class Ctx, class Up, class Scaling, class Routing, class Saved, class DY, class DUp,
          class DW, class GramLosses>
auto mixture_backward(Ctx& ctx, Up const& up, index_t count, Scaling const& scaling,
                      Routing const& routes, Saved& saved, DY const& dy, DUp&& dup, DW&& dweights,
                      GramLosses const& gram_losses) {
  using S = scalar_t<DY>;
  index_t const k = routes.ids.rows(), tokens = routes.ids.cols(), rank = up.rows() / count;
  bool const plain = algebra_of<S>(saved.options).is_plain(k);
  auto const& h = std::as_const(saved.h);
  auto const& ids = std::as_const(routes.ids);
  auto dh = scratch<S>(ctx, k * rank, tokens);
  routed_multiply(ctx, ids, up.adjoint(), dy, dh);
  auto const through_mixture = [&] {
    rank_space_backward(ctx, up, count, common_scaling(scaling), routes, saved,
                        rank_layout::by_slot, dh, dy, dup, dweights);
  };
  if constexpr (has_gram_losses<GramLosses>) {
    auto change = scratch<double>(ctx, k * k, tokens);
    fill(ctx, 0, change);
    if (plain) {
      auto const moments = expert_moments(ctx, up);
      auto grams = scratch<double>(ctx, k * k, tokens);
      run_batch(ctx, tokens, slot_grams_body{k, rank}, h, ids, moments, grams);
      gram_losses(routes, std::as_const(grams), change);
      through_mixture();
      add_gram_gradient(ctx, routes, rank, h, moments, std::as_const(change), dh);
      add_cross_moments(ctx, count, h, ids, std::as_const(change), up, dup);
    } else {
      gram_losses(routes, std::as_const(saved.token_grams), change);
      through_mixture();
      add_gram_gradient(ctx, routes, rank, h, std::as_const(saved.moments), std::as_const(change),
                        dh);
      axpy(ctx, 1, change, saved.token_grams);
    }
  } else {
    through_mixture();
  }
  if (!plain) add_cross_moments(ctx, count, h, ids, std::as_const(saved.token_grams), up, dup);
  scale_slots(ctx, scaling, ids, rank, dh);
  return dh;
}

// The same by expert, by products of all experts.
template <class Ctx, class Up, class Routing, class Saved, class DY, class DUp, class DW>
auto dense_mixture_backward(Ctx& ctx, Up const& up, index_t count, double scaling,
                            Routing const& routes, Saved& saved, DY const& dy, DUp&& dup,
                            DW&& dweights) {
  using S = scalar_t<DY>;
  auto dh = scratch<S>(ctx, up.rows(), dy.cols());
  multiply(ctx, up, dy, dh);
  rank_space_backward(ctx, up, count, scaling, routes, saved, rank_layout::by_expert, dh, dy, dup,
                      dweights);
  if (!algebra_of<S>(saved.options).is_plain(routes.ids.rows()))
    add_cross_moments(ctx, count, std::as_const(saved.h), std::as_const(routes.ids),
                      std::as_const(saved.token_grams), up, dup);
  return dh;
}

}  // namespace detail

}  // namespace stiefelx
