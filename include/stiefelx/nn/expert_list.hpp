// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <type_traits>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/nn/gates.hpp>
#include <stiefelx/nn/router_options.hpp>
#include <stiefelx/team/filled_slot.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief A whole number in the order of a double: larger numbers have larger ones.
/// \ingroup nn
///
/// -0 counts as 0, and a NaN is below every number.
/// \param[in] x  any double
/// \returns its rank
STIEFELX_HD inline std::uint64_t ordered_bits(double x) {
  if (x != x) return 0;
  auto const bits = __builtin_bit_cast(std::uint64_t, x + 0.0);
  constexpr std::uint64_t sign = std::uint64_t{1} << 63;
  return (bits & sign) != 0 ? ~bits : bits | sign;
}

namespace detail {

// Whether a is the larger number; a NaN is below every number, as in ordered_bits().
template <class S>
STIEFELX_HD bool is_above(S a, S b) {
  return !(a <= b) && a == a;
}

// Whether expert a stands before b in a list.
template <class S>
STIEFELX_HD bool stands_before(expert_order order, S const* score, index_t a, index_t b) {
  if (order == expert_order::by_score) {
    if (is_above(score[a], score[b])) return true;
    if (is_above(score[b], score[a])) return false;
  }
  return a < b;
}

}  // namespace detail

/// \brief Brings the listed experts of a token into an order.
/// \ingroup nn
/// \param[in]     order   by falling score, a NaN the lowest, ties by rising index; or by index
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
      if (!detail::stands_before(order, score, moved, before)) break;
      ids(j, t) = before;
    }
    ids(j, t) = moved;
  }
}

/// \brief Lists a token's experts in an order.
/// \ingroup nn
///
/// One lane inserts them one after the other; of several, each counts what stands before its own.
/// \param[in]  team   lanes share the experts
/// \param[in]  order  of the list
/// \param[in]  score  scores of the token
/// \param[in]  t      the token
/// \param[in]  rows   number of experts
/// \param[in]  taken  taken(e) says whether expert e is listed
/// \param[out] ids    k x T; the first places of column t
/// \returns the number of listed experts
template <Team Lanes, class S, class Taken>
STIEFELX_HD index_t write_list(Lanes const& team, expert_order order, S const* score, index_t t,
                               index_t rows, Taken const& taken, matrix_ref<int> ids) {
  index_t filled = 0;
  if constexpr (std::is_same_v<Lanes, serial_team>) {
    for (index_t e = 0; e < rows; ++e)
      if (taken(e)) ids(filled++, t) = static_cast<int>(e);
    order_list(order, score, t, filled, ids);
  } else {
    for (index_t e = 0; e < rows; ++e) filled += taken(e) ? 1 : 0;
    for (index_t e = team.rank(); e < rows; e += team.size()) {
      if (!taken(e)) continue;
      index_t place = 0;
      for (index_t other = 0; other < rows; ++other)
        place += taken(other) && detail::stands_before(order, score, other, e) ? 1 : 0;
      ids(place, t) = static_cast<int>(e);
    }
    team.barrier();
  }
  return filled;
}

/// \brief Team text: choice, weights and probabilities of one token.
/// \ingroup nn
///
/// Experts are compared by their scores, before a rounding can make two values equal; with a bias
/// by value + bias in double, and then by score. A NaN is below every number, and ties go to the
/// lowest index. One lane takes them one after the other; of several, each counts those above its
/// own.
struct token_choice_body {
  choice_rule choice;  ///< which experts
  gate_rule gates;     ///< with what weights
  index_t rows;        ///< number of experts, null ones included

  /// \returns values of a token's experts, and two numbers of each
  index_t scratch_size() const { return 3 * rows; }

  /// \param[in]     team    lanes share the experts
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
    if (tokens.cols > 0 && tokens(0, t) == W(0)) return clear_gates(team, t, p, weights, ids);
    double* const taken = room + rows;
    S const* const score = p.column(t);
    score_values(team, gates.score, score, rows, room);
    index_t filled = 0;
    if constexpr (std::is_same_v<Lanes, serial_team>) {
      filled = list(score, t, room, taken, bias, ids);
      if (bias.rows > 0 || choice.order == expert_order::by_index)
        order_list(choice.order, score, t, filled, ids);
    } else {
      filled = list_by_lanes(team, score, t, room, taken, bias, ids);
    }
    write_gates(team, gates, t, filled, room, taken, p, weights, ids);
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
      index_t const best = compared ? first_left(score, values, taken, bias) : i;
      taken[best] = 1;
      reached += values[best];
      if (best < choice.experts) ids(filled++, t) = static_cast<int>(best);
    }
    return filled;
  }

  // The expert that comes first of those that are not taken yet.
  template <class S>
  STIEFELX_HD index_t first_left(S const* score, double const* values, double const* taken,
                                 matrix_ref<double const> bias) const {
    index_t best = -1;
    for (index_t e = 0; e < rows; ++e) {
      if (taken[e] != 0) continue;
      if (best < 0 || is_larger(score, values, bias, e, best)) best = e;
    }
    // One comparison a pair is enough for numbers. A NaN that it meets first it keeps.
    double const key =
        bias.rows > 0 ? values[best] + bias(best, 0) : static_cast<double>(score[best]);
    for (index_t e = 0; key != key && e < rows; ++e)
      if (taken[e] == 0 && comes_first(score, values, bias, e, best)) best = e;
    return best;
  }

  // Every expert's place by falling score, the first so many of which are taken.
  template <Team Lanes, class S>
  STIEFELX_HD index_t list_by_lanes(Lanes const& team, S const* score, index_t t,
                                    double const* values, double* places,
                                    matrix_ref<double const> bias, matrix_ref<int> ids) const {
    double* const at = places + rows;
    index_t number = choice.limit;
    if (number == rows && !(choice.mass < detail::any_mass))
      return write_list(
          team, choice.order, score, t, choice.experts, [](index_t) { return true; }, ids);
    for (index_t e = team.rank(); e < rows; e += team.size()) {
      index_t place = 0;
      for (index_t other = 0; other < rows; ++other)
        place += comes_first(score, values, bias, other, e) ? 1 : 0;
      places[e] = static_cast<double>(place);
      at[place] = static_cast<double>(e);
    }
    team.barrier();
    if (choice.mass < detail::any_mass) {
      double sum = 0, reached = 0;
      for (index_t e = 0; e < rows; ++e) sum += values[e];
      for (number = 0; number < choice.limit; ++number) {
        if (number > 0 && reached >= choice.mass * sum) break;
        reached += values[static_cast<index_t>(at[number])];
      }
    }
    auto const end = static_cast<double>(number);
    return write_list(
        team, choice.order, score, t, choice.experts,
        [places, end](index_t e) { return places[e] < end; }, ids);
  }

  template <class S>
  STIEFELX_HD bool comes_first(S const* score, double const* values, matrix_ref<double const> bias,
                               index_t e, index_t other) const {
    if (bias.rows > 0) {
      double const mine = values[e] + bias(e, 0), theirs = values[other] + bias(other, 0);
      if (detail::is_above(mine, theirs)) return true;
      if (detail::is_above(theirs, mine)) return false;
    }
    return detail::stands_before(expert_order::by_score, score, e, other);
  }

  // The order of numbers alone.
  template <class S>
  STIEFELX_HD bool is_larger(S const* score, double const* values, matrix_ref<double const> bias,
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

  /// \param[in]     team    lanes share the experts and the slots
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
    if (tokens.cols > 0 && tokens(0, t) == W(0)) return clear_gates(team, t, p, weights, ids);
    // Every lane goes through the list: it is short, and the place of each depends on those before.
    index_t filled = 0;
    for (index_t i = 0; i < given.rows; ++i) {
      int const e = given(i, t);
      bool usable = detail::is_filled(e, experts);
      for (index_t j = 0; j < i; ++j) usable = usable && given(j, t) != e;
      if (!usable) continue;
      if (filled % team.size() == team.rank()) ids(filled, t) = e;
      ++filled;
    }
    team.barrier();
    score_values(team, gates.score, p.column(t), rows, room);
    write_gates(team, gates, t, filled, room, room + rows, p, weights, ids);
  }
};

}  // namespace stiefelx
