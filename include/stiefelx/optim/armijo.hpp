// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/stopping.hpp>

namespace stiefelx {

/// What a line search was given.
/// \ingroup optim
struct search_start {
  double cost;    ///< cost that the steps are held against; the current one unless non-monotone
  double slope;   ///< derivative along the direction, negative
  double length;  ///< length of the direction
  double step;    ///< first step to try, as a multiple of the direction, above 0
  /// Whether the first step is guessed from earlier ones, so that a search may improve it.
  bool guessed = false;
};

/// What a line search found.
/// \ingroup optim
struct search_result {
  double step = 0;                          ///< multiple of the direction, or 0
  stop_reason failure = stop_reason::none;  ///< `none` when the trial point may be accepted
  bool measured = false;  ///< whether the trial point's gradient and products are known
};

/// \brief Line search by backtracking until the cost falls enough.
/// \ingroup optim
///
/// The first of \f$ t, \tau t, \tau^2 t, \dots \f$ with \f$ f(R_x(t d)) \le f + c\,t\,\langle g, d
/// \rangle \f$; between them, the minimum of the parabola through what is known where that is
/// shorter than \f$ \tau t \f$ and longer than \f$ t / 10 \f$. Near a minimum the fall is below the
/// rounding of the cost, so so much is forgiven. With search_start::cost above the current cost the
/// search is non-monotone, see nonmonotone.hpp.
/// \see \cite absil2008, section 4.2
struct armijo {
  double decrease = 1e-4;        ///< c, in (0, 1/2]
  double contraction = 0.5;      ///< \f$ \tau \f$, in (0, 1)
  double smallest_step = 1e-14;  ///< shortest step in the tangent space, above 0
  index_t evaluations = 50;      ///< most evaluations of the cost in one search, above 0
  /// What the cost may rise, relative to its size, in units of the rounding of the points' scalar.
  double rounding = 4;

  /// \throws option_error  if an option is out of its range
  void expect_options() const {
    expect_option(decrease > 0 && decrease <= 0.5, "armijo", "decrease", decrease,
                  "a number in (0, 1/2]");
    expect_option(contraction > 0 && contraction < 1, "armijo", "contraction", contraction,
                  "a number in (0, 1)");
    expect_option(smallest_step > 0, "armijo", "smallest_step", smallest_step, "a number above 0");
    expect_option(evaluations > 0, "armijo", "evaluations", evaluations, "a number above 0");
    expect_option(rounding >= 0, "armijo", "rounding", rounding, "a number of at least 0");
  }

  /// \brief Searches along a direction.
  /// \param[in,out] run        the minimization; its trial point is what was found
  /// \param[in]     direction  tangent at the current point
  /// \param[in]     start      cost, slope, first step
  /// \returns the step or the reason of failure
  template <class Run, class D>
  search_result operator()(Run& run, D const& direction, search_start const& start) const {
    double step = start.step;
    double const here = run.current().cost;
    double const forgiven = rounding * Run::epsilon * std::fabs(start.cost);
    for (index_t k = 0; k < evaluations; ++k) {
      if (!(step * start.length >= smallest_step)) return {0, stop_reason::smallest_step};
      double const cost = run.try_step(direction, step);
      if (cost == -std::numeric_limits<double>::infinity()) return {0, stop_reason::unbounded};
      if (cost <= start.cost + decrease * step * start.slope + forgiven)
        return {step, stop_reason::none};
      // The parabola through the cost and slope at zero and the cost at the step.
      double const rise = cost - here - step * start.slope;
      double const lowest = -start.slope * step * step / (2 * rise);
      bool const usable = std::isfinite(lowest) && lowest > 0.1 * step;
      step = usable ? std::min(lowest, contraction * step) : contraction * step;
    }
    return {0, stop_reason::search_limit};
  }
};

}  // namespace stiefelx
