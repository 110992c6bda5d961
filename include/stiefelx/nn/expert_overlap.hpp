// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>

namespace stiefelx {

/// \brief Team text: how much the outputs of a token's experts overlap, from their Gram matrix.
/// \ingroup nn
///
/// The sum over ordered pairs of filled slots of the squared projection of \f$ e_i \f$ onto
/// \f$ e_j \f$, and its gradient \f$ W = \bar G + \bar G^T \f$:
/// \f[ \sum_{i \ne j} \frac{G_{ij}^2 G_{jj}}{m_j^2}, \qquad m_j = G_{jj} + \epsilon, \qquad
///     W_{ij} = 2 G_{ij} \Big( \frac{G_{ii}}{m_i^2} + \frac{G_{jj}}{m_j^2} \Big), \qquad
///     W_{jj} = 2 \sum_{i \ne j} G_{ij}^2 \Big( \frac{1}{m_j^2} - \frac{2 G_{jj}}{m_j^3} \Big) . \f]
struct expert_overlap {
  double epsilon;  ///< added to squared lengths

  /// \param[in] k    slots of a token
  /// \param[in] ids  k numbers; a slot of -1 is empty
  /// \param[in] g    k x k by columns, symmetric; not read for empty slots
  /// \returns the sum over pairs
  STIEFELX_HD double value(index_t k, int const* ids, double const* g) const {
    double sum = 0;
    for (index_t j = 0; j < k; ++j) {
      if (ids[j] < 0) continue;
      double const factor = share_of(g[j + j * k]);
      for (index_t i = 0; i < k; ++i)
        if (i != j && ids[i] >= 0) sum += g[i + j * k] * g[i + j * k] * factor;
    }
    return sum;
  }

  /// \param[in]     k       slots of a token
  /// \param[in]     ids     k numbers; a slot of -1 is empty
  /// \param[in]     g       k x k by columns, symmetric
  /// \param[in]     factor  of the value
  /// \param[in,out] w       k x k by columns, accumulates factor W; not read for empty slots
  STIEFELX_HD void add_gradient(index_t k, int const* ids, double const* g, double factor,
                                double* w) const {
    for (index_t j = 0; j < k; ++j) {
      if (ids[j] < 0) continue;
      double const n = g[j + j * k], m = n + epsilon, own = share_of(n);
      double square = 0;
      for (index_t i = 0; i < k; ++i) {
        if (i == j || ids[i] < 0) continue;
        double const s = g[i + j * k];
        square += s * s;
        w[i + j * k] += 2 * factor * s * (own + share_of(g[i + i * k]));
      }
      // 1/m^2 - 2n/m^3 in a form without m^3.
      if (m > 0) w[j + j * k] += 2 * factor * (square / m) * ((epsilon - n) / m) / m;
    }
  }

 private:
  // n / m^2, 0 for a zero output.
  STIEFELX_HD double share_of(double n) const {
    double const m = n + epsilon;
    return m > 0 ? n / m / m : 0;
  }
};

}  // namespace stiefelx
