// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Values and gate weights of a token's experts, as team text.
/// \ingroup nn
///
/// Experts are shared by the lanes. What is a sum or a largest one of them every lane finds by
/// itself and in the same order: experts are few, and all teams have the same bits.

namespace stiefelx {

/// How a score becomes the value of an expert.
/// \ingroup nn
enum class score_kind {
  softmax,  ///< \f$ v_e = e^{\ell_e} / \sum_j e^{\ell_j} \f$, over all experts of the token
  sigmoid   ///< \f$ v_e = 1 / (1 + e^{-\ell_e}) \f$, each expert by itself
};

/// \brief How the values of a token's experts S become gate weights.
/// \ingroup nn
///
/// \f$ g_i = m\,v_i / \sum_{j \in S} v_j \f$ when they are renormalized, else \f$ g_i = m\,v_i \f$.
struct gate_rule {
  score_kind score = score_kind::softmax;  ///< values v from scores
  bool renormalize = true;                 ///< whether the weights of a token sum to m
  double scaling = 1;                      ///< m
};

/// \brief Values of one token's experts, in double.
/// \ingroup nn
/// \param[in]  team    lanes share the experts
/// \param[in]  kind    softmax or sigmoid
/// \param[in]  score   scores of the token, one after the other
/// \param[in]  count   number of experts
/// \param[out] values  count values; softmax subtracts the largest score first
template <Team Lanes, class S>
STIEFELX_HD void score_values(Lanes const& team, score_kind kind, S const* score, index_t count,
                              double* values) {
  if (kind == score_kind::sigmoid) {
    for (index_t e = team.rank(); e < count; e += team.size())
      values[e] = 1 / (1 + std::exp(-static_cast<double>(score[e])));
    team.barrier();
    return;
  }
  double largest = static_cast<double>(score[0]), sum = 0;
  for (index_t e = 1; e < count; ++e)
    if (static_cast<double>(score[e]) > largest) largest = static_cast<double>(score[e]);
  for (index_t e = team.rank(); e < count; e += team.size())
    values[e] = std::exp(static_cast<double>(score[e]) - largest);
  team.barrier();
  for (index_t e = 0; e < count; ++e) sum += values[e];
  team.barrier();
  for (index_t e = team.rank(); e < count; e += team.size()) values[e] /= sum;
  team.barrier();
}

/// \brief Gate weights of a token whose experts are listed, and its probabilities.
/// \ingroup nn
///
/// Renormalized weights come from the scores of the list: of \f$ \log v \f$, up to a constant that
/// cancels. They are exact where every value of the list has become zero in rounding.
///
/// \param[in]     team     lanes share the experts and the slots
/// \param[in]     rule     from values to weights
/// \param[in]     t        the token
/// \param[in]     filled   number of listed experts
/// \param[in]     values   of score_values()
/// \param[in]     room     scratch of ids.rows numbers; not values
/// \param[in,out] p        E x T, scores; column t becomes the values
/// \param[out]    weights  k x T, zero in empty slots
/// \param[in,out] ids      k x T, the first `filled` ones are listed; the others become -1
template <Team Lanes, class S>
STIEFELX_HD void write_gates(Lanes const& team, gate_rule rule, index_t t, index_t filled,
                             double const* values, double* room, matrix_ref<S> p,
                             matrix_ref<S> weights, matrix_ref<int> ids) {
  S* const score = p.column(t);
  index_t const rank = team.rank(), lanes = team.size();
  if (rule.renormalize) {
    double largest = 0, sum = 0;
    for (index_t i = rank; i < filled; i += lanes) {
      auto const l = static_cast<double>(score[ids(i, t)]);
      room[i] = l;
      if (rule.score == score_kind::sigmoid)
        room[i] = l < 0 ? l - std::log1p(std::exp(l)) : -std::log1p(std::exp(-l));
    }
    team.barrier();
    for (index_t i = 0; i < filled; ++i)
      if (i == 0 || room[i] > largest) largest = room[i];
    team.barrier();
    for (index_t i = rank; i < filled; i += lanes) room[i] = std::exp(room[i] - largest);
    team.barrier();
    for (index_t i = 0; i < filled; ++i) sum += room[i];
    for (index_t i = rank; i < filled; i += lanes)
      weights(i, t) = static_cast<S>(rule.scaling * room[i] / sum);
  } else {
    for (index_t i = rank; i < filled; i += lanes)
      weights(i, t) = static_cast<S>(rule.scaling * values[ids(i, t)]);
  }
  for (index_t i = filled + rank; i < ids.rows; i += lanes) {
    ids(i, t) = -1;
    weights(i, t) = S(0);
  }
  // The scores have been read by all lanes that need them only here.
  team.barrier();
  for (index_t e = rank; e < p.rows; e += lanes) score[e] = static_cast<S>(values[e]);
}

/// \brief A token of padding: no expert, no weight, no probability.
/// \ingroup nn
/// \param[in]  team     lanes share the experts and the slots
/// \param[in]  t        the token
/// \param[out] p        E x T, column t becomes zero
/// \param[out] weights  k x T, column t becomes zero
/// \param[out] ids      k x T, column t becomes -1
template <Team Lanes, class S>
STIEFELX_HD void clear_gates(Lanes const& team, index_t t, matrix_ref<S> p, matrix_ref<S> weights,
                             matrix_ref<int> ids) {
  for (index_t e = team.rank(); e < p.rows; e += team.size()) p(e, t) = S(0);
  for (index_t i = team.rank(); i < ids.rows; i += team.size()) {
    ids(i, t) = -1;
    weights(i, t) = S(0);
  }
}

}  // namespace stiefelx
