// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/mixture_statistics.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/token_grams.hpp>

namespace stiefelx {

/// \brief How alike the experts' outputs are: mean absolute cosine before and after mixing's
/// orthogonalization.
/// \ingroup nn
///
/// The mean runs over all tokens and all pairs of chosen experts whose outputs are not zero. It
/// needs the Gram matrices alone, so no output is formed. measure_mixture() has this and more from
/// the Gram matrices that a forward pass has left.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  experts  E experts of rank r
/// \param[in]  routes   of route()
/// \param[in]  x        d_in x T
/// \param[in]  options  form of the mixture; with `none` both numbers agree
/// \param[out] s        2 x 1 of double: before, after
/// \throws shape_error  if a shape does not fit
/// \par Cost
/// 2 E r d_in T + 2 (E r)^2 d_out flops, k^2 r^2 and about 40 k^3 a token.
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class S>
  requires OutputMatrix<S>
void expert_similarity(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                       Routing const& routes, X const& x, mixing_options options, S&& s) {
  index_t const tokens = x.cols(), k = routes.ids.rows();
  detail::expect_experts("expert_similarity", experts, routes, x.rows(), experts.up.cols(), tokens);
  expect_shape("expert_similarity", "s", s, 2, 1);
  auto grams = scratch<double>(ctx, k * k, tokens);
  auto h = product(ctx, experts.down.adjoint(), x);
  detail::scale_experts(ctx, experts.scaling, experts.count, experts.down.cols() / experts.count,
                        h);
  token_grams(ctx, experts, h, routes.ids, grams, rank_layout::by_expert);
  auto const& weights = detail::weights_of(ctx, "expert_similarity", every_token{}, tokens);
  using body = mixture_sums_body;
  auto const sums = detail::mixture_sums(ctx, detail::algebra_of<scalar_t<X>>(options), grams,
                                         routes.ids, weights);
  detail::mean_of_rows(ctx, sums, body::cosines_before, body::pairs_before, s.middleRows(0, 1));
  detail::mean_of_rows(ctx, sums, body::cosines_after, body::pairs_after, s.middleRows(1, 1));
}

}  // namespace stiefelx
