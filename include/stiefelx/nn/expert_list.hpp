// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/nn/gates.hpp>
#include <stiefelx/nn/router_options.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Brings the listed experts of a token into an order.
/// \ingroup nn
/// \param[in]     order   by falling score, ties by rising index; or by index
/// \param[in]     score   scores of the token
/// \param[in]     t       the token
/// \param[in]     filled  number of listed experts
/// \param[in,out] ids     k x T
template <class S>
STIEFELX_HD void order_list(expert_order order, S const* score, index_t t, index_t filled,
                            matrix_ref<int> ids) {
  for (index_t i = 1; i < filled; ++i) {
    int const moved = ids(i, t);
    index_t j = i;
    for (; j > 0; --j) {
      int const before = ids(j - 1, t);
      bool const larger = order == expert_order::by_score && score[moved] > score[before];
      bool const tie = order == expert_order::by_index || score[moved] == score[before];
      if (!larger && !(tie && moved < before)) break;
      ids(j, t) = before;
    }
    ids(j, t) = moved;
  }
}

/// \brief Team text: choice, weights and probabilities of one token.
/// \ingroup nn
///
/// Experts are compared by their scores, before a rounding can make two values equal; with a bias
/// by value + bias in double, and then by score.
struct token_choice_body {
  choice_rule choice;  ///< which experts
  gate_rule gates;     ///< with what weights
  index_t rows;        ///< number of experts, null ones included

  /// \returns values of a token's experts, and marks of those taken
  index_t scratch_size() const { return 2 * rows; }

  /// \param[in]     team    lanes; one works, experts are few
  /// \param[in]     t       the token
  /// \param[out]    room    scratch
  /// \param[in]     bias    E x 1, or nothing
  /// \param[in]     tokens  1 x T, weights of the tokens, or nothing
  /// \param[in,out] p       E x T, scores; become probabilities
  /// \param[out]    weights k x T
  /// \param[out]    ids     k x T
  template <Team Lanes, class W, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* room,
                              matrix_ref<double const> bias, matrix_ref<W const> tokens,
                              matrix_ref<S> p, matrix_ref<S> weights, matrix_ref<int> ids) const {
    if (team.rank() != 0) return;
    if (tokens.cols > 0 && tokens(0, t) == W(0)) return clear_gates(t, p, weights, ids);
    double* const taken = room + rows;
    S const* const score = p.column(t);
    score_values(gates.score, score, rows, room);
    index_t const filled = list(score, t, room, taken, bias, ids);
    if (bias.rows > 0 || choice.order == expert_order::by_index)
      order_list(choice.order, score, t, filled, ids);
    write_gates(gates, t, filled, room, taken, p, weights, ids);
  }

 private:
  template <class S>
  STIEFELX_HD index_t list(S const* score, index_t t, double const* values, double* taken,
                           matrix_ref<double const> bias, matrix_ref<int> ids) const {
    double sum = 0, reached = 0;
    for (index_t e = 0; e < rows; ++e) {
      taken[e] = 0;
      sum += values[e];
    }
    // Where all are listed by index nothing is to be compared.
    bool const compared = choice.order == expert_order::by_score || choice.limit < rows ||
                          choice.mass < detail::any_mass;
    index_t filled = 0;
    for (index_t i = 0; i < choice.limit; ++i) {
      if (i > 0 && reached >= choice.mass * sum) break;
      index_t best = compared ? -1 : i;
      for (index_t e = 0; compared && e < rows; ++e) {
        if (taken[e] != 0) continue;
        if (best < 0 || above(score, values, bias, e, best)) best = e;
      }
      taken[best] = 1;
      reached += values[best];
      if (best < choice.experts) ids(filled++, t) = static_cast<int>(best);
    }
    return filled;
  }

  template <class S>
  STIEFELX_HD bool above(S const* score, double const* values, matrix_ref<double const> bias,
                         index_t e, index_t other) const {
    if (bias.rows > 0) {
      double const mine = values[e] + bias(e, 0), theirs = values[other] + bias(other, 0);
      if (mine != theirs) return mine > theirs;
    }
    return score[e] > score[other];
  }
};

/// \brief Team text: weights and probabilities of one token whose experts are given.
/// \ingroup nn
struct given_list_body {
  index_t experts;  ///< number of true experts
  gate_rule gates;  ///< with what weights
  index_t rows;     ///< number of experts, null ones included
  index_t slots;    ///< k

  /// \returns values of a token's experts, and of its list
  index_t scratch_size() const { return rows + slots; }

  /// \param[in]     team    lanes; one works
  /// \param[in]     t       the token
  /// \param[out]    room    scratch
  /// \param[in]     given   k x T; what is no expert, or listed before, is an empty slot
  /// \param[in]     tokens  1 x T, weights of the tokens, or nothing
  /// \param[in,out] p       E x T, scores; become probabilities
  /// \param[out]    weights k x T
  /// \param[out]    ids     k x T, not the memory of given
  template <Team Lanes, class W, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* room,
                              matrix_ref<int const> given, matrix_ref<W const> tokens,
                              matrix_ref<S> p, matrix_ref<S> weights, matrix_ref<int> ids) const {
    if (team.rank() != 0) return;
    if (tokens.cols > 0 && tokens(0, t) == W(0)) return clear_gates(t, p, weights, ids);
    index_t filled = 0;
    for (index_t i = 0; i < given.rows; ++i) {
      int const e = given(i, t);
      bool usable = e >= 0 && e < static_cast<int>(experts);
      for (index_t j = 0; j < filled; ++j) usable = usable && ids(j, t) != e;
      if (usable) ids(filled++, t) = e;
    }
    score_values(gates.score, p.column(t), rows, room);
    write_gates(gates, t, filled, room, room + rows, p, weights, ids);
  }
};

}  // namespace stiefelx
