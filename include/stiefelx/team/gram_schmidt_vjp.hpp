// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Team text: reverse rule of Gram-Schmidt, column by column from the last.
/// \ingroup orth
///
/// Column j of a forward pass is \f$ c_i = q_i^H a_j,\ v = a_j - \sum_{i<j} q_i c_i,\ q_j = v / |v|
/// \f$. Its reverse, with \f$ \bar c_i \f$ and \f$ \bar\rho \f$ the cotangents of r's entries, is
/// \f[ \bar v = (\bar q_j - q_j\,\mathrm{Re}(q_j^H \bar q_j)) / r_{jj} + q_j \bar\rho,\quad \bar
/// c_i \mathrel{-}= q_i^H \bar v,\quad \bar a_j = \bar v + \sum_i q_i \bar c_i,\quad \bar q_i
/// \mathrel{+}= a_j \overline{\bar c_i} - \bar v\,\overline{c_i} . \f] A column that was dropped
/// (\f$ r_{jj} = 0 \f$), and a column beyond the rows of a wide matrix, has \f$ \bar v = 0 \f$.
struct gram_schmidt_vjp_body {
  index_t columns;  ///< p, the columns of one matrix
  index_t frames;   ///< k, the columns of one q: min(n, p)

  /// \returns doubles of scratch a team: a column of r, complex or not
  index_t scratch_size() const { return 2 * frames; }

  /// \param[in]  team     lanes
  /// \param[in]  item     which matrix of the stack
  /// \param[in]  scratch  scratch_size() doubles
  /// \param[in]  q        n x (k count)
  /// \param[in]  r        k x (p count)
  /// \param[in]  dr       k x (p count)
  /// \param[in,out] dq    n x (k count), the cotangent of q; used up
  /// \param[in,out] v     n x count; work
  /// \param[out] da       n x (p count); must not overlap dq
  /// \param[out] status   1 x count; `rank_deficient` where r_jj is at rounding, `not_finite`
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double* scratch, matrix_ref<S const> q,
                              matrix_ref<S const> r, matrix_ref<S const> dr, matrix_ref<S> dq,
                              matrix_ref<S> v, matrix_ref<S> da, matrix_ref<int> status) const {
    using Real = real_of_t<S>;
    index_t const p = columns, k = frames, n = q.rows;
    S* const c = reinterpret_cast<S*>(scratch);
    q = q.middle_columns(item * k, k);
    dq = dq.middle_columns(item * k, k);
    r = r.middle_columns(item * p, p);
    dr = dr.middle_columns(item * p, p);
    da = da.middle_columns(item * p, p);
    S* const a = v.column(item);
    int bits = 0;
    for (index_t j = p; j-- > 0;) {
      index_t const before = j < k ? j : k;
      Real const pivot = j < k ? real_part(r(j, j)) : Real(0);
      // A NaN is no dropped column: it spreads.
      bool const kept = !(pivot == Real(0));
      if (j < k) {
        double const whole = std::sqrt(column_squared_norm(team, r.column(j), j + 1));
        double const small = static_cast<double>(rank_tolerance<S>(n)) * whole;
        if (static_cast<double>(pivot) <= small) bits |= rank_deficient;
      }
      // a = a_j and da_j = vbar, entry by entry.
      Real const along = kept ? real_part(column_dot(team, q.column(j), dq.column(j), n)) : Real(0);
      Real const outward = kept ? real_part(dr(j, j)) : Real(0);
      for (index_t i = team.rank(); i < n; i += team.size()) {
        S const unit = kept ? q(i, j) : S(0);
        a[i] = unit * pivot;
        da(i, j) = kept ? S((dq(i, j) - unit * along) / pivot + unit * outward) : S(0);
      }
      team.barrier();
      for (index_t i = 0; i < before; ++i) {
        S const along_i = column_dot(team, q.column(i), da.column(j), n);
        if (team.rank() == 0) c[i] = dr(i, j) - along_i;
        column_axpy(team, r(i, j), q.column(i), n, a);
      }
      team.barrier();
      for (index_t i = 0; i < before; ++i) {
        S const slope = conjugate(c[i]), share = conjugate(r(i, j));
        for (index_t l = team.rank(); l < n; l += team.size())
          dq(l, i) += a[l] * slope - da(l, j) * share;
      }
      team.barrier();
      for (index_t i = 0; i < before; ++i) column_axpy(team, c[i], q.column(i), n, da.column(j));
      team.barrier();
      bool finite = true;
      (void)column_exponent(team, da.column(j), n, finite);
      if (!finite) bits |= not_finite;
    }
    if (team.rank() == 0) status(0, item) = bits;
  }
};

}  // namespace stiefelx
