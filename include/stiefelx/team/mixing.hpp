// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief What happens to the experts' outputs of a token before they are added up.
/// \ingroup nn
enum class mixing {
  none,         ///< \f$ y = \sum_i c_i e_i \f$, a plain mixture
  orthogonal,   ///< \f$ y = \sum_i c_i v_i \f$, v from Gram-Schmidt without normalization
  orthonormal,  ///< \f$ y = \sum_i c_i v_i / \lVert v_i \rVert \f$
};

/// \brief Team text: the k x k algebra of an orthogonalized mixture, and its adjoint.
/// \ingroup nn
///
/// The outputs \f$ e_1 \ldots e_k \f$ of a token enter through their Gram matrix \f$ G = M D M^T \f$
/// alone, M unit lower triangular. Gram-Schmidt is \f$ v = M^{-1} e \f$, so the mixture
/// \f$ \sum_i c_i v_i / n_i \f$ is \f$ \sum_i a_i e_i \f$ with \f$ M^T a = z,\ z_i = c_i / n_i \f$;
/// \f$ n_i \f$ is 1, or \f$ \lVert v_i \rVert \f$ in the orthonormal form.
///
/// An expert whose remainder is small, \f$ D_j \le \tau^2 G_{jj} \f$, is *guarded*: nothing is
/// projected onto it (column j of M is zero), but its remainder stays in the sum. Dropping it
/// would zero its gradient, and an expert that starts at zero or equal to another could never
/// leave. In the orthonormal form its length counts as at least \f$ \tau \lVert e_j \rVert \f$.
///
/// One lane does the k x k work; k is small beside the vectors behind it.
struct mixing_algebra {
  mixing kind;   ///< form of the mixture
  double guard;  ///< \f$ \tau \f$

  /// Doubles of scratch for k experts.
  /// \param[in] k  experts of a token
  /// \returns the room that factor() and pull_back() share
  STIEFELX_HD static constexpr index_t scratch_size(index_t k) { return 2 * k * k + 5 * k; }

  /// \brief Factors and solutions of one token, all in the team's scratch.
  struct state {
    matrix_ref<double> m;  ///< k x k, strict lower part of M
    matrix_ref<double> w;  ///< k x k, room for the adjoint
    double* d;             ///< k, D; 0 or less where guarded
    double* norm;          ///< k, n_i
    double* z;             ///< k, c_i / n_i
    double* x;             ///< k, M^-1 u in pull_back()
    double* diagonal;      ///< k, G's diagonal
  };

  /// Lays the state out.
  /// \param[in] k        experts of a token
  /// \param[in] scratch  scratch_size(k) doubles
  /// \returns pointers into it
  STIEFELX_HD static state place(index_t k, double* scratch) {
    double* const v = scratch + 2 * k * k;
    return {{scratch, k, k, k}, {scratch + k * k, k, k, k}, v, v + k, v + 2 * k, v + 3 * k,
            v + 4 * k};
  }

  /// Whether expert j was guarded by factor().
  /// \param[in] s  the state
  /// \param[in] j  an expert
  /// \returns true when nothing is projected onto it
  STIEFELX_HD bool is_guarded(state const& s, index_t j) const {
    return !(s.d[j] > guard * guard * s.diagonal[j]);
  }

  /// \brief Factors a Gram matrix: M, D and n.
  /// \param[in]     k  experts
  /// \param[in]     g  k x k as k^2 numbers by columns; only its lower triangle is read
  /// \param[in,out] s  gets m, d, norm and diagonal
  STIEFELX_HD void factor(index_t k, double const* g, state const& s) const {
    for (index_t j = 0; j < k; ++j) {
      s.diagonal[j] = g[j + j * k];
      double d = s.diagonal[j];
      for (index_t l = 0; l < j; ++l) d -= s.m(j, l) * s.m(j, l) * s.d[l];
      s.d[j] = d;
      bool const guarded = is_guarded(s, j);
      for (index_t i = j + 1; i < k; ++i) {
        double sum = g[i + j * k];
        for (index_t l = 0; l < j; ++l) sum -= s.m(i, l) * s.m(j, l) * s.d[l];
        s.m(i, j) = guarded ? 0 : sum / d;
      }
      double n = 1;
      if (kind == mixing::orthonormal) {
        n = guarded ? guard * std::sqrt(s.diagonal[j]) : std::sqrt(d);
        // A zero output has no direction; dividing by one leaves it zero.
        if (n == 0) n = 1;
      }
      s.norm[j] = n;
    }
  }

  /// \brief Coefficients of the mixture after factor().
  /// \param[in]     k  experts
  /// \param[in]     c  gate weights, k numbers
  /// \param[in,out] s  gets z
  /// \param[out]    a  k coefficients
  template <class Weight, class Coefficient>
  STIEFELX_HD void coefficients(index_t k, Weight const* c, state const& s, Coefficient* a) const {
    for (index_t i = k - 1; i >= 0; --i) {
      s.z[i] = static_cast<double>(c[i]) / s.norm[i];
      double sum = s.z[i];
      for (index_t j = i + 1; j < k; ++j) sum -= s.m(j, i) * static_cast<double>(a[j]);
      a[i] = static_cast<Coefficient>(sum);
    }
  }

  /// \brief Adjoint of factor() and coefficients(), which must have run on the same state.
  ///
  /// With \f$ u_i = \langle e_i, \bar y \rangle \f$ and \f$ x = M^{-1} u \f$: \f$ \bar c_i = x_i/n_i \f$;
  /// S has \f$ S_{ij} = -z_i x_j / D_j \f$ below the diagonal and, in the orthonormal form, \f$ S_{jj}
  /// = -z_j x_j / (2 D_j) \f$, both zero where j is guarded; \f$ W = M^{-T} (S + S^T) M^{-1} \f$ is
  /// \f$ \bar G + \bar G^T \f$.
  /// \param[in]     k   experts
  /// \param[in]     u   k numbers
  /// \param[in,out] s   gets x and w = W
  /// \param[out]    dc  k numbers
  template <class Weight>
  STIEFELX_HD void pull_back(index_t k, double const* u, state const& s, Weight* dc) const {
    for (index_t i = 0; i < k; ++i) {
      double sum = u[i];
      for (index_t j = 0; j < i; ++j) sum -= s.m(i, j) * s.x[j];
      s.x[i] = sum;
      dc[i] = static_cast<Weight>(sum / s.norm[i]);
    }
    for (index_t j = 0; j < k; ++j) {
      bool const guarded = is_guarded(s, j);
      bool const has_length = kind == mixing::orthonormal && !guarded;
      s.w(j, j) = has_length ? -s.z[j] * s.x[j] / s.d[j] : 0;
      for (index_t i = j + 1; i < k; ++i) {
        s.w(i, j) = guarded ? 0 : -s.z[i] * s.x[j] / s.d[j];
        s.w(j, i) = s.w(i, j);
      }
    }
    // W is symmetric, so one sided solves on its columns and then on its rows suffice.
    for (index_t c = 0; c < k; ++c)
      for (index_t i = k - 1; i >= 0; --i)
        for (index_t j = i + 1; j < k; ++j) s.w(i, c) -= s.m(j, i) * s.w(j, c);
    for (index_t r = 0; r < k; ++r)
      for (index_t i = k - 1; i >= 0; --i)
        for (index_t j = i + 1; j < k; ++j) s.w(r, i) -= s.m(j, i) * s.w(r, j);
    if (kind != mixing::orthonormal) return;
    for (index_t j = 0; j < k; ++j)
      if (is_guarded(s, j) && s.diagonal[j] > 0)
        s.w(j, j) -= guard * guard * s.z[j] * s.x[j] / (s.norm[j] * s.norm[j]);
  }
};

}  // namespace stiefelx
