// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Team text: scales each column by a power of two and says whether it is finite.
/// \ingroup orth
struct equilibrate_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team       lanes
  /// \param[in]  j          the column
  /// \param[in]  a          n x p
  /// \param[out] b          n x p, sums of absolute entries near one; may be a
  /// \param[out] exponents  1 x p, a = b 2^e
  /// \param[out] status     1 x p
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t j, double*, matrix_ref<S const> a,
                              matrix_ref<S> b, matrix_ref<int> exponents,
                              matrix_ref<int> status) const {
    bool finite = true;
    int const exponent = column_exponent(team, a.column(j), a.rows, finite);
    scale_by_power(team, a.column(j), a.rows, -exponent, b.column(j));
    if (team.rank() == 0) {
      exponents(0, j) = exponent;
      status(0, j) = finite ? 0 : not_finite;
    }
  }
};

/// \brief Team text: undoes the column scaling of equilibrate_body on r and clears below it.
/// \ingroup orth
struct rescale_triangle_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team       lanes
  /// \param[in]     j          the column
  /// \param[in,out] r          p x p
  /// \param[in]     exponents  1 x p
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t j, double*, matrix_ref<S> r,
                              matrix_ref<int> exponents) const {
    scale_by_power(team, r.column(j), j + 1, exponents(0, j), r.column(j));
    for (index_t i = j + 1 + team.rank(); i < r.rows; i += team.size()) r(i, j) = S(0);
  }
};

/// \brief Team text: Householder reflections for one panel of columns, in compact WY form.
/// \ingroup orth
///
/// \f$ H_1 \cdots H_b = I - V T V^H \f$ with T upper triangular and \f$ H_j = I - \tau_j v_j
/// v_j^H \f$, \f$ \tau_j \f$ real \cite golub2013.
struct householder_panel_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in,out] a       m x b, the panel; its upper triangle becomes r
  /// \param[out]    v       m x b, unit lower trapezoidal, zeros above
  /// \param[out]    t       b x b, upper triangular, zeros below
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> a, matrix_ref<S> v,
                              matrix_ref<S> t) const {
    using Real = real_of_t<S>;
    for (index_t j = 0; j < a.cols; ++j) {
      index_t const m = a.rows - j;
      double const norm = std::sqrt(column_squared_norm(team, a.column(j) + j, m));
      S const head = a(j, j);
      double const head_modulus = modulus(head);
      // Squares of smaller numbers vanish. Beside a column of norm one they are nothing, so the
      // reflection is left out and the rest of the column dropped.
      bool const skip = norm < 1e-140;
      Real const tau = skip ? Real(0) : static_cast<Real>(1 + head_modulus / norm);
      S const phase = head_modulus > 0 ? S(head / static_cast<Real>(head_modulus)) : S(1);
      S const diagonal = skip ? head : S(-phase * static_cast<Real>(norm));
      S const inverse = skip ? S(0) : S(1) / (head - diagonal);
      team.barrier();
      for (index_t i = team.rank(); i < a.rows; i += team.size()) {
        v(i, j) = i < j ? S(0) : i == j ? S(1) : a(i, j) * inverse;
        if (i > j) a(i, j) = S(0);
        if (i == j) a(i, j) = diagonal;
      }
      team.barrier();
      for (index_t c = j + 1; c < a.cols; ++c) {
        S const w = column_dot(team, v.column(j) + j, a.column(c) + j, m);
        column_axpy(team, S(-tau * w), v.column(j) + j, m, a.column(c) + j);
      }
      // t(0:j, j) = -tau t(0:j, 0:j) v(:, 0:j)^H v(:, j), from the first row down, in place.
      for (index_t i = 0; i < j; ++i) {
        S const w = column_dot(team, v.column(i) + j, v.column(j) + j, m);
        if (team.rank() == 0) t(i, j) = w;
      }
      team.barrier();
      if (team.rank() == 0) {
        for (index_t i = 0; i < j; ++i) {
          S sum = S(0);
          for (index_t l = i; l < j; ++l) sum += t(i, l) * t(l, j);
          t(i, j) = -tau * sum;
        }
        t(j, j) = tau;
        for (index_t i = j + 1; i < a.cols; ++i) t(i, j) = S(0);
      }
      team.barrier();
    }
  }
};

/// \brief Team text: makes r's diagonal real and positive and says which columns are dependent.
/// \ingroup orth
struct positive_diagonal_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in,out] q       n x p
  /// \param[in,out] r       p x p, upper triangular
  /// \param[out]    status  1 x 1
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> q, matrix_ref<S> r,
                              matrix_ref<int> status) const {
    using Real = real_of_t<S>;
    int bits = 0;
    for (index_t j = 0; j < r.cols; ++j) {
      // A phase does not change a modulus, so rows already turned do no harm here.
      double const whole = std::sqrt(column_squared_norm(team, r.column(j), j + 1));
      Real const size = modulus(r(j, j));
      S const phase = size > 0 ? S(r(j, j) / size) : S(1);
      double const tolerance = static_cast<double>(rank_tolerance<S>(q.rows));
      if (static_cast<double>(size) <= tolerance * whole) bits |= rank_deficient;
      team.barrier();
      for (index_t i = team.rank(); i < q.rows; i += team.size()) q(i, j) *= phase;
      for (index_t i = j + 1 + team.rank(); i < r.cols; i += team.size())
        r(j, i) *= conjugate(phase);
      if (team.rank() == 0) r(j, j) = size;
      team.barrier();
    }
    if (team.rank() == 0) status(0, 0) = bits;
  }
};

}  // namespace stiefelx
