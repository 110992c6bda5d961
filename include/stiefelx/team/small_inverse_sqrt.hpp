// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Team text: the scaling that centres a positive definite matrix for Newton-Schulz.
/// \ingroup orth
struct newton_schulz_scaling_body {
  double smallest;  ///< lower bound of the eigenvalues; 0 when none is known

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes
  /// \param[in]  g        p x p, Hermitian, positive definite
  /// \param[out] scaling  1 x 2: 1 / c and 1 / sqrt(c), c = (smallest + largest row sum) / 2
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> g,
                              matrix_ref<double> scaling) const {
    double largest = 0;
    for (index_t j = 0; j < g.cols; ++j) {
      double sum = 0;
      for (index_t i = 0; i < g.rows; ++i) sum += static_cast<double>(modulus(g(i, j)));
      if (!(sum <= largest)) largest = sum;
    }
    double const c = largest > 0 || largest != largest ? (smallest + largest) / 2 : 1;
    if (team.rank() == 0) {
      scaling(0, 0) = 1 / c;
      scaling(0, 1) = 1 / std::sqrt(c);
    }
  }
};

/// \brief Team text: whether a product that should be the identity is.
/// \ingroup orth
///
/// \f$ \lVert t - I \rVert_F \le p\,\sqrt\epsilon \f$ leaves half the digits.
struct small_identity_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     t       p x p
  /// \param[in,out] status  1 x 1; gets `not_converged`, and `not_finite` for a NaN
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> t,
                              matrix_ref<int> status) const {
    double square = 0;
    for (index_t j = 0; j < t.cols; ++j) {
      double const diagonal = static_cast<double>(modulus(S(t(j, j) - S(1))));
      square += column_squared_norm(team, t.column(j), j) + diagonal * diagonal +
                column_squared_norm(team, t.column(j) + j + 1, t.rows - j - 1);
    }
    constexpr auto unit = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon());
    double const allowed = std::sqrt(unit) * static_cast<double>(t.cols);
    if (team.rank() != 0 || square <= allowed * allowed) return;
    status(0, 0) |=
        square <= std::numeric_limits<double>::max() ? not_converged : not_converged | not_finite;
  }
};

/// \brief Team text: inverse square root of one small matrix of a stack.
/// \ingroup orth
struct small_inverse_sqrt_body {
  index_t columns;  ///< p, the size of one matrix
  double smallest;  ///< lower bound of the eigenvalues; 0 when none is known
  int iterations;   ///< how many, at least 1

  /// \returns doubles of scratch a team: three p x p matrices, complex or not, and two numbers
  index_t scratch_size() const { return 6 * columns * columns + 2; }

  /// \param[in]  team     lanes
  /// \param[in]  item     which matrix of the stack
  /// \param[in]  scratch  scratch_size() doubles
  /// \param[in]  g        p x (p count), each Hermitian, positive definite
  /// \param[out] z        p x (p count); must not overlap g
  /// \param[out] status   1 x count
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double* scratch, matrix_ref<S const> g,
                              matrix_ref<S> z, matrix_ref<int> status) const {
    using Real = real_of_t<S>;
    index_t const p = columns;
    g = g.middle_columns(item * p, p);
    z = z.middle_columns(item * p, p);
    S* const room = reinterpret_cast<S*>(scratch);
    double* const scaling = scratch + 6 * p * p;
    matrix_ref<S> const y{room, p, p, p}, t{room + p * p, p, p, p}, next{room + 2 * p * p, p, p, p};
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < p; i += team.size()) {
        y(i, j) = g(i, j);
        z(i, j) = S(i == j ? 1 : 0);
      }
    team.barrier();
    newton_schulz_scaling_body{smallest}(team, 0, nullptr, y, matrix_ref<double>{scaling, 1, 2, 1});
    team.barrier();
    scale_all(team, y, static_cast<Real>(scaling[0]));
    for (int k = 0; k < iterations; ++k) {
      small_multiply(team, z, y, t);
      for (index_t j = 0; j < p; ++j)
        for (index_t i = team.rank(); i < p; i += team.size())
          t(i, j) = S(i == j ? Real(1.5) : Real(0)) - Real(0.5) * t(i, j);
      team.barrier();
      small_multiply(team, y, t, next);
      copy_all(team, next, y);
      small_multiply(team, t, z, next);
      copy_all(team, next, z);
    }
    // The mean of z and its adjoint, scaled back.
    auto const back = static_cast<Real>(scaling[1] / 2);
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < p; i += team.size())
        next(i, j) = back * (z(i, j) + conjugate(z(j, i)));
    team.barrier();
    copy_all(team, next, z);
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < p; i += team.size()) y(i, j) = g(i, j);
    team.barrier();
    small_multiply(team, z, y, t);
    small_multiply(team, t, z, next);
    if (team.rank() == 0) status(0, item) = 0;
    team.barrier();
    small_identity_body{}(team, 0, nullptr, next, matrix_ref<int>{&status(0, item), 1, 1, 1});
  }

 private:
  template <Team T, class S>
  STIEFELX_HD static void scale_all(T const& team, matrix_ref<S> a, real_of_t<S> c) {
    for (index_t j = 0; j < a.cols; ++j)
      for (index_t i = team.rank(); i < a.rows; i += team.size()) a(i, j) *= c;
    team.barrier();
  }

  template <Team T, class S>
  STIEFELX_HD static void copy_all(T const& team, matrix_ref<S> a, matrix_ref<S> b) {
    for (index_t j = 0; j < a.cols; ++j)
      for (index_t i = team.rank(); i < a.rows; i += team.size()) b(i, j) = a(i, j);
    team.barrier();
  }

  // c = a b for square matrices.
  template <Team T, class S>
  STIEFELX_HD static void small_multiply(T const& team, matrix_ref<S> a, matrix_ref<S> b,
                                         matrix_ref<S> c) {
    for (index_t j = 0; j < c.cols; ++j) {
      for (index_t i = team.rank(); i < c.rows; i += team.size()) c(i, j) = S(0);
      for (index_t k = 0; k < a.cols; ++k)
        column_axpy(team, S(b(k, j)), a.column(k), a.rows, c.column(j));
    }
    team.barrier();
  }
};

}  // namespace stiefelx
