// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstdint>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/nn/expert_list.hpp>
#include <stiefelx/nn/gates.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: what one token's scores are compared across tokens with.
/// \ingroup nn
struct token_level_body {
  score_kind score;  ///< softmax: of all experts; sigmoid: zeros

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes share the experts
  /// \param[in]  t       the token
  /// \param[in]  scores  E x T
  /// \param[out] level   2 x T, the largest score and the log of the sum of exponentials relative to it:
  ///                     (score - largest) - log has the order of the values, and the same bits where
  ///                     the scores of two tokens differ by a constant
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> scores,
                              matrix_ref<double> level) const {
    double largest = 0, found = 0;
    if (score == score_kind::softmax) {
      largest = static_cast<double>(scores(0, t));
      for (index_t e = 1; e < scores.rows; ++e)
        if (static_cast<double>(scores(e, t)) > largest)
          largest = static_cast<double>(scores(e, t));
      double sum = 0;
      for (index_t e = team.rank(); e < scores.rows; e += team.size())
        sum += std::exp(static_cast<double>(scores(e, t)) - largest);
      found = std::log(team.sum(sum));
    }
    if (team.rank() != 0) return;
    level(0, t) = largest;
    level(1, t) = found;
  }
};

/// \brief Team text: marks the tokens that one expert takes.
/// \ingroup nn
///
/// Finds the rank of the last one taken bit by bit, from the highest: at most 64 counts of the
/// tokens, usually few more than the tokens' logarithm; where the last ones are equal, their last
/// token in as many counts more. No sort, no list, no order of lanes.
struct take_tokens_body {
  index_t capacity;  ///< tokens to take

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes share the tokens
  /// \param[in]  e       the expert
  /// \param[in]  scores  E x T
  /// \param[in]  level   2 x T, of token_level_body
  /// \param[in]  tokens  1 x T, weights of the tokens, or nothing
  /// \param[out] taken   E x T, 1 or 0
  template <Team Lanes, class W, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t e, double*, matrix_ref<S const> scores,
                              matrix_ref<double const> level, matrix_ref<W const> tokens,
                              matrix_ref<int> taken) const {
    auto const key = [&](index_t t) {
      return ordered_bits((static_cast<double>(scores(e, t)) - level(0, t)) - level(1, t));
    };
    auto const real = [&](index_t t) { return tokens.cols == 0 || tokens(0, t) != W(0); };
    auto const count = [&](std::uint64_t bound) {
      double n = 0;
      for (index_t t = team.rank(); t < scores.cols; t += team.size())
        n += real(t) && key(t) >= bound ? 1 : 0;
      return team.sum(n);
    };
    auto const wanted = static_cast<double>(capacity);
    std::uint64_t bound = 0;
    double reached = count(0);
    for (int bit = 63; bit >= 0 && reached > wanted; --bit) {
      std::uint64_t const next = bound | (std::uint64_t{1} << bit);
      double const n = count(next);
      if (n < wanted) continue;
      bound = next;
      reached = n;
    }
    // Too many only where the last ones are equal, and of these the first tokens are taken: those
    // before `end`.
    index_t end = scores.cols;
    if (reached > wanted) {
      auto const taken_before = [&](index_t bound_token) {
        double n = 0;
        for (index_t t = team.rank(); t < scores.cols; t += team.size())
          n += real(t) && (key(t) > bound || (key(t) == bound && t < bound_token)) ? 1 : 0;
        return team.sum(n);
      };
      index_t few = 0;
      while (end - few > 1) {
        index_t const middle = few + (end - few) / 2;
        (taken_before(middle) < wanted ? few : end) = middle;
      }
    }
    for (index_t t = team.rank(); t < scores.cols; t += team.size())
      taken(e, t) = real(t) && (key(t) > bound || (key(t) == bound && t < end)) ? 1 : 0;
  }
};

/// \brief Team text: lists the experts that took one token, with weights and probabilities.
/// \ingroup nn
struct taken_list_body {
  expert_order order;  ///< of the list
  gate_rule gates;     ///< with what weights
  index_t rows;        ///< E

  /// \returns values of a token's experts, and of its list
  index_t scratch_size() const { return 2 * rows; }

  /// \param[in]     team    lanes share the experts
  /// \param[in]     t       the token
  /// \param[out]    room    scratch
  /// \param[in]     taken   E x T, of take_tokens_body
  /// \param[in]     tokens  1 x T, weights of the tokens, or nothing
  /// \param[in,out] p       E x T, scores; become probabilities
  /// \param[out]    weights E x T
  /// \param[out]    ids     E x T
  template <Team Lanes, class W, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* room,
                              matrix_ref<int const> taken, matrix_ref<W const> tokens,
                              matrix_ref<S> p, matrix_ref<S> weights, matrix_ref<int> ids) const {
    if (tokens.cols > 0 && tokens(0, t) == W(0)) return clear_gates(team, t, p, weights, ids);
    index_t const filled = write_list(
        team, order, p.column(t), t, rows, [&](index_t e) { return taken(e, t) != 0; }, ids);
    score_values(team, gates.score, p.column(t), rows, room);
    write_gates(team, gates, t, filled, room, room + rows, p, weights, ids);
  }
};

}  // namespace stiefelx
