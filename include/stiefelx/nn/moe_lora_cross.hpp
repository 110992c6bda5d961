// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/mixing_blocks.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief What the Gram matrices of the tokens contribute to the gradient of B.
/// \ingroup nn

namespace stiefelx {

/// \brief Team text: sorts the filled slots of all tokens by expert, in the order of the tokens.
/// \ingroup nn
struct sort_slots_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team   lanes; one works
  /// \param[in]  ids    k x T
  /// \param[out] ends   1 x (E + 1): expert e has the slots ends(0, e) .. ends(0, e + 1) - 1
  /// \param[out] slots  2 x (k T): token and place in its list
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, index_t, double*, matrix_ref<int const> ids,
                              matrix_ref<int> ends, matrix_ref<int> slots) const {
    if (team.rank() != 0) return;
    index_t const experts = ends.cols - 1;
    // An id of no expert is an empty slot, as in the routed products of a device.
    auto const is_filled = [experts](int id) { return id >= 0 && id < experts; };
    for (index_t e = 0; e <= experts; ++e) ends(0, e) = 0;
    for (index_t t = 0; t < ids.cols; ++t)
      for (index_t i = 0; i < ids.rows; ++i)
        if (is_filled(ids(i, t))) ++ends(0, ids(i, t));
    for (index_t e = 0; e < experts; ++e) ends(0, e + 1) += ends(0, e);
    // Each entry is where its expert ends; counting down makes it where the expert begins.
    for (index_t t = ids.cols - 1; t >= 0; --t)
      for (index_t i = ids.rows - 1; i >= 0; --i) {
        if (!is_filled(ids(i, t))) continue;
        int const place = --ends(0, ids(i, t));
        slots(0, place) = static_cast<int>(t);
        slots(1, place) = static_cast<int>(i);
      }
  }
};

/// \brief Team text: column block e of \f$ K_{je} = \sum_t W_{ij} h_j h_i^T \f$, i the slots of e.
/// \ingroup nn
///
/// K is symmetric, so the expert e adds up the blocks of experts up to itself, over its tokens in
/// their order, and writes both halves. That needs no atomic additions and has the same bits every
/// time.
struct cross_moments_body {
  index_t rank;  ///< r

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team   lanes share the rank's columns
  /// \param[in]  e      the expert
  /// \param[in]  h      (k r) x T
  /// \param[in]  ids    k x T
  /// \param[in]  ends   of sort_slots_body
  /// \param[in]  slots  of sort_slots_body
  /// \param[in]  w      k^2 x T, from mix_backward_body
  /// \param[out] sums   (E r) x (E r) of double; the upper half of column block e is overwritten
  /// \param[out] cross  (E r) x (E r), the sums in the data's scalar, whole
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t e, double*, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<int const> ends,
                              matrix_ref<int const> slots, matrix_ref<double const> w,
                              matrix_ref<double> sums, matrix_ref<S> cross) const {
    index_t const first = e * rank, rows = first + rank, k = ids.rows;
    for (index_t b = team.rank(); b < rank; b += team.size())
      for (index_t row = 0; row < rows; ++row) sums(row, first + b) = 0;
    detail::with_rank(rank, [&]<unsigned Fixed>() {
      for (index_t n = ends(0, e); n < ends(0, e + 1); ++n) {
        index_t const t = slots(0, n), i = slots(1, n);
        for (index_t j = 0; j < k; ++j) {
          int const other = ids(j, t);
          double const factor = w(i + j * k, t);
          if (other < 0 || other > static_cast<int>(e) || factor == 0) continue;
          matrix_ref<double> const block{sums.column(first) + other * rank, rank, rank,
                                         sums.stride};
          add_outer<Fixed>(team, factor, h.column(t) + j * rank, h.column(t) + i * rank, block);
        }
      }
    });
    for (index_t b = team.rank(); b < rank; b += team.size())
      for (index_t row = 0; row < rows; ++row) {
        cross(row, first + b) = static_cast<S>(sums(row, first + b));
        if (row < first) cross(first + b, row) = cross(row, first + b);
      }
  }

 private:
  // block += factor a b^T. A rank known when compiling keeps a in registers.
  template <unsigned Fixed, class Lanes, class S>
  STIEFELX_HD static void add_outer(Lanes const& team, double factor, S const* a, S const* b,
                                    matrix_ref<double> block) {
    if constexpr (Fixed > 0) {
      double wide[Fixed];
      detail::widen_column(a, Fixed, wide);
      for (index_t col = team.rank(); col < index_t(Fixed); col += team.size()) {
        double const own = factor * static_cast<double>(b[col]);
        double* const to = block.column(col);
        for (index_t row = 0; row < index_t(Fixed); ++row) to[row] += wide[row] * own;
      }
    } else {
      for (index_t col = team.rank(); col < block.cols; col += team.size()) {
        double const own = factor * static_cast<double>(b[col]);
        double* const to = block.column(col);
        for (index_t row = 0; row < block.rows; ++row) to[row] += static_cast<double>(a[row]) * own;
      }
    }
  }
};

namespace detail {

// dup += K up for the K of cross_moments_body; moments are used up.
template <class Ctx, class H, class Ids, class W, class Moments, class Up, class DUp>
void add_cross_moments(Ctx& ctx, index_t experts, H const& h, Ids const& ids, W const& w,
                       Moments& moments, Up const& up, DUp& dup) {
  index_t const all = up.rows();
  auto ends = scratch<int>(ctx, 1, experts + 1);
  auto slots = scratch<int>(ctx, 2, ids.rows() * ids.cols());
  run_batch(ctx, 1, sort_slots_body{}, ids, ends, slots);
  auto cross = scratch<scalar_t<Up>>(ctx, all, all);
  run_batch(ctx, experts, cross_moments_body{all / experts}, h, ids, std::as_const(ends),
            std::as_const(slots), w, moments, cross);
  multiply_add(ctx, 1, cross, up, dup);
}

}  // namespace detail

}  // namespace stiefelx
