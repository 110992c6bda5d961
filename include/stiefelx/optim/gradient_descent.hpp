// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/armijo.hpp>
#include <stiefelx/optim/minimization.hpp>
#include <stiefelx/optim/nonmonotone.hpp>

namespace stiefelx {

/// \brief Solver of minimize(): steepest descent with a line search.
/// \ingroup optim
///
/// \f$ x \leftarrow R_x(-t\,z) \f$ with the gradient, or what the problem's preconditioner makes of
/// it. The first trial step assumes that the cost falls a tenth more than in the step before; where
/// that fell by no more than rounding, it is the step before. Converges linearly, as slowly as the
/// condition number of the Hessian says: a yardstick for the others.
/// \see \cite absil2008, section 4.2
template <class Search = armijo, class How = default_retraction, class Reference = monotone>
struct gradient_descent {
  Search search{};        ///< line search
  double first_step = 1;  ///< length of the first trial step in the tangent space, above 0
  How retraction{};       ///< options of a retraction
  Reference reference{};  ///< what the costs are held against, see nonmonotone.hpp

  /// \throws option_error  if an option is out of its range
  void expect_options() const {
    search.expect_options();
    reference.expect_options();
    expect_option(first_step > 0, "gradient_descent", "first_step", first_step, "a number above 0");
  }

  /// \brief Iterates until the criterion is met or no step helps.
  /// \param[in,out] run  from minimize()
  /// \returns why it ended
  template <class Run>
  stop_reason solve(Run& run) const {
    auto& ctx = run.where();
    auto direction = clone(ctx, run.current().x);
    auto held = reference.start();
    double step = first_step / std::sqrt(run.current().preconditioned_squared);
    for (;;) {
      auto& now = run.current();
      copy(ctx, run.preconditioned(now), direction);
      scale(ctx, -1, direction);
      double const slope = -now.weighted, length = std::sqrt(now.preconditioned_squared);
      if (!(slope < 0)) return stop_reason::no_descent;
      if (run.last().number > 0) {
        double const fall = run.last().previous_cost - now.cost;
        if (fall > 100 * Run::epsilon * std::fabs(now.cost)) step = -2.2 * fall / slope;
      }
      auto const found = search(run, direction, {held(now.cost), slope, length, step});
      if (found.failure != stop_reason::none) return found.failure;
      if (!found.measured) run.measure();
      if (!std::isfinite(run.trial().squared)) return stop_reason::not_finite;
      step = found.step;
      run.accept(step * length);
      if (stop_reason const reason = run.check(); reason != stop_reason::none) return reason;
    }
  }
};

}  // namespace stiefelx
