// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/filled_slot.hpp>
#include <stiefelx/team/mixing_state.hpp>
#include <stiefelx/team/mixing_symmetric.hpp>

namespace stiefelx {

/// \brief What happens to the experts' outputs of a token before they are added up.
/// \ingroup nn
///
/// v are the remainders of Gram-Schmidt without normalization, in the listed order. For all kinds
/// but `none`, `partial` and `anchored` the vectors that are added up are orthogonal to each other.
enum class mixing {
  none,             ///< \f$ y = \sum_i c_i e_i \f$, a plain mixture
  orthogonal,       ///< \f$ y = \sum_i c_i v_i \f$
  orthonormal,      ///< \f$ y = \sum_i c_i v_i / \lVert v_i \rVert \f$
  norm_preserving,  ///< \f$ y = \sum_i c_i v_i \lVert e_i \rVert / \lVert v_i \rVert \f$
  symmetric,        ///< \f$ y = \sum_i c_i (F G^{-1/2})_i \f$, Loewdin's; any order gives the same
  partial,          ///< \f$ y = \sum_i c_i ((1 - \beta) e_i + \beta v_i) \f$
  anchored,         ///< \f$ y = c_1 e_1 + \sum_{i > 1} c_i (e_i - P_1 e_i) \f$, P onto \f$ e_1 \f$
};

/// \brief What becomes of an expert whose output is zero or depends on earlier ones.
/// \ingroup nn
enum class dependent_experts {
  keep,   ///< nothing is projected onto it, and its remainder stays in the sum: it can still learn
  drop,   ///< it leaves the sum: coefficient, weight gradient and output gradient are zero
  ridge,  ///< G is replaced by \f$ G + \lambda\,\mathrm{diag}(G) \f$: smooth, nearly orthogonal
};

/// \brief Team text: the k x k algebra of an orthogonalized mixture, and its adjoint.
/// \ingroup nn
///
/// The outputs \f$ e_1 \ldots e_k \f$ of a token enter through their Gram matrix \f$ G = M D M^T \f$
/// alone, M unit lower triangular. Gram-Schmidt is \f$ v = M^{-1} e \f$, so the mixture
/// \f$ \sum_i c_i v_i / n_i \f$ is \f$ \sum_i a_i e_i \f$ with \f$ M^T a = z,\ z_i = c_i / n_i \f$;
/// \f$ n_i \f$ is 1, \f$ \lVert v_i \rVert \f$ (`orthonormal`) or \f$ \lVert v_i \rVert / \lVert e_i
/// \rVert \f$ (`norm_preserving`). In `anchored` one column of M is there, that of the first output
/// that is not zero: empty slots are passed over. `symmetric` has \f$ a = G^{-1/2} c \f$
/// (symmetric_mixing).
///
/// An expert whose remainder is small, \f$ D_j \le \tau^2 G_{jj} \f$, is *guarded*. Under `keep`
/// nothing is projected onto it (column j of M is zero), but its remainder stays in the sum. Dropping
/// it would zero its gradient, and an expert that starts at zero or equal to another could never
/// leave. Where a length is divided by, it counts as at least \f$ \tau \lVert e_j \rVert \f$, and as
/// 1 (or as that of \f$ e_j \f$) for a zero output. `ridge` guards zero outputs alone.
///
/// One lane does the k x k work; k is small beside the vectors behind it.
struct mixing_algebra {
  mixing kind;                                         ///< form of the mixture
  double guard;                                        ///< \f$ \tau \f$
  dependent_experts policy = dependent_experts::keep;  ///< guarded experts
  double ridge = 0;  ///< \f$ \lambda \f$, for the policy of that name
  double part = 1;   ///< \f$ \beta \f$ of `partial`

  /// Doubles of scratch for k experts.
  /// \param[in] k  experts of a token
  /// \returns the room that factor() and pull_back() share
  STIEFELX_HD static constexpr index_t scratch_size(index_t k) {
    return mixing_state::scratch_size(k);
  }

  /// Lays the state out.
  /// \param[in] k        experts of a token
  /// \param[in] scratch  scratch_size(k) doubles
  /// \returns pointers into it
  STIEFELX_HD static mixing_state place(index_t k, double* scratch) {
    return mixing_state::place(k, scratch);
  }

  /// \brief Whether the coefficients of k experts are their weights, whatever the outputs are.
  /// \param[in] k  experts of a token
  /// \returns true for `none`, and for one expert in the kinds that leave the first one as it is
  STIEFELX_HD bool is_plain(index_t k) const {
    if (kind == mixing::none) return true;
    return k <= 1 && kind != mixing::orthonormal && kind != mixing::symmetric &&
           policy != dependent_experts::drop;
  }

  /// Whether expert j was guarded by factor(); for `symmetric` the j-th eigenvalue.
  /// \param[in] s  the state
  /// \param[in] j  an expert
  /// \returns true when nothing is projected onto it
  STIEFELX_HD bool is_guarded(mixing_state const& s, index_t j) const {
    if (kind == mixing::symmetric) return spectral().is_guarded(s, j);
    double const tau = threshold();
    return !(s.d[j] > tau * tau * s.diagonal[j]);
  }

  /// \brief What a status learns of a factored Gram matrix.
  /// \param[in] ids      the experts of the token; empty slots do not count. Null: all count
  /// \param[in] s        the state
  /// \param[in] experts  E; not read where ids is null
  /// \returns `rank_deficient` when an expert is guarded, `not_finite` when G is not finite
  STIEFELX_HD int status_of(int const* ids, mixing_state const& s,
                            index_t experts = detail::any_expert) const {
    int bits = 0;
    double trace = 0;
    for (index_t j = 0; j < s.m.rows; ++j) {
      trace += s.diagonal[j];
      bool const counts = ids == nullptr || detail::is_filled(ids[j], experts);
      if (counts && is_guarded(s, j)) bits |= rank_deficient;
    }
    return trace <= std::numeric_limits<double>::max() ? bits : bits | not_finite;
  }

  /// \brief Factors a Gram matrix: M, D and n, or its eigenvectors.
  /// \param[in]     k  experts
  /// \param[in]     g  k x k as k^2 numbers by columns; only its lower triangle is read
  /// \param[in,out] s  the state
  STIEFELX_HD void factor(index_t k, double const* g, mixing_state const& s) const {
    double const whole = diagonal_factor();
    for (index_t j = 0; j < k; ++j) s.diagonal[j] = whole * g[j + j * k];
    if (kind == mixing::symmetric) {
      spectral().factor(k, g, s);
      return;
    }
    index_t anchor = 0;
    while (kind == mixing::anchored && anchor < k && s.diagonal[anchor] == 0) ++anchor;
    for (index_t j = 0; j < k; ++j) {
      double d = s.diagonal[j];
      for (index_t l = 0; l < j; ++l) d -= s.m(j, l) * s.m(j, l) * s.d[l];
      s.d[j] = d;
      bool const guarded = is_guarded(s, j);
      s.inverse[j] = guarded || (kind == mixing::anchored && j != anchor) ? 0 : 1 / d;
      s.factor[j] = factor_of(s, j, guarded);
      if (s.inverse[j] == 0) {
        for (index_t i = j + 1; i < k; ++i) s.m(i, j) = 0;
        continue;
      }
      for (index_t i = j + 1; i < k; ++i) {
        double sum = g[i + j * k];
        for (index_t l = 0; l < j; ++l) sum -= s.m(i, l) * s.m(j, l) * s.d[l];
        s.m(i, j) = sum * s.inverse[j];
      }
    }
  }

  /// \brief Coefficients of the mixture after factor().
  /// \param[in]     k  experts
  /// \param[in]     c  gate weights, k numbers
  /// \param[in,out] s  gets z
  /// \param[out]    a  k coefficients
  template <class Weight>
  STIEFELX_HD void coefficients(index_t k, Weight const* c, mixing_state const& s,
                                double* a) const {
    if (kind == mixing::symmetric) {
      spectral().coefficients(k, c, s, a);
      return;
    }
    for (index_t i = k - 1; i >= 0; --i) {
      s.z[i] = static_cast<double>(c[i]) * s.factor[i];
      double sum = s.z[i];
      for (index_t j = i + 1; j < k; ++j) sum -= s.m(j, i) * a[j];
      a[i] = sum;
    }
    if (kind != mixing::partial) return;
    for (index_t i = 0; i < k; ++i) a[i] = between(s.z[i], a[i]);
  }

  /// \brief Adjoint of factor() and coefficients(), which must have run on the same state.
  ///
  /// With \f$ u_i = \langle e_i, \bar y \rangle \f$ and \f$ x = M^{-1} u \f$: \f$ \bar c_i = x_i/n_i \f$;
  /// S has \f$ S_{ij} = -z_i x_j / D_j \f$ below the diagonal and, where lengths are divided by, \f$
  /// S_{jj} = -z_j x_j / (2 D_j) \f$, both zero where j is guarded; \f$ W = M^{-T} (S + S^T) M^{-1} \f$ is
  /// \f$ \bar G + \bar G^T \f$. `partial` mixes this with that of a plain mixture.
  /// \param[in]     k   experts
  /// \param[in]     u   k numbers
  /// \param[in,out] s   gets x and w = W
  /// \param[out]    dc  k numbers
  template <class Weight>
  STIEFELX_HD void pull_back(index_t k, double const* u, mixing_state const& s, Weight* dc) const {
    if (kind == mixing::symmetric) {
      spectral().pull_back(k, u, s, dc);
    } else {
      pull_back_triangular(k, u, s, dc);
    }
    if (policy != dependent_experts::ridge) return;
    for (index_t j = 0; j < k; ++j) s.w(j, j) *= diagonal_factor();
  }

 private:
  STIEFELX_HD double diagonal_factor() const {
    return policy == dependent_experts::ridge ? 1 + ridge : 1;
  }

  // A ridge bounds D from below, so only rounding is left to guard against.
  STIEFELX_HD double threshold() const {
    return policy == dependent_experts::ridge ? 0x1p-26 : guard;
  }

  STIEFELX_HD symmetric_mixing spectral() const {
    return {threshold(), policy == dependent_experts::drop};
  }

  STIEFELX_HD bool has_lengths() const {
    return kind == mixing::orthonormal || kind == mixing::norm_preserving;
  }

  // Of a plain and an orthogonal mixture; exact at both ends and where they agree.
  STIEFELX_HD double between(double plain, double orthogonal) const {
    return plain == orthogonal ? plain : (1 - part) * plain + part * orthogonal;
  }

  // 1 / n_j.
  STIEFELX_HD double factor_of(mixing_state const& s, index_t j, bool guarded) const {
    if (guarded && policy == dependent_experts::drop) return 0;
    // A zero output has no direction; a factor of one leaves it zero.
    if (!has_lengths() || (guarded && !(s.diagonal[j] > 0))) return 1;
    bool const normalized = kind == mixing::orthonormal;
    if (guarded) return 1 / (normalized ? threshold() * std::sqrt(s.diagonal[j]) : threshold());
    return std::sqrt(normalized ? s.inverse[j] : s.diagonal[j] * s.inverse[j]);
  }

  template <class Weight>
  STIEFELX_HD void pull_back_triangular(index_t k, double const* u, mixing_state const& s,
                                        Weight* dc) const {
    double const projected = kind == mixing::partial ? part : 1;
    for (index_t i = 0; i < k; ++i) {
      double sum = u[i];
      for (index_t j = 0; j < i; ++j) sum -= s.m(i, j) * s.x[j];
      s.x[i] = sum;
      double const along = kind == mixing::partial ? between(u[i], sum) : sum;
      dc[i] = static_cast<Weight>(along * s.factor[i]);
    }
    for (index_t j = 0; j < k; ++j) {
      double const along = -projected * s.x[j] * s.inverse[j];
      s.w(j, j) = has_lengths() ? s.z[j] * along : 0;
      for (index_t i = j + 1; i < k; ++i) {
        s.w(i, j) = s.z[i] * along;
        s.w(j, i) = s.w(i, j);
      }
    }
    for (index_t c = 0; c < k; ++c)
      for (index_t i = k - 2; i >= 0; --i)
        for (index_t j = i + 1; j < k; ++j) s.w(i, c) -= s.m(j, i) * s.w(j, c);
    // From the last row up, what a row lacks right of the diagonal is a column that is done.
    for (index_t r = k - 1; r >= 0; --r)
      for (index_t i = r; i >= 0; --i) {
        for (index_t j = i + 1; j < k; ++j) s.w(r, i) -= s.m(j, i) * s.w(r, j);
        s.w(i, r) = s.w(r, i);
      }
    if (!has_lengths()) return;
    // What the length of the output itself adds: guarded lengths are multiples of it, and so are
    // the preserved ones.
    double const sign = kind == mixing::orthonormal ? -1 : 1;
    for (index_t j = 0; j < k; ++j)
      if (is_guarded(s, j) == (kind == mixing::orthonormal) && s.diagonal[j] > 0)
        s.w(j, j) += sign * s.z[j] * s.x[j] / s.diagonal[j];
  }
};

}  // namespace stiefelx
