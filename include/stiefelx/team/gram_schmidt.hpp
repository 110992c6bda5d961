// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// How gram_schmidt() projects a column against the earlier ones.
/// \ingroup orth
enum class gram_schmidt_method {
  /// Classical, again until a pass no longer halves the column: unit roundoff \cite giraud2005
  cgs2,
  /// Modified, once: half the work, and a loss that grows as the condition number.
  mgs,
};

/// \brief Team text: Gram-Schmidt orthogonalization, classical and repeated or modified.
/// \ingroup orth
///
/// By the classical method each column is projected against the earlier ones until a pass no longer
/// halves it; twice is enough unless it depends on them \cite giraud2005. A column whose remainder
/// is below rank_tolerance() of its norm becomes zero and sets `rank_deficient`.
struct gram_schmidt_body {
  index_t columns;                                         ///< p, the columns of one matrix
  gram_schmidt_method method = gram_schmidt_method::cgs2;  ///< how to project

  /// \returns doubles of scratch a team: p scalars, complex or not
  index_t scratch_size() const { return 2 * columns; }

  /// \param[in]  team     lanes
  /// \param[in]  item     which matrix of the stack
  /// \param[in]  scratch  scratch_size() doubles
  /// \param[in]  a        n x (p count)
  /// \param[out] q        of a's shape; may be a
  /// \param[out] r        p x (p count)
  /// \param[out] status   1 x count
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double* scratch, matrix_ref<S const> a,
                              matrix_ref<S> q, matrix_ref<S> r, matrix_ref<int> status) const {
    using Real = real_of_t<S>;
    index_t const p = columns, n = a.rows;
    S* const h = reinterpret_cast<S*>(scratch);
    a = a.middle_columns(item * p, p);
    q = q.middle_columns(item * p, p);
    r = r.middle_columns(item * p, p);
    int bits = 0;
    for (index_t j = 0; j < p; ++j) {
      bool finite = true;
      int const exponent = column_exponent(team, a.column(j), n, finite);
      if (!finite) bits |= not_finite;
      scale_by_power(team, a.column(j), n, -exponent, q.column(j));
      for (index_t i = team.rank(); i < p; i += team.size()) r(i, j) = S(0);
      team.barrier();

      Real const start = static_cast<Real>(std::sqrt(column_squared_norm(team, q.column(j), n)));
      Real before = start, after = start;
      bool const modified = method == gram_schmidt_method::mgs;
      for (index_t i = 0; i < j && modified; ++i) {
        S const c = column_dot(team, q.column(i), q.column(j), n);
        column_axpy(team, S(-c), q.column(i), n, q.column(j));
        if (team.rank() == 0) r(i, j) = c;
        team.barrier();
      }
      if (modified && j > 0)
        after = static_cast<Real>(std::sqrt(column_squared_norm(team, q.column(j), n)));
      for (int pass = 0; pass < 4 && j > 0 && !modified; ++pass) {
        if constexpr (shares_columns<T, S>) {
          column_dots(team, q.data, q.stride, j, q.column(j), n, h);
          team.barrier();
          for (index_t l = team.rank(); l < n; l += team.size()) {
            S rest = q(l, j);
            for (index_t i = 0; i < j; ++i) rest -= h[i] * q(l, i);
            q(l, j) = rest;
          }
        } else {
          for (index_t i = 0; i < j; ++i) {
            S const c = column_dot(team, q.column(i), q.column(j), n);
            if (team.rank() == 0) h[i] = c;
          }
          team.barrier();
          for (index_t i = 0; i < j; ++i) column_axpy(team, -h[i], q.column(i), n, q.column(j));
        }
        for (index_t i = team.rank(); i < j; i += team.size()) r(i, j) += h[i];
        team.barrier();
        before = after;
        after = static_cast<Real>(std::sqrt(column_squared_norm(team, q.column(j), n)));
        if (pass > 0 && !(after < Real(0.5) * before)) break;
      }
      bool const dependent = after <= rank_tolerance<S>(n) * start;
      if (dependent) bits |= rank_deficient;
      Real const inverse = dependent ? Real(0) : Real(1) / after;
      for (index_t i = team.rank(); i < n; i += team.size()) q(i, j) *= inverse;
      if (team.rank() == 0) r(j, j) = dependent ? Real(0) : after;
      team.barrier();
      scale_by_power(team, r.column(j), j + 1, exponent, r.column(j));
      team.barrier();
    }
    if (team.rank() == 0) status(0, item) = bits;
  }
};

}  // namespace stiefelx
