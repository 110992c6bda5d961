// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/status.hpp>

/// \file
/// \brief Element text on single numbers, run where they live so that nothing waits.
/// \ingroup core

namespace stiefelx {

/// y = 1 / x, and 0 for 0.
/// \ingroup core
struct reciprocal_element {
  /// \param[out] y  result
  /// \param[in]  x  a number
  template <class Y, class X>
  STIEFELX_HD void operator()(Y& y, X const& x) const {
    y = x == X(0) ? Y(0) : static_cast<Y>(X(1) / x);
  }
};

/// Status bit for a gradient that is not finite, from the result of all_finite().
/// \ingroup core
struct not_finite_element {
  /// \param[out] bits    status
  /// \param[in]  finite  1 or 0
  template <class Real>
  STIEFELX_HD void operator()(int& bits, Real const& finite) const {
    bits = finite == Real(0) ? not_finite : 0;
  }
};

/// Factor that brings a norm down to a largest one: min(1, largest / norm).
/// \ingroup core
struct clip_element {
  double largest;  ///< largest norm

  /// \param[out] factor   in (0, 1]
  /// \param[in]  squared  squared norm; NaN and infinity give a factor of 1
  STIEFELX_HD void operator()(double& factor, double const& squared) const {
    double const norm = std::sqrt(squared);
    factor = norm > largest && norm - norm == 0 ? largest / norm : 1;
  }
};

}  // namespace stiefelx
