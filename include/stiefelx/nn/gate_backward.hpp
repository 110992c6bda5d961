// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/gates.hpp>
#include <stiefelx/nn/routing.hpp>
#include <stiefelx/team/filled_slot.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: gradient of one token's scores from that of its gate weights.
/// \ingroup nn
struct gate_backward_body {
  gate_rule gates;                       ///< as in the forward call
  index_t experts = detail::any_expert;  ///< true experts; no more than rows of p count

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team      lanes share the experts and the slots
  /// \param[in]  t         the token
  /// \param[in]  p         E x T, probabilities
  /// \param[in]  weights   k x T
  /// \param[in]  ids       k x T
  /// \param[in]  dweights  k x T
  /// \param[out] dscores   E x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> p,
                              matrix_ref<S const> weights, matrix_ref<int const> ids,
                              matrix_ref<S const> dweights, matrix_ref<S> dscores) const {
    bool const apart = gates.score == score_kind::sigmoid;
    index_t const named = experts < p.rows ? experts : p.rows;
    double sum = 0;
    for (index_t i = 0; i < ids.rows; ++i)
      if (detail::is_filled(ids(i, t), named))
        sum += static_cast<double>(weights(i, t)) * static_cast<double>(dweights(i, t));
    bool const spread = !gates.renormalize && !apart;
    for (index_t e = team.rank(); e < p.rows; e += team.size())
      dscores(e, t) = spread ? static_cast<S>(-static_cast<double>(p(e, t)) * sum) : S(0);
    team.barrier();
    for (index_t i = team.rank(); i < ids.rows; i += team.size()) {
      int const e = ids(i, t);
      if (!detail::is_filled(e, named)) continue;
      double const g = static_cast<double>(weights(i, t)), dg = static_cast<double>(dweights(i, t));
      double const v = static_cast<double>(p(e, t));
      double const mean = gates.renormalize ? sum / gates.scaling : 0;
      double const slope = g * (dg - mean) * (apart ? 1 - v : 1);
      dscores(e, t) = static_cast<S>(spread ? slope - v * sum : slope);
    }
  }
};

/// \brief Gradient of the scores from the gradient of the gate weights.
/// \ingroup nn
///
/// With \f$ g_i \f$ the weights of a token's experts S, \f$ \bar g_i \f$ their gradients, \f$ \mu =
/// \sum_S g_j \bar g_j \f$, v the values and m the scaling:
///
/// | gates | \f$ \bar \ell_e \f$ of the chosen | of the others |
/// | --- | --- | --- |
/// | softmax, renormalized | \f$ g_e (\bar g_e - \mu / m) \f$ | 0 |
/// | softmax | \f$ g_e \bar g_e - v_e \mu \f$ | \f$ -v_e \mu \f$ |
/// | sigmoid, renormalized | \f$ g_e (\bar g_e - \mu / m) (1 - v_e) \f$ | 0 |
/// | sigmoid | \f$ g_e \bar g_e (1 - v_e) \f$ | 0 |
///
/// The choice itself is constant. Empty slots count for nothing, whatever dweights has there.
///
/// \param[in]  ctx       where to run; nothing waits
/// \param[in]  routes    of the forward call
/// \param[in]  dweights  k x T
/// \param[out] dscores   E x T, null experts included, overwritten
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// About 5 E T flops; no scratch.
template <class Ctx, class Routing, Matrix DW, class DS>
  requires OutputMatrix<DS> && SameScalar<DW, DS>
void gate_backward(Ctx& ctx, Routing const& routes, DW const& dweights, DS&& dscores) {
  index_t const tokens = routes.probabilities.cols();
  expect_shape("gate_backward", "dweights", dweights, routes.weights.rows(), tokens);
  expect_shape("gate_backward", "dscores", dscores, routes.probabilities.rows(), tokens);
  auto const& incoming = dense(ctx, dweights);
  run_batch(ctx, tokens, gate_backward_body{routes.options.gates(), routes.experts},
            routes.probabilities, routes.weights, routes.ids, incoming, dscores);
}

}  // namespace stiefelx
