// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/nn/router_options.hpp>

namespace stiefelx {

/// \brief What route() decided for T tokens, at most k experts a token.
/// \ingroup nn
///
/// A token's experts are the filled slots of its column, which come first. An empty slot has id -1
/// and weight 0; what a gradient says of it is ignored. The list's order is the order of
/// Gram-Schmidt. A token of padding has empty slots and probabilities of zero.
///
/// A routing made by hand may have empty slots anywhere, with any id below 0. An id of `experts` or more
/// is an empty slot as well, but the host's routed products throw option_error.
template <class Probabilities, class Weights, class Ids, class Options = router_options>
struct routing {
  Probabilities probabilities;             ///< E x T, values of the scores, null experts included
  Weights weights;                         ///< k x T, gate weights of the listed experts
  Ids ids;                                 ///< k x T, int, the listed experts, or -1
  Options options;                         ///< as given to route()
  index_t experts = probabilities.rows();  ///< number of true experts, which come first
};

/// \brief Which tokens are padding: an argument of route().
/// \ingroup nn
///
/// A token of weight 0 gets no expert and is chosen by none; any other weight changes nothing here
/// and counts in the losses. What x and dy hold there has to be finite: gradients multiply them by zero.
template <Matrix W>
struct token_weights {
  W const& values;  ///< 1 x T

  /// \param[in] w  1 x T, real; must outlive the call
  explicit token_weights(W const& w) : values(w) {}
};

/// \brief A bias for the choice alone: an argument of route().
/// \ingroup nn
///
/// Experts are chosen by value + bias; weights, probabilities and gradients come from the scores
/// without it. It has no gradient: update_selection_bias() moves it.
template <Matrix B>
struct selection_bias {
  B const& values;  ///< E x 1 of double, a row for every column of the router

  /// \param[in] b  E x 1 of double; must outlive the call
  explicit selection_bias(B const& b) : values(b) {}
};

/// \brief The bias of a linear router: an argument of route().
/// \ingroup nn
///
/// Scores are \f$ w^T x + b \f$; router_bias_backward() gives the gradient.
template <Matrix B>
struct router_bias {
  B const& values;  ///< E x 1

  /// \param[in] b  E x 1, of the router's scalar; must outlive the call
  explicit router_bias(B const& b) : values(b) {}
};

/// \brief Scores of the noise of noisy_top_k: an argument of route().
/// \ingroup nn
///
/// \f$ u = w_{noise}^T x \f$ by router_scores(); the noise is multiplied by softplus(u).
/// noise_scale_backward() gives the gradient.
template <Matrix U>
struct noise_scale {
  U const& scores;  ///< E x T

  /// \param[in] u  E x T, of the scores' scalar; must outlive the call
  explicit noise_scale(U const& u) : scores(u) {}
};

namespace detail {

template <template <class> class Term, class T>
inline constexpr bool is_term = false;
template <template <class> class Term, class M>
inline constexpr bool is_term<Term, Term<M>> = true;

template <template <class> class Term, class... Terms>
inline constexpr bool has_term = (is_term<Term, Terms> || ...);

// The first argument of the kind Term, or what stands for none.
template <template <class> class Term, class None>
None const& term_or(None const& none) {
  return none;
}
template <template <class> class Term, class None, class First, class... Rest>
auto const& term_or(None const& none, First const& first, Rest const&... rest) {
  if constexpr (is_term<Term, First>)
    return first;
  else
    return term_or<Term>(none, rest...);
}

}  // namespace detail

/// An optional argument of route(): token_weights, selection_bias, router_bias or noise_scale.
/// \ingroup nn
template <class T>
concept RoutingTerm = detail::is_term<token_weights, T> || detail::is_term<selection_bias, T> ||
                      detail::is_term<router_bias, T> || detail::is_term<noise_scale, T>;

}  // namespace stiefelx
