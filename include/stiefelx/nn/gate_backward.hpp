// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <type_traits>

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

  /// \param[in]  team      lanes share the experts; one goes through the slots once, several once an
  ///                       expert
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
    bool rising = true;
    int last = -1;
    for (index_t i = 0; i < ids.rows; ++i) {
      int const e = ids(i, t);
      if (!detail::is_filled(e, named)) continue;
      sum += static_cast<double>(weights(i, t)) * static_cast<double>(dweights(i, t));
      rising = rising && e > last;
      last = e;
    }
    bool const spread = !gates.renormalize && !apart;
    double const mean = gates.renormalize ? sum / gates.scaling : 0;
    auto const change = [&](index_t i) {
      return static_cast<double>(weights(i, t)) * (static_cast<double>(dweights(i, t)) - mean);
    };
    auto const listed = [&](index_t e, double changes) {
      double const v = static_cast<double>(p(e, t));
      double const slope = changes * (apart ? 1 - v : 1);
      return static_cast<S>(spread ? slope - v * sum : slope);
    };
    auto const unlisted = [&](index_t e) {
      return spread ? static_cast<S>(-static_cast<double>(p(e, t)) * sum) : S(0);
    };
    if constexpr (std::is_same_v<Lanes, serial_team>) {
      for (index_t e = 0; e < p.rows; ++e) dscores(e, t) = unlisted(e);
      // In a rising list no expert stands twice.
      bool const repeated = !rising && may_repeat(ids, t, named);
      for (index_t i = 0; i < ids.rows; ++i) {
        int const e = ids(i, t);
        if (!detail::is_filled(e, named)) continue;
        double changes = change(i);
        if (repeated) {
          // Every slot of an expert writes the sum over all of them.
          changes = 0;
          for (index_t j = 0; j < ids.rows; ++j)
            if (ids(j, t) == e) changes += change(j);
        }
        dscores(e, t) = listed(e, changes);
      }
    } else {
      for (index_t e = team.rank(); e < p.rows; e += team.size()) {
        double changes = 0;
        bool found = false;
        for (index_t i = 0; e < named && i < ids.rows; ++i) {
          if (ids(i, t) != e) continue;
          changes += change(i);
          found = true;
        }
        dscores(e, t) = found ? listed(e, changes) : unlisted(e);
      }
    }
  }

 private:
  // Whether two slots name experts of equal last six bits: where none do, no expert is listed twice.
  static STIEFELX_HD bool may_repeat(matrix_ref<int const> ids, index_t t, index_t named) {
    std::uint64_t seen = 0;
    bool met = false;
    for (index_t i = 0; i < ids.rows; ++i) {
      if (!detail::is_filled(ids(i, t), named)) continue;
      std::uint64_t const bit = std::uint64_t{1} << (ids(i, t) & 63);
      met = met || (seen & bit) != 0;
      seen |= bit;
    }
    return met;
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
/// The choice itself is constant. Empty slots count for nothing, whatever dweights has there. Where a
/// routing made by hand lists an expert twice, \f$ \bar \ell_e \f$ of the chosen is the sum over its slots,
/// less \f$ v_e \mu \f$ once.
///
/// \param[in]  ctx       where to run; nothing waits
/// \param[in]  routes    of the forward call
/// \param[in]  dweights  k x T
/// \param[out] dscores   E x T, null experts included, overwritten; must not overlap dweights
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if dscores overlaps dweights or a part of routes
/// \par Cost
/// About 5 E T flops; no scratch.
template <class Ctx, class Routing, Matrix DW, class DS>
  requires OutputMatrix<DS> && SameScalar<DW, DS>
void gate_backward(Ctx& ctx, Routing const& routes, DW const& dweights, DS&& dscores) {
  index_t const tokens = routes.probabilities.cols();
  expect_shape("gate_backward", "dweights", dweights, routes.weights.rows(), tokens);
  expect_shape("gate_backward", "dscores", dscores, routes.probabilities.rows(), tokens);
  expect_distinct(ctx, "gate_backward", "dscores", dscores, "dweights", dweights);
  expect_distinct(ctx, "gate_backward", "dscores", dscores, "routes.weights", routes.weights);
  expect_distinct(ctx, "gate_backward", "dscores", dscores, "routes.probabilities",
                  routes.probabilities);
  auto const& incoming = dense(ctx, dweights);
  run_batch(ctx, tokens, gate_backward_body{routes.options.gates(), routes.experts},
            routes.probabilities, routes.weights, routes.ids, incoming, dscores);
}

}  // namespace stiefelx
