// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/hager_zhang.hpp>
#include <stiefelx/optim/minimization.hpp>

namespace stiefelx {

/// \brief How conjugate_gradient weighs the direction before.
/// \ingroup optim
///
/// With g and z = P g at the new point, \f$ g_0, d_0 \f$ at the point before, \f$ \mathcal{T} \f$
/// the transport, \f$ y = g - \mathcal{T} g_0 \f$ and
/// \f$ q = \langle g, \mathcal{T} d_0 \rangle - \langle g_0, d_0 \rangle \f$, which stands for
/// \f$ \langle y, \mathcal{T} d_0 \rangle \f$ and is positive under Wolfe's conditions:
enum class conjugate_rule {
  fletcher_reeves,        ///< \f$ \langle g, z \rangle / \langle g_0, z_0 \rangle \f$
  polak_ribiere,          ///< \f$ \max(0, \langle y, z \rangle / \langle g_0, z_0 \rangle) \f$
  hestenes_stiefel,       ///< \f$ \langle y, z \rangle / q \f$
  hestenes_stiefel_plus,  ///< the same, or 0 where it is negative
  dai_yuan,               ///< \f$ \langle g, z \rangle / q \f$
  liu_storey,             ///< \f$ -\langle y, z \rangle / \langle g_0, d_0 \rangle \f$
  /// \f$ \max(\eta, (\langle y, z \rangle - 2 \langle y, P y \rangle \langle g, \mathcal{T} d_0
  /// \rangle / q) / q) \f$, \f$ \eta = -1 / (\lVert d_0 \rVert \min(0.01, \lVert g_0 \rVert)) \f$
  hager_zhang,
  hybrid  ///< \f$ \max(0, \min(\mathrm{HS}, \mathrm{DY})) \f$
};

/// \brief What a rule needs to know of the point before.
/// \ingroup optim
struct conjugate_history {
  double slope = 0;     ///< \f$ \langle g_0, d_0 \rangle \f$, negative
  double squared = 0;   ///< \f$ \langle g_0, g_0 \rangle \f$
  double weighted = 0;  ///< \f$ \langle g_0, z_0 \rangle \f$
  double length = 0;    ///< \f$ \lVert d_0 \rVert \f$
};

/// \brief The weight \f$ \beta \f$ of the direction before in the new one,
/// \f$ d = -z + \beta\,\mathcal{T} d_0 \f$.
/// \ingroup optim
/// \param[in] rule    which
/// \param[in] before  of the point before
/// \param[in] at      products at the new point
/// \returns the weight; not a finite number where the rule divides by zero
/// \see \cite sato2022, \cite hager2005, \cite dai2001
inline double conjugate_weight(conjugate_rule rule, conjugate_history const& before,
                               trial_products const& at) {
  double const change = at.weighted - at.previous_weighted;
  double const q = at.slope - before.slope;
  switch (rule) {
    case conjugate_rule::fletcher_reeves:
      return at.weighted / before.weighted;
    case conjugate_rule::polak_ribiere:
      return std::max(0.0, change / before.weighted);
    case conjugate_rule::hestenes_stiefel:
      return change / q;
    case conjugate_rule::hestenes_stiefel_plus:
      return std::max(0.0, change / q);
    case conjugate_rule::dai_yuan:
      return at.weighted / q;
    case conjugate_rule::liu_storey:
      return -change / before.slope;
    case conjugate_rule::hager_zhang: {
      double const square = at.weighted - 2 * at.previous_weighted + at.previous_both;
      double const least = -1 / (before.length * std::min(0.01, std::sqrt(before.squared)));
      return std::max(least, (change - 2 * square * at.slope / q) / q);
    }
    case conjugate_rule::hybrid:
      return std::max(0.0, std::min(change, at.weighted) / q);
  }
  return 0;
}

/// \brief The line search that conjugate_gradient takes where none is given: that of its type, made
/// to find the minimum along the line more exactly, to four tenths of the slope.
/// \ingroup optim
///
/// Several rules, that of Fletcher and Reeves above all, descend only where the slope is at most
/// half of the first one.
/// \tparam Search  type of a line search
/// \returns its default options, but for `curvature` where it has that
template <class Search>
constexpr Search conjugate_search() {
  Search search{};
  if constexpr (requires { search.curvature; }) search.curvature = 0.4;
  return search;
}

/// \brief Solver of minimize(): nonlinear conjugate gradients.
/// \ingroup optim
///
/// \f$ d = -z + \beta\,\mathcal{T} d_0 \f$ with the gradient or what the problem's preconditioner
/// makes of it, \f$ \beta \f$ by a conjugate_rule and \f$ \mathcal{T} d_0 \f$ the velocity of the
/// retraction's curve where the manifold has it. With an exact search on a quadratic function all
/// rules are the method of conjugate gradients, done after as many iterations as the Hessian has
/// distinct eigenvalues. The first trial step assumes the same fall to first order as the step
/// before.
///
/// Starts anew with -z where d does not descend or is not finite, where a search along it fails,
/// every `restart_every` iterations, and, by Powell's test, where
/// \f$ \lvert \langle \mathcal{T} g_0, z \rangle \rvert \ge \nu \langle g, z \rangle \f$.
///
/// \par Cost
/// One point of scratch. An iteration costs what its search evaluates; the direction two passes.
/// \see \cite sato2022, \cite nocedal2006, section 5.2
template <class Search = hager_zhang, class How = default_retraction>
struct conjugate_gradient {
  conjugate_rule rule = conjugate_rule::hybrid;  ///< the weight of the direction before
  Search search = conjugate_search<Search>();    ///< line search
  double first_step = 1;      ///< length of the first trial step in the tangent space, above 0
  index_t restart_every = 0;  ///< most iterations between restarts, or 0
  /// \f$ \nu \f$ of Powell's test, above 0; infinity leaves it out.
  double restart_overlap = 0.5;
  How retraction{};  ///< options of a retraction

  /// \throws option_error  if an option is out of its range
  void expect_options() const {
    search.expect_options();
    expect_option(first_step > 0, "conjugate_gradient", "first_step", first_step,
                  "a number above 0");
    expect_option(restart_every >= 0, "conjugate_gradient", "restart_every", restart_every,
                  "a number of at least 0");
    expect_option(restart_overlap > 0, "conjugate_gradient", "restart_overlap", restart_overlap,
                  "a number above 0");
  }

  /// \brief Iterates until the criterion is met or no step helps.
  /// \param[in,out] run  from minimize()
  /// \returns why it ended
  template <class Run>
  stop_reason solve(Run& run) const {
    auto& ctx = run.where();
    run.follow_gradient(rule == conjugate_rule::hager_zhang);
    auto direction = clone(ctx, run.current().x);
    conjugate_history before = steepest(run, direction);
    double step = first_step / before.length;
    index_t since_restart = 0;
    for (;;) {
      if (!(before.slope < 0)) return stop_reason::no_descent;
      auto const found =
          search(run, direction,
                 {run.current().cost, before.slope, before.length, step, run.last().number > 0});
      if (found.failure != stop_reason::none) {
        if (since_restart == 0 || found.failure == stop_reason::unbounded) return found.failure;
        before = steepest(run, direction);
        since_restart = 0;
        continue;
      }
      if (!found.measured) run.measure(direction, true);
      trial_products const& at = run.products();
      if (!std::isfinite(at.squared)) return stop_reason::not_finite;
      run.accept(found.step * before.length);
      if (stop_reason const reason = run.check(); reason != stop_reason::none) return reason;

      double const weight = conjugate_weight(rule, before, at);
      double const slope = -at.weighted + weight * at.slope;
      double const squared = at.preconditioned_squared - 2 * weight * at.direction_preconditioned +
                             weight * weight * at.direction_squared;
      double const fall = found.step * before.slope;
      ++since_restart;
      bool const due = restart_every > 0 && since_restart >= restart_every;
      bool const overlaps = std::fabs(at.previous_weighted) >= restart_overlap * at.weighted;
      if (due || overlaps || !(slope < 0) || !std::isfinite(slope) || !(squared > 0)) {
        before = steepest(run, direction);
        since_restart = 0;
      } else {
        copy(ctx, run.moved(), direction);
        scale(ctx, weight, direction);
        axpy(ctx, -1, run.preconditioned(run.current()), direction);
        before = {slope, at.squared, at.weighted, std::sqrt(squared)};
      }
      step = fall / before.slope;
    }
  }

 private:
  template <class Run, class D>
  static conjugate_history steepest(Run& run, D& direction) {
    auto& ctx = run.where();
    auto& now = run.current();
    copy(ctx, run.preconditioned(now), direction);
    scale(ctx, -1, direction);
    return {-now.weighted, now.squared, now.weighted, std::sqrt(now.preconditioned_squared)};
  }
};

}  // namespace stiefelx
