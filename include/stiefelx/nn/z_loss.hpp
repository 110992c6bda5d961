// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: z-loss of a block of tokens and the gradient of their scores.
/// \ingroup nn
struct z_loss_body {
  double coefficient;  ///< \f$ \beta \f$
  token_range range;   ///< blocks

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes share the tokens
  /// \param[in]     item     the block
  /// \param[in]     scores   E x T
  /// \param[in]     w        1 x T or 1 x 1, token weights
  /// \param[in]     total    1 x 1, sum of the weights
  /// \param[out]    losses   1 x blocks
  /// \param[in,out] dscores  E x T, accumulates
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<S const> scores,
                              matrix_ref<W const> w, matrix_ref<double const> total,
                              matrix_ref<double> losses, matrix_ref<S> dscores) const {
    double sum = 0;
    index_t const end = range.end({}, item, scores.cols);
    for (index_t t = range.first({}, item, scores.cols) + team.rank(); t < end; t += team.size()) {
      double const weight = detail::weight_of(w, t);
      if (weight == 0) continue;
      double const share = coefficient * weight / total(0, 0);
      auto largest = static_cast<double>(scores(0, t));
      for (index_t e = 1; e < scores.rows; ++e)
        if (static_cast<double>(scores(e, t)) > largest)
          largest = static_cast<double>(scores(e, t));
      double z = 0;
      for (index_t e = 0; e < scores.rows; ++e)
        z += std::exp(static_cast<double>(scores(e, t)) - largest);
      double const lse = largest + std::log(z);
      sum += share * lse * lse;
      for (index_t e = 0; e < scores.rows; ++e) {
        double const p = std::exp(static_cast<double>(scores(e, t)) - largest) / z;
        dscores(e, t) += static_cast<S>(2 * share * lse * p);
      }
    }
    sum = team.sum(sum);
    if (team.rank() == 0) losses(0, item) = sum;
  }
};

/// \brief Keeps the scores of a router small: mean squared logarithm of softmax's denominator.
/// \ingroup nn
///
/// \f[ L = \frac{\beta}{T_v} \sum_t w_t \lambda_t^2, \qquad \lambda_t = \log \sum_e e^{\ell_{et}},
///     \qquad \bar\ell_{et} \mathrel{+}= \frac{2 \beta w_t}{T_v}\, \lambda_t\,
///     \mathrm{softmax}(\ell_t)_e, \f]
/// \f$ T_v = \sum_t w_t \f$ \cite zoph2022stmoe. It needs the scores themselves, since probabilities do
/// not know a number that is added to all of a token's scores.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \beta \f$
/// \param[in]     scores       E x T, before softmax
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[out]    loss         1 x 1 of double; 0 where all weights are 0, or without experts
/// \param[in,out] dscores      E x T, accumulates; must not overlap scores
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if dscores overlaps scores
/// \par Cost
/// 2 E T exponentials; scratch T / 128 entries.
template <class Ctx, RealMatrix X, TokenWeights W, class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS> && SameScalar<X, DS>
void z_loss(Ctx& ctx, double coefficient, X const& scores, W const& w, L&& loss, DS&& dscores) {
  char const* const name = "z_loss";
  index_t const tokens = scores.cols();
  expect_shape(name, "loss", loss, 1, 1);
  expect_shape(name, "dscores", dscores, scores.rows(), tokens);
  expect_distinct(ctx, name, "dscores", dscores, "scores", scores);
  auto const& weights = detail::weights_of(ctx, name, w, tokens);
  auto const& given = dense(ctx, scores);
  auto const total = detail::total_weight(ctx, weights, tokens);
  token_range const range;
  auto losses = scratch<double>(ctx, 1, scores.rows() > 0 ? range.blocks(tokens) : 0);
  run_batch(ctx, losses.cols(), z_loss_body{coefficient, range}, given, weights, total, losses,
            dscores);
  sum_columns(ctx, losses, loss);
}

}  // namespace stiefelx
