// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// Which experts a token gets and how they are weighted.
/// \ingroup nn
struct router_options {
  index_t top_k = 0;        ///< experts a token, or 0 for all of them (a soft mixture)
  bool renormalize = true;  ///< whether the chosen weights are scaled to sum 1
};

/// \brief What route() decided for T tokens and E experts, k of them a token.
/// \ingroup nn
///
/// A token's experts are listed by falling score, ties by rising index; a soft mixture lists all of
/// them by index. The list's order is the order of Gram-Schmidt.
template <class Probabilities, class Weights, class Ids>
struct routing {
  Probabilities probabilities;  ///< E x T, softmax of the scores
  Weights weights;              ///< k x T, gate weights of the listed experts
  Ids ids;                      ///< k x T, int, the listed experts
  router_options options;       ///< as given to route()
};

/// \brief Team text: softmax, choice and weights of one token.
/// \ingroup nn
struct gate_body {
  router_options options;  ///< number of experts and normalization

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes; one works, experts are few
  /// \param[in]     t        the token
  /// \param[in,out] p        E x T, scores; become probabilities
  /// \param[out]    weights  k x T
  /// \param[out]    ids      k x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S> p,
                              matrix_ref<S> weights, matrix_ref<int> ids) const {
    if (team.rank() != 0) return;
    index_t const experts = p.rows, k = ids.rows;
    S* const score = p.column(t);
    double largest = static_cast<double>(score[0]);
    for (index_t e = 1; e < experts; ++e)
      if (static_cast<double>(score[e]) > largest) largest = static_cast<double>(score[e]);
    // Chosen by score, before rounding can make two probabilities equal.
    for (index_t i = 0; i < k; ++i) {
      index_t best = -1;
      if (options.top_k == 0) {
        best = i;
      } else {
        for (index_t e = 0; e < experts; ++e) {
          bool taken = false;
          for (index_t j = 0; j < i; ++j) taken = taken || ids(j, t) == static_cast<int>(e);
          if (!taken && (best < 0 || score[e] > score[best])) best = e;
        }
      }
      ids(i, t) = static_cast<int>(best);
    }
    double sum = 0;
    for (index_t e = 0; e < experts; ++e) sum += std::exp(static_cast<double>(score[e]) - largest);
    for (index_t e = 0; e < experts; ++e)
      score[e] = static_cast<S>(std::exp(static_cast<double>(score[e]) - largest) / sum);
    double chosen = 0;
    for (index_t i = 0; i < k; ++i) chosen += static_cast<double>(score[ids(i, t)]);
    bool const scaled = options.renormalize && options.top_k != 0;
    for (index_t i = 0; i < k; ++i) {
      double const w = static_cast<double>(score[ids(i, t)]);
      weights(i, t) = static_cast<S>(scaled ? w / chosen : w);
    }
  }
};

/// \brief Team text: gradient of one token's scores from that of its gate weights.
/// \ingroup nn
struct gate_backward_body {
  router_options options;  ///< as in the forward call

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team      lanes; one works
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
    if (team.rank() != 0) return;
    index_t const experts = p.rows, k = ids.rows;
    double mean = 0;
    for (index_t i = 0; i < k; ++i)
      mean += static_cast<double>(weights(i, t)) * static_cast<double>(dweights(i, t));
    bool const closed = options.renormalize || options.top_k == 0;
    for (index_t e = 0; e < experts; ++e)
      dscores(e, t) = closed ? S(0) : static_cast<S>(-static_cast<double>(p(e, t)) * mean);
    for (index_t i = 0; i < k; ++i) {
      double const w = static_cast<double>(weights(i, t)), dw = static_cast<double>(dweights(i, t));
      dscores(ids(i, t), t) = static_cast<S>(w * (dw - mean));
    }
  }
};

namespace detail {

inline void expect_router(char const* function, index_t experts, router_options options) {
  expect_option(options.top_k >= 0 && options.top_k <= experts, function, "top_k", options.top_k,
                "a number from 0 (all) to the number of experts");
  expect_option(!(options.top_k == 1 && options.renormalize && experts > 1), function, "top_k",
                options.top_k,
                "more than 1 with renormalize, since a single weight of 1 has no gradient");
}

}  // namespace detail

/// \brief Routes every token: softmax scores, the chosen experts and their gate weights.
/// \ingroup nn
///
/// Scores are \f$ \ell = w^T x \f$, probabilities \f$ p = \mathrm{softmax}(\ell) \f$. The k largest scores
/// are chosen, ties to the lowest index; their weights are \f$ p_e \f$, or \f$ p_e \f$ over the sum of the
/// chosen, which is the softmax of the chosen scores. Softmax runs in double.
///
/// \param[in] ctx      where to run; nothing waits
/// \param[in] router   d x E, no bias
/// \param[in] x        d x T, a token is a column
/// \param[in] options  number of experts a token, and normalization
/// \returns a routing in scratch: it lives until the backward pass has used it
/// \throws shape_error   if the router's rows are not x's
/// \throws option_error  if top_k is out of range, or 1 with renormalize (its gradient is zero)
/// \par Cost
/// 2 d E T flops; (E + 2k) T scratch entries.
/// \see \cite shazeer2017
template <class Ctx, RealMatrix Router, RealMatrix X>
  requires SameScalar<Router, X>
auto route(Ctx& ctx, Router const& router, X const& x, router_options options = {}) {
  using S = scalar_t<X>;
  index_t const experts = router.cols(), tokens = x.cols();
  expect_shape("route", "router", router, x.rows(), experts);
  detail::expect_router("route", experts, options);
  index_t const k = options.top_k == 0 ? experts : options.top_k;
  auto probabilities = product(ctx, router.adjoint(), x);
  auto weights = scratch<S>(ctx, k, tokens);
  auto ids = scratch<int>(ctx, k, tokens);
  run_batch(ctx, experts > 0 ? tokens : 0, gate_body{options}, probabilities, weights, ids);
  return routing<decltype(probabilities), decltype(weights), decltype(ids)>{
      std::move(probabilities), std::move(weights), std::move(ids), options};
}

/// \brief Gradient of the scores from the gradient of the gate weights.
/// \ingroup nn
///
/// With \f$ g_i \f$ the weights and \f$ \bar g_i \f$ their gradients: \f$ \bar \ell_i = g_i (\bar g_i - \sum_j
/// g_j \bar g_j) \f$ for the chosen, and for the others 0 when weights are renormalized,
/// \f$ -p_e \sum_j g_j \bar g_j \f$ when not. The choice itself is constant.
///
/// \param[in]  ctx       where to run; nothing waits
/// \param[in]  routes    of the forward call
/// \param[in]  dweights  k x T
/// \param[out] dscores   E x T, overwritten
/// \throws shape_error  if a shape is wrong
template <class Ctx, class Routing, Matrix DW, class DS>
  requires OutputMatrix<DS> && SameScalar<DW, DS>
void gate_backward(Ctx& ctx, Routing const& routes, DW const& dweights, DS&& dscores) {
  index_t const tokens = routes.probabilities.cols();
  expect_shape("gate_backward", "dweights", dweights, routes.weights.rows(), tokens);
  expect_shape("gate_backward", "dscores", dscores, routes.probabilities.rows(), tokens);
  auto const& incoming = dense(ctx, dweights);
  run_batch(ctx, tokens, gate_backward_body{routes.options}, routes.probabilities, routes.weights,
            routes.ids, incoming, dscores);
}

/// \brief Gradients of the router's weights and of its input from those of the scores.
/// \ingroup nn
///
/// \f$ \bar w \mathrel{+}= x\,\bar\ell^T \f$ and \f$ \bar x = \beta \bar x + w\,\bar\ell \f$: the parameter
/// gradient accumulates, the activation gradient takes beta.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     router   d x E
/// \param[in]     x        d x T, of the forward call
/// \param[in]     dscores  E x T
/// \param[in,out] drouter  d x E, accumulates
/// \param[in]     beta     factor of what dx holds; with 0 it is not read
/// \param[in,out] dx       d x T; must not overlap dscores or drouter
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if dx overlaps dscores or drouter
template <class Ctx, RealMatrix Router, RealMatrix X, Matrix DS, class DR, class DX>
  requires OutputMatrix<DR> && OutputMatrix<DX> && SameScalar<Router, X, DS, DR, DX>
void router_backward(Ctx& ctx, Router const& router, X const& x, DS const& dscores, DR&& drouter,
                     double beta, DX&& dx) {
  expect_shape("router_backward", "router", router, x.rows(), router.cols());
  expect_shape("router_backward", "dscores", dscores, router.cols(), x.cols());
  expect_shape("router_backward", "drouter", drouter, router.rows(), router.cols());
  expect_shape("router_backward", "dx", dx, x.rows(), x.cols());
  expect_distinct(ctx, "router_backward", "dx", dx, "dscores", dscores);
  expect_distinct(ctx, "router_backward", "drouter", drouter, "dx", dx);
  multiply_add(ctx, 1, x, dscores.adjoint(), drouter);
  apply_beta(ctx, beta, dx);
  multiply_add(ctx, 1, router, dscores, dx);
}

}  // namespace stiefelx
