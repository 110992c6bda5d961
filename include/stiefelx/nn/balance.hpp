// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: share of the choices and mean probability of one expert.
/// \ingroup nn
struct expert_load_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes share the tokens
  /// \param[in]  e     the expert
  /// \param[in]  p     E x T
  /// \param[in]  ids   k x T
  /// \param[out] load  2 x E: share of choices, mean probability
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t e, double*, matrix_ref<S const> p,
                              matrix_ref<int const> ids, matrix_ref<double> load) const {
    double count = 0, sum = 0;
    for (index_t t = team.rank(); t < p.cols; t += team.size()) {
      sum += static_cast<double>(p(e, t));
      for (index_t i = 0; i < ids.rows; ++i) count += ids(i, t) == static_cast<int>(e) ? 1 : 0;
    }
    count = team.sum(count);
    sum = team.sum(sum);
    if (team.rank() != 0) return;
    auto const tokens = static_cast<double>(p.cols);
    load(0, e) = count / (tokens * static_cast<double>(ids.rows));
    load(1, e) = sum / tokens;
  }
};

/// \brief Team text: adds the gradient of the balance loss to one token's scores.
/// \ingroup nn
struct balance_backward_body {
  double factor;  ///< coefficient E / T

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes; one works
  /// \param[in]     t        the token
  /// \param[in]     p        E x T
  /// \param[in]     load     2 x E
  /// \param[in,out] dscores  E x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> p,
                              matrix_ref<double> load, matrix_ref<S> dscores) const {
    if (team.rank() != 0) return;
    double mean = 0;
    for (index_t e = 0; e < p.rows; ++e) mean += load(0, e) * static_cast<double>(p(e, t));
    for (index_t e = 0; e < p.rows; ++e)
      dscores(e, t) += static_cast<S>(factor * static_cast<double>(p(e, t)) * (load(0, e) - mean));
  }
};

/// \brief Load-balancing loss and its gradient.
/// \ingroup nn
///
/// With \f$ f_e \f$ the share of all k T choices that went to expert e and \f$ P_e \f$ its mean
/// probability, \f$ L = \alpha E \sum_e f_e P_e \f$; a uniform router has \f$ L = \alpha \f$
/// \cite fedus2022switch. \f$ f_e \f$ counts as constant:
/// \f$ \bar\ell_{et} \mathrel{+}= \frac{\alpha E}{T} p_{et} (f_e - \sum_j f_j p_{jt}) \f$.
/// Other libraries leave out 1/k, so their coefficients are k times weaker to have the same effect.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \alpha \f$
/// \param[in]     routes       of route()
/// \param[out]    loss         1 x 1 of double
/// \param[in,out] dscores      E x T, accumulates
/// \throws shape_error  if a shape is wrong
template <class Ctx, class Routing, class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS>
void balance_loss(Ctx& ctx, double coefficient, Routing const& routes, L&& loss, DS&& dscores) {
  index_t const experts = routes.probabilities.rows(), tokens = routes.probabilities.cols();
  expect_shape("balance_loss", "loss", loss, 1, 1);
  expect_shape("balance_loss", "dscores", dscores, experts, tokens);
  fill(ctx, 0, loss);
  if (tokens == 0 || experts == 0) return;
  auto load = scratch<double>(ctx, 2, experts);
  run_batch(ctx, experts, expert_load_body{}, routes.probabilities, routes.ids, load);
  double const factor = coefficient * static_cast<double>(experts);
  inner(ctx, load.middleRows(0, 1), load.middleRows(1, 1), loss);
  scale(ctx, factor, loss);
  run_batch(ctx, tokens, balance_backward_body{factor / static_cast<double>(tokens)},
            routes.probabilities, load, dscores);
}

}  // namespace stiefelx
