// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/armijo.hpp>
#include <stiefelx/optim/stopping.hpp>
#include <stiefelx/optim/strong_wolfe.hpp>

namespace stiefelx {

namespace detail {

template <class Options, class Run, class D>
class hager_zhang_bracket;

}  // namespace detail

/// \brief Line search that is exact to the rounding of the slopes, not of the costs.
/// \ingroup optim
///
/// With \f$ \varphi(t) = f(R_x(t d)) \f$ it finds a step with either of
/// \f[ \varphi(t) \le f + \delta\,t\,\varphi'(0), \quad \varphi'(t) \ge \sigma\,\varphi'(0);
///     \qquad
///     (2\delta - 1)\,\varphi'(0) \ge \varphi'(t) \ge \sigma\,\varphi'(0), \quad
///     \varphi(t) \le f + \epsilon_k, \f]
/// Wolfe's conditions or the approximate ones, which say the same of a parabola and hold to
/// rounding near a minimum, where the first does not. \f$ \epsilon_k = \epsilon\,\lvert f \rvert
/// \f$. A bracket with slopes of opposite sign shrinks by two secant steps at a time, and by
/// bisection where they leave more than \f$ \gamma \f$ of it. A cost or slope that is not finite
/// counts as too high a cost.
///
/// Where the evaluations or the bracket are used up, the best step whose cost has fallen enough is
/// taken; only where there is none does the search fail.
/// \par Cost
/// One cost and one gradient a trial, with one wait. With `first_part` above 0, 0.1 in
/// \cite hager2005, the first trial of a guessed step is a cost alone, for the parabola whose
/// minimum is tried next: that pays where a gradient costs more than a cost.
/// \see \cite hager2005, \cite hager2006
struct hager_zhang {
  double decrease = 0.1;    ///< \f$ \delta \f$, in (0, 1/2)
  double curvature = 0.9;   ///< \f$ \sigma \f$, in \f$ [\delta, 1) \f$
  double epsilon = 1e-6;    ///< rise that the approximate conditions allow, relative
  double bisection = 0.5;   ///< \f$ \theta \f$: part of the bracket, in (0, 1)
  double shrinkage = 0.66;  ///< \f$ \gamma \f$: part that two secant steps may leave, in (0, 1)
  double expansion = 5;     ///< \f$ \rho \f$: growth until there is a bracket, above 1
  double first_part = 0;    ///< \f$ \psi_1 \f$: part of a guess tried for a parabola, or 0
  double guess_growth = 2;  ///< \f$ \psi_2 \f$: growth of a guess where that has no minimum
  double smallest_step = 1e-14;  ///< shortest step or bracket in the tangent space, above 0
  index_t evaluations = 50;      ///< most evaluations of the cost in one search, above 0

  /// \throws option_error  if an option is out of its range
  void expect_options() const {
    auto const expect = [](bool holds, char const* option, double found, char const* expected) {
      expect_option(holds, "hager_zhang", option, found, expected);
    };
    expect(decrease > 0 && decrease < 0.5, "decrease", decrease, "a number in (0, 1/2)");
    expect(curvature >= decrease && curvature < 1, "curvature", curvature,
           "a number of at least decrease, below 1");
    expect(epsilon >= 0, "epsilon", epsilon, "a number of at least 0");
    expect(bisection > 0 && bisection < 1, "bisection", bisection, "a number in (0, 1)");
    expect(shrinkage > 0 && shrinkage < 1, "shrinkage", shrinkage, "a number in (0, 1)");
    expect(expansion > 1, "expansion", expansion, "a number above 1");
    expect(first_part >= 0 && first_part < 1, "first_part", first_part, "a number in [0, 1)");
    expect(guess_growth >= 1, "guess_growth", guess_growth, "a number of at least 1");
    expect(smallest_step > 0, "smallest_step", smallest_step, "a number above 0");
    expect_option(evaluations > 0, "hager_zhang", "evaluations", evaluations, "a number above 0");
  }

  /// \brief Searches along a direction.
  /// \param[in,out] run        the minimization; its trial point is what was found, and measured
  /// \param[in]     direction  tangent at the current point
  /// \param[in]     start      cost, slope, first step
  /// \returns the step or the reason of failure
  template <class Run, class D>
  search_result operator()(Run& run, D const& direction, search_start const& start) const {
    return detail::hager_zhang_bracket<hager_zhang, Run, D>(*this, run, direction, start).search();
  }
};

namespace detail {

// One search. Each member that tries steps returns whether the search has ended.
template <class Options, class Run, class D>
class hager_zhang_bracket {
 public:
  hager_zhang_bracket(Options const& options, Run& run, D const& direction,
                      search_start const& start)
      : options_(options),
        run_(run),
        direction_(direction),
        start_(start),
        highest_(start.cost + options.epsilon * std::fabs(start.cost)),
        a_{0, run.current().cost, start.slope} {}

  search_result search() {
    if (enclose(first_step())) return result_;
    for (;;) {
      double const width = b_.step - a_.step;
      if (two_secants()) return result_;
      if (b_.step - a_.step > options_.shrinkage * width &&
          try_inside(a_.step + 0.5 * (b_.step - a_.step)))
        return result_;
      if (b_.step - a_.step >= width) {
        give_up(stop_reason::smallest_step);
        return result_;
      }
    }
  }

 private:
  // The minimum of the parabola through the cost at a part of the guess, where that cost is lower
  // by more than rounding.
  double first_step() {
    double const guess = start_.step;
    if (!start_.guessed || options_.first_part == 0) return guess;
    double const t = options_.first_part * guess;
    if (!(t * start_.length >= options_.smallest_step)) return guess;
    ++tried_;
    double const fall = a_.cost - run_.try_step(direction_, t);
    double const bend = -fall - t * a_.slope;
    if (std::fabs(fall) <= 100 * Run::epsilon * std::fabs(a_.cost)) return guess;
    bool const convex = fall > 0 && std::isfinite(fall) && bend > 0;
    return convex ? -a_.slope * t * t / (2 * bend) : options_.guess_growth * guess;
  }

  bool end(search_result const& found) {
    result_ = found;
    return true;
  }

  bool give_up(stop_reason reason) {
    if (!(kept_.step > 0)) return end({0, reason});
    run_.restore_trial(direction_, kept_.step);
    return end({kept_.step, stop_reason::none, true});
  }

  bool evaluate(double t, search_sample& at) {
    if (tried_++ >= options_.evaluations) return give_up(stop_reason::search_limit);
    if (!(t * start_.length >= options_.smallest_step)) return give_up(stop_reason::smallest_step);
    double const infinity = std::numeric_limits<double>::infinity();
    at = {t, run_.try_step(direction_, t)};
    if (at.cost == -infinity) return end({0, stop_reason::unbounded});
    if (std::isfinite(at.cost)) at.slope = run_.measure(direction_, false).slope;
    if (!std::isfinite(at.slope)) at = {t, infinity};
    bool const lower = at.cost <= start_.cost + options_.decrease * t * start_.slope;
    bool const flat = at.slope >= options_.curvature * start_.slope;
    bool const level = (2 * options_.decrease - 1) * start_.slope >= at.slope;
    if (flat && (lower || (level && at.cost <= highest_))) return end({t, stop_reason::none, true});
    if (lower && (!(kept_.step > 0) || at.cost < kept_.cost)) {
      kept_ = at;
      run_.keep_trial();
    }
    return false;
  }

  // Grows the step until a bracket [a, b] has slopes of opposite sign and a low cost at a.
  bool enclose(double t) {
    for (;; t *= options_.expansion) {
      search_sample c;
      if (evaluate(t, c)) return true;
      if (c.slope >= 0) {
        b_ = c;
        return false;
      }
      if (!(c.cost <= highest_)) {
        b_ = c;
        return squeeze();
      }
      a_ = c;
    }
  }

  // The cost at b is too high while the slope there is negative, or not known: a hill, or the end
  // of where the cost is finite, lies between.
  bool squeeze() {
    for (;;) {
      search_sample d;
      double const t = a_.step + options_.bisection * (b_.step - a_.step);
      if ((b_.step - a_.step) * start_.length < options_.smallest_step)
        return give_up(stop_reason::smallest_step);
      if (evaluate(t, d)) return true;
      if (d.slope >= 0) {
        b_ = d;
        return false;
      }
      if (d.cost <= highest_)
        a_ = d;
      else
        b_ = d;
    }
  }

  bool try_inside(double t) {
    if (!(t > a_.step && t < b_.step && t * start_.length >= options_.smallest_step)) return false;
    search_sample c;
    if (evaluate(t, c)) return true;
    if (c.slope >= 0) {
      b_ = c;
    } else if (c.cost <= highest_) {
      a_ = c;
    } else {
      b_ = c;
      return squeeze();
    }
    return false;
  }

  static double secant(search_sample const& u, search_sample const& v) {
    return (u.step * v.slope - v.step * u.slope) / (v.slope - u.slope);
  }

  bool two_secants() {
    search_sample const a = a_, b = b_;
    double const t = secant(a, b);
    if (try_inside(t)) return true;
    if (t == b_.step) return try_inside(secant(b, b_));
    if (t == a_.step) return try_inside(secant(a, a_));
    return false;
  }

  Options const& options_;
  Run& run_;
  D const& direction_;
  search_start const start_;
  double const highest_;
  search_sample a_, b_, kept_;
  index_t tried_ = 0;
  search_result result_;
};

}  // namespace detail

}  // namespace stiefelx
