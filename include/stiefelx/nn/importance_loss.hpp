// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/score_gradient.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/filled_slot.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: squared coefficient of variation of numbers, and its gradient.
/// \ingroup nn
struct variation_body {
  double coefficient;  ///< factor of the loss
  double epsilon;      ///< added to the squared mean

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team   lanes share the rows of the numbers
  /// \param[in]  a      the numbers, any shape
  /// \param[out] loss   1 x 1
  /// \param[out] da     of a's shape
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, index_t, double*, matrix_ref<double const> a,
                              matrix_ref<double> loss, matrix_ref<double> da) const {
    auto const n = static_cast<double>(a.rows * a.cols);
    index_t const rank = team.rank(), lanes = team.size();
    double mean = 0, square = 0;
    for (index_t j = 0; j < a.cols; ++j)
      for (index_t i = rank; i < a.rows; i += lanes) mean += a(i, j) / n;
    mean = team.sum(mean);
    for (index_t j = 0; j < a.cols; ++j)
      for (index_t i = rank; i < a.rows; i += lanes) square += (a(i, j) - mean) * (a(i, j) - mean);
    square = team.sum(square);
    double const divisor = mean * mean + epsilon;
    // One number does not vary, and nothing at all has no scale. NaN stays NaN.
    bool const defined = n > 1 && !(divisor <= 0);
    double const variance = defined ? square / (n - 1) : 0;
    double const along = defined ? 2 * coefficient / ((n - 1) * divisor) : 0;
    double const shift = defined ? 2 * coefficient * variance * mean / (n * divisor * divisor) : 0;
    if (rank == 0) loss(0, 0) = defined ? coefficient * variance / divisor : 0;
    for (index_t j = 0; j < a.cols; ++j)
      for (index_t i = rank; i < a.rows; i += lanes) da(i, j) = along * (a(i, j) - mean) - shift;
  }
};

/// \brief Squared coefficient of variation of loads, and its gradient.
/// \ingroup nn
///
/// \f[ L = w\, \frac{V}{\mu^2 + \epsilon}, \quad V = \frac{1}{n-1} \sum_i (a_i - \mu)^2, \quad
///     \bar a_i = w \left( \frac{2 (a_i - \mu)}{(n-1)(\mu^2 + \epsilon)} -
///     \frac{2 V \mu}{n (\mu^2 + \epsilon)^2} \right) \f]
/// with the mean \f$ \mu \f$ of n loads \cite shazeer2017. It is 0 for one load, or where all are 0, and NaN
/// where one of several is.
///
/// \param[in]  ctx          where to run; nothing waits
/// \param[in]  coefficient  w
/// \param[in]  loads        of double, any shape
/// \param[out] loss         1 x 1 of double
/// \param[out] dloads       of the loads' shape, of double, overwritten; must not overlap loads
/// \param[in]  epsilon      \f$ \epsilon \f$, 0 or more
/// \throws shape_error   if a shape is wrong
/// \throws alias_error   if dloads overlaps loads
/// \throws option_error  if epsilon is negative
template <class Ctx, RealMatrix A, class L, class DA>
  requires OutputMatrix<L> && OutputMatrix<DA> && SameScalar<A, L, DA>
void variation_loss(Ctx& ctx, double coefficient, A const& loads, L&& loss, DA&& dloads,
                    double epsilon = 0) {
  char const* const name = "variation_loss";
  expect_shape(name, "loss", loss, 1, 1);
  expect_shape(name, "dloads", dloads, loads.rows(), loads.cols());
  expect_option(epsilon >= 0, name, "epsilon", epsilon, "a number of at least 0");
  expect_distinct(ctx, name, "dloads", dloads, "loads", loads);
  auto const& given = dense(ctx, loads);
  run_batch(ctx, 1, variation_body{coefficient, epsilon}, given, loss, dloads);
}

/// \brief Importance loss: squared coefficient of variation of the experts' summed probabilities.
/// \ingroup nn
///
/// \f$ I_e = \sum_t w_t p_{et} \f$ and the variation_loss() of the I of the true experts; it counts
/// how much an expert is wanted, not how often it is chosen, and its gradient reaches all of them.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  w
/// \param[in]     routes       of route()
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[out]    loss         1 x 1 of double; 0 for one expert
/// \param[in,out] dscores      N x T, accumulates
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// About 3 N T flops; scratch N T / 256 entries.
/// \see importance_loss_of_gates()
template <class Ctx, class Routing, TokenWeights W, class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS>
void importance_loss(Ctx& ctx, double coefficient, Routing const& routes, W const& w, L&& loss,
                     DS&& dscores) {
  char const* const name = "importance_loss";
  detail::expect_loss(ctx, name, routes, loss, dscores);
  auto const& p = routes.probabilities;
  index_t const experts = routes.experts;
  auto const& weights = detail::weights_of(ctx, name, w, p.cols());
  auto const inverse = detail::inverse_sums(ctx, p, false);
  auto const sums = detail::probability_sums(ctx, routes, weights, inverse);
  auto dsums = scratch<double>(ctx, p.rows(), 1);
  fill(ctx, 0, dsums);
  run_batch(ctx, 1, variation_body{coefficient, 0}, sums.middleRows(1, experts), loss,
            dsums.middleRows(0, experts));
  token_range const range;
  run_batch(ctx, range.blocks(p.cols()),
            probability_gradient_body{range, detail::sigmoid_scores(routes), false}, p, weights,
            inverse, clear_status(ctx, 1), std::as_const(dsums), dscores);
}

/// \brief Team text: sums of gate weights, expert by expert, or their gradient.
/// \ingroup nn
struct gate_sums_body {
  token_range range;  ///< blocks
  index_t experts;    ///< true experts

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team   lanes share the tokens; one goes through them once, several once an expert
  /// \param[in]  item   the block
  /// \param[in]  gates  k x T
  /// \param[in]  ids    k x T, -1 in an empty slot
  /// \param[in]  w      1 x T or 1 x 1, token weights
  /// \param[out] sums   E x blocks
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<S const> gates,
                              matrix_ref<int const> ids, matrix_ref<W const> w,
                              matrix_ref<double> sums) const {
    double* const sum = sums.column(item);
    index_t const first = range.first({}, item, ids.cols), end = range.end({}, item, ids.cols);
    if constexpr (std::is_same_v<Lanes, serial_team>) {
      for (index_t e = 0; e < experts; ++e) sum[e] = 0;
      for (index_t t = first; t < end; ++t) {
        double const weight = detail::weight_of(w, t);
        if (weight == 0) continue;
        for (index_t i = 0; i < ids.rows; ++i)
          if (detail::is_filled(ids(i, t), experts))
            sum[ids(i, t)] += weight * static_cast<double>(gates(i, t));
      }
    } else {
      for (index_t e = 0; e < experts; ++e) {
        double own = 0;
        for (index_t t = first + team.rank(); t < end; t += team.size()) {
          double const weight = detail::weight_of(w, t);
          if (weight == 0) continue;
          for (index_t i = 0; i < ids.rows; ++i)
            if (ids(i, t) == e) own += weight * static_cast<double>(gates(i, t));
        }
        own = team.sum(own);
        if (team.rank() == 0) sum[e] = own;
      }
    }
  }

  /// \param[in]     team   lanes share the tokens
  /// \param[in]     item   the block
  /// \param[in]     ids    k x T, -1 in an empty slot
  /// \param[in]     w      1 x T or 1 x 1, token weights
  /// \param[in]     dsums  E x 1
  /// \param[in,out] dgates k x T, accumulates
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<int const> ids,
                              matrix_ref<W const> w, matrix_ref<double const> dsums,
                              matrix_ref<S> dgates) const {
    index_t const end = range.end({}, item, ids.cols);
    for (index_t t = range.first({}, item, ids.cols) + team.rank(); t < end; t += team.size()) {
      double const weight = detail::weight_of(w, t);
      if (weight == 0) continue;
      for (index_t i = 0; i < ids.rows; ++i)
        if (detail::is_filled(ids(i, t), dsums.rows))
          dgates(i, t) += static_cast<S>(weight * dsums(ids(i, t), 0));
    }
  }
};

/// \brief Importance loss of the gate weights, as it was published.
/// \ingroup nn
///
/// \f$ I_e = \sum w_t c_{it} \f$ over the places (i, t) where e is listed, and the variation_loss() of I
/// \cite shazeer2017. Its gradient is that of the gate weights: add it to what the experts' backward
/// pass gives and let gate_backward() carry both on. Experts that were not chosen get none.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  w
/// \param[in]     routes       of route()
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[out]    loss         1 x 1 of double; 0 for one expert
/// \param[in,out] dweights     k x T, accumulates
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// 4 k T flops; scratch E T / 256 entries.
template <class Ctx, class Routing, TokenWeights W, class L, class DW>
  requires OutputMatrix<L> && OutputMatrix<DW>
void importance_loss_of_gates(Ctx& ctx, double coefficient, Routing const& routes, W const& w,
                              L&& loss, DW&& dweights) {
  char const* const name = "importance_loss_of_gates";
  index_t const tokens = routes.ids.cols(), experts = routes.experts;
  expect_shape(name, "routes.weights", routes.weights, routes.ids.rows(), tokens);
  expect_shape(name, "loss", loss, 1, 1);
  expect_shape(name, "dweights", dweights, routes.ids.rows(), tokens);
  auto const& weights = detail::weights_of(ctx, name, w, tokens);
  token_range const range;
  auto parts = scratch<double>(ctx, experts, range.blocks(tokens));
  auto sums = scratch<double>(ctx, experts, 1);
  auto dsums = scratch<double>(ctx, experts, 1);
  run_batch(ctx, parts.cols(), gate_sums_body{range, experts}, routes.weights, routes.ids, weights,
            parts);
  sum_columns(ctx, parts, sums);
  run_batch(ctx, 1, variation_body{coefficient, 0}, std::as_const(sums), loss, dsums);
  run_batch(ctx, parts.cols(), gate_sums_body{range, experts}, routes.ids, weights,
            std::as_const(dsums), dweights);
}

}  // namespace stiefelx
