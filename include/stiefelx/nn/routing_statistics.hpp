// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/expert_counts.hpp>
#include <stiefelx/nn/score_gradient.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief What measure_routing() found, where the data live; M holds double.
/// \ingroup nn
///
/// Entropies are in nats: their exponentials are numbers of experts. A router that spreads its
/// tokens and decides sharply has a large `entropy_of_mean` and a small `mean_entropy`.
template <class M>
struct routing_statistics {
  M load;             ///< 1 x E, share of all choices
  M probability;      ///< 1 x N, mean probability, null experts last
  M null_share;       ///< 1 x 1, share of the choices that null experts got
  M entropy_of_mean;  ///< 1 x 1, entropy of the mean probabilities: at most log N
  M mean_entropy;     ///< 1 x 1, mean of the tokens' entropies: at most entropy_of_mean
  M largest_load;     ///< 1 x 1, largest load times E: 1 when balanced, E when collapsed
  M dead_experts;     ///< 1 x 1, number of experts below the threshold
  M tokens;           ///< 1 x 1, sum of the token weights

  /// \param[in] ctx      owns the memory
  /// \param[in] experts  E
  /// \param[in] nulls    number of null experts, N - E
  template <class Ctx>
  routing_statistics(Ctx& ctx, index_t experts, index_t nulls = 0)
      : load(zeros<double>(ctx, 1, experts)),
        probability(zeros<double>(ctx, 1, experts + nulls)),
        null_share(zeros<double>(ctx, 1, 1)),
        entropy_of_mean(zeros<double>(ctx, 1, 1)),
        mean_entropy(zeros<double>(ctx, 1, 1)),
        largest_load(zeros<double>(ctx, 1, 1)),
        dead_experts(zeros<double>(ctx, 1, 1)),
        tokens(zeros<double>(ctx, 1, 1)) {}
};

/// Statistics in a context's own matrices.
/// \ingroup nn
template <class Ctx>
routing_statistics(Ctx&, index_t, index_t = 0) -> routing_statistics<matrix_t<Ctx, double>>;

/// \brief Team text: sum of the entropies of a block of tokens.
/// \ingroup nn
struct token_entropy_body {
  token_range range;  ///< blocks

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes share the tokens
  /// \param[in]  item     the block
  /// \param[in]  p        N x T
  /// \param[in]  w        1 x T or 1 x 1, token weights
  /// \param[in]  inverse  1 x T, factors that make p sum to 1
  /// \param[out] sums     1 x blocks
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<S const> p,
                              matrix_ref<W const> w, matrix_ref<double const> inverse,
                              matrix_ref<double> sums) const {
    double sum = 0;
    index_t const end = range.end({}, item, p.cols);
    for (index_t t = range.first({}, item, p.cols) + team.rank(); t < end; t += team.size()) {
      double const weight = detail::weight_of(w, t);
      if (weight == 0) continue;
      for (index_t e = 0; e < p.rows; ++e) {
        double const q = static_cast<double>(p(e, t)) * inverse(0, t);
        if (q > 0) sum -= weight * q * std::log(q);
      }
    }
    sum = team.sum(sum);
    if (team.rank() == 0) sums(0, item) = sum;
  }
};

/// \brief Team text: turns sums over tokens into routing_statistics.
/// \ingroup nn
struct routing_statistics_body {
  double dead_below;  ///< threshold, in parts of 1 / E

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team             lanes share the experts
  /// \param[in]     sums             (N + 1) x 1, of probability_sums_body
  /// \param[in]     counts           (E + 2) x 1, of expert_counts_body
  /// \param[in,out] mean_entropy     1 x 1, the sum on entry
  /// \param[out]    load             1 x E
  /// \param[out]    probability      1 x N
  /// \param[out]    null_share       1 x 1
  /// \param[out]    entropy_of_mean  1 x 1
  /// \param[out]    largest_load     1 x 1
  /// \param[out]    dead_experts     1 x 1
  /// \param[out]    tokens           1 x 1
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, index_t, double*, matrix_ref<double const> sums,
                              matrix_ref<double const> counts, matrix_ref<double> mean_entropy,
                              matrix_ref<double> load, matrix_ref<double> probability,
                              matrix_ref<double> null_share, matrix_ref<double> entropy_of_mean,
                              matrix_ref<double> largest_load, matrix_ref<double> dead_experts,
                              matrix_ref<double> tokens) const {
    index_t const experts = load.cols;
    double const weight = sums(0, 0);
    double choices = 0;
    for (index_t e = team.rank(); e <= experts; e += team.size()) choices += counts(e, 0);
    choices = team.sum(choices);
    auto const share = [](double part, double whole) { return whole > 0 ? part / whole : 0; };
    // What is below the threshold, and the entropy.
    double totals[2] = {};
    for (index_t e = team.rank(); e < experts; e += team.size()) {
      load(0, e) = share(counts(e, 0), choices);
      if (load(0, e) * static_cast<double>(experts) < dead_below) totals[0] += 1;
    }
    for (index_t e = team.rank(); e < probability.cols; e += team.size()) {
      double const q = share(sums(e + 1, 0), weight);
      probability(0, e) = q;
      if (q > 0) totals[1] -= q * std::log(q);
    }
    sum_to_first(team, totals);
    team.barrier();
    if (team.rank() != 0) return;
    double largest = 0;
    for (index_t e = 0; e < experts; ++e) largest = load(0, e) > largest ? load(0, e) : largest;
    null_share(0, 0) = share(counts(experts, 0), choices);
    entropy_of_mean(0, 0) = totals[1];
    mean_entropy(0, 0) = share(mean_entropy(0, 0), weight);
    largest_load(0, 0) = largest * static_cast<double>(experts);
    dead_experts(0, 0) = totals[0];
    tokens(0, 0) = weight;
  }
};

/// How measure_routing() judges.
/// \ingroup nn
struct routing_statistics_options {
  double dead_below = 0.1;  ///< an expert is dead below this part of an equal load
};

/// \brief Load, mean probability, entropies and dead experts of a routing.
/// \ingroup nn
///
/// Probabilities that do not sum to one, as of sigmoid scores, are divided by their sum first.
///
/// \param[in]     ctx         where to run; nothing waits
/// \param[in]     routes      of route(), E experts and N - E null experts
/// \param[in]     w           1 x T, token weights, or every_token
/// \param[in,out] statistics  made for E and N; overwritten. All 0 but dead_experts, which is E,
///                            where all weights are 0
/// \param[in]     options     threshold
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if the threshold is negative
/// \par Cost
/// N T logarithms and about 4 (N + k) T flops; scratch T entries.
template <class Ctx, class Routing, TokenWeights W, class M>
void measure_routing(Ctx& ctx, Routing const& routes, W const& w, routing_statistics<M>& statistics,
                     routing_statistics_options options = {}) {
  char const* const name = "measure_routing";
  auto const& p = routes.probabilities;
  index_t const tokens = p.cols();
  expect_shape(name, "routes.ids", routes.ids, routes.ids.rows(), tokens);
  expect_shape(name, "statistics.load", statistics.load, 1, routes.experts);
  expect_shape(name, "statistics.probability", statistics.probability, 1, p.rows());
  expect_option(options.dead_below >= 0, name, "dead_below", options.dead_below,
                "a number of at least 0");
  auto const& weights = detail::weights_of(ctx, name, w, tokens);
  auto const counts = detail::counts_of(ctx, routes, weights, false);
  auto const inverse = detail::inverse_sums(ctx, p, true);
  auto const sums = detail::probability_sums(ctx, routes, weights, inverse);
  token_range const range;
  auto entropies = scratch<double>(ctx, 1, range.blocks(tokens));
  run_batch(ctx, entropies.cols(), token_entropy_body{range}, p, weights, inverse, entropies);
  sum_columns(ctx, entropies, statistics.mean_entropy);
  run_batch(ctx, 1, routing_statistics_body{options.dead_below}, sums, counts,
            statistics.mean_entropy, statistics.load, statistics.probability, statistics.null_share,
            statistics.entropy_of_mean, statistics.largest_load, statistics.dead_experts,
            statistics.tokens);
}

}  // namespace stiefelx
