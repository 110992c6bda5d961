// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/armijo.hpp>
#include <stiefelx/optim/minimization.hpp>
#include <stiefelx/optim/nonmonotone.hpp>

namespace stiefelx {

/// \brief Which quotient barzilai_borwein takes for its step.
/// \ingroup optim
///
/// With s the last step and y the change of the gradient, both transported:
enum class barzilai_borwein_rule {
  first,        ///< \f$ \langle s, s \rangle / \langle s, y \rangle \f$, the long one
  second,       ///< \f$ \langle s, y \rangle / \langle y, y \rangle \f$, the short one
  alternating,  ///< first and second by turns
  /// The shortest of the last second quotients where the second is below `ratio` times the first,
  /// else the first.
  adaptive_smallest
};

/// \brief Solver of minimize(): steepest descent with the steps of Barzilai and Borwein.
/// \ingroup optim
///
/// \f$ x \leftarrow R_x(-t\,z) \f$ with the gradient, or what the problem's preconditioner makes of
/// it, and t the inverse of a Rayleigh quotient of the Hessian along the last step. The costs do
/// not fall every time; held against a patient reference (nonmonotone.hpp), the first trial is
/// nearly always accepted, so that an iteration costs one evaluation. Where the curvature along the
/// last step is not positive, the first trial is `long_step` times that step.
///
/// With s = -t T(g) and y = g' - T(g) all products come from those of the gradients; a
/// preconditioner P gives its inner products, \f$ \langle s, P^{-1} s \rangle \f$ and
/// \f$ \langle y, P y \rangle \f$.
///
/// \par Cost
/// One point of scratch; a wait and a transport an iteration.
/// \see \cite barzilai1988, \cite raydan1997, \cite iannazzo2018, \cite frassoldati2008
template <class Search = armijo, class How = default_retraction, class Reference = largest_recent>
struct barzilai_borwein {
  static constexpr index_t capacity = 16;  ///< largest memory

  barzilai_borwein_rule rule = barzilai_borwein_rule::adaptive_smallest;  ///< which quotient
  Reference reference{};         ///< what the costs are held against
  Search search{};               ///< line search
  double first_step = 1;         ///< length of the first trial step in the tangent space, above 0
  double smallest_step = 1e-10;  ///< least multiple of the gradient that is tried first, above 0
  double largest_step = 1e10;    ///< largest such, at least smallest_step
  double long_step = 10;         ///< growth where the curvature is not positive, above 0
  double ratio = 0.8;            ///< of adaptive_smallest, in (0, 1]
  index_t memory_length = 5;  ///< second quotients that adaptive_smallest looks at, 1 to capacity
  How retraction{};           ///< options of a retraction

  /// \throws option_error  if an option is out of its range
  void expect_options() const {
    search.expect_options();
    reference.expect_options();
    auto const expect = [](bool holds, char const* option, double found, char const* expected) {
      expect_option(holds, "barzilai_borwein", option, found, expected);
    };
    expect(first_step > 0, "first_step", first_step, "a number above 0");
    expect(smallest_step > 0, "smallest_step", smallest_step, "a number above 0");
    expect(largest_step >= smallest_step, "largest_step", largest_step,
           "a number of at least smallest_step");
    expect(long_step > 0, "long_step", long_step, "a number above 0");
    expect(ratio > 0 && ratio <= 1, "ratio", ratio, "a number in (0, 1]");
    expect_option(memory_length > 0 && memory_length <= capacity, "barzilai_borwein",
                  "memory_length", memory_length, "a number from 1 to 16");
  }

  /// \brief Iterates until the criterion is met or no step helps.
  /// \param[in,out] run  from minimize()
  /// \returns why it ended
  template <class Run>
  stop_reason solve(Run& run) const {
    auto& ctx = run.where();
    run.follow_gradient(true);
    auto direction = clone(ctx, run.current().x);
    auto held = reference.start();
    std::array<double, capacity> recent{};
    double step = first_step / std::sqrt(run.current().preconditioned_squared);
    for (index_t k = 0;; ++k) {
      auto& now = run.current();
      copy(ctx, run.preconditioned(now), direction);
      scale(ctx, -1, direction);
      double const slope = -now.weighted, length = std::sqrt(now.preconditioned_squared);
      if (!(slope < 0)) return stop_reason::no_descent;
      auto const found = search(run, direction, {held(now.cost), slope, length, step});
      if (found.failure != stop_reason::none) return found.failure;
      if (!found.measured) run.measure_gradients();
      auto const& at = run.products();
      if (!std::isfinite(at.squared)) return stop_reason::not_finite;
      run.accept(found.step * length);
      if (stop_reason const reason = run.check(); reason != stop_reason::none) return reason;
      step = std::clamp(next_step(at, found.step, k, recent), smallest_step, largest_step);
    }
  }

 private:
  double next_step(trial_products const& at, double step, index_t k,
                   std::array<double, capacity>& recent) const {
    double const ss = at.previous_both, sy = at.previous_both - at.previous_weighted;
    double const yy = at.weighted - 2 * at.previous_weighted + at.previous_both;
    auto& newest = recent[static_cast<std::size_t>(k % memory_length)];
    newest = largest_step;
    if (!(sy > 0)) return long_step * step;
    double const longer = step * ss / sy, shorter = yy > 0 ? step * sy / yy : longer;
    newest = shorter;
    switch (rule) {
      case barzilai_borwein_rule::first:
        return longer;
      case barzilai_borwein_rule::second:
        return shorter;
      case barzilai_borwein_rule::alternating:
        return k % 2 == 0 ? longer : shorter;
      case barzilai_borwein_rule::adaptive_smallest:
        break;
    }
    auto const end = recent.begin() + std::min(k + 1, memory_length);
    return shorter < ratio * longer ? *std::min_element(recent.begin(), end) : longer;
  }
};

}  // namespace stiefelx
