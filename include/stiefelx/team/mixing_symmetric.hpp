// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/team/mixing_state.hpp>

namespace stiefelx {

/// \brief Team text: coefficients \f$ a = G^{-1/2} c \f$ with a guarded spectrum, and their adjoint.
/// \ingroup nn
///
/// With \f$ G = X \Lambda X^T \f$ by Jacobi rotations, \f$ a = X f(\Lambda) X^T c \f$ and \f$ f(\lambda) =
/// \max(\lambda, \phi)^{-1/2},\ \phi = \tau^2\,\mathrm{tr}\,G \f$. Dropping makes f zero from
/// \f$ \phi \f$ on down, which is the root of the pseudoinverse. An output that is zero is left out:
/// it counts as in a plain mixture, or is dropped. But for rounding, the mixture does not depend on
/// the order of the experts.
struct symmetric_mixing {
  double guard;  ///< \f$ \tau \f$
  bool drop;     ///< whether guarded parts leave the sum

  /// \param[in] s  the state after factor()
  /// \param[in] j  an eigenvalue
  /// \returns whether it is below the guard
  STIEFELX_HD bool is_guarded(mixing_state const& s, index_t j) const {
    return !(s.d[j] > floor_of(s));
  }

  /// \brief Eigenvalues and eigenvectors, and f of them. s.diagonal is given.
  /// \param[in]     k  experts
  /// \param[in]     g  k x k by columns; only the strict lower triangle is read
  /// \param[in,out] s  gets m, d and factor; w is overwritten
  STIEFELX_HD void factor(index_t k, double const* g, mixing_state const& s) const {
    for (index_t j = 0; j < k; ++j) {
      s.w(j, j) = is_zero(s, j) ? 0 : s.diagonal[j];
      s.m(j, j) = 1;
      for (index_t i = j + 1; i < k; ++i) {
        s.w(i, j) = is_zero(s, i) || is_zero(s, j) ? 0 : g[i + j * k];
        s.m(i, j) = 0;
        s.m(j, i) = 0;
      }
    }
    bool rotated = true;
    for (int sweep = 0; rotated && sweep < sweeps; ++sweep) {
      rotated = false;
      for (index_t i = 0; i + 1 < k; ++i)
        for (index_t j = i + 1; j < k; ++j)
          if (rotate_pair(k, s, i, j)) rotated = true;
    }
    for (index_t j = 0; j < k; ++j) s.d[j] = s.w(j, j);
    double const floor = floor_of(s);
    for (index_t j = 0; j < k; ++j) {
      bool const guarded = !(s.d[j] > floor);
      s.inverse[j] = guarded ? 0 : 1 / s.d[j];
      if (guarded && drop) {
        s.factor[j] = 0;
      } else if (is_zero(s, j)) {
        s.factor[j] = 1;
      } else {
        s.factor[j] = 1 / std::sqrt(guarded ? floor : s.d[j]);
      }
    }
  }

  /// \brief a and c in eigenvectors, after factor().
  /// \param[in]     k  experts
  /// \param[in]     c  k numbers
  /// \param[in,out] s  gets z
  /// \param[out]    a  k numbers
  template <class Weight>
  STIEFELX_HD void coefficients(index_t k, Weight const* c, mixing_state const& s,
                                double* a) const {
    for (index_t i = 0; i < k; ++i) {
      double sum = 0;
      for (index_t j = 0; j < k; ++j) sum += s.m(j, i) * static_cast<double>(c[j]);
      s.z[i] = sum;
    }
    apply(k, s, s.z, a);
  }

  /// \brief Adjoint: dc and \f$ W = X (\Phi \circ (p q^T + q p^T)) X^T \f$ with \f$ p = X^T u,\ q = X^T c
  /// \f$ and the divided differences \f$ \Phi_{ij} = (f(\lambda_i) - f(\lambda_j)) / (\lambda_i -
  /// \lambda_j) \f$, in a form that does not cancel; \f$ \phi \f$ is differentiated too.
  /// \param[in]     k   experts
  /// \param[in]     u   k numbers
  /// \param[in,out] s   gets x and w
  /// \param[out]    dc  k numbers
  template <class Weight>
  STIEFELX_HD void pull_back(index_t k, double const* u, mixing_state const& s, Weight* dc) const {
    for (index_t i = 0; i < k; ++i) {
      double sum = 0;
      for (index_t j = 0; j < k; ++j) sum += s.m(j, i) * u[j];
      s.x[i] = sum;
    }
    apply(k, s, s.x, dc);
    double const floor = floor_of(s);
    double on_floor = 0;
    for (index_t j = 0; j < k; ++j) {
      if (s.inverse[j] == 0 && !is_zero(s, j)) on_floor += s.factor[j] * s.x[j] * s.z[j];
      for (index_t i = j; i < k; ++i) {
        double const both = s.x[i] * s.z[j] + s.x[j] * s.z[i];
        s.w(i, j) = is_zero(s, i) || is_zero(s, j) ? 0 : slope(s, floor, i, j) * both;
        s.w(j, i) = s.w(i, j);
      }
    }
    multiply_both_sides(k, s);
    if (on_floor == 0) return;
    for (index_t j = 0; j < k; ++j) s.w(j, j) -= guard * guard * on_floor / floor;
  }

 private:
  static constexpr int sweeps = 16;

  // No output has a length below zero but for rounding.
  STIEFELX_HD static bool is_zero(mixing_state const& s, index_t j) { return s.diagonal[j] <= 0; }

  STIEFELX_HD double floor_of(mixing_state const& s) const {
    double trace = 0;
    for (index_t j = 0; j < s.m.rows; ++j)
      if (!is_zero(s, j)) trace += s.diagonal[j];
    return guard * guard * trace;
  }

  // Makes entry (j, i) of w zero by a rotation of both, i < j; whether it was not.
  STIEFELX_HD static bool rotate_pair(index_t k, mixing_state const& s, index_t i, index_t j) {
    double const off = s.w(j, i);
    // Beside the roots of both diagonal entries, which keeps small eigenvalues accurate.
    if (off * off <= 0x1p-108 * std::abs(s.w(i, i)) * std::abs(s.w(j, j))) return false;
    double const zeta = (s.w(j, j) - s.w(i, i)) / (2 * off);
    double const t = (zeta < 0 ? -1 : 1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
    double const c = 1 / std::sqrt(1 + t * t);
    double const sine = c * t;
    s.w(i, i) -= t * off;
    s.w(j, j) += t * off;
    s.w(j, i) = 0;
    for (index_t l = 0; l < k; ++l) {
      if (l != i && l != j) {
        double& first = l < i ? s.w(i, l) : s.w(l, i);
        double& second = l < j ? s.w(j, l) : s.w(l, j);
        rotate(c, sine, first, second);
      }
      rotate(c, sine, s.m(l, i), s.m(l, j));
    }
    return true;
  }

  STIEFELX_HD static void rotate(double c, double sine, double& first, double& second) {
    double const kept = first;
    first = c * kept - sine * second;
    second = sine * kept + c * second;
  }

  // Divided difference of f.
  STIEFELX_HD double slope(mixing_state const& s, double floor, index_t i, index_t j) const {
    bool const i_free = s.inverse[i] != 0, j_free = s.inverse[j] != 0;
    if (!i_free && !j_free) return 0;
    double const a = s.factor[i], b = s.factor[j];
    if (i_free && j_free) return -a * b / (1 / a + 1 / b);
    double const large = i_free ? s.d[i] : s.d[j], small = i_free ? s.d[j] : s.d[i];
    if (drop) return (i_free ? a : b) / (large - small);
    return -a * b / (1 / a + 1 / b) * ((large - floor) / (large - small));
  }

  // out = X f X^T of what is given in eigenvectors.
  template <class Out>
  STIEFELX_HD static void apply(index_t k, mixing_state const& s, double const* in, Out* out) {
    for (index_t i = 0; i < k; ++i) {
      double sum = 0;
      for (index_t j = 0; j < k; ++j) sum += s.m(i, j) * s.factor[j] * in[j];
      out[i] = static_cast<Out>(sum);
    }
  }

  // w = X w X^T; inverse is used up.
  STIEFELX_HD static void multiply_both_sides(index_t k, mixing_state const& s) {
    double* const room = s.inverse;
    for (index_t c = 0; c < k; ++c) {
      for (index_t i = 0; i < k; ++i) {
        room[i] = 0;
        for (index_t j = 0; j < k; ++j) room[i] += s.m(i, j) * s.w(j, c);
      }
      for (index_t i = 0; i < k; ++i) s.w(i, c) = room[i];
    }
    for (index_t r = 0; r < k; ++r) {
      for (index_t i = 0; i <= r; ++i) {
        room[i] = 0;
        for (index_t j = 0; j < k; ++j) room[i] += s.m(i, j) * s.w(r, j);
      }
      for (index_t i = 0; i <= r; ++i) {
        s.w(r, i) = room[i];
        s.w(i, r) = room[i];
      }
    }
  }
};

}  // namespace stiefelx
