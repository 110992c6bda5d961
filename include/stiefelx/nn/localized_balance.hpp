// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/importance_loss.hpp>
#include <stiefelx/nn/score_gradient.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// How localized_balance_loss() weighs experts of a sample's own type.
/// \ingroup nn
struct localized_balance_options {
  double delta =
      0.1;  ///< \f$ \delta \f$: own type \f$ 1 + \delta \f$, other type \f$ 1 - \delta \f$
  double epsilon = 1e-10;  ///< added to the squared mean
};

/// \brief Team text: multiplies one sample's column by 1 + delta or 1 - delta, by type.
/// \ingroup nn
struct type_factor_body {
  double delta;  ///< \f$ \delta \f$

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team          lanes share the experts
  /// \param[in]     m             the sample
  /// \param[in]     expert_types  E x 1
  /// \param[in]     sample_types  1 x M
  /// \param[in,out] a             at least E rows, M columns
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, index_t m, double*,
                              matrix_ref<int const> expert_types,
                              matrix_ref<int const> sample_types, matrix_ref<double> a) const {
    for (index_t e = team.rank(); e < expert_types.rows; e += team.size())
      a(e, m) *= expert_types(e, 0) == sample_types(0, m) ? 1 + delta : 1 - delta;
  }
};

/// \brief Localised balancing of LoRAMoE: balance within a type of task, preference between types.
/// \ingroup nn
///
/// With \f$ Q_{em} = \sum_{t \in m} w_t p_{et} \f$ over the tokens of sample m, \f$ I_{em} = 1 + \delta \f$
/// where expert e and sample m have one type and \f$ 1 - \delta \f$ where not, and \f$ Z_{em} = I_{em}
/// Q_{em} \f$ \cite dou2024loramoe :
/// \f[ L = c\, \frac{\mathrm{var}(Z)}{\mathrm{mean}(Z)^2 + \epsilon} \f]
/// over all E M entries, var with E M - 1. Its minimum 0 is at Z constant: an expert of the other type
/// has probability \f$ (1+\delta)/(1-\delta) \f$ times that of one of the own type. So I weighs types
/// the way the paper writes it: an expert of the own type is *less* wanted for \f$ \delta > 0 \f$ where
/// the loss alone decides; give a negative delta for the opposite.
///
/// \param[in]     ctx           where to run; nothing waits
/// \param[in]     coefficient   c
/// \param[in]     routes        of route()
/// \param[in]     w             1 x T, token weights, or every_token
/// \param[in]     offsets       1 x (M + 1) of int, rising from 0 to T: sample m has the tokens from
///                              offsets(m) to offsets(m + 1) - 1
/// \param[in]     expert_types  E x 1 of int
/// \param[in]     sample_types  1 x M of int
/// \param[out]    loss          1 x 1 of double
/// \param[in,out] dscores       N x T, accumulates
/// \param[in]     options       delta and epsilon
/// \throws shape_error   if a shape is wrong
/// \throws option_error  if delta is outside (-1, 1) or epsilon is negative
/// \par Cost
/// About 3 N T flops; scratch 2 N M entries.
template <class Ctx, class Routing, TokenWeights W, Matrix Offsets, Matrix Experts, Matrix Samples,
          class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS>
void localized_balance_loss(Ctx& ctx, double coefficient, Routing const& routes, W const& w,
                            Offsets const& offsets, Experts const& expert_types,
                            Samples const& sample_types, L&& loss, DS&& dscores,
                            localized_balance_options options = {}) {
  char const* const name = "localized_balance_loss";
  auto const& p = routes.probabilities;
  index_t const experts = routes.experts;
  detail::expect_loss(ctx, name, routes, loss, dscores);
  detail::expect_offsets(name, offsets);
  index_t const samples = offsets.cols() - 1;
  expect_shape(name, "expert_types", expert_types, experts, 1);
  expect_shape(name, "sample_types", sample_types, 1, samples);
  expect_option(options.delta > -1 && options.delta < 1, name, "delta", options.delta,
                "a number in (-1, 1)");
  expect_option(options.epsilon >= 0, name, "epsilon", options.epsilon, "a number of at least 0");
  auto const& weights = detail::weights_of(ctx, name, w, p.cols());
  token_range const range{0};
  auto const inverse = detail::inverse_sums(ctx, p, false);
  auto sums = scratch<double>(ctx, p.rows() + 1, samples);
  auto dsums = scratch<double>(ctx, p.rows(), samples);
  run_batch(ctx, samples, probability_sums_body{range}, p, weights, inverse, offsets, sums);
  auto z = sums.middleRows(1, experts);
  auto dz = dsums.middleRows(0, experts);
  type_factor_body const factor{options.delta};
  run_batch(ctx, samples, factor, expert_types, sample_types, z);
  fill(ctx, 0, dsums);
  run_batch(ctx, 1, variation_body{coefficient, options.epsilon}, std::as_const(z), loss, dz);
  run_batch(ctx, samples, factor, expert_types, sample_types, dz);
  run_batch(ctx, samples, probability_gradient_body{range, detail::sigmoid_scores(routes), false},
            p, weights, inverse, offsets, std::as_const(dsums), dscores);
}

}  // namespace stiefelx
