// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/gates.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Sums of probabilities over tokens, and gradients of scores from those of probabilities.
/// \ingroup nn

namespace stiefelx {

namespace detail {

// Whether probabilities are sigmoids of single scores.
template <class Routing>
bool sigmoid_scores(Routing const& routes) {
  return routes.options.gates().score == score_kind::sigmoid;
}

// Adds to one token's scores the gradient that arrives at its probabilities, dp(e).
template <class S, class Gradient>
STIEFELX_HD void add_score_gradient(bool sigmoid, matrix_ref<S const> p, index_t t,
                                    Gradient const& dp, matrix_ref<S> dscores) {
  double mean = 0;
  if (!sigmoid)
    for (index_t e = 0; e < p.rows; ++e) mean += static_cast<double>(p(e, t)) * dp(e);
  for (index_t e = 0; e < p.rows; ++e) {
    auto const q = static_cast<double>(p(e, t));
    double const slope = sigmoid ? q * (1 - q) * dp(e) : q * (dp(e) - mean);
    dscores(e, t) += static_cast<S>(slope);
  }
}

}  // namespace detail

/// \brief Team text: weighted sums of the probabilities of a block or group of tokens.
/// \ingroup nn
struct probability_sums_body {
  token_range range;  ///< blocks or groups

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes share the tokens
  /// \param[in]  item     block or group
  /// \param[in]  p        E x T
  /// \param[in]  w        1 x T or 1 x 1, token weights
  /// \param[in]  inverse  1 x T or 1 x 1, factors of the probabilities
  /// \param[in]  offsets  1 x (G + 1); read for groups only
  /// \param[out] sums     (E + 1) x items: sum of w, then those of w p
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<S const> p,
                              matrix_ref<W const> w, matrix_ref<double const> inverse,
                              matrix_ref<int const> offsets, matrix_ref<double> sums) const {
    index_t const first = range.first(offsets, item, p.cols);
    index_t const end = range.end(offsets, item, p.cols);
    for (index_t row = 0; row <= p.rows; ++row) {
      double sum = 0;
      for (index_t t = first + team.rank(); t < end; t += team.size()) {
        double const weight = detail::weight_of(w, t);
        // What a padded token holds may be anything, NaN as well.
        if (weight == 0) continue;
        sum += row == 0
                   ? weight
                   : weight * detail::weight_of(inverse, t) * static_cast<double>(p(row - 1, t));
      }
      sum = team.sum(sum);
      if (team.rank() == 0) sums(row, item) = sum;
    }
  }
};

/// \brief Team text: adds to scores the gradient of a loss that is linear in a group's sums.
/// \ingroup nn
///
/// \f$ \bar p_{et} = w_t \bar S_e \f$ for the sums \f$ S_e = \sum_t w_t p_{et} \f$, or, where
/// probabilities are normalized by \f$ Z_t = \sum_e p_{et} \f$, \f$ \bar p_{et} = (w_t / Z_t)
/// (\bar S_e - \sum_j \bar S_j p_{jt} / Z_t) \f$.
struct probability_gradient_body {
  token_range range;  ///< blocks or groups
  bool sigmoid;       ///< of each score, instead of softmax of all
  bool normalized;    ///< whether the sums are of p / Z

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes share the tokens
  /// \param[in]     item     block or group
  /// \param[in]     p        E x T
  /// \param[in]     w        1 x T or 1 x 1, token weights
  /// \param[in]     inverse  1 x T or 1 x 1, 1 / Z
  /// \param[in]     offsets  1 x (G + 1); read for groups only
  /// \param[in]     dsums    E x 1, or E x G for groups
  /// \param[in,out] dscores  E x T, accumulates
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<S const> p,
                              matrix_ref<W const> w, matrix_ref<double const> inverse,
                              matrix_ref<int const> offsets, matrix_ref<double const> dsums,
                              matrix_ref<S> dscores) const {
    double const* const d = dsums.column(range.column(item));
    index_t const end = range.end(offsets, item, p.cols);
    for (index_t t = range.first(offsets, item, p.cols) + team.rank(); t < end; t += team.size()) {
      double const z = detail::weight_of(inverse, t);
      double const weight = detail::weight_of(w, t) * z;
      if (weight == 0) continue;
      double mean = 0;
      if (normalized)
        for (index_t e = 0; e < p.rows; ++e) mean += d[e] * static_cast<double>(p(e, t)) * z;
      detail::add_score_gradient(
          sigmoid, p, t, [&](index_t e) { return weight * (d[e] - mean); }, dscores);
    }
  }
};

/// \brief Team text: one over the sum of a token's probabilities.
/// \ingroup nn
struct inverse_sum_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes share the experts
  /// \param[in]  t        the token
  /// \param[in]  p        E x T
  /// \param[out] inverse  1 x T; 0 where the sum is 0
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> p,
                              matrix_ref<double> inverse) const {
    double sum = 0;
    for (index_t e = team.rank(); e < p.rows; e += team.size()) sum += static_cast<double>(p(e, t));
    sum = team.sum(sum);
    if (team.rank() == 0) inverse(0, t) = sum > 0 ? 1 / sum : 0;
  }
};

}  // namespace stiefelx
