// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>
#include <stiefelx/team/householder_qr.hpp>

namespace stiefelx {

/// \brief Team text: Householder QR of one small matrix of a stack, in place.
/// \ingroup orth
///
/// The vectors of the reflections are kept in q below the diagonal, r takes each column as it
/// becomes final, and the reflections then build q from its last column \cite golub2013.
struct small_householder_body {
  index_t columns;  ///< p, the columns of one matrix

  /// \returns doubles of scratch a team: an exponent, a factor and a product a column
  index_t scratch_size() const { return 3 * columns; }

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
    index_t const p = columns;
    double* const exponents = scratch;
    double* const factors = scratch + p;
    a = a.middle_columns(item * p, p);
    q = q.middle_columns(item * p, p);
    r = r.middle_columns(item * p, p);
    bool all_finite = true;
    for (index_t j = 0; j < p; ++j) {
      bool finite = true;
      int const exponent = column_exponent(team, a.column(j), a.rows, finite);
      all_finite = all_finite && finite;
      scale_by_power(team, a.column(j), a.rows, -exponent, q.column(j));
      if (team.rank() == 0) exponents[j] = exponent;
    }
    team.barrier();
    for (index_t j = 0; j < p; ++j) reflect(team, q, r, factors, j);
    for (index_t j = p - 1; j >= 0; --j) unfold(team, q, factors, j);
    positive_diagonal_body{}(team, 0, nullptr, q, r, matrix_ref<int>{&status(0, item), 1, 1, 1});
    team.barrier();
    for (index_t j = 0; j < p; ++j)
      scale_by_power(team, r.column(j), j + 1, static_cast<int>(exponents[j]), r.column(j));
    if (team.rank() == 0 && !all_finite) status(0, item) |= not_finite;
    team.barrier();
  }

 private:
  // Reflects the columns after j at the vector in column j.
  template <Team T, class S>
  STIEFELX_HD static void apply(T const& team, matrix_ref<S> q, real_of_t<S> tau, double* room,
                                index_t j) {
    index_t const m = q.rows - j;
    S const* const v = q.column(j) + j;
    if constexpr (shares_columns<T, S>) {
      S* const products = reinterpret_cast<S*>(room);
      index_t const after = q.cols - j - 1;
      if (after == 0) return;
      column_dots(team, q.column(j + 1) + j, q.stride, after, v, m, products);
      team.barrier();
      // Lanes of a warp take adjacent rows, warps take columns.
      index_t const tall = team.size() < 32 ? team.size() : 32, wide = team.size() / tall;
      index_t const first = team.rank() / tall;
      for (index_t c = first; first < wide && c < after; c += wide) {
        S const factor = tau * products[c];
        for (index_t i = team.rank() % tall; i < m; i += tall) q(j + i, j + 1 + c) -= factor * v[i];
      }
    } else {
      for (index_t c = j + 1; c < q.cols; ++c) {
        S const w = column_dot(team, v, q.column(c) + j, m);
        column_axpy(team, S(-tau * w), v, m, q.column(c) + j);
      }
    }
  }

  // r's column j and the reflection that ends it, applied to the columns that follow.
  template <Team T, class S>
  STIEFELX_HD static void reflect(T const& team, matrix_ref<S> q, matrix_ref<S> r, double* factors,
                                  index_t j) {
    using Real = real_of_t<S>;
    index_t const m = q.rows - j;
    double const norm = std::sqrt(column_squared_norm(team, q.column(j) + j, m));
    S const head = q(j, j);
    double const head_modulus = modulus(head);
    // Squares of smaller numbers vanish, as in householder_panel_body.
    bool const skip = norm < 1e-140;
    Real const tau = skip ? Real(0) : static_cast<Real>(1 + head_modulus / norm);
    S const phase = head_modulus > 0 ? S(head / static_cast<Real>(head_modulus)) : S(1);
    S const diagonal = skip ? head : S(-phase * static_cast<Real>(norm));
    S const inverse = skip ? S(0) : S(1) / (head - diagonal);
    team.barrier();
    for (index_t i = team.rank(); i < r.rows; i += team.size())
      r(i, j) = i < j ? q(i, j) : i == j ? diagonal : S(0);
    for (index_t i = j + team.rank(); i < q.rows; i += team.size())
      q(i, j) = i == j ? S(1) : q(i, j) * inverse;
    if (team.rank() == 0) factors[j] = static_cast<double>(tau);
    team.barrier();
    apply(team, q, tau, factors + q.cols, j);
    team.barrier();
  }

  // Applies reflection j to the columns after it, and puts its own column in place of its vector.
  template <Team T, class S>
  STIEFELX_HD static void unfold(T const& team, matrix_ref<S> q, double* factors, index_t j) {
    auto const tau = static_cast<real_of_t<S>>(factors[j]);
    apply(team, q, tau, factors + q.cols, j);
    team.barrier();
    for (index_t i = team.rank(); i < q.rows; i += team.size())
      q(i, j) = i < j ? S(0) : i == j ? S(1 - tau) : S(-tau * q(i, j));
    team.barrier();
  }
};

/// \brief Team text: c = a b for each pair of a stack.
/// \ingroup orth
struct small_product_body {
  index_t columns;       ///< p, the columns of one matrix of a, b and c
  bool adjoint = false;  ///< b^H in place of b

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes
  /// \param[in]  item  which pair
  /// \param[in]  a     n x (p count)
  /// \param[in]  b     p x (p count), a scalar of any precision
  /// \param[out] c     n x (p count); must not overlap a or b
  template <Team T, class S, class B>
  STIEFELX_HD void operator()(T const& team, index_t item, double*, matrix_ref<S> a,
                              matrix_ref<B> b, matrix_ref<S> c) const {
    a = a.middle_columns(item * columns, columns);
    b = b.middle_columns(item * columns, columns);
    c = c.middle_columns(item * columns, columns);
    for (index_t j = 0; j < columns; ++j) {
      for (index_t i = team.rank(); i < c.rows; i += team.size()) c(i, j) = S(0);
      for (index_t k = 0; k < columns; ++k)
        column_axpy(team, static_cast<S>(adjoint ? conjugate(b(j, k)) : b(k, j)), a.column(k),
                    a.rows, c.column(j));
    }
  }
};

}  // namespace stiefelx
