// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

namespace stiefelx {

/// Which second moments riemannian_adam divides by.
/// \ingroup optim
enum class adam_moment {
  matrix,            ///< one number a matrix: the step stays tangent by itself
  rows_and_columns,  ///< one a row and one a column, and a projection
  split  ///< one an entry of the skew and the normal coordinates; Stiefel manifolds only
};

/// Options of riemannian_adam.
/// \ingroup optim
struct riemannian_adam_options {
  double learning_rate = 1e-3;  ///< \f$ \eta > 0 \f$
  double beta1 = 0.9;           ///< decay of the first moment, in [0, 1)
  double beta2 = 0.999;         ///< decay of the second moment, in [0, 1)
  double epsilon = 1e-8;        ///< added to the root of the second moment, above 0
  bool amsgrad = false;         ///< whether steps divide by the largest second moment so far
  double weight_decay = 0;      ///< \f$ \lambda \f$, decoupled, at least 0
  /// Which second moments there are.
  adam_moment second_moment = adam_moment::matrix;
};

}  // namespace stiefelx
