// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Team text: singular values and vectors by one-sided Jacobi rotations.
/// \ingroup orth
///
/// Rotations of pairs of columns make x's columns orthogonal: x v has the singular values as
/// norms and the left vectors as directions \cite demmel1992. A pair is left alone when the cosine
/// of its angle is below the tolerance, so small columns become as orthogonal as large ones, and a
/// matrix of well conditioned columns times a diagonal keeps the relative accuracy of its smallest
/// singular value. The larger column of a pair goes first, which orders the values and quickens
/// convergence.
///
/// A singular value below 2^-480 of the largest becomes zero and sets `rank_deficient`; its left
/// vector completes the others to an orthonormal set. A NaN or an infinity fills every output of
/// its item with NaN and sets `not_finite`.
struct jacobi_svd_body {
  index_t columns;   ///< p, the columns of one matrix
  double tolerance;  ///< cosine below which two columns count as orthogonal
  int sweeps = 30;   ///< at most so many passes over all pairs; then `not_converged`

  /// \returns p doubles of scratch a team
  index_t scratch_size() const { return columns; }

  /// \param[in]     team       lanes
  /// \param[in]     item       which matrix of the stack
  /// \param[in]     scratch    scratch_size() doubles
  /// \param[in,out] x          m x (p count), m >= p; becomes the left singular vectors
  /// \param[in]     exponents  1 x (p count): column j of the matrix is x(:, j) 2^exponents(0, j)
  /// \param[out]    w          1 x (p count), singular values, descending
  /// \param[out]    v          p x (p count), right singular vectors
  /// \param[out]    status     1 x count
  template <Team T, class S, class Real>
  STIEFELX_HD void operator()(T const& team, index_t item, double* scratch, matrix_ref<S> x,
                              matrix_ref<int> exponents, matrix_ref<Real> w, matrix_ref<S> v,
                              matrix_ref<int> status) const {
    index_t const p = columns;
    x = x.middle_columns(item * p, p);
    v = v.middle_columns(item * p, p);
    w = w.middle_columns(item * p, p);
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < p; i += team.size()) v(i, j) = S(i == j ? 1 : 0);
    int largest = 0;
    if (!bring_to_size_one(team, x, exponents.middle_columns(item * p, p), largest)) {
      S const nan = S(std::numeric_limits<real_of_t<S>>::quiet_NaN());
      for (index_t j = 0; j < p; ++j) {
        for (index_t i = team.rank(); i < x.rows; i += team.size()) x(i, j) = nan;
        for (index_t i = team.rank(); i < p; i += team.size()) v(i, j) = nan;
        if (team.rank() == 0) w(0, j) = std::numeric_limits<Real>::quiet_NaN();
      }
      if (team.rank() == 0) status(0, item) = not_finite;
      return;
    }
    team.barrier();
    int bits = orthogonalize(team, x, v, scratch) ? 0 : not_converged;
    sort_columns(team, x, v, scratch);
    for (index_t j = 0; j < p; ++j) {
      double const length = std::sqrt(scratch[j]);
      bool const zero = length < smallest_length;
      if (zero) bits |= rank_deficient;
      if (zero)
        complete_column(team, x, j);
      else
        scale_column(team, x, j, 1 / length);
      team.barrier();
      // Two factors, since the power itself may be out of range.
      if (team.rank() == 0) w(0, j) = static_cast<Real>(zero ? 0.0 : std::ldexp(length, largest));
    }
    if (team.rank() == 0) status(0, item) = bits;
  }

 private:
  // Squares of smaller numbers come near the end of double's range.
  static constexpr double smallest_length = 0x1p-480;

  // x's columns by their exponents, the largest of size one; false when an entry is not finite.
  template <Team T, class S>
  STIEFELX_HD static bool bring_to_size_one(T const& team, matrix_ref<S> x,
                                            matrix_ref<int> exponents, int& largest) {
    bool all_finite = true, found = false;
    for (index_t j = 0; j < x.cols; ++j) {
      bool finite = true;
      int const own = column_exponent(team, x.column(j), x.rows, finite) + exponents(0, j);
      all_finite = all_finite && finite;
      double part = 0;
      for (index_t i = team.rank(); i < x.rows; i += team.size())
        if (x(i, j) != S(0)) part = 1;
      if (team.sum(part) == 0) continue;
      if (!found || own > largest) largest = own;
      found = true;
    }
    if (!all_finite) return false;
    team.barrier();
    for (index_t j = 0; j < x.cols; ++j)
      scale_by_power(team, x.column(j), x.rows, exponents(0, j) - largest, x.column(j));
    return true;
  }

  // Cyclic sweeps until no pair needs a rotation; squares has the squared norms at the end.
  template <Team T, class S>
  STIEFELX_HD bool orthogonalize(T const& team, matrix_ref<S> x, matrix_ref<S> v,
                                 double* squares) const {
    index_t const p = x.cols;
    bool rotated = p > 1;
    int done = 0;
    for (; rotated && done < sweeps; ++done) {
      rotated = false;
      refresh(team, x, squares);
      for (index_t i = 0; i + 1 < p; ++i)
        for (index_t j = i + 1; j < p; ++j)
          if (rotate_pair(team, x, v, squares, i, j)) rotated = true;
    }
    refresh(team, x, squares);
    return !rotated;
  }

  // Makes columns i < j orthogonal, the longer one first; whether they were not.
  template <Team T, class S>
  STIEFELX_HD bool rotate_pair(T const& team, matrix_ref<S> x, matrix_ref<S> v, double* squares,
                               index_t i, index_t j) const {
    using Real = real_of_t<S>;
    if (squares[i] < squares[j]) swap_columns(team, x, v, squares, i, j);
    double const a = squares[i], b = squares[j];
    if (!(b >= smallest_length * smallest_length)) return false;
    S const dot = column_dot(team, x.column(i), x.column(j), x.rows);
    double const g = static_cast<double>(modulus(dot));
    if (!(g > tolerance * std::sqrt(a) * std::sqrt(b))) return false;
    S const phase = conjugate(dot) / static_cast<Real>(g);
    double const zeta = (b - a) / (2 * g);
    double const size = std::abs(zeta);
    double const t = (zeta < 0 ? -1 : 1) / (size + std::hypot(1.0, size));
    double const c = 1 / std::hypot(1.0, t);
    rotate(team, static_cast<Real>(c), static_cast<Real>(c * t), phase, x.column(i), x.column(j),
           x.rows);
    rotate(team, static_cast<Real>(c), static_cast<Real>(c * t), phase, v.column(i), v.column(j),
           v.rows);
    team.barrier();
    double next = b + t * g;
    // Where the update cancels, the norm is computed anew.
    if (!(next > b / 4)) next = column_squared_norm(team, x.column(j), x.rows);
    if (team.rank() == 0) {
      squares[i] = a - t * g;
      squares[j] = next;
    }
    team.barrier();
    return true;
  }

  // (a, b) = (c a - s phase b, s a + c phase b).
  template <Team T, class S>
  STIEFELX_HD static void rotate(T const& team, real_of_t<S> c, real_of_t<S> s, S phase, S* a, S* b,
                                 index_t rows) {
    for (index_t k = team.rank(); k < rows; k += team.size()) {
      S const first = a[k], second = phase * b[k];
      a[k] = c * first - s * second;
      b[k] = s * first + c * second;
    }
  }

  template <Team T, class S>
  STIEFELX_HD static void refresh(T const& team, matrix_ref<S> x, double* squares) {
    for (index_t j = 0; j < x.cols; ++j) {
      double const square = column_squared_norm(team, x.column(j), x.rows);
      if (team.rank() == 0) squares[j] = square;
    }
    team.barrier();
  }

  template <Team T, class S>
  STIEFELX_HD static void swap_columns(T const& team, matrix_ref<S> x, matrix_ref<S> v,
                                       double* squares, index_t i, index_t j) {
    team.barrier();
    auto const exchange = [&](S* a, S* b, index_t rows) {
      for (index_t k = team.rank(); k < rows; k += team.size()) {
        S const kept = a[k];
        a[k] = b[k];
        b[k] = kept;
      }
    };
    exchange(x.column(i), x.column(j), x.rows);
    exchange(v.column(i), v.column(j), v.rows);
    if (team.rank() == 0) {
      double const kept = squares[i];
      squares[i] = squares[j];
      squares[j] = kept;
    }
    team.barrier();
  }

  // The sweeps leave nearly sorted columns; what is out of order differs by rounding.
  template <Team T, class S>
  STIEFELX_HD static void sort_columns(T const& team, matrix_ref<S> x, matrix_ref<S> v,
                                       double* squares) {
    for (index_t i = 0; i + 1 < x.cols; ++i) {
      index_t best = i;
      for (index_t j = i + 1; j < x.cols; ++j)
        if (squares[j] > squares[best]) best = j;
      if (best != i) swap_columns(team, x, v, squares, i, best);
    }
  }

  template <Team T, class S>
  STIEFELX_HD static void scale_column(T const& team, matrix_ref<S> x, index_t j, double factor) {
    auto const by = static_cast<real_of_t<S>>(factor);
    for (index_t i = team.rank(); i < x.rows; i += team.size()) x(i, j) *= by;
  }

  // Column j = a unit vector orthogonal to the earlier, orthonormal columns: what is left of the
  // coordinate vector that they cover least.
  template <Team T, class S>
  STIEFELX_HD static void complete_column(T const& team, matrix_ref<S> x, index_t j) {
    index_t row = 0;
    double least = 0;
    for (index_t i = 0; i < x.rows; ++i) {
      double covered = 0;
      for (index_t k = 0; k < j; ++k) {
        double const size = static_cast<double>(modulus(x(i, k)));
        covered += size * size;
      }
      if (i == 0 || covered < least) {
        least = covered;
        row = i;
      }
    }
    team.barrier();
    for (index_t i = team.rank(); i < x.rows; i += team.size()) x(i, j) = S(i == row ? 1 : 0);
    team.barrier();
    for (int pass = 0; pass < 2; ++pass) {
      for (index_t k = 0; k < j; ++k) {
        S const c = column_dot(team, x.column(k), x.column(j), x.rows);
        column_axpy(team, S(-c), x.column(k), x.rows, x.column(j));
        team.barrier();
      }
    }
    scale_column(team, x, j, 1 / std::sqrt(column_squared_norm(team, x.column(j), x.rows)));
  }
};

}  // namespace stiefelx
