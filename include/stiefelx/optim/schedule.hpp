// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <numbers>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>

/// \file
/// \brief Learning rates that change from step to step.
/// \ingroup optim
///
/// A schedule is any callable `rate = schedule(t)` of the step t = 0, 1, ...; it holds no state, so
/// a run goes on from any step. Call `opt.set_learning_rate(schedule(t))` before step t. For a group
/// whose optimizers keep rates of their own, let the schedule start from 1 and see
/// optimizer_group::set_relative_rates().
///
/// The schedules here are aggregates. Their ranges are checked when they are called: a wrong one is
/// reported at the first step, before anything has moved.

namespace stiefelx {

namespace detail {

inline void expect_step(char const* schedule, index_t t) {
  expect_option(t >= 0, schedule, "t", t, "a step of at least 0");
}

inline void expect_peak(char const* schedule, double peak) {
  expect_option(peak >= 0, schedule, "peak", peak, "a number of at least 0");
}

inline void expect_fraction(char const* schedule, double fraction) {
  expect_option(fraction >= 0 && fraction <= 1, schedule, "final_fraction", fraction,
                "a number in [0, 1]");
}

// How much of a schedule has passed, in [0, 1].
inline double passed(index_t t, index_t steps) {
  return t < steps ? static_cast<double>(t) / static_cast<double>(steps) : 1;
}

}  // namespace detail

/// \brief The same learning rate for ever.
/// \ingroup optim
struct constant_schedule {
  double peak;  ///< \f$ \eta \ge 0 \f$

  /// Learning rate of step t.
  /// \param[in] t  from 0
  /// \returns the rate
  /// \throws option_error  if t or a member is out of its range
  double operator()(index_t t) const {
    detail::expect_step("constant_schedule", t);
    detail::expect_peak("constant_schedule", peak);
    return peak;
  }
};

/// \brief Learning rate that falls along a straight line.
/// \ingroup optim
///
/// With peak \f$ \eta \f$, N steps and final fraction \f$ \phi \f$, step t has \f$ \eta\,(1 -
/// (1-\phi)\,t/N) \f$ for t < N and \f$ \eta\,\phi \f$ from then on.
struct linear_schedule {
  double peak;                ///< \f$ \eta \ge 0 \f$
  index_t steps;              ///< N, at least 0
  double final_fraction = 0;  ///< \f$ \phi \f$ in [0, 1]

  /// Learning rate of step t.
  /// \param[in] t  from 0; steps past the end keep the final rate
  /// \returns the rate
  /// \throws option_error  if t or a member is out of its range
  double operator()(index_t t) const {
    detail::expect_step("linear_schedule", t);
    detail::expect_peak("linear_schedule", peak);
    expect_option(steps >= 0, "linear_schedule", "steps", steps, "a number of at least 0");
    detail::expect_fraction("linear_schedule", final_fraction);
    double const tau = detail::passed(t, steps);
    // Both ends are met to the bit.
    return peak * ((1 - tau) + final_fraction * tau);
  }
};

/// \brief Learning rate that is multiplied by a factor every k steps.
/// \ingroup optim
///
/// Step t has \f$ \eta\,\gamma^{\lfloor t/k \rfloor} \f$.
struct step_schedule {
  double peak;          ///< \f$ \eta \ge 0 \f$
  index_t every;        ///< k, at least 1
  double factor = 0.1;  ///< \f$ \gamma > 0 \f$

  /// Learning rate of step t.
  /// \param[in] t  from 0
  /// \returns the rate
  /// \throws option_error  if t or a member is out of its range
  double operator()(index_t t) const {
    detail::expect_step("step_schedule", t);
    detail::expect_peak("step_schedule", peak);
    expect_option(every >= 1, "step_schedule", "every", every, "a number of at least 1");
    expect_option(factor > 0, "step_schedule", "factor", factor, "a number above 0");
    return peak * std::pow(factor, static_cast<double>(t / every));
  }
};

/// \brief Learning rate that rises linearly and then falls along half a cosine.
/// \ingroup optim
///
/// With peak \f$ \eta \f$, w warm-up steps, N steps and final fraction \f$ \phi \f$, step t = 0, 1,
/// ... has \f$ \eta (t+1)/w \f$ for t < w and \f$ \eta\,(\phi + (1-\phi)(1 + \cos \pi\tau)/2) \f$ with
/// \f$ \tau = (t-w)/(N-w) \f$ from then on.
struct cosine_schedule {
  double peak;                ///< \f$ \eta \ge 0 \f$
  index_t steps;              ///< N, at least 0
  index_t warm_up = 0;        ///< w in [0, N]
  double final_fraction = 0;  ///< \f$ \phi \f$ in [0, 1]

  /// Learning rate of step t.
  /// \param[in] t  from 0; steps past the end keep the final rate
  /// \returns the rate
  /// \throws option_error  if t or a member is out of its range
  double operator()(index_t t) const {
    detail::expect_step("cosine_schedule", t);
    detail::expect_peak("cosine_schedule", peak);
    expect_option(steps >= 0, "cosine_schedule", "steps", steps, "a number of at least 0");
    expect_option(warm_up >= 0 && warm_up <= steps, "cosine_schedule", "warm_up", warm_up,
                  "a number in [0, steps]");
    detail::expect_fraction("cosine_schedule", final_fraction);
    if (t < warm_up) return peak * static_cast<double>(t + 1) / static_cast<double>(warm_up);
    double const tau = detail::passed(t - warm_up, steps - warm_up);
    return peak *
           (final_fraction + (1 - final_fraction) * (1 + std::cos(std::numbers::pi * tau)) / 2);
  }
};

/// \brief A linear rise before any schedule: `warm_up{100, step_schedule{1e-3, 1000}}`.
/// \ingroup optim
///
/// With w steps, step t < w has \f$ (t+1)/w \f$ times the first rate of the schedule that follows,
/// and step t \f$ \ge \f$ w has that schedule's rate of step t - w.
template <class Schedule>
struct warm_up {
  index_t steps;  ///< w, at least 0
  Schedule then;  ///< any callable of the step, a user's own too

  /// Learning rate of step t.
  /// \param[in] t  from 0
  /// \returns the rate
  /// \throws option_error  if t or a member is out of its range
  double operator()(index_t t) const {
    detail::expect_step("warm_up", t);
    expect_option(steps >= 0, "warm_up", "steps", steps, "a number of at least 0");
    if (t >= steps) return then(t - steps);
    return then(0) * static_cast<double>(t + 1) / static_cast<double>(steps);
  }
};

/// The schedule names the type.
/// \ingroup optim
template <class Schedule>
warm_up(index_t, Schedule) -> warm_up<Schedule>;

}  // namespace stiefelx
