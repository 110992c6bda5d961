// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/score_gradient.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/filled_slot.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: how often each expert was chosen by a block or group of tokens.
/// \ingroup nn
struct expert_counts_body {
  token_range range;  ///< blocks or groups
  index_t experts;    ///< true experts
  index_t choices;    ///< experts that a token takes, null ones included
  bool first_only;    ///< whether a token counts its most probable choice alone

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes share the tokens; one goes through them once, several once a row
  /// \param[in]  item     block or group
  /// \param[in]  p        N x T, N of at least the true experts
  /// \param[in]  ids      k x T, -1 in an empty slot
  /// \param[in]  w        1 x T or 1 x 1, token weights
  /// \param[in]  offsets  1 x (G + 1); read for groups only
  /// \param[out] counts   (E + 2) x items: choices of every expert, of null experts, weight of tokens
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<S const> p,
                              matrix_ref<int const> ids, matrix_ref<W const> w,
                              matrix_ref<int const> offsets, matrix_ref<double> counts) const {
    double* const count = counts.column(item);
    index_t const first = range.first(offsets, item, p.cols);
    index_t const end = range.end(offsets, item, p.cols);
    if constexpr (std::is_same_v<Lanes, serial_team>) {
      for (index_t e = 0; e < experts + 2; ++e) count[e] = 0;
      for (index_t t = first; t < end; ++t) count_token(p, ids, detail::weight_of(w, t), t, count);
    } else {
      for (index_t row = 0; row < experts + 2; ++row) {
        double own = 0;
        for (index_t t = first + team.rank(); t < end; t += team.size()) {
          double const weight = detail::weight_of(w, t);
          // What a padded token lists is nothing to count, and an infinite weight counts only where
          // its token has a choice.
          double const number = weight != 0 ? choices_in(p, ids, t, row) : 0;
          if (number != 0) own += weight * number;
        }
        own = team.sum(own);
        if (team.rank() == 0) count[row] = own;
      }
    }
  }

 private:
  template <class S>
  STIEFELX_HD void count_token(matrix_ref<S const> p, matrix_ref<int const> ids, double weight,
                               index_t t, double* count) const {
    if (weight == 0) return;
    count[experts + 1] += weight;
    if (first_only) {
      index_t const e = most_probable(p, ids, t);
      if (e >= 0) count[e] += weight;
      return;
    }
    index_t filled = 0;
    for (index_t i = 0; i < ids.rows; ++i) {
      int const e = ids(i, t);
      if (!detail::is_filled(e, experts)) continue;
      count[e] += weight;
      ++filled;
    }
    if (p.rows > experts && filled != choices)
      count[experts] += weight * static_cast<double>(choices - filled);
  }

  // What a token of weight 1 adds to a row of the counts.
  template <class S>
  STIEFELX_HD double choices_in(matrix_ref<S const> p, matrix_ref<int const> ids, index_t t,
                                index_t row) const {
    if (row > experts) return 1;
    if (first_only) return most_probable(p, ids, t) == row ? 1 : 0;
    if (row == experts && p.rows <= experts) return 0;
    index_t found = 0, filled = 0;
    for (index_t i = 0; i < ids.rows; ++i) {
      found += ids(i, t) == row ? 1 : 0;
      filled += detail::is_filled(ids(i, t), experts) ? 1 : 0;
    }
    return static_cast<double>(row < experts ? found : choices - filled);
  }

  // The listed expert of largest probability, the first of equal ones; the null experts' row where
  // one of them has more and was taken; -1 where nothing was.
  template <class S>
  STIEFELX_HD index_t most_probable(matrix_ref<S const> p, matrix_ref<int const> ids,
                                    index_t t) const {
    index_t best = -1;
    S largest = S(0);
    index_t filled = 0;
    for (index_t i = 0; i < ids.rows; ++i) {
      int const e = ids(i, t);
      if (!detail::is_filled(e, experts)) continue;
      ++filled;
      if (best >= 0 && !(p(e, t) > largest)) continue;
      best = e;
      largest = p(e, t);
    }
    for (index_t e = experts; filled < choices && e < p.rows; ++e)
      if (best < 0 || p(e, t) > largest) {
        best = experts;
        largest = p(e, t);
      }
    return best;
  }
};

namespace detail {

// How many experts a token takes, null ones included: it has at most one slot for each true one.
template <class Routing>
index_t choices_of(Routing const& routes) {
  if constexpr (requires { routes.options.choice(index_t()).limit; })
    return routes.options.choice(routes.probabilities.rows()).limit;
  else
    return routes.ids.rows();
}

template <class Offsets>
void expect_offsets(char const* function, Offsets const& offsets) {
  expect_shape(function, "offsets", offsets, 1, offsets.cols() > 0 ? offsets.cols() : 1);
}

// (E + 2) x items.
template <class Ctx, class Routing, class W, class Offsets>
auto group_counts(Ctx& ctx, Routing const& routes, W const& w, Offsets const& offsets,
                  token_range range, index_t items, bool first_only) {
  index_t const experts = routes.experts;
  auto counts = scratch<double>(ctx, experts + 2, items);
  run_batch(ctx, items, expert_counts_body{range, experts, choices_of(routes), first_only},
            routes.probabilities, routes.ids, w, offsets, counts);
  return counts;
}

// (E + 2) x 1, of all tokens.
template <class Ctx, class Routing, class W>
auto counts_of(Ctx& ctx, Routing const& routes, W const& w, bool first_only) {
  token_range const range;
  auto const none = clear_status(ctx, 1);
  auto const parts = group_counts(ctx, routes, w, none, range,
                                  range.blocks(routes.probabilities.cols()), first_only);
  auto counts = scratch<double>(ctx, routes.experts + 2, 1);
  sum_columns(ctx, parts, counts);
  return counts;
}

}  // namespace detail

/// \brief Counts how often each expert was chosen.
/// \ingroup nn
///
/// Row e of counts is \f$ \sum_t w_t [e \text{ is listed for } t] \f$. Row E has the choices of null
/// experts, where the probabilities have more rows than there are experts: what a token was to
/// take less what it lists; and 0 otherwise. Row E + 1 is \f$ \sum_t w_t \f$. Counts of parts of a batch add up to those of the whole.
///
/// \param[in]  ctx         where to run; nothing waits
/// \param[in]  routes      of route()
/// \param[in]  w           1 x T, token weights, or every_token
/// \param[out] counts      (E + 2) x 1 of double
/// \param[in]  first_only  whether a token counts its most probable choice alone, as for
///                         balance_share::of_first_choices
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// k T additions.
template <class Ctx, class Routing, TokenWeights W, class C>
  requires OutputMatrix<C>
void expert_counts(Ctx& ctx, Routing const& routes, W const& w, C&& counts,
                   bool first_only = false) {
  char const* const name = "expert_counts";
  index_t const tokens = routes.probabilities.cols();
  expect_shape(name, "routes.ids", routes.ids, routes.ids.rows(), tokens);
  expect_shape(name, "counts", counts, routes.experts + 2, 1);
  auto const& weights = detail::weights_of(ctx, name, w, tokens);
  copy(ctx, detail::counts_of(ctx, routes, weights, first_only), counts);
}

}  // namespace stiefelx
