// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/host_device.hpp>

namespace stiefelx {

/// \brief Element text: the correction that brings a matrix nearest to orthonormal columns.
/// \ingroup optim
///
/// For \f$ e = m^H m - I \f$ and \f$ y = m (I - \lambda e) \f$ the defect \f$ y^H y - I = e - 2
/// \lambda (e + e^2) + \lambda^2 (e^2 + e^3) \f$ has as its squared norm the quartic \f[ q(\lambda)
/// = s_2 - 4 (s_2 + s_3) \lambda + (4 s_2 + 10 s_3 + 6 s_4) \lambda^2 - 4 (s_3 + 2 s_4 + s_5)
/// \lambda^3 + (s_4 + 2 s_5 + s_6) \lambda^4, \quad s_k = \mathrm{tr}\,e^k . \f] The result is its
/// first minimum on \f$ \lambda \ge 0 \f$, a root of a cubic: 1/2 to first order in e. The
/// derivative is well scaled there although q itself nearly vanishes, so the root has full
/// accuracy. It is cut off at \f$ s_6^{-1/6} \f$, at most the inverse of e's largest eigenvalue:
/// then \f$ I - \lambda e \f$ is positive semidefinite, and no singular vector of m changes its
/// sign.
struct defect_quartic_element {
  /// \param[out] lambda  the minimum; 1/2 for e = 0 and for sums that are not finite
  /// \param[in]  s2      tr e^2
  /// \param[in]  s3      tr e^3
  /// \param[in]  s4      tr e^4
  /// \param[in]  s5      tr e^5
  /// \param[in]  s6      tr e^6
  STIEFELX_HD void operator()(double& lambda, double const& s2, double const& s3, double const& s4,
                              double const& s5, double const& s6) const {
    lambda = 0.5;
    double const all = s2 + s3 + s4 + s5 + s6;
    if (!(s2 > 0) || !(all - all == 0)) return;
    // The derivative over 4 s2, which makes the coefficients numbers near one for a small e.
    double const t3 = s3 / s2, t4 = s4 / s2, t5 = s5 / s2, t6 = s6 / s2;
    double const c0 = -(1 + t3), c1 = 2 + 5 * t3 + 3 * t4;
    double const c2 = -3 * (t3 + 2 * t4 + t5), c3 = t4 + 2 * t5 + t6;
    auto const slope = [=](double x) { return c0 + x * (c1 + x * (c2 + x * c3)); };
    // The cut. A root beyond two belongs to an eigenvalue of e near -1, and then the cut is nearer.
    double low = 0, high = s6 > 0x1p-6 ? 1 / std::cbrt(std::sqrt(s6)) : 2;
    // Where the cubic turns, if it does: a maximum above zero bounds the first root.
    double const inside = c2 * c2 - 3 * c1 * c3;
    if (inside > 0 && c2 < 0) {
      double const turn = c1 / (-c2 + std::sqrt(inside));
      if (turn > 0 && turn < high && slope(turn) >= 0) high = turn;
    }
    lambda = high;
    if (slope(high) <= 0) return;
    lambda = 0.5 < high ? 0.5 : high / 2;
    for (int k = 0; k < 100; ++k) {
      double const now = slope(lambda);
      if (now == 0) return;
      (now < 0 ? low : high) = lambda;
      double const steep = c1 + lambda * (2 * c2 + 3 * lambda * c3);
      double const newton = lambda - now / steep;
      double const next = newton > low && newton < high ? newton : (low + high) / 2;
      if (next == lambda || high - low <= 1e-16 * lambda) return;
      lambda = next;
    }
  }
};

}  // namespace stiefelx
