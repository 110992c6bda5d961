// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/expert_choice.hpp>
#include <stiefelx/nn/expert_list.hpp>
#include <stiefelx/nn/gate_backward.hpp>
#include <stiefelx/nn/router_noise.hpp>
#include <stiefelx/nn/router_options.hpp>
#include <stiefelx/nn/router_scores.hpp>
#include <stiefelx/nn/routing.hpp>

namespace stiefelx {

namespace detail {

template <class C>
concept RoutingChoice = TokenChoice<C> || std::same_as<C, expert_choice>;

// Noise has a scale only where there is noise; a bias cannot move a load that is even as it is.
template <class Choice, class Term>
concept TermOf =
    RoutingTerm<Term> && (!is_term<noise_scale, Term> || std::same_as<Choice, noisy_top_k>) &&
    (!is_term<selection_bias, Term> || TokenChoice<Choice>);

template <class Term>
void expect_term(char const* function, index_t rows, index_t tokens, Term const& term) {
  if constexpr (is_term<token_weights, Term>)
    expect_shape(function, "token_weights", term.values, 1, tokens);
  if constexpr (is_term<selection_bias, Term>)
    expect_shape(function, "selection_bias", term.values, rows, 1);
  if constexpr (is_term<router_bias, Term>)
    expect_shape(function, "router_bias", term.values, rows, 1);
  if constexpr (is_term<noise_scale, Term>)
    expect_shape(function, "noise_scale", term.scores, rows, tokens);
}

template <class Choice, class... Terms>
void expect_routing(char const* function, index_t rows, [[maybe_unused]] index_t tokens,
                    Choice const& choice, Terms const&... terms) {
  choice.expect_options(function, rows);
  (expect_term(function, rows, tokens, terms), ...);
}

template <class Ctx, class Choice, class Scores, class... Terms>
void add_noise_of(Ctx& ctx, Choice const& choice, Scores& scores, Terms const&... terms) {
  if constexpr (std::same_as<Choice, noisy_top_k>) {
    if (!choice.training) return;
    if constexpr (has_term<noise_scale, Terms...>)
      add_score_noise(ctx, choice.stream, choice.deviation,
                      term_or<noise_scale>(nullptr, terms...).scores, scores);
    else
      add_score_noise(ctx, choice.stream, choice.deviation, scores);
  }
}

template <class Options, class P, class W, class I>
routing<P, W, I, Options> routing_of(P probabilities, W weights, I ids, Options const& options,
                                     index_t experts) {
  return {std::move(probabilities), std::move(weights), std::move(ids), options, experts};
}

// Turns the scores into a routing; they become its probabilities.
template <class Ctx, class Scores, class Choice, class... Terms>
auto route_token_by_token(Ctx& ctx, Scores scores, Choice const& choice, Terms const&... terms) {
  using S = scalar_t<Scores>;
  index_t const rows = scores.rows(), tokens = scores.cols();
  choice_rule const rule = choice.choice(rows);
  auto const none = scratch<double>(ctx, 0, 0);
  auto const& bias = dense(ctx, term_or<selection_bias>(selection_bias(none), terms...).values);
  auto const& padding = dense(ctx, term_or<token_weights>(token_weights(none), terms...).values);
  auto weights = scratch<S>(ctx, rule.slots(), tokens);
  auto ids = scratch<int>(ctx, rule.slots(), tokens);
  add_noise_of(ctx, choice, scores, terms...);
  run_batch(ctx, rows > 0 ? tokens : 0, token_choice_body{rule, choice.gates(), rows}, bias,
            padding, scores, weights, ids);
  return routing_of(std::move(scores), std::move(weights), std::move(ids), choice, rule.experts);
}

template <class Ctx, class Scores, class... Terms>
auto route_by_experts(Ctx& ctx, Scores scores, expert_choice const& choice, Terms const&... terms) {
  using S = scalar_t<Scores>;
  index_t const rows = scores.rows(), tokens = scores.cols();
  gate_rule const gates = choice.gates();
  auto const none = scratch<double>(ctx, 0, 0);
  auto const& padding = dense(ctx, term_or<token_weights>(token_weights(none), terms...).values);
  auto weights = scratch<S>(ctx, rows, tokens);
  auto ids = scratch<int>(ctx, rows, tokens);
  auto level = scratch<double>(ctx, 2, tokens);
  auto taken = scratch<int>(ctx, rows, tokens);
  index_t const routed = rows > 0 ? tokens : 0;
  run_batch(ctx, routed, token_level_body{gates.score}, std::as_const(scores), level);
  run_batch(ctx, rows, take_tokens_body{choice.capacity}, std::as_const(scores),
            std::as_const(level), padding, taken);
  run_batch(ctx, routed, taken_list_body{choice.order, gates, rows}, std::as_const(taken), padding,
            scores, weights, ids);
  return routing_of(std::move(scores), std::move(weights), std::move(ids), choice, rows);
}

template <class Ctx, class Scores, class Choice, class... Terms>
auto route_owned(Ctx& ctx, Scores scores, Choice const& choice, Terms const&... terms) {
  if constexpr (std::same_as<Choice, expert_choice>)
    return route_by_experts(ctx, std::move(scores), choice, terms...);
  else
    return route_token_by_token(ctx, std::move(scores), choice, terms...);
}

}  // namespace detail

/// \brief Routes every token: scores, the chosen experts and their gate weights.
/// \ingroup nn
///
/// Scores are \f$ \ell = w^T x \f$, plus a bias where there is one. How experts are chosen and what
/// they weigh is the type and the members of `choice`: router_options, soft, top_k, top_p,
/// noisy_top_k, expert_choice, or a TokenChoice of one's own. Ties go to the lowest index, in the
/// precision of the scores; values and weights are computed in double.
///
/// \param[in] ctx     where to run; nothing waits
/// \param[in] router  d x E
/// \param[in] x       d x T, a token is a column
/// \param[in] choice  which experts, and how they are weighted
/// \param[in] terms   any of router_bias, token_weights, selection_bias (not with expert_choice)
///                    and noise_scale (with noisy_top_k), in any order
/// \returns a routing in scratch: it lives until the backward pass has used it
/// \throws shape_error   if the router's rows are not x's, or a term does not fit
/// \throws option_error  if a member of choice is out of range; k = 1 with renormalize is, since
///                       a weight that is always 1 has no gradient
/// \par Cost
/// 2 d E T flops; (E + 2k) T scratch entries. About k E comparisons a token; expert_choice counts
/// the T tokens of an expert a few times as often as T has binary digits: at most 65 times, and
/// where the last ones are equal as many more as T has binary digits.
/// \see \cite shazeer2017
template <class Ctx, RealWeight Router, RealMatrix X, class Choice = router_options, class... Terms>
  requires StoredAs<scalar_t<X>, Router> && detail::RoutingChoice<Choice> &&
           (detail::TermOf<Choice, Terms> && ...)
auto route(Ctx& ctx, Router const& router, X const& x, Choice choice = {}, Terms const&... terms) {
  expect_shape("route", "router", router, x.rows(), router.cols());
  detail::expect_routing("route", router.cols(), x.cols(), choice, terms...);
  if constexpr (detail::has_term<router_bias, Terms...>) {
    auto const& bias = detail::term_or<router_bias>(nullptr, terms...).values;
    return detail::route_owned(ctx, router_scores(ctx, router, bias, x), choice, terms...);
  } else {
    return detail::route_owned(ctx, router_scores(ctx, router, x), choice, terms...);
  }
}

/// \brief Routes tokens by scores of any origin.
/// \ingroup nn
/// \param[in] ctx     where to run; nothing waits
/// \param[in] scores  E x T
/// \param[in] choice  as for route()
/// \param[in] terms   as for route(), without router_bias
/// \returns a routing in scratch
/// \throws shape_error   if a term does not fit
/// \throws option_error  if a member of choice is out of range
template <class Ctx, RealMatrix Scores, class Choice = router_options, class... Terms>
  requires(detail::RoutingChoice<Choice> && (detail::TermOf<Choice, Terms> && ...) &&
           !detail::has_term<router_bias, Terms...>)
auto route_scores(Ctx& ctx, Scores const& scores, Choice choice = {}, Terms const&... terms) {
  detail::expect_routing("route_scores", scores.rows(), scores.cols(), choice, terms...);
  return detail::route_owned(ctx, clone(ctx, scores), choice, terms...);
}

/// \brief Routes tokens to experts that are given: the replay of an earlier choice.
/// \ingroup nn
///
/// Weights and probabilities come from the scores as they are now, for the given list in the given
/// order. With the ids of a routing, its scores and its options the result has the same bits: so
/// a second forward pass cannot choose otherwise in a near tie, and a policy is trained on the
/// experts that it was sampled with \cite ma2025replay. Empty slots (-1) may stand anywhere, and
/// what is no expert or listed before counts as one; the result has them last. gate_backward()
/// serves it.
///
/// \param[in] ctx     where to run; nothing waits
/// \param[in] scores  E x T
/// \param[in] ids     k x T of int, k at most E
/// \param[in] choice  of the routing that the ids are from; its gates and its noise are used
/// \param[in] terms   as for route_scores(); a selection bias changes nothing
/// \returns a routing in scratch, with k slots
/// \throws shape_error   if ids does not fit scores, or a term does not
/// \throws option_error  if a member of choice is out of range
template <class Ctx, RealMatrix Scores, Matrix Ids, class Choice = router_options, class... Terms>
  requires(detail::RoutingChoice<Choice> && (detail::TermOf<Choice, Terms> && ...) &&
           !detail::has_term<router_bias, Terms...> && std::same_as<scalar_t<Ids>, int>)
auto route_replay(Ctx& ctx, Scores const& scores, Ids const& ids, Choice choice = {},
                  Terms const&... terms) {
  using S = scalar_t<Scores>;
  index_t const rows = scores.rows(), tokens = scores.cols(), slots = ids.rows();
  detail::expect_routing("route_replay", rows, tokens, choice, terms...);
  expect_shape("route_replay", "ids", ids, slots < rows ? slots : rows, tokens);
  index_t experts = rows;
  if constexpr (TokenChoice<Choice>) experts = choice.choice(rows).experts;
  auto const none = scratch<double>(ctx, 0, 0);
  auto const& padding =
      dense(ctx, detail::term_or<token_weights>(token_weights(none), terms...).values);
  auto const& given = dense(ctx, ids);
  auto probabilities = clone(ctx, scores);
  auto weights = scratch<S>(ctx, slots, tokens);
  auto listed = scratch<int>(ctx, slots, tokens);
  detail::add_noise_of(ctx, choice, probabilities, terms...);
  run_batch(ctx, rows > 0 ? tokens : 0, given_list_body{experts, choice.gates(), rows, slots},
            given, padding, probabilities, weights, listed);
  return detail::routing_of(std::move(probabilities), std::move(weights), std::move(listed), choice,
                            experts);
}

}  // namespace stiefelx
