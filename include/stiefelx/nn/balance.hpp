// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/expert_counts.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/score_gradient.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief What the balance loss calls the share \f$ f_e \f$ of an expert.
/// \ingroup nn
///
/// Published coefficients belong to one of these: the first to \cite fedus2022switch, the second to
/// mixtures in the manner of Mixtral, the last to \cite lepikhin2020gshard and what follows it. The
/// value at a uniform router tells them apart.
enum class balance_share {
  of_choices,        ///< of all choices: \f$ \sum f_e = 1 \f$, uniform value \f$ \alpha \f$
  of_tokens,         ///< of the tokens that chose it: \f$ \sum f_e = k \f$, uniform value k alpha
  of_first_choices,  ///< of the tokens whose most probable choice it is; uniform value \f$ \alpha \f$
};

/// How balance_loss() counts.
/// \ingroup nn
struct balance_options {
  balance_share share = balance_share::of_choices;  ///< what \f$ f_e \f$ is
  /// Whether a token's probabilities are divided by their sum, for scores that do not sum to one.
  bool normalize = false;
  /// Only with counts from outside: whether \f$ P_e \f$ is this part of a sum over all tokens that
  /// were counted, so that losses and gradients of the parts add up to those of the whole. Else it
  /// is the mean over the tokens at hand, and losses and gradients of the parts are averaged.
  bool sum_of_parts = false;
};

/// \brief Team text: value of the balance loss of one group, and its gradient at the sums.
/// \ingroup nn
struct balance_value_body {
  balance_options options;  ///< normalizer
  double coefficient;       ///< \f$ \alpha \f$
  index_t experts;          ///< true experts

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes share the experts
  /// \param[in]  g       the group
  /// \param[in]  sums    (N + 1) x G, of probability_sums_body, N experts and null experts
  /// \param[in]  counts  (E + 2) x G, of expert_counts_body
  /// \param[out] dsums   N x G
  /// \param[out] losses  1 x G
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, index_t g, double*, matrix_ref<double const> sums,
                              matrix_ref<double const> counts, matrix_ref<double> dsums,
                              matrix_ref<double> losses) const {
    double const counted = counts(experts + 1, g);
    double divisor = counted;
    if (options.share != balance_share::of_tokens) {
      divisor = 0;
      for (index_t e = 0; e <= experts; ++e) divisor += counts(e, g);
    }
    double const tokens = options.sum_of_parts ? counted : sums(0, g);
    index_t const all = dsums.rows;
    double const factor =
        divisor > 0 && tokens > 0 ? coefficient * static_cast<double>(all) / (divisor * tokens) : 0;
    // Null experts are interchangeable, so each has an equal part of what they got.
    double const null_share = counts(experts, g) / static_cast<double>(all - experts);
    double sum = 0;
    for (index_t e = team.rank(); e < all; e += team.size()) {
      dsums(e, g) = factor * (e < experts ? counts(e, g) : null_share);
      sum += dsums(e, g) * sums(e + 1, g);
    }
    sum = team.sum(sum);
    if (team.rank() == 0) losses(0, g) = sum;
  }
};

namespace detail {

// 1 / Z of every token, or 1 for all.
template <class Ctx, class P>
auto inverse_sums(Ctx& ctx, P const& p, bool normalize) {
  auto inverse = scratch<double>(ctx, 1, normalize ? p.cols() : 1);
  if (normalize)
    run_batch(ctx, p.cols(), inverse_sum_body{}, p, inverse);
  else
    fill(ctx, 1, inverse);
  return inverse;
}

template <class Ctx, class Routing, class L, class DS>
void expect_loss(Ctx&, char const* function, Routing const& routes, L const& loss,
                 DS const& dscores) {
  index_t const all = routes.probabilities.rows(), tokens = routes.probabilities.cols();
  expect_shape(function, "routes.ids", routes.ids, routes.ids.rows(), tokens);
  expect_shape(function, "loss", loss, 1, 1);
  expect_shape(function, "dscores", dscores, all, tokens);
}

// The loss and its gradient once sums and counts of every group are known.
template <class Ctx, class Routing, class W, class Inverse, class Offsets, class Sums, class Counts,
          class L, class DS>
void finish_balance(Ctx& ctx, double coefficient, Routing const& routes, W const& w,
                    Inverse const& inverse, Offsets const& offsets, token_range range,
                    Sums const& sums, Counts const& counts, L&& loss, DS&& dscores,
                    balance_options options) {
  index_t const all = routes.probabilities.rows(), groups = sums.cols();
  index_t const items = range.block > 0 ? range.blocks(routes.probabilities.cols()) : groups;
  auto dsums = scratch<double>(ctx, all, groups);
  auto losses = scratch<double>(ctx, 1, groups);
  double const each = coefficient / static_cast<double>(groups);
  run_batch(ctx, groups, balance_value_body{options, each, routes.experts}, sums, counts, dsums,
            losses);
  sum_columns(ctx, losses, loss);
  run_batch(ctx, items, probability_gradient_body{range, sigmoid_scores(routes), options.normalize},
            routes.probabilities, w, inverse, offsets, dsums, dscores);
}

// Sums of the probabilities of all tokens, (N + 1) x 1.
template <class Ctx, class Routing, class W, class Inverse>
auto probability_sums(Ctx& ctx, Routing const& routes, W const& w, Inverse const& inverse) {
  token_range const range;
  auto const& p = routes.probabilities;
  auto const none = clear_status(ctx, 1);
  auto parts = scratch<double>(ctx, p.rows() + 1, range.blocks(p.cols()));
  run_batch(ctx, parts.cols(), probability_sums_body{range}, p, w, inverse, none, parts);
  auto sums = scratch<double>(ctx, p.rows() + 1, 1);
  sum_columns(ctx, parts, sums);
  return sums;
}

template <class Ctx, class Routing, class W, class Counts, class L, class DS>
void balance_all(Ctx& ctx, double coefficient, Routing const& routes, W const& w,
                 Counts const& counts, L&& loss, DS&& dscores, balance_options options) {
  auto const inverse = inverse_sums(ctx, routes.probabilities, options.normalize);
  auto const sums = probability_sums(ctx, routes, w, inverse);
  finish_balance(ctx, coefficient, routes, w, inverse, clear_status(ctx, 1), {}, sums, counts, loss,
                 dscores, options);
}

}  // namespace detail

/// \brief Load-balancing loss and its gradient.
/// \ingroup nn
///
/// With \f$ f_e \f$ the share of the choices that went to expert e and \f$ P_e = \frac{1}{T_v}
/// \sum_t w_t p_{et} \f$ its mean probability, \f$ T_v = \sum_t w_t \f$,
/// \f[ L = \alpha N \sum_e f_e P_e , \qquad
///     \bar\ell_{et} \mathrel{+}= \frac{\alpha N w_t}{T_v}\, p_{et} \Big( f_e - \sum_j f_j p_{jt} \Big), \f]
/// for N experts; a uniform router has \f$ L = \alpha \f$ \cite fedus2022switch. \f$ f_e \f$ counts as
/// constant. balance_options has what other libraries divide by. The gradient of sigmoid scores has
/// \f$ p_{et} (1 - p_{et}) f_e \f$ in place of the softmax's.
///
/// Null experts, rows of the probabilities beyond the true experts, are in N and count as one
/// group: each has the group's mean share, so the loss does not ask that they be equally used
/// \cite zeng2024adamoe. What a token was to take less what it lists went to them. With no null
/// experts an empty slot is no choice.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \alpha \f$
/// \param[in]     routes       of route()
/// \param[in]     w            1 x T, token weights, or every_token; the weights that route() got
/// \param[out]    loss         1 x 1 of double; 0 where all weights are 0
/// \param[in,out] dscores      N x T, accumulates
/// \param[in]     options      the normalizer
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// About 3 (N + k) T flops, 2 passes over the probabilities; scratch 3 (N + 1) T / 256 entries.
template <class Ctx, class Routing, TokenWeights W, class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS>
void balance_loss(Ctx& ctx, double coefficient, Routing const& routes, W const& w, L&& loss,
                  DS&& dscores, balance_options options = {}) {
  char const* const name = "balance_loss";
  detail::expect_loss(ctx, name, routes, loss, dscores);
  auto const& weights = detail::weights_of(ctx, name, w, routes.probabilities.cols());
  auto const counts =
      detail::counts_of(ctx, routes, weights, options.share == balance_share::of_first_choices);
  options.sum_of_parts = false;
  detail::balance_all(ctx, coefficient, routes, weights, counts, loss, dscores, options);
}

/// \brief balance_loss() where every token counts.
/// \ingroup nn
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \alpha \f$
/// \param[in]     routes       of route()
/// \param[out]    loss         1 x 1 of double; 0 for no tokens
/// \param[in,out] dscores      N x T, accumulates
/// \param[in]     options      the normalizer
/// \throws shape_error  if a shape is wrong
template <class Ctx, class Routing, class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS>
void balance_loss(Ctx& ctx, double coefficient, Routing const& routes, L&& loss, DS&& dscores,
                  balance_options options = {}) {
  balance_loss(ctx, coefficient, routes, every_token{}, loss, dscores, options);
}

/// \brief balance_loss() with counts of more tokens than those at hand.
/// \ingroup nn
///
/// Where the batch is cut into parts (devices, accumulated steps), each part calls expert_counts(),
/// the counts are added over the parts, and each part calls this with the sum: \f$ f_e \f$ is that of
/// the whole, \f$ P_e \f$ that of the part. See balance_options::sum_of_parts for how losses and
/// gradients of parts go together. Repeating a forward pass changes nothing, since nothing is kept
/// here.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \alpha \f$
/// \param[in]     routes       of route()
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[in]     counts       (E + 2) x 1 of double, sums of expert_counts() with the same options
/// \param[out]    loss         1 x 1 of double
/// \param[in,out] dscores      N x T, accumulates
/// \param[in]     options      the normalizer
/// \throws shape_error  if a shape is wrong
template <class Ctx, class Routing, TokenWeights W, Matrix Counts, class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS>
void balance_loss_of_counts(Ctx& ctx, double coefficient, Routing const& routes, W const& w,
                            Counts const& counts, L&& loss, DS&& dscores,
                            balance_options options = {}) {
  char const* const name = "balance_loss_of_counts";
  detail::expect_loss(ctx, name, routes, loss, dscores);
  expect_shape(name, "counts", counts, routes.experts + 2, 1);
  auto const& weights = detail::weights_of(ctx, name, w, routes.probabilities.cols());
  auto const& given = dense(ctx, counts);
  detail::balance_all(ctx, coefficient, routes, weights, given, loss, dscores, options);
}

/// \brief Mean of the balance losses of groups of tokens, such as sequences.
/// \ingroup nn
///
/// \f$ \frac1G \sum_g L_g \f$ with \f$ L_g \f$ the balance_loss() of the tokens of group g alone
/// \cite deepseek2024v3. A group whose weights are all 0 has the loss 0 and still counts in G.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \alpha \f$
/// \param[in]     routes       of route()
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[in]     offsets      1 x (G + 1) of int, rising from 0 to T: group g has the tokens from
///                             offsets(g) to offsets(g + 1) - 1
/// \param[out]    loss         1 x 1 of double; 0 for no groups
/// \param[in,out] dscores      N x T, accumulates
/// \param[in]     options      the normalizer
/// \throws shape_error  if a shape is wrong
template <class Ctx, class Routing, TokenWeights W, Matrix Offsets, class L, class DS>
  requires OutputMatrix<L> && OutputMatrix<DS>
void sequence_balance_loss(Ctx& ctx, double coefficient, Routing const& routes, W const& w,
                           Offsets const& offsets, L&& loss, DS&& dscores,
                           balance_options options = {}) {
  char const* const name = "sequence_balance_loss";
  detail::expect_loss(ctx, name, routes, loss, dscores);
  detail::expect_offsets(name, offsets);
  auto const& p = routes.probabilities;
  auto const& weights = detail::weights_of(ctx, name, w, p.cols());
  index_t const groups = offsets.cols() - 1;
  token_range const range{0};
  options.sum_of_parts = false;
  auto const inverse = detail::inverse_sums(ctx, p, options.normalize);
  auto sums = scratch<double>(ctx, p.rows() + 1, groups);
  run_batch(ctx, groups, probability_sums_body{range}, p, weights, inverse, offsets, sums);
  auto const counts = detail::group_counts(ctx, routes, weights, offsets, range, groups,
                                           options.share == balance_share::of_first_choices);
  detail::finish_balance(ctx, coefficient, routes, weights, inverse, offsets, range, sums, counts,
                         loss, dscores, options);
}

}  // namespace stiefelx
