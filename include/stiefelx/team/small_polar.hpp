// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>
#include <stiefelx/team/polar_schedule.hpp>

namespace stiefelx {

/// \brief Team text: polar factor of one small square matrix by a schedule of polynomials.
/// \ingroup orth
struct small_polar_body {
  index_t columns;          ///< p, the size of one matrix
  polar_schedule schedule;  ///< for singular values of at most one
  double largest;           ///< bound of the singular values; 0 takes each matrix's Frobenius norm

  /// \returns doubles of scratch a team: three p x p matrices, complex or not
  index_t scratch_size() const { return 6 * columns * columns; }

  /// \param[in]     team     lanes
  /// \param[in]     item     which matrix of the stack
  /// \param[in]     scratch  scratch_size() doubles
  /// \param[in,out] x        p x (p count)
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double* scratch, matrix_ref<S> x) const {
    index_t const p = columns;
    x = x.middle_columns(item * p, p);
    S* const room = reinterpret_cast<S*>(scratch);
    matrix_ref<S> const g{room, p, p, p}, t{room + p * p, p, p, p}, next{room + 2 * p * p, p, p, p};
    double size = largest;
    if (!(size > 0)) {
      double square = 0;
      for (index_t j = 0; j < p; ++j) square += column_squared_norm(team, x.column(j), p);
      size = std::sqrt(square);
    }
    auto const inverse = static_cast<real_of_t<S>>(size == 0 ? 0 : 1 / size);
    team.barrier();
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < p; i += team.size()) x(i, j) *= inverse;
    team.barrier();
    for (int k = 0; k < schedule.count; ++k) step(team, schedule[k], x, g, t, next);
  }

 private:
  // x = x (a I + b g + c g^2) with g = x^H x.
  template <Team T, class S>
  STIEFELX_HD static void step(T const& team, odd_polynomial const& q, matrix_ref<S> x,
                               matrix_ref<S> g, matrix_ref<S> t, matrix_ref<S> next) {
    using Real = real_of_t<S>;
    index_t const p = x.cols;
    // Updates of columns by columns of x^H: short inner products would leave vectors unfilled.
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < p; i += team.size()) next(j, i) = conjugate(x(i, j));
    team.barrier();
    for (index_t j = 0; j < p; ++j) {
      for (index_t i = team.rank(); i < p; i += team.size()) g(i, j) = S(0);
      for (index_t k = 0; k < p; ++k) column_axpy(team, S(x(k, j)), next.column(k), p, g.column(j));
    }
    team.barrier();
    auto const a = static_cast<Real>(q.a), b = static_cast<Real>(q.b), c = static_cast<Real>(q.c);
    for (index_t j = 0; j < p; ++j) {
      for (index_t i = team.rank(); i < p; i += team.size())
        t(i, j) = b * g(i, j) + S(i == j ? a : Real(0));
      if (q.c != 0)
        for (index_t k = 0; k < p; ++k)
          column_axpy(team, S(c * g(k, j)), g.column(k), p, t.column(j));
    }
    team.barrier();
    for (index_t j = 0; j < p; ++j) {
      for (index_t i = team.rank(); i < p; i += team.size()) next(i, j) = S(0);
      for (index_t k = 0; k < p; ++k) column_axpy(team, S(t(k, j)), x.column(k), p, next.column(j));
    }
    team.barrier();
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < p; i += team.size()) x(i, j) = next(i, j);
    team.barrier();
  }
};

/// \brief Team text: raises `not_converged` for a matrix whose columns are not orthonormal.
/// \ingroup orth
struct small_defect_body {
  index_t columns;   ///< p, the columns of one matrix
  double tolerance;  ///< largest \f$ \lVert q^H q - I \rVert_F \f$ that counts as converged

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     item    which matrix of the stack
  /// \param[in]     q       n x (p count)
  /// \param[in,out] status  1 x count
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double*, matrix_ref<S> q,
                              matrix_ref<int> status) const {
    q = q.middle_columns(item * columns, columns);
    double square = 0;
    for (index_t j = 0; j < columns; ++j)
      for (index_t i = 0; i <= j; ++i) {
        S const dot = column_dot(team, q.column(i), q.column(j), q.rows);
        double const part = static_cast<double>(modulus(i == j ? S(dot - S(1)) : dot));
        square += (i == j ? 1 : 2) * part * part;
      }
    if (team.rank() == 0 && !(square <= tolerance * tolerance)) status(0, item) |= not_converged;
  }
};

}  // namespace stiefelx
