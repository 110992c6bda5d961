// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Team text: the triangle r that makes m r - I skew-Hermitian, for the inverse of QR.
/// \ingroup stiefel
///
/// Column j of r, above its diagonal known from the columns before, solves a system with the leading
/// block of m \cite kaneko2013. One factorization \f$ m = l\,u \f$ without pivoting has the factors of
/// every leading block. It needs no pivoting: where r exists \f$ m = (I + a)\,r^{-1} \f$ with a skew
/// a, matrices whose Hermitian part is positive definite have bounded factors \cite golub2013, section
/// 4.2, and a triangle on the right changes u alone.
///
/// Real entries: \f$ r_{jj} > 0 \f$ for all j exactly when every leading minor of m is positive.
/// Complex entries: the imaginary part of \f$ (m r)_{jj} \f$ is free and makes \f$ r_{jj} \f$ real.
struct inverse_qr_body {
  double largest;  ///< a diagonal entry of r above this has no correct digits

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     m       p x p
  /// \param[in,out] lu      p x p, m before and its factors after
  /// \param[out]    r       p x p, upper triangular with positive diagonal; NaN where there is none
  /// \param[out]    status  1 x 1: `rank_deficient` where there is none, or `not_finite`
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S const> m,
                              matrix_ref<S> lu, matrix_ref<S> r, matrix_ref<int> status) const {
    factor(team, lu);
    bool exists = true;
    for (index_t j = 0; j < m.cols; ++j) exists = column(team, j, m, lu, r) && exists;
    bool finite = true;
    for (index_t j = 0; j < m.cols; ++j)
      for (index_t i = 0; i < m.rows; ++i)
        finite = finite && absolute_sum(m(i, j)) <= std::numeric_limits<double>::max();
    if (!exists)
      for (index_t j = team.rank(); j < m.cols; j += team.size())
        for (index_t i = 0; i < m.rows; ++i)
          r(i, j) = S(std::numeric_limits<real_of_t<S>>::quiet_NaN());
    if (team.rank() == 0) status(0, 0) = exists ? 0 : finite ? rank_deficient : not_finite;
  }

 private:
  // lu = unit lower factor below the diagonal, upper factor on and above it.
  template <Team T, class S>
  STIEFELX_HD static void factor(T const& team, matrix_ref<S> lu) {
    for (index_t k = 0; k < lu.cols; ++k) {
      for (index_t i = k + 1 + team.rank(); i < lu.rows; i += team.size()) lu(i, k) /= lu(k, k);
      team.barrier();
      for (index_t j = k + 1 + team.rank(); j < lu.cols; j += team.size())
        for (index_t i = k + 1; i < lu.rows; ++i) lu(i, j) -= lu(i, k) * lu(k, j);
      team.barrier();
    }
  }

  // Column j of r from those before it; whether its diagonal entry is positive and of a usable size.
  template <Team T, class S>
  STIEFELX_HD bool column(T const& team, index_t j, matrix_ref<S const> m, matrix_ref<S> lu,
                          matrix_ref<S> r) const {
    for (index_t i = team.rank(); i < r.rows; i += team.size()) {
      S sum = S(0);
      for (index_t k = 0; i < j && k <= i; ++k) sum += m(j, k) * r(k, i);
      r(i, j) = i < j ? S(-conjugate(sum)) : i == j ? S(1) : S(0);
    }
    team.barrier();
    for (index_t k = 0; k < j; ++k) {
      for (index_t i = k + 1 + team.rank(); i <= j; i += team.size()) r(i, j) -= lu(i, k) * r(k, j);
      team.barrier();
    }
    real_of_t<S> const diagonal = real_part(r(j, j)) / real_part(lu(j, j));
    team.barrier();
    if (team.rank() == 0) r(j, j) = diagonal;
    team.barrier();
    for (index_t k = j; k > 0; --k) {
      for (index_t i = team.rank(); i < k; i += team.size()) r(i, j) -= lu(i, k) * r(k, j);
      team.barrier();
      if (team.rank() == 0) r(k - 1, j) /= lu(k - 1, k - 1);
      team.barrier();
    }
    return diagonal > 0 && static_cast<double>(diagonal) <= largest;
  }
};

}  // namespace stiefelx
