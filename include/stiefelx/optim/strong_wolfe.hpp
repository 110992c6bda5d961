// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/armijo.hpp>
#include <stiefelx/optim/stopping.hpp>

namespace stiefelx {

/// \brief What a line search knows of a step.
/// \ingroup optim
struct search_sample {
  double step = 0;  ///< multiple of the direction
  double cost = 0;  ///< cost there
  /// Derivative there; not a number where it was not measured.
  double slope = std::numeric_limits<double>::quiet_NaN();
};

/// \brief Where a cubic or a parabola through two steps of a line search is lowest.
/// \ingroup optim
///
/// A cubic through costs and slopes of both; without the second slope a parabola; where the two
/// costs differ by no more than their rounding, the root of the line through the slopes.
/// \param[in] a         cost and slope are known
/// \param[in] b         the other end
/// \param[in] rounding  of a cost, absolute
/// \returns a step, or no finite number where the curve has no minimum
inline double interpolated_minimum(search_sample const& a, search_sample const& b,
                                   double rounding) {
  double const width = b.step - a.step, rise = b.cost - a.cost;
  if (!std::isfinite(b.slope))
    return a.step - a.slope * width * width / (2 * (rise - a.slope * width));
  if (std::fabs(rise) <= rounding) return a.step - a.slope * width / (b.slope - a.slope);
  double const middle = a.slope + b.slope - 3 * rise / width;
  double const root = std::copysign(std::sqrt(middle * middle - a.slope * b.slope), width);
  return b.step - width * (b.slope + root - middle) / (b.slope - a.slope + 2 * root);
}

/// \brief Line search until cost and slope have fallen enough.
/// \ingroup optim
///
/// With \f$ \varphi(t) = f(R_x(t d)) \f$ it finds a step with
/// \f[ \varphi(t) \le f + c_1\,t\,\varphi'(0), \qquad
///     \lvert \varphi'(t) \rvert \le c_2\,\lvert \varphi'(0) \rvert \f]
/// by growing steps until they bracket one, and cubic interpolation in the bracket, kept away from
/// its ends and replaced by bisection where it shrinks too slowly. A cost or slope that is not
/// finite ends the bracket. Costs are compared up to their rounding; below it the slopes decide.
///
/// Where the evaluations or the bracket are used up, the best step that satisfies the first
/// condition is taken; only where there is none does the search fail.
/// \par Cost
/// One cost a trial, one gradient where the first condition holds there; one wait each.
/// \see \cite nocedal2006, algorithms 3.5 and 3.6
struct strong_wolfe {
  double decrease = 1e-4;        ///< \f$ c_1 \f$, in (0, 1/2)
  double curvature = 0.9;        ///< \f$ c_2 \f$, in (c_1, 1)
  double smallest_step = 1e-14;  ///< shortest step or bracket in the tangent space, above 0
  index_t evaluations = 40;      ///< most evaluations of the cost in one search, above 0
  /// What the cost may rise, relative to its size, in units of the rounding of the points' scalar.
  double rounding = 4;

  /// \throws option_error  if an option is out of its range
  void expect_options() const {
    expect_option(decrease > 0 && decrease < 0.5, "strong_wolfe", "decrease", decrease,
                  "a number in (0, 1/2)");
    expect_option(curvature > decrease && curvature < 1, "strong_wolfe", "curvature", curvature,
                  "a number between decrease and 1");
    expect_option(smallest_step > 0, "strong_wolfe", "smallest_step", smallest_step,
                  "a number above 0");
    expect_option(evaluations > 0, "strong_wolfe", "evaluations", evaluations, "a number above 0");
    expect_option(rounding >= 0, "strong_wolfe", "rounding", rounding, "a number of at least 0");
  }

  /// \brief Searches along a direction.
  /// \param[in,out] run        the minimization; its trial point is what was found, and measured
  /// \param[in]     direction  tangent at the current point
  /// \param[in]     start      cost, slope, first step
  /// \returns the step or the reason of failure
  template <class Run, class D>
  search_result operator()(Run& run, D const& direction, search_start const& start) const {
    double const infinity = std::numeric_limits<double>::infinity();
    // low satisfies the first condition and is the lowest such; before is the low before it. In the
    // bracket between low and high is a step of both conditions.
    search_sample low{0, run.current().cost, start.slope}, before = low, high;
    bool bracketed = false;
    double step = start.step, last_width = infinity;
    stop_reason reason = stop_reason::search_limit;
    for (index_t k = 0; k < evaluations; ++k) {
      double const span = bracketed ? std::fabs(high.step - low.step) : step;
      if (!(std::min(step, span) * start.length >= smallest_step)) {
        reason = stop_reason::smallest_step;
        break;
      }
      search_sample at{step, run.try_step(direction, step)};
      if (at.cost == -infinity) return {0, stop_reason::unbounded};
      double const forgiven =
          rounding * Run::epsilon * std::fmax(std::fabs(start.cost), std::fabs(low.cost));
      bool const enough = at.cost <= start.cost + decrease * step * start.slope + forgiven;
      bool const lower = low.step == 0 || at.cost <= low.cost + forgiven;
      if (enough && lower) at.slope = run.measure(direction, false).slope;
      if (std::isfinite(at.slope)) {
        if (std::fabs(at.slope) <= -curvature * start.slope) return {step, stop_reason::none, true};
        bool const turned = bracketed ? at.slope * (high.step - low.step) >= 0 : at.slope >= 0;
        if (turned) high = low;
        bracketed = bracketed || turned;
        before = low;
        low = at;
        run.keep_trial();
      } else {
        if (enough && lower) at.cost = infinity;
        high = at;
        bracketed = true;
      }
      step = bracketed ? inside(low, high, forgiven, last_width) : beyond(before, low);
    }
    if (low.step == 0) return {0, reason};
    run.restore_trial(direction, low.step);
    return {low.step, stop_reason::none, true};
  }

 private:
  // Where the slopes promise their root, from two to ten times as far.
  static double beyond(search_sample const& before, search_sample const& low) {
    double const width = low.step - before.step;
    double const root = low.slope * width / (before.slope - low.slope);
    return low.step + (before.slope < low.slope ? std::clamp(root, width, 9 * width) : 9 * width);
  }

  static double inside(search_sample const& low, search_sample const& high, double forgiven,
                       double& last_width) {
    double const width = high.step - low.step;
    double part = 0.1;
    if (std::isfinite(high.cost)) {
      part = (interpolated_minimum(low, high, forgiven) - low.step) / width;
      bool const shrinks = std::fabs(width) <= 0.66 * last_width;
      part = std::isfinite(part) && shrinks ? std::clamp(part, 0.05, 0.95) : 0.5;
      last_width = shrinks ? std::fabs(width) : std::numeric_limits<double>::infinity();
    }
    return low.step + part * width;
  }
};

}  // namespace stiefelx
