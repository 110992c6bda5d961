// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <concepts>
#include <utility>

#include <stiefelx/core/matrix.hpp>

/// \file
/// \brief When minimize() ends: criteria that compose, and the reason that it gives.
/// \ingroup optim
///
/// A criterion is any callable from an `iteration` to a `stop_reason`; `a || b` is met with the
/// first of its two that is met, `a && b` with both. Users' own callables take part.

namespace stiefelx {

/// Why minimize() ended.
/// \ingroup optim
enum class stop_reason {
  none,              ///< it has not
  gradient_norm,     ///< the gradient is short enough
  cost_change,       ///< the cost hardly changes
  cost_target,       ///< the cost is low enough
  step_length,       ///< the steps are short enough
  iteration_limit,   ///< so many iterations were asked for
  evaluation_limit,  ///< so many evaluations of the cost were asked for
  time_limit,        ///< so much time was given
  observer,          ///< the observer, or a user's criterion, said so
  smallest_step,     ///< a line search or trust region found no better point at its smallest step
  search_limit,      ///< a line search used up its evaluations
  no_descent,        ///< the direction does not descend, even along the gradient
  not_finite,  ///< cost or gradient is not finite at the start, or the gradient at a new point
  unbounded    ///< the cost is minus infinity along a direction
};

/// \brief A reason in words.
/// \ingroup optim
/// \param[in] reason  the reason
/// \returns a text without a period
constexpr char const* to_string(stop_reason reason) {
  switch (reason) {
    case stop_reason::none:
      return "not stopped";
    case stop_reason::gradient_norm:
      return "the gradient is short enough";
    case stop_reason::cost_change:
      return "the cost hardly changes";
    case stop_reason::cost_target:
      return "the cost is low enough";
    case stop_reason::step_length:
      return "the steps are short enough";
    case stop_reason::iteration_limit:
      return "the limit of iterations is reached";
    case stop_reason::evaluation_limit:
      return "the limit of evaluations is reached";
    case stop_reason::time_limit:
      return "the limit of time is reached";
    case stop_reason::observer:
      return "the caller ended it";
    case stop_reason::smallest_step:
      return "no better point at the smallest step";
    case stop_reason::search_limit:
      return "the line search used up its evaluations";
    case stop_reason::no_descent:
      return "no direction of descent";
    case stop_reason::not_finite:
      return "cost or gradient is not finite";
    case stop_reason::unbounded:
      return "the cost falls without bound";
  }
  return "unknown";
}

/// \brief What is known after an iteration; number 0 is the start.
/// \ingroup optim
struct iteration {
  index_t number = 0;                ///< iterations done
  double cost = 0;                   ///< cost of the current point
  double previous_cost = 0;          ///< that of the point before; the same at number 0
  double gradient_norm = 0;          ///< length of the Riemannian gradient
  double step_length = 0;            ///< length of the last step in the tangent space
  index_t cost_evaluations = 0;      ///< calls of cost() so far
  index_t gradient_evaluations = 0;  ///< calls of gradient() so far
  index_t hessian_evaluations =
      0;               ///< products with the Hessian so far, or differences in its place
  double seconds = 0;  ///< since minimize() was called
};

/// Met when the gradient is at most so long.
/// \ingroup optim
struct gradient_below {
  double bound;  ///< length in the manifold's metric
  /// \param[in] at  what is known
  /// \returns `gradient_norm` or `none`
  stop_reason operator()(iteration const& at) const {
    return at.gradient_norm <= bound ? stop_reason::gradient_norm : stop_reason::none;
  }
};

/// Met when one iteration changes the cost by at most so much, relative to max(1, |cost|).
/// \ingroup optim
struct cost_change_below {
  double bound;  ///< relative change
  /// \param[in] at  what is known
  /// \returns `cost_change` or `none`
  stop_reason operator()(iteration const& at) const {
    double const size = std::fmax(1, std::fabs(at.cost));
    return at.number > 0 && std::fabs(at.previous_cost - at.cost) <= bound * size
               ? stop_reason::cost_change
               : stop_reason::none;
  }
};

/// Met when the cost is at most so high.
/// \ingroup optim
struct cost_below {
  double bound;  ///< cost
  /// \param[in] at  what is known
  /// \returns `cost_target` or `none`
  stop_reason operator()(iteration const& at) const {
    return at.cost <= bound ? stop_reason::cost_target : stop_reason::none;
  }
};

/// Met when the last step is at most so long.
/// \ingroup optim
struct step_below {
  double bound;  ///< length in the tangent space
  /// \param[in] at  what is known
  /// \returns `step_length` or `none`
  stop_reason operator()(iteration const& at) const {
    return at.number > 0 && at.step_length <= bound ? stop_reason::step_length : stop_reason::none;
  }
};

/// Met after so many iterations.
/// \ingroup optim
struct iterations {
  index_t limit;  ///< number
  /// \param[in] at  what is known
  /// \returns `iteration_limit` or `none`
  stop_reason operator()(iteration const& at) const {
    return at.number >= limit ? stop_reason::iteration_limit : stop_reason::none;
  }
};

/// Met after so many evaluations of the cost; asked once an iteration, which may take several.
/// \ingroup optim
struct evaluations {
  index_t limit;  ///< number
  /// \param[in] at  what is known
  /// \returns `evaluation_limit` or `none`
  stop_reason operator()(iteration const& at) const {
    return at.cost_evaluations >= limit ? stop_reason::evaluation_limit : stop_reason::none;
  }
};

/// Met after so many seconds.
/// \ingroup optim
struct seconds {
  double limit;  ///< time since minimize() was called
  /// \param[in] at  what is known
  /// \returns `time_limit` or `none`
  stop_reason operator()(iteration const& at) const {
    return at.seconds >= limit ? stop_reason::time_limit : stop_reason::none;
  }
};

/// A callable from an iteration to a reason.
/// \ingroup optim
template <class C>
concept StopCriterion = requires(C const& criterion, iteration const& at) {
  { criterion(at) } -> std::same_as<stop_reason>;
};

/// Met when either of two is.
/// \ingroup optim
template <StopCriterion A, StopCriterion B>
struct either_of {
  A first;   ///< asked first
  B second;  ///< asked when the first is not met
  /// \param[in] at  what is known
  /// \returns the reason of the first that is met, or `none`
  stop_reason operator()(iteration const& at) const {
    stop_reason const reason = first(at);
    return reason != stop_reason::none ? reason : second(at);
  }
};

/// Met when both of two are.
/// \ingroup optim
template <StopCriterion A, StopCriterion B>
struct both_of {
  A first;   ///< gives the reason
  B second;  ///< must be met too
  /// \param[in] at  what is known
  /// \returns the reason of the first, or `none`
  stop_reason operator()(iteration const& at) const {
    stop_reason const reason = first(at);
    return second(at) != stop_reason::none ? reason : stop_reason::none;
  }
};

/// \brief Composes two criteria: either ends it.
/// \ingroup optim
/// \param[in] first   a criterion
/// \param[in] second  another
/// \returns their disjunction
template <StopCriterion A, StopCriterion B>
constexpr either_of<A, B> operator||(A first, B second) {
  return {std::move(first), std::move(second)};
}

/// \brief Composes two criteria: both must be met in the same iteration.
/// \ingroup optim
/// \param[in] first   a criterion
/// \param[in] second  another
/// \returns their conjunction
template <StopCriterion A, StopCriterion B>
constexpr both_of<A, B> operator&&(A first, B second) {
  return {std::move(first), std::move(second)};
}

}  // namespace stiefelx
