// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <numbers>

#include <stiefelx/core/matrix.hpp>

namespace stiefelx {

/// \brief Learning rate that rises linearly and then falls along half a cosine.
/// \ingroup optim
///
/// With peak \f$ \eta \f$, w warm-up steps, N steps and final fraction \f$ \phi \f$, step t = 0, 1,
/// ... has \f$ \eta (t+1)/w \f$ for t < w and \f$ \eta\,(\phi + (1-\phi)(1 + \cos \pi\tau)/2) \f$ with
/// \f$ \tau = (t-w)/(N-w) \f$ from then on.
struct cosine_schedule {
  double peak;                ///< \f$ \eta \f$
  index_t steps;              ///< N
  index_t warm_up = 0;        ///< w, below N
  double final_fraction = 0;  ///< \f$ \phi \f$ in [0, 1]

  /// Learning rate of step t.
  /// \param[in] t  from 0; steps past the end keep the final rate
  /// \returns the rate
  double operator()(index_t t) const {
    if (t < warm_up) return peak * static_cast<double>(t + 1) / static_cast<double>(warm_up);
    double const all = static_cast<double>(steps - warm_up);
    double const done = all > 0 ? static_cast<double>(t - warm_up) / all : 1;
    double const tau = done < 1 ? done : 1;
    return peak *
           (final_fraction + (1 - final_fraction) * (1 + std::cos(std::numbers::pi * tau)) / 2);
  }
};

}  // namespace stiefelx
