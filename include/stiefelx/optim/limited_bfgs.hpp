// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/armijo.hpp>
#include <stiefelx/optim/minimization.hpp>
#include <stiefelx/optim/secant_pairs.hpp>

namespace stiefelx {

/// Where limited_bfgs keeps its pairs.
/// \ingroup optim
enum class pair_space {
  tangent,  ///< in the tangent space of the current point: transported every step
  /// As they were made; the finished direction is projected. Saves the transports, for about as many
  /// iterations; the manifold's inner() must be a product of all matrices, not of tangent ones alone.
  ambient
};

/// \brief Solver of minimize(): L-BFGS, quasi-Newton with few vectors, cautious.
/// \ingroup optim
///
/// \f$ d = -H\,g \f$ by the last pairs of a step and the change of the gradient (secant_pairs.hpp),
/// then a line search from step length one. A pair is taken when
/// \f$ \langle s, y \rangle \ge \epsilon\, \lVert g \rVert^{\alpha} \langle s, s \rangle \f$ with the
/// gradient g before the step, so that H stays bounded where the curvature is not positive. Where
/// the problem has a preconditioner it is \f$ H_0 \f$.
///
/// Along a direction that does not descend, or whose search fails, all pairs are forgotten and
/// steepest descent starts anew.
///
/// \par Cost
/// Scratch of twice `pairs` points. An iteration costs four passes over a pair, with
/// pair_space::tangent also two transports, and waits twice: for the products at the new point, and
/// for slope and length of the direction.
/// \see \cite huang2018, \cite li2001, \cite nocedal1980
template <class Search = armijo, class How = default_retraction>
struct limited_bfgs {
  index_t pairs = 10;                      ///< most pairs kept, above 0
  pair_space space = pair_space::tangent;  ///< where they are kept
  double caution = 1e-4;                   ///< \f$ \epsilon \f$, at least 0
  double caution_power = 1;                ///< \f$ \alpha \f$, above 0
  double first_step = 1;  ///< length of the first trial step in the tangent space, above 0
  Search search{};        ///< line search
  How retraction{};       ///< options of a retraction

  /// \throws option_error  if an option is out of its range
  void expect_options() const {
    search.expect_options();
    expect_option(pairs > 0, "limited_bfgs", "pairs", pairs, "a number above 0");
    expect_option(caution >= 0, "limited_bfgs", "caution", caution, "a number of at least 0");
    expect_option(caution_power > 0, "limited_bfgs", "caution_power", caution_power,
                  "a number above 0");
    expect_option(first_step > 0, "limited_bfgs", "first_step", first_step, "a number above 0");
  }

  /// \brief Iterates until the criterion is met or no step helps.
  /// \param[in,out] run  from minimize()
  /// \returns why it ended
  template <class Run>
  stop_reason solve(Run& run) const {
    auto& ctx = run.where();
    auto direction = clone(ctx, run.current().x);
    auto numbers = scratch<double>(ctx, 1, 2);
    secant_pairs known(ctx, run.current().x, pairs);
    double taken = 0;
    run.follow_gradient();
    for (;;) {
      auto line = find_direction(run, known, direction, numbers);
      if (known.size() > 0 && !(line.slope < 0 && std::isfinite(line.length))) {
        known.clear(ctx);
        line = find_direction(run, known, direction, numbers);
      }
      if (!(line.slope < 0)) return stop_reason::no_descent;
      if (known.size() == 0) line.step = first_trial(run, line, taken);
      auto const found = search(run, direction, line);
      if (found.failure != stop_reason::none) {
        if (known.size() == 0 || found.failure == stop_reason::unbounded) return found.failure;
        known.clear(ctx);
        continue;
      }
      if (!found.measured) run.measure(direction, true);
      remember(run, known, found.step);
      taken = found.step * line.length;
      run.accept(taken);
      if (stop_reason const reason = run.check(); reason != stop_reason::none) return reason;
    }
  }

 private:
  // Without pairs the direction has no natural length, unless a preconditioner gives it one: the
  // cost falls as much as in the step before, or the step is as long.
  template <class Run>
  double first_trial(Run& run, search_start const& line, double taken) const {
    if (taken == 0) return Run::has_precondition ? 1 : first_step / line.length;
    double const fall = run.last().previous_cost - run.current().cost;
    return fall > 0 ? -2.2 * fall / line.slope : taken / line.length;
  }

  // The direction, its slope and its length; reads once.
  template <class Run, class Pairs, class D, class Numbers>
  search_start find_direction(Run& run, Pairs& known, D& direction, Numbers& numbers) const {
    auto& ctx = run.where();
    auto const& m = run.manifold();
    auto& now = run.current();
    copy(ctx, now.gradient, direction);
    scale(ctx, -1, direction);
    bool const leaves = space == pair_space::ambient && known.size() > 0;
    if constexpr (Run::has_precondition) {
      known.apply(ctx, m, now.x, direction, [&](D& v) {
        if (leaves) project(ctx, m, now.x, v, v);
        run.apply_precondition(v, run.moved());
        copy(ctx, run.moved(), v);
      });
    } else {
      known.apply(ctx, m, now.x, direction);
    }
    if (leaves) project(ctx, m, now.x, direction, direction);
    inner_as_double(ctx, m, now.x, now.gradient, direction, numbers.middleCols(0, 1));
    inner_as_double(ctx, m, now.x, direction, direction, numbers.middleCols(1, 1));
    std::array<double, 2> s{};
    download(ctx, numbers, s.data());
    return {now.cost, s[0], std::sqrt(s[1]), 1};
  }

  // Takes the pairs along to the trial point, and the new one in where it has enough curvature.
  template <class Run, class Pairs>
  void remember(Run& run, Pairs& known, double step) const {
    auto& ctx = run.where();
    auto const& m = run.manifold();
    auto& now = run.current();
    auto& next = run.trial();
    trial_products const& at = run.products();
    if (space == pair_space::tangent) known.move(ctx, m, now.x, next.x);
    double const curvature = (at.slope - at.direction_previous) / (step * at.direction_squared);
    double const least = caution * std::pow(std::sqrt(now.squared), caution_power);
    if (!(curvature > 0 && curvature >= least)) return;
    scale(ctx, step, run.moved());
    scale(ctx, -1, run.previous_gradient());
    axpy(ctx, 1, next.gradient, run.previous_gradient());
    known.add(ctx, m, next.x, run.moved(), run.previous_gradient());
  }
};

}  // namespace stiefelx
