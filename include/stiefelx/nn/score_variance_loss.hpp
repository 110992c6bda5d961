// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/score_gradient.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: score variance of a block of tokens, and the gradient of their scores.
/// \ingroup nn
struct score_variance_body {
  double coefficient;  ///< \f$ \gamma / E \f$
  index_t experts;     ///< true experts
  bool sigmoid;        ///< of each score, instead of softmax of all
  token_range range;   ///< blocks

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes share the tokens
  /// \param[in]     item     the block
  /// \param[in]     p        N x T
  /// \param[in]     w        1 x T or 1 x 1, token weights
  /// \param[in]     sums     (N + 1) x 1, of probability_sums_body
  /// \param[out]    losses   1 x blocks
  /// \param[in,out] dscores  N x T, accumulates
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<S const> p,
                              matrix_ref<W const> w, matrix_ref<double const> sums,
                              matrix_ref<double> losses, matrix_ref<S> dscores) const {
    double const total = sums(0, 0);
    double sum = 0;
    index_t const end = range.end({}, item, p.cols);
    for (index_t t = range.first({}, item, p.cols) + team.rank(); t < end; t += team.size()) {
      double const weight = detail::weight_of(w, t);
      if (weight == 0) continue;
      double const share = coefficient * weight / total;
      auto const deviation = [&](index_t e) {
        return e < experts ? static_cast<double>(p(e, t)) - sums(e + 1, 0) / total : 0;
      };
      for (index_t e = 0; e < experts; ++e) sum -= share * deviation(e) * deviation(e);
      detail::add_score_gradient(
          sigmoid, p, t, [&](index_t e) { return -2 * share * deviation(e); }, dscores);
    }
    sum = team.sum(sum);
    if (team.rank() == 0) losses(0, item) = sum;
  }
};

/// \brief Rewards a router that tells tokens apart: minus the variance of its probabilities.
/// \ingroup nn
///
/// \f[ L = -\frac{\gamma}{E\,T_v} \sum_t w_t \sum_e (p_{et} - \bar p_e)^2, \qquad
///     \bar p_{et} \text{ adds } -\frac{2 \gamma w_t}{E\,T_v} (p_{et} - \bar p_e), \f]
/// \f$ \bar p_e \f$ the weighted mean over tokens \cite guo2025specialization. The gradient through the
/// mean vanishes. It is the companion of expert_orthogonality_loss(): 0 for a router that treats all
/// tokens alike, and at least \f$ -\gamma (1 - 1/E) / E \f$, for a sharp and balanced one. The paper
/// sums over tokens: its coefficient times \f$ T_v \f$ is this one.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \gamma \f$
/// \param[in]     routes       of route()
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[out]    loss         1 x 1 of double; 0 where all weights are 0
/// \param[in,out] dscores      N x T, accumulates
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// About 8 N T flops; scratch N T / 256 entries.
template <class Ctx, class Routing, TokenWeights W, class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS>
void score_variance_loss(Ctx& ctx, double coefficient, Routing const& routes, W const& w, L&& loss,
                         DS&& dscores) {
  char const* const name = "score_variance_loss";
  detail::expect_loss(ctx, name, routes, loss, dscores);
  auto const& p = routes.probabilities;
  index_t const experts = routes.experts;
  auto const& weights = detail::weights_of(ctx, name, w, p.cols());
  auto const inverse = detail::inverse_sums(ctx, p, false);
  auto const sums = detail::probability_sums(ctx, routes, weights, inverse);
  token_range const range;
  auto losses = scratch<double>(ctx, 1, experts > 0 ? range.blocks(p.cols()) : 0);
  run_batch(ctx, losses.cols(),
            score_variance_body{coefficient / static_cast<double>(experts), experts,
                                detail::sigmoid_scores(routes), range},
            p, weights, sums, losses, dscores);
  sum_columns(ctx, losses, loss);
}

}  // namespace stiefelx
