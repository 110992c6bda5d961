// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/status.hpp>

/// \file
/// \brief Element text of the landing methods: which parts of the field, and how far.
/// \ingroup optim

namespace stiefelx {

/// \brief Region around the manifold, from the squared distance \f$ d^2 = \lVert \Delta \rVert_F^2
/// \f$.
/// \ingroup optim
struct landing_region {
  double radius;    ///< \f$ \epsilon \f$
  double rounding;  ///< what d may exceed it by
  bool approach;    ///< whether the gradient is left out beyond it

  /// \param[in] squared  d^2
  /// \returns whether the point is outside
  STIEFELX_HD bool excludes(double squared) const { return std::sqrt(squared) > radius + rounding; }
  /// \param[in] squared  d^2
  /// \returns whether the step goes to the manifold alone
  STIEFELX_HD bool approaches(double squared) const { return approach && excludes(squared); }
};

/// Weights of the two parts of the field.
/// \ingroup optim
struct landing_weights_element {
  double attraction;      ///< \f$ \lambda \f$
  landing_region region;  ///< where the gradient counts

  /// \param[out] along    of u x^H x - x u^H x: 1/2, or 0 on the way to the region
  /// \param[out] outward  of x (x^H x - I), negated: -lambda, or -1 on that way
  /// \param[in]  squared  d^2
  STIEFELX_HD void operator()(double& along, double& outward, double const& squared) const {
    bool const alone = region.approaches(squared);
    along = alone ? 0 : 0.5;
    outward = alone ? -1 : -attraction;
  }
};

/// Length of a step of landing.
/// \ingroup optim
struct landing_step_element {
  double learning_rate;   ///< \f$ \eta \f$
  double attraction;      ///< \f$ \lambda \f$
  landing_region region;  ///< what the step must not leave

  /// \param[out]    length         factor of the field, at least 0
  /// \param[in,out] finite         becomes 0 when a number is not finite
  /// \param[in]     squared        d^2
  /// \param[in]     field_squared  squared norm of the field
  STIEFELX_HD void operator()(double& length, double& finite, double const& squared,
                              double const& field_squared) const {
    length = 0;
    if (!(squared - squared == 0) || !(field_squared - field_squared == 0)) finite = 0;
    if (finite == 0) return;
    double const d = std::sqrt(squared);
    if (region.approaches(squared)) {
      length = 1 / (2 * (1 + d));
      return;
    }
    double const half = 1 / (2 * attraction);
    length = learning_rate < half ? learning_rate : half;
    if (field_squared == 0) return;
    double const inward = d < 1 ? attraction * d * (1 - d) : 0;
    double const room = region.radius > d ? region.radius - d : 0;
    double const root = std::sqrt(inward * inward + field_squared * room);
    double const safe = d < 1 ? (inward + root) / field_squared : 0;
    if (safe < length) length = safe;
  }
};

/// Length of a step of generalized_landing.
/// \ingroup optim
struct generalized_landing_step_element {
  double learning_rate;   ///< \f$ \eta \f$
  double attraction;      ///< \f$ \lambda \f$
  landing_region region;  ///< what the step must not leave
  double rounding;        ///< relative rounding of the four numbers

  /// \param[out]    length     factor of the field, at least 0
  /// \param[in,out] finite     becomes 0 when a number is not finite
  /// \param[in]     squared    d^2
  /// \param[in]     slope      inner product of Delta and T = (Delta K + K Delta) / 2
  /// \param[in]     curvature  squared norm of T
  /// \param[in]     quadratic  norm of f^H B f
  STIEFELX_HD void operator()(double& length, double& finite, double const& squared,
                              double const& slope, double const& curvature,
                              double const& quadratic) const {
    length = 0;
    double const all = squared + slope + curvature + quadratic;
    if (!(all - all == 0)) finite = 0;
    if (finite == 0) return;
    bool const alone = region.approaches(squared);
    double const weight = 2 * (alone ? 1 : attraction);
    double const d = std::sqrt(squared);
    length = learning_rate;
    double inward = 0;
    if (curvature > 0 && slope > 0) {
      // The least of |Delta - s weight T| is at s = nearest.
      double const nearest = slope / (weight * curvature);
      double const rest = squared - slope * (slope / curvature) + rounding * squared;
      double const least = rest > 0 ? std::sqrt(rest) : 0;
      inward = weight * slope / (d + least);
      if (alone || nearest < length) length = nearest;
    }
    if (quadratic == 0) return;
    double const room = region.radius > d ? region.radius - d : 0;
    double const root = std::sqrt(inward * inward + 4 * quadratic * room);
    double const safe = (inward + (alone ? 0 : root)) / (2 * quadratic);
    if (safe < length) length = safe;
  }
};

/// Notes a field that is not finite.
/// \ingroup optim
struct landing_finite_element {
  /// \param[in,out] finite         becomes 0 when the number is not finite
  /// \param[in]     field_squared  squared norm of the field
  STIEFELX_HD void operator()(double& finite, double const& field_squared) const {
    if (!(field_squared - field_squared == 0)) finite = 0;
  }
};

/// Status of a step of a landing method.
/// \ingroup optim
struct landing_status_element {
  landing_region region;  ///< the region

  /// \param[out] bits     `not_finite`, or `not_converged` for a point outside, or 0
  /// \param[in]  squared  d^2
  /// \param[in]  finite   1 or 0
  STIEFELX_HD void operator()(int& bits, double const& squared, double const& finite) const {
    bits = finite == 0 ? not_finite : region.excludes(squared) ? not_converged : 0;
  }
};

}  // namespace stiefelx
