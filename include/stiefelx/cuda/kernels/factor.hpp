// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/status.hpp>
#include <stiefelx/team/cholesky.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Team text of the factors of one block: Cholesky, and LU with partial pivoting.
/// \ingroup cuda
///
/// A status without rows is not written.

namespace stiefelx::cuda {

/// \brief Team text: a diagonal block becomes its upper Cholesky factor, in work memory.
/// \ingroup cuda
struct cholesky_block_body {
  index_t order;  ///< of the block

  /// \returns doubles of scratch a team: the block
  index_t scratch_size() const { return order * order; }

  /// \param[in]     team    lanes
  /// \param[in]     work    scratch_size() doubles
  /// \param[in,out] g       order x order; the upper triangle is read, zeros get below it
  /// \param[in,out] status  1 x 1, or without rows; gets the bits of small_cholesky()
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double* work, matrix_ref<S> g,
                              matrix_ref<int> status) const {
    matrix_ref<S> const near{reinterpret_cast<S*>(work), order, order, order};
    for (index_t j = 0; j < order; ++j)
      for (index_t i = team.rank(); i <= j; i += team.size()) near(i, j) = g(i, j);
    team.barrier();
    int const bits = small_cholesky(team, near);
    for (index_t j = 0; j < order; ++j)
      for (index_t i = team.rank(); i < order; i += team.size())
        g(i, j) = i <= j ? near(i, j) : S(0);
    if (team.rank() == 0 && status.rows > 0) status(0, 0) |= bits;
  }
};

/// \brief Team text: zeros below the diagonal of one column.
/// \ingroup cuda
struct clear_below_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     column  which one
  /// \param[in,out] g       n x n
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t column, double*, matrix_ref<S> g) const {
    for (index_t i = column + 1 + team.rank(); i < g.rows; i += team.size()) g(i, column) = S(0);
  }
};

/// \brief Team text: LU factors of a tall panel with partial pivoting.
/// \ingroup cuda
///
/// The first of the largest entries is the pivot, whatever the number of lanes.
struct lu_panel_body {
  /// Lanes that find a pivot together at most.
  static constexpr index_t most_lanes = 256;

  /// \returns doubles of scratch a team: what each lane finds in its rows
  index_t scratch_size() const { return 2 * most_lanes; }

  /// \param[in]     team    at most most_lanes lanes
  /// \param[in]     work    scratch_size() doubles
  /// \param[in,out] a       m x w, m >= w; becomes u above the diagonal and l below it
  /// \param[out]    pivots  w x 1: row j was exchanged with row pivots(j, 0) in step j
  /// \param[in,out] status  1 x 1, or without rows; gets `rank_deficient` for a pivot of zero
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double* work, matrix_ref<S> a,
                              matrix_ref<int> pivots, matrix_ref<int> status) const {
    bool singular = false;
    for (index_t j = 0; j < a.cols; ++j) {
      index_t const pivot = largest_row(team, work, a.column(j), j, a.rows);
      for (index_t c = team.rank(); c < a.cols; c += team.size()) {
        S const upper = a(j, c);
        a(j, c) = a(pivot, c);
        a(pivot, c) = upper;
      }
      if (team.rank() == 0) pivots(j, 0) = static_cast<int>(pivot);
      team.barrier();
      S const diagonal = a(j, j);
      if (diagonal == S(0)) singular = true;
      for (index_t i = j + 1 + team.rank(); i < a.rows; i += team.size()) {
        S const factor = a(i, j) / diagonal;
        a(i, j) = factor;
        for (index_t c = j + 1; c < a.cols; ++c) a(i, c) -= factor * a(j, c);
      }
      team.barrier();
    }
    if (team.rank() == 0 && singular && status.rows > 0) status(0, 0) |= rank_deficient;
  }

 private:
  template <Team T, class S>
  STIEFELX_HD static index_t largest_row(T const& team, double* work, S const* column,
                                         index_t first, index_t rows) {
    double size = -1;
    index_t row = first;
    for (index_t i = first + team.rank(); i < rows; i += team.size()) {
      double const own = static_cast<double>(std::abs(column[i]));
      if (own > size) {
        size = own;
        row = i;
      }
    }
    work[team.rank()] = size;
    work[most_lanes + team.rank()] = static_cast<double>(row);
    team.barrier();
    for (index_t k = 0; k < team.size(); ++k) {
      auto const other = static_cast<index_t>(work[most_lanes + k]);
      if (work[k] > size || (work[k] == size && other < row)) {
        size = work[k];
        row = other;
      }
    }
    return row;
  }
};

/// \brief Team text: substitution with the factors of lu_panel_body, a lane a column.
/// \ingroup cuda
///
/// A column stays one lane's throughout, so lanes wait for nothing.
struct lu_substitute_body {
  index_t columns;  ///< columns of b that a team takes
  bool lower;       ///< exchange rows, then b = l^-1 b
  bool upper;       ///< b = u^-1 b

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     item    which columns
  /// \param[in]     lu      w x w, the top of a panel
  /// \param[in]     pivots  w x 1; not read unless `lower`
  /// \param[in,out] b       at least w rows; the first w are substituted, others only exchanged
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double*, matrix_ref<S const> lu,
                              matrix_ref<int const> pivots, matrix_ref<S> b) const {
    index_t const w = lu.cols, first = item * columns;
    index_t const end = first + columns < b.cols ? first + columns : b.cols;
    for (index_t c = first + team.rank(); c < end; c += team.size()) {
      S* const x = b.column(c);
      if (lower) {
        for (index_t j = 0; j < w; ++j) {
          index_t const pivot = pivots(j, 0);
          S const above = x[j];
          x[j] = x[pivot];
          x[pivot] = above;
        }
        for (index_t j = 0; j < w; ++j)
          for (index_t i = j + 1; i < w; ++i) x[i] -= lu(i, j) * x[j];
      }
      if (upper)
        for (index_t j = w; j-- > 0;) {
          x[j] /= lu(j, j);
          for (index_t i = 0; i < j; ++i) x[i] -= lu(i, j) * x[j];
        }
    }
  }
};

}  // namespace stiefelx::cuda
