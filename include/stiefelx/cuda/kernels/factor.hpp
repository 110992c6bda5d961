// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

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
/// A status without rows is not written. Columns in work memory lie an odd number of entries apart,
/// so that lanes with a column or a row each meet in no bank of shared memory.

namespace stiefelx::cuda {

namespace detail {

// Distance of columns of so many rows in work memory.
STIEFELX_HD constexpr index_t odd_stride(index_t rows) { return rows | 1; }

}  // namespace detail

/// \brief Team text: a diagonal block becomes its upper Cholesky factor, in work memory.
/// \ingroup cuda
struct cholesky_block_body {
  index_t order;  ///< of the block

  /// \returns doubles of scratch a team: the block
  index_t scratch_size() const { return detail::odd_stride(order) * order; }

  /// \param[in]     team    lanes
  /// \param[in]     work    scratch_size() doubles
  /// \param[in,out] g       order x order; the upper triangle is read, zeros get below it
  /// \param[in,out] status  1 x 1, or without rows; gets the bits of small_cholesky()
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double* work, matrix_ref<S> g,
                              matrix_ref<int> status) const {
    matrix_ref<S> const near{reinterpret_cast<S*>(work), order, order, detail::odd_stride(order)};
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
/// The first of the largest entries is the pivot, whatever the number of lanes. A panel of up to
/// most_near entries is factored in work memory, a larger one where it lies.
struct lu_panel_body {
  /// Lanes that look for a pivot at most.
  static constexpr index_t most_lookers = 256;
  /// Entries of a panel in work memory: 64 x 64, with the gaps between columns.
  static constexpr index_t most_near = 65 * 64;

  index_t rows;       ///< m of the panel
  index_t cols;       ///< w of the panel
  bool leads = true;  ///< whether no panel of the matrix came before

  /// \returns doubles of scratch a team: what each looker finds in its rows, and a small panel
  index_t scratch_size() const { return 2 * lookers() + (is_near() ? stride() * cols : 0); }

  /// \param[in]     team    lanes
  /// \param[in]     work    scratch_size() doubles
  /// \param[in,out] a       m x w, m >= w; becomes u above the diagonal and l below it
  /// \param[in,out] pivots  at least w + 1 rows: row j was exchanged with row pivots(j, 0) in step j;
  ///                        the last one has the bits of the panels so far
  /// \param[in,out] status  1 x 1, or without rows; of the whole matrix the first pivot that is zero
  ///                        gives `rank_deficient`, or the first that is not finite `not_finite`
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double* work, matrix_ref<S> a,
                              matrix_ref<int> pivots, matrix_ref<int> status) const {
    matrix_ref<S> panel = a;
    if (is_near()) {
      panel = {reinterpret_cast<S*>(work + 2 * lookers()), rows, cols, stride()};
      for (index_t j = 0; j < cols; ++j)
        for (index_t i = team.rank(); i < rows; i += team.size()) panel(i, j) = a(i, j);
      team.barrier();
    }
    int const bits = eliminate(team, work, panel, pivots);
    if (is_near())
      for (index_t j = 0; j < cols; ++j)
        for (index_t i = team.rank(); i < rows; i += team.size()) a(i, j) = panel(i, j);
    if (team.rank() != 0) return;
    // Behind such a pivot nothing is finite, so later ones tell nothing.
    int& found = pivots(pivots.rows - 1, 0);
    if (!leads && found != 0) return;
    found = bits;
    if (status.rows > 0) status(0, 0) |= bits;
  }

 private:
  STIEFELX_HD index_t stride() const { return detail::odd_stride(rows); }
  STIEFELX_HD bool is_near() const { return stride() * cols <= most_near; }

  // The square root of the rows: so many look at as many rows each, and all compare what they found.
  STIEFELX_HD index_t lookers() const {
    index_t few = 4;
    while (few * few < rows && few < most_lookers) few *= 2;
    return few;
  }

  template <Team T, class S>
  STIEFELX_HD int eliminate(T const& team, double* work, matrix_ref<S> a,
                            matrix_ref<int> pivots) const {
    // Lanes of a warp take adjacent rows, warps take columns.
    index_t const tall = team.size() < 32 ? team.size() : 32;
    index_t const row = team.rank() % tall, column = team.rank() / tall;
    index_t const wide = team.size() / tall;
    int bits = 0;
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
      if (bits == 0 && diagonal == S(0)) bits = rank_deficient;
      if (bits == 0 && diagonal - diagonal != S(0)) bits = not_finite;
      for (index_t i = j + 1 + team.rank(); i < a.rows; i += team.size()) a(i, j) /= diagonal;
      team.barrier();
      // Named, so that no compiler chooses whether to fuse, and bits are those of every machine.
      for (index_t c = j + 1 + column; column < wide && c < a.cols; c += wide) {
        S const upper = a(j, c);
        for (index_t i = j + 1 + row; i < a.rows; i += tall)
          a(i, c) = std::fma(-a(i, j), upper, a(i, c));
      }
      team.barrier();
    }
    return bits;
  }

  template <Team T, class S>
  STIEFELX_HD index_t largest_row(T const& team, double* work, S const* column, index_t first,
                                  index_t end) const {
    index_t const few = lookers(), looking = team.size() < few ? team.size() : few;
    double size = -1;
    index_t best = first;
    if (team.rank() < looking) {
      for (index_t i = first + team.rank(); i < end; i += looking) {
        double own = static_cast<double>(std::abs(column[i]));
        // A NaN would lose every comparison and not be seen where the other entries are zero.
        if (own != own) own = std::numeric_limits<double>::infinity();
        if (own > size) {
          size = own;
          best = i;
        }
      }
      work[team.rank()] = size;
      work[few + team.rank()] = static_cast<double>(best);
    }
    team.barrier();
    size = -1;
    best = first;
    for (index_t k = 0; k < looking; ++k) {
      auto const other = static_cast<index_t>(work[few + k]);
      if (work[k] > size || (work[k] == size && other < best)) {
        size = work[k];
        best = other;
      }
    }
    return best;
  }
};

/// \brief Team text: substitution with the factors of lu_panel_body, a lane a column.
/// \ingroup cuda
///
/// The columns come into work memory and go back with lanes along their rows. In between a column is
/// one lane's throughout, so lanes wait for nothing.
struct lu_substitute_body {
  index_t columns;  ///< columns of b that a team takes
  index_t width;    ///< order of the factors
  bool lower;       ///< exchange rows, then b = l^-1 b
  bool upper;       ///< b = u^-1 b

  /// \returns doubles of scratch a team: its columns
  index_t scratch_size() const { return detail::odd_stride(width) * columns; }

  /// \param[in]     team    lanes
  /// \param[in]     item    which columns
  /// \param[in]     work    scratch_size() doubles
  /// \param[in]     lu      w x w, the top of a panel
  /// \param[in]     pivots  w x 1; not read unless `lower`
  /// \param[in,out] b       at least w rows; the first w are substituted, others only exchanged
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double* work, matrix_ref<S const> lu,
                              matrix_ref<int const> pivots, matrix_ref<S> b) const {
    index_t const w = width, first = item * columns;
    index_t const own = first + columns < b.cols ? columns : b.cols - first;
    matrix_ref<S> const near{reinterpret_cast<S*>(work), w, own, detail::odd_stride(w)};
    for (index_t c = 0; c < own; ++c)
      for (index_t i = team.rank(); i < w; i += team.size()) near(i, c) = b(i, first + c);
    team.barrier();
    for (index_t c = team.rank(); c < own; c += team.size()) {
      S* const x = near.column(c);
      if (lower) substitute_lower(lu, pivots, b.column(first + c), x);
      if (upper) substitute_upper(lu, x);
    }
    team.barrier();
    for (index_t c = 0; c < own; ++c)
      for (index_t i = team.rank(); i < w; i += team.size()) b(i, first + c) = near(i, c);
  }

 private:
  template <class S>
  STIEFELX_HD void substitute_lower(matrix_ref<S const> lu, matrix_ref<int const> pivots, S* far,
                                    S* x) const {
    for (index_t j = 0; j < width; ++j) {
      index_t const pivot = pivots(j, 0);
      S& other = pivot < width ? x[pivot] : far[pivot];
      S const above = x[j];
      x[j] = other;
      other = above;
    }
    // Sums, not updates: no store stands between the loads.
    for (index_t i = 1; i < width; ++i) {
      S rest = x[i];
      for (index_t j = 0; j < i; ++j) rest -= lu(i, j) * x[j];
      x[i] = rest;
    }
  }

  template <class S>
  STIEFELX_HD void substitute_upper(matrix_ref<S const> lu, S* x) const {
    for (index_t i = width; i-- > 0;) {
      S rest = x[i];
      for (index_t j = width; j-- > i + 1;) rest -= lu(i, j) * x[j];
      x[i] = rest / lu(i, i);
    }
  }
};

}  // namespace stiefelx::cuda
