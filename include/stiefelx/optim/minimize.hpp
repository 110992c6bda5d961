// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/optim/minimization.hpp>

namespace stiefelx {

/// What minimize() found.
/// \ingroup optim
struct minimum {
  stop_reason reason = stop_reason::none;  ///< why it ended
  iteration last;                          ///< the last iteration: cost, gradient, counts, time
};

/// A gradient of length 1e-6, or 1000 iterations.
/// \ingroup optim
using default_criterion = either_of<gradient_below, iterations>;

/// \brief Minimizes a cost over a manifold.
/// \ingroup optim
///
/// ```
/// minimum found = minimize(ctx, problem, x, conjugate_gradient{}, gradient_below{1e-8} ||
///                          iterations{500});
/// ```
///
/// Starts at x and leaves the last point accepted there; with a search that never lets the cost
/// rise that is the best one. Cost and gradient are evaluated once a point; a solver waits for its
/// own numbers at most once an evaluation, besides what cost() waits. A cost that is not a number
/// counts as infinite: a step to it is refused.
///
/// \param[in]     ctx       where to run; waits
/// \param[in]     problem   cost, gradient and manifold: see problem.hpp
/// \param[in,out] x         a point; the result
/// \param[in]     solver    gradient_descent, barzilai_borwein, conjugate_gradient, limited_bfgs,
///                          trust_region, or a value with `retraction` and `solve(run)`
/// \param[in]     stop      criterion, see stopping.hpp
/// \param[in]     observer  called as `observer(iteration const&, x)` at the start and after every
///                          iteration; may return true to end it
/// \returns the reason and the last iteration
/// \throws option_error  if an option of the solver is out of its range
/// \throws shape_error   if x does not fit the manifold
/// \par Cost
/// Scratch of a dozen points, 15 with a preconditioner, and three caches, taken at the start; each
/// solver's page says how many points more.
/// \see \cite absil2008
template <class Ctx, class P, class X, class Solver, StopCriterion Stop = default_criterion,
          class Observer = absent>
  requires OutputMatrix<X>
minimum minimize(Ctx& ctx, P&& problem, X&& x, Solver const& solver,
                 Stop const& stop = {gradient_below{1e-6}, iterations{1000}},
                 Observer&& observer = {}) {
  using point = decltype(clone(ctx, x));
  static_assert(ProblemOn<std::remove_reference_t<P>, Ctx, point>,
                "minimize: problem needs manifold, cost(ctx, x) and gradient(ctx, x, g)");
  using run_type = minimization<Ctx, std::remove_reference_t<P>, point,
                                std::remove_cvref_t<decltype(solver.retraction)>, Stop,
                                std::remove_reference_t<Observer>>;
  solver.expect_options();
  run_type run(ctx, problem, x, solver.retraction, stop, observer);
  if (!run.begin()) return {stop_reason::not_finite, run.last()};
  stop_reason reason = run.check();
  if (reason == stop_reason::none) reason = solver.solve(run);
  copy(ctx, run.current().x, x);
  return {reason, run.last()};
}

}  // namespace stiefelx
