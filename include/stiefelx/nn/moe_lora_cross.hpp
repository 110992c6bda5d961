// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/mixing_blocks.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief What the Gram matrices of the tokens contribute to the gradient of B.
/// \ingroup nn
///
/// \f$ K_{je} = \sum_t W_{ij} h_j h_i^T \f$, i the slots of expert e, is a sum over all tokens. They are
/// cut into parts whose number follows from sizes alone, each part has sums of its own, and these are
/// added up in order: no atomic additions, and the same bits for any number of threads.

namespace stiefelx {

namespace detail {

// Parts that fit: their sums take at most 4 MiB, so that a cache holds them until they are added up.
inline index_t most_cross_parts(index_t all) {
  index_t const sums = std::max<index_t>(1, all * all * index_t{sizeof(double)});
  return std::clamp<index_t>((index_t{4} << 20) / sums, 1, 128);
}

// Parts of the tokens: so many that a device is at work, and so few that the products of a part, 128
// tokens, take longer than its sums.
inline index_t cross_parts(index_t tokens, index_t all) {
  return std::clamp<index_t>((tokens + 127) / 128, 1, most_cross_parts(all));
}

// Columns of the sums of all parts. A bank that has one part, whatever the tokens, has none beside K.
inline index_t cross_columns(index_t tokens, index_t all) {
  return most_cross_parts(all) > 1 ? all * cross_parts(tokens, all) : 0;
}

// A column of K, down to the end of its own block, and what that is in the other half.
template <class Lanes, class S>
STIEFELX_HD void write_cross(Lanes const& team, index_t first, index_t rows, index_t col,
                             double const* from, matrix_ref<S> cross) {
  for (index_t row = team.rank(); row < rows; row += team.size()) {
    auto const entry = static_cast<S>(from[row]);
    cross(row, col) = entry;
    if (row < first) cross(col, row) = entry;
  }
}

}  // namespace detail

/// \brief Team text: column block e of K over one part of the tokens.
/// \ingroup nn
///
/// K is symmetric, so the expert e adds up the blocks of experts up to itself.
struct cross_moments_body {
  index_t rank;     ///< r
  index_t experts;  ///< E; item p E + e is expert e of part p
  index_t part;     ///< tokens of a part

  /// \returns doubles of scratch a team: the blocks of one expert and a list of tokens
  index_t scratch_size() const { return experts * rank * rank + part; }

  /// \tparam S  the data's scalar
  /// \returns doubles that a team of several lanes needs, which makes no list
  template <class S>
  index_t scratch_size_of() const {
    return experts * rank * rank;
  }

  /// \param[in]  team     lanes share the entries of a block
  /// \param[in]  item     part and expert
  /// \param[in]  scratch  scratch_size() doubles
  /// \param[in]  h        (k r) x T
  /// \param[in]  ids      k x T
  /// \param[in]  w        k^2 x T, from mix_backward_body
  /// \param[out] sums     (E r) x (E r P); the upper half of the item's column block is written
  /// \param[out] cross    (E r) x (E r); K, written in place of sums where these are empty
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double* scratch,
                              matrix_ref<S const> h, matrix_ref<int const> ids,
                              matrix_ref<double const> w, matrix_ref<double> sums,
                              matrix_ref<S> cross) const {
    index_t const p = item / experts, k = ids.rows;
    auto const e = static_cast<int>(item - p * experts);
    index_t const rows = (e + 1) * rank, begin = p * part;
    index_t const end = begin + part < ids.cols ? begin + part : ids.cols;
    matrix_ref<double> const own{scratch, rows, rank, rows};
    for (index_t n = team.rank(); n < rows * rank; n += team.size()) scratch[n] = 0;
    team.barrier();
    detail::with_rank(team, rank, [&]<unsigned Fixed>() {
      auto const add_slot = [&](index_t t, index_t i) {
        for (index_t j = 0; j < k; ++j) {
          int const other = ids(j, t);
          double const factor = w(i + j * k, t);
          if (other < 0 || other > e || factor == 0) continue;
          matrix_ref<double> const block{own.data + other * rank, rank, rank, own.stride};
          add_outer<Fixed>(team, factor, h.column(t) + j * rank, h.column(t) + i * rank, block);
        }
      };
      for (index_t i = 0; i < k; ++i) {
        if constexpr (detail::is_one_lane<Lanes>) {
          // Which tokens these are is not to be guessed, so a list of them is made without a branch.
          double* const list = scratch + experts * rank * rank;
          index_t count = 0;
          for (index_t t = begin; t < end; ++t) {
            list[count] = static_cast<double>(t);
            count += ids(i, t) == e;
          }
          for (index_t n = 0; n < count; ++n) add_slot(static_cast<index_t>(list[n]), i);
        } else {
          for (index_t t = begin; t < end; ++t)
            if (ids(i, t) == e) add_slot(t, i);
        }
      }
    });
    team.barrier();
    for (index_t b = 0; b < rank; ++b) {
      double const* const from = own.column(b);
      if (sums.cols > 0) {
        double* const to = sums.column(item * rank + b);
        for (index_t row = team.rank(); row < rows; row += team.size()) to[row] = from[row];
      } else {
        detail::write_cross(team, e * rank, rows, e * rank + b, from, cross);
      }
    }
  }

 private:
  // block += factor a b^T. A rank known when compiling keeps a in registers; of several lanes each has
  // entries of its own, the same in every block.
  template <unsigned Fixed, class Lanes, class S>
  STIEFELX_HD static void add_outer(Lanes const& team, double factor, S const* a, S const* b,
                                    matrix_ref<double> block) {
    if constexpr (!detail::is_one_lane<Lanes>) {
      auto const width = static_cast<unsigned>(block.rows);
      auto const entries = static_cast<unsigned>(block.rows * block.cols);
      for (auto n = static_cast<unsigned>(team.rank()); n < entries;
           n += static_cast<unsigned>(team.size())) {
        auto const col = static_cast<index_t>(n / width), row = static_cast<index_t>(n % width);
        double const own = factor * static_cast<double>(b[col]);
        block(row, col) += static_cast<double>(a[row]) * own;
      }
    } else if constexpr (Fixed > 0) {
      double wide[Fixed];
      detail::widen_column(team, a, Fixed, wide);
      for (index_t col = 0; col < index_t(Fixed); ++col) {
        double const own = factor * static_cast<double>(b[col]);
        double* const to = block.column(col);
        // A column of their own: entry by entry in memory, the sums are not made into vectors.
        double sum[Fixed];
        for (unsigned row = 0; row < Fixed; ++row) sum[row] = to[row] + wide[row] * own;
        for (unsigned row = 0; row < Fixed; ++row) to[row] = sum[row];
      }
    } else {
      for (index_t col = 0; col < block.cols; ++col) {
        double const own = factor * static_cast<double>(b[col]);
        double* const to = block.column(col);
        for (index_t row = 0; row < block.rows; ++row) to[row] += static_cast<double>(a[row]) * own;
      }
    }
  }
};

/// \brief Team text: adds up one column of K over the parts, and writes both halves.
/// \ingroup nn
struct cross_sums_body {
  index_t rank;     ///< r
  index_t parts;    ///< P
  index_t columns;  ///< E r

  /// \returns doubles of scratch a team: a column
  index_t scratch_size() const { return columns; }

  /// \param[in]  team   lanes share the rows
  /// \param[in]  col    the column
  /// \param[in]  total  room for it
  /// \param[in]  sums   (E r) x (E r P), of cross_moments_body
  /// \param[out] cross  (E r) x (E r), in the data's scalar
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t col, double* total,
                              matrix_ref<double const> sums, matrix_ref<S> cross) const {
    index_t const first = col / rank * rank, rows = first + rank;
    for (index_t row = team.rank(); row < rows; row += team.size()) total[row] = sums(row, col);
    for (index_t p = 1; p < parts; ++p) {
      double const* const from = sums.column(p * cross.cols + col);
      for (index_t row = team.rank(); row < rows; row += team.size()) total[row] += from[row];
    }
    detail::write_cross(team, first, rows, col, total, cross);
  }
};

namespace detail {

// dup += K up for the K of cross_moments_body.
template <class Ctx, class H, class Ids, class W, class Up, class DUp>
void add_cross_moments(Ctx& ctx, index_t experts, H const& h, Ids const& ids, W const& w,
                       Up const& up, DUp& dup) {
  index_t const all = up.rows(), rank = all / experts, tokens = ids.cols();
  if (rank == 0 || tokens == 0) return;
  index_t const parts = cross_parts(tokens, all);
  auto cross = scratch<scalar_t<Up>>(ctx, all, all);
  auto sums = scratch<double>(ctx, all, cross_columns(tokens, all));
  run_batch(ctx, parts * experts, cross_moments_body{rank, experts, (tokens + parts - 1) / parts},
            h, ids, w, sums, cross);
  if (sums.cols() > 0)
    run_batch(ctx, all, cross_sums_body{rank, parts, all}, std::as_const(sums), cross);
  multiply_add(ctx, 1, cross, up, dup);
}

}  // namespace detail

}  // namespace stiefelx
