// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/finite_difference_hessian.hpp>
#include <stiefelx/optim/minimization.hpp>
#include <stiefelx/optim/truncated_cg.hpp>

namespace stiefelx {

/// \brief Solver of minimize(): trust region with truncated conjugate gradients.
/// \ingroup optim
///
/// Each step minimizes the quadratic model in a ball (truncated_cg.hpp), until its residual r has
/// \f$ \lVert r \rVert \le \lVert g \rVert \min(\kappa, (\lVert g \rVert / \lVert g_0 \rVert)^\theta)
/// \f$ with the gradient \f$ g_0 \f$ of the start: the order of convergence is \f$ 1 + \theta \f$, up to
/// two; a residual of \f$ \kappa \lVert g \rVert \f$ is sufficient. The ball grows where the model says the fall of the cost well and ends at its boundary, and
/// shrinks where it says it badly; a step with \f$ \rho \f$ below `acceptance` is refused, where
/// \f[ \rho = \frac{f(x) - f(R_x(v)) + \delta}{m(0) - m(v) + \delta}, \quad
///     \delta = \text{regularization} \cdot \epsilon \max(1, |f(x)|) \f]
/// with the rounding unit of the points' scalar, because near a minimum both differences are rounding.
///
/// The Hessian is the problem's, or where it has none a difference of gradients
/// (finite_difference_hessian.hpp). Norms are those of the metric, or of the problem's preconditioner:
/// \f$ \langle v, P^{-1}v \rangle^{1/2} \f$ for steps and \f$ \langle r, Pr \rangle^{1/2} \f$ for
/// gradients. An iteration is a step that is taken.
///
/// \par Cost
/// Scratch of five points, two more with a preconditioner, six more with differences. Waits once a
/// product with the Hessian and once a step that is taken.
/// \see \cite absil2007, \cite absil2008, chapter 7
template <class How = default_retraction>
struct trust_region {
  double first_radius = 1;  ///< of the ball, above 0
  /// Largest radius, at least the first.
  double largest_radius = std::numeric_limits<double>::infinity();
  double smallest_radius = 1e-14;  ///< below it the solver ends, above 0
  double acceptance = 0.1;         ///< least \f$ \rho \f$ of a step that is taken, in [0, 1/4)
  double kappa = 0.1;              ///< \f$ \kappa \f$, in (0, 1)
  double theta = 0.5;              ///< \f$ \theta \f$, at least 0
  index_t products = 1000;         ///< most products with the Hessian in one ball, above 0
  double regularization = 100;     ///< multiples of the cost's rounding, at least 0
  How retraction{};                ///< options of a retraction

  /// \throws option_error  if an option is out of its range
  void expect_options() const {
    auto const expect = [](bool holds, char const* option, double found, char const* range) {
      expect_option(holds, "trust_region", option, found, range);
    };
    expect(first_radius > 0, "first_radius", first_radius, "a number above 0");
    expect(largest_radius >= first_radius, "largest_radius", largest_radius,
           "a number of at least first_radius");
    expect(smallest_radius > 0, "smallest_radius", smallest_radius, "a number above 0");
    expect(acceptance >= 0 && acceptance < 0.25, "acceptance", acceptance, "a number in [0, 1/4)");
    expect(kappa > 0 && kappa < 1, "kappa", kappa, "a number in (0, 1)");
    expect(theta >= 0, "theta", theta, "a number of at least 0");
    expect_option(products > 0, "trust_region", "products", products, "a number above 0");
    expect(regularization >= 0, "regularization", regularization, "a number of at least 0");
  }

  /// \brief Iterates until the criterion is met or no step helps.
  /// \param[in,out] run  from minimize()
  /// \returns why it ended
  template <class Run>
  stop_reason solve(Run& run) const {
    if constexpr (Run::has_hessian) {
      return solve(run, [&](auto const& v, auto& w) { run.apply_hessian(v, w); });
    } else {
      finite_difference_hessian<Run> differences(run);
      return solve(run, [&](auto const& v, auto& w) { differences(run, v, w); });
    }
  }

 private:
  template <class Run, class Hessian>
  stop_reason solve(Run& run, Hessian const& hessian) const {
    auto& ctx = run.where();
    using X = std::remove_cvref_t<decltype(run.current().x)>;
    using Numbers = decltype(scratch<double>(ctx, 1, 4));
    truncated_cg<X, Numbers, Run::has_precondition> model(ctx, run.current().x);
    double const size_at_start = std::sqrt(run.current().weighted);
    double radius = first_radius;
    for (;;) {
      auto& now = run.current();
      if (!(now.weighted > 0)) return stop_reason::no_descent;
      double const size = std::sqrt(now.weighted);
      double const share = std::min(kappa, std::pow(size / size_at_start, theta));
      auto const found =
          model.find(ctx, run.manifold(), now.x, now.gradient, run.preconditioned(now), hessian,
                     [&](auto const& v, auto& w) { run.apply_precondition(v, w); },
                     {now.weighted, radius, size * share, size * kappa, products});
      double const cost = run.try_step(model.step(), 1);
      if (cost == -std::numeric_limits<double>::infinity()) return stop_reason::unbounded;
      double const rounding = regularization * Run::epsilon * std::max(1.0, std::fabs(now.cost));
      double const ratio = (now.cost - cost + rounding) / (rounding - found.model);
      bool taken = found.model < 0 && ratio > acceptance;
      if (taken) {
        run.measure();
        taken = std::isfinite(run.trial().squared);
      }
      bool const at_boundary = found.length >= radius;
      if (!(taken && ratio >= 0.25)) {
        radius = std::min(found.length, radius) / 4;
      } else if (ratio > 0.75 && at_boundary) {
        radius = std::min(2 * radius, largest_radius);
      }
      if (taken) {
        run.accept(found.length);
        if (stop_reason const reason = run.check(); reason != stop_reason::none) return reason;
      } else if (radius < smallest_radius) {
        return stop_reason::smallest_step;
      }
    }
  }
};

}  // namespace stiefelx
