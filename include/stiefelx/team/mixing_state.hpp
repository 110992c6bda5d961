// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>

namespace stiefelx {

/// \brief Factors and solutions of one token's mixture, all in the team's scratch.
/// \ingroup nn
struct mixing_state {
  matrix_ref<double> m;  ///< k x k, strict lower part of M; eigenvectors for `symmetric`
  matrix_ref<double> w;  ///< k x k, room for the adjoint
  double* d;             ///< k, D or eigenvalues; 0 or less where guarded
  double* inverse;       ///< k, \f$ 1 / D_j \f$, 0 where nothing is projected onto j
  double* factor;        ///< k, \f$ 1 / n_i \f$, or what an eigenvector's part is multiplied by
  double* z;             ///< k, c_i / n_i, or c in eigenvectors
  double* x;             ///< k, M^-1 u, or u in eigenvectors, after pull_back()
  double* diagonal;      ///< k, G's diagonal, with the ridge

  /// \param[in] k  experts of a token
  /// \returns doubles that place() lays out
  STIEFELX_HD static constexpr index_t scratch_size(index_t k) { return 2 * k * k + 6 * k; }

  /// \param[in] k        experts of a token
  /// \param[in] scratch  scratch_size(k) doubles
  /// \returns pointers into it
  STIEFELX_HD static mixing_state place(index_t k, double* scratch) {
    double* const v = scratch + 2 * k * k;
    return {
        {scratch, k, k, k}, {scratch + k * k, k, k, k}, v, v + k, v + 2 * k, v + 3 * k, v + 4 * k,
        v + 5 * k};
  }
};

}  // namespace stiefelx
