// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/column.hpp>

/// \file
/// \brief Cholesky factors of small Gram matrices, as team text.
/// \ingroup orth

namespace stiefelx {

/// \brief Upper triangle of the Gram matrix of a small matrix, and zeros below it.
/// \ingroup orth
/// \param[in]  team  lanes
/// \param[in]  y     n x p
/// \param[out] g     p x p; the upper triangle of y^H y
template <Team T, class S>
STIEFELX_HD void small_gram(T const& team, matrix_ref<S> y, matrix_ref<S> g) {
  for (index_t j = 0; j < y.cols; ++j) {
    if constexpr (shares_columns<T, S>) {
      column_dots(team, y.data, y.stride, j + 1, y.column(j), y.rows, g.column(j));
    } else {
      for (index_t i = 0; i <= j; ++i) {
        S const dot = column_dot(team, y.column(i), y.column(j), y.rows);
        if (team.rank() == 0) g(i, j) = i == j ? S(real_part(dot)) : dot;
      }
    }
    for (index_t i = j + 1 + team.rank(); i < g.rows; i += team.size()) g(i, j) = S(0);
  }
  team.barrier();
}

/// \brief g = r, the upper triangular factor of g = r^H r with a positive diagonal.
/// \ingroup orth
///
/// A pivot that is not positive becomes a tiny positive number, so that the factor can be formed.
/// \param[in]     team  lanes
/// \param[in,out] g     p x p, Hermitian; only the upper triangle is read and written
/// \returns `rank_deficient` when a pivot is not positive, `not_finite` when one is NaN, or 0
template <Team T, class S>
STIEFELX_HD int small_cholesky(T const& team, matrix_ref<S> g) {
  using Real = real_of_t<S>;
  int bits = 0;
  for (index_t j = 0; j < g.cols; ++j) {
    // Row j at once: entry (j, c) needs columns j and c above it.
    Real const diagonal = real_part(g(j, j));
    Real const above = static_cast<Real>(column_squared_norm(team, g.column(j), j));
    Real pivot = diagonal - above;
    if (pivot != pivot) bits |= not_finite;
    if (pivot <= std::numeric_limits<Real>::min()) {
      bits |= rank_deficient;
      Real const rounding = std::numeric_limits<Real>::epsilon() * diagonal;
      pivot =
          rounding > std::numeric_limits<Real>::min() ? rounding : std::numeric_limits<Real>::min();
    }
    Real const root = std::sqrt(pivot);
    team.barrier();
    for (index_t c = j + 1 + team.rank(); c < g.cols; c += team.size()) {
      S sum = S(0);
      for (index_t i = 0; i < j; ++i) sum += conjugate(g(i, j)) * g(i, c);
      g(j, c) = (g(j, c) - sum) / root;
    }
    if (team.rank() == 0) g(j, j) = S(root);
    team.barrier();
  }
  return bits;
}

/// \brief y = y r^-1.
/// \ingroup orth
/// \param[in]     team  lanes
/// \param[in]     r     p x p, upper triangular with a nonzero, real diagonal
/// \param[in,out] y     n x p
template <Team T, class S>
STIEFELX_HD void small_solve_right(T const& team, matrix_ref<S> r, matrix_ref<S> y) {
  // A row is one lane's throughout, so no barrier is needed before the end.
  for (index_t j = 0; j < y.cols; ++j) {
    for (index_t i = 0; i < j; ++i)
      column_axpy(team, S(-r(i, j)), y.column(i), y.rows, y.column(j));
    real_of_t<S> const diagonal = real_part(r(j, j));
    for (index_t k = team.rank(); k < y.rows; k += team.size()) y(k, j) /= diagonal;
  }
  team.barrier();
}

/// \brief r = b r for upper triangles.
/// \ingroup orth
/// \param[in]     team  lanes
/// \param[in]     b     p x p, upper triangular
/// \param[in,out] r     p x p, upper triangular; must not overlap b
template <Team T, class S>
STIEFELX_HD void small_triangle_product(T const& team, matrix_ref<S> b, matrix_ref<S> r) {
  // Row i of the product needs rows i and below: from the first row down, in place.
  for (index_t j = team.rank(); j < r.cols; j += team.size())
    for (index_t i = 0; i <= j; ++i) {
      S sum = S(0);
      for (index_t k = i; k <= j; ++k) sum += b(i, k) * r(k, j);
      r(i, j) = sum;
    }
  team.barrier();
}

}  // namespace stiefelx
