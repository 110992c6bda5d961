// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>

/// \file
/// \brief Element text of the Adam family.
/// \ingroup optim

namespace stiefelx {

/// Powers of the decay rates after one more step, unless the gradient was not finite.
/// \ingroup optim
struct adam_powers_element {
  double beta1;  ///< decay of the first moment
  double beta2;  ///< decay of the second moment

  /// \param[in,out] power1  beta1^t
  /// \param[in,out] power2  beta2^t
  /// \param[in]     finite  1 or 0
  STIEFELX_HD void operator()(double& power1, double& power2, double const& finite) const {
    if (finite == 0) return;
    power1 *= beta1;
    power2 *= beta2;
  }
};

/// One entry's update of AdamW.
/// \ingroup optim
struct adamw_element {
  double learning_rate;  ///< \f$ \eta \f$
  double beta1;          ///< decay of the first moment
  double beta2;          ///< decay of the second moment
  double epsilon;        ///< added to the root of the second moment
  double weight_decay;   ///< decoupled decay

  /// \param[in,out] x       parameter
  /// \param[in,out] m       first moment
  /// \param[in,out] v       second moment
  /// \param[in]     g       gradient
  /// \param[in]     power1  beta1^t after this step
  /// \param[in]     power2  beta2^t after this step
  /// \param[in]     finite  0 leaves everything as it is
  template <class S>
  STIEFELX_HD void operator()(S& x, S& m, S& v, S const& g, double const& power1,
                              double const& power2, double const& finite) const {
    if (finite == 0) return;
    m = static_cast<S>(beta1) * m + static_cast<S>(1 - beta1) * g;
    v = static_cast<S>(beta2) * v + static_cast<S>(1 - beta2) * g * g;
    S const first = m / static_cast<S>(1 - power1);
    S const second = v / static_cast<S>(1 - power2);
    x -= static_cast<S>(learning_rate) *
         (first / (std::sqrt(second) + static_cast<S>(epsilon)) + static_cast<S>(weight_decay) * x);
  }
};

/// The step length of riemannian_adam from its scalar second moment.
/// \ingroup optim
struct adam_step_length_element {
  double learning_rate;  ///< \f$ \eta \f$
  double beta2;          ///< decay of the second moment
  double epsilon;        ///< added to the root of the second moment

  /// \param[out]    length   the factor of the first moment, negative
  /// \param[in,out] v        second moment
  /// \param[in]     squared  squared length of the gradient
  /// \param[in]     power1   beta1^t after this step
  /// \param[in]     power2   beta2^t after this step
  /// \param[in]     finite   0 leaves v as it is and gives length 0
  STIEFELX_HD void operator()(double& length, double& v, double const& squared,
                              double const& power1, double const& power2,
                              double const& finite) const {
    length = 0;
    if (finite == 0) return;
    v = beta2 * v + (1 - beta2) * squared;
    length = -learning_rate / ((1 - power1) * (std::sqrt(v / (1 - power2)) + epsilon));
  }
};

/// The same with the largest second moment so far in place of the last one: AMSGrad.
/// \ingroup optim
struct amsgrad_step_length_element {
  double learning_rate;  ///< \f$ \eta \f$
  double beta2;          ///< decay of the second moment
  double epsilon;        ///< added to the root of the second moment

  /// \param[out]    length   the factor of the first moment, negative
  /// \param[in,out] v        second moment
  /// \param[in,out] largest  largest second moment so far
  /// \param[in]     squared  squared length of the gradient
  /// \param[in]     power1   beta1^t after this step
  /// \param[in]     power2   beta2^t after this step
  /// \param[in]     finite   0 leaves v and largest as they are and gives length 0
  STIEFELX_HD void operator()(double& length, double& v, double& largest, double const& squared,
                              double const& power1, double const& power2,
                              double const& finite) const {
    length = 0;
    if (finite == 0) return;
    v = beta2 * v + (1 - beta2) * squared;
    if (v > largest) largest = v;
    length = -learning_rate / ((1 - power1) * (std::sqrt(largest / (1 - power2)) + epsilon));
  }
};

/// The factors that correct moments which start at zero.
/// \ingroup optim
struct adam_corrections_element {
  double learning_rate;  ///< \f$ \eta \f$

  /// \param[out] length  \f$ -\eta / (1 - \beta_1^t) \f$
  /// \param[out] second  \f$ 1 / (1 - \beta_2^t) \f$
  /// \param[in]  power1  beta1^t after this step
  /// \param[in]  power2  beta2^t after this step
  /// \param[in]  finite  0 gives zeros
  STIEFELX_HD void operator()(double& length, double& second, double const& power1,
                              double const& power2, double const& finite) const {
    length = finite == 0 ? 0 : -learning_rate / (1 - power1);
    second = finite == 0 ? 0 : 1 / (1 - power2);
  }
};

}  // namespace stiefelx
