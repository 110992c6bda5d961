// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/filled_slot.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief A factor of its own for every expert of a bank.
/// \ingroup nn
///
/// One number s multiplies the mixture: \f$ y \mathrel{+}= s\,\mathrm{mix}(B_i h_i) \f$. A 1 x E matrix of
/// numbers multiplies the outputs *before* they are mixed, \f$ e_i = s_i B_i h_i \f$, so they are in the
/// Gram matrices, \f$ G_{ij} = s_i s_j h_i^T B_i^T B_j h_j \f$. What that means depends on the degree of
/// the form in an output of its own:
///
/// | `mixing` | with \f$ s_i \f$ inside | equal \f$ s_i = s \f$ |
/// | --- | --- | --- |
/// | `none`, `orthogonal`, `norm_preserving`, `partial`, `anchored` | as weights \f$ s_i c_i \f$: the degree is 1, and earlier outputs enter by direction alone | as one number s |
/// | `orthonormal` | nothing but the sign: lengths are divided out | as the number 1, or -1 |
/// | `symmetric` | the nearest orthonormal frame leans to the longer outputs | as the number 1, or -1 |
///
/// An expert with \f$ s_i = 0 \f$ has a zero output, onto which nothing is projected; one with a weight of
/// 0 still shortens the others. In the forms without a length of their own, sizes belong into the gates
/// or into apply_gain().
///
/// The factors are constants: they have no gradient. They are applied to the rank-space vectors, \f$ s_i h_i \f$, and everything behind them is
/// that of a bank with s = 1. So the saved h is \f$ s_i h_i \f$, and Gram matrices, statistics and
/// losses that are made from it see the scaled outputs.

namespace stiefelx {

/// \brief Team text: multiplies a token's rank-space vectors by the factors of their experts.
/// \ingroup nn
struct scale_slots_body {
  index_t rank;  ///< r

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes share the rows
  /// \param[in]     t        the token
  /// \param[in]     scaling  1 x E
  /// \param[in]     ids      k x T; an empty slot stays as it is
  /// \param[in,out] h        (k r) x T
  template <Team Lanes, class W, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<W const> scaling,
                              matrix_ref<int const> ids, matrix_ref<S> h) const {
    for (index_t row = team.rank(); row < h.rows; row += team.size()) {
      int const e = ids(row / rank, t);
      if (!detail::is_filled(e, scaling.cols)) continue;
      h(row, t) =
          static_cast<S>(static_cast<double>(scaling(0, e)) * static_cast<double>(h(row, t)));
    }
  }
};

namespace detail {

// One number for all experts needs no pass over rank space: the products take it.
template <class Scaling>
inline constexpr bool is_common_scaling = !RealMatrix<Scaling>;

template <class Scaling>
double common_scaling(Scaling const& scaling) {
  if constexpr (is_common_scaling<Scaling>)
    return static_cast<double>(scaling);
  else
    return 1;
}

template <class Scaling>
void expect_scaling(char const* function, char const* argument, Scaling const& scaling,
                    index_t experts) {
  if constexpr (!is_common_scaling<Scaling>) expect_shape(function, argument, scaling, 1, experts);
}

// h of every slot times the factor of its expert, where experts have their own. ids is k x T for h of
// (k r) x T, or 1 x (k T) for h of r x (k T).
template <class Ctx, class Scaling, class Ids, class H>
void scale_slots(Ctx& ctx, Scaling const& scaling, Ids const& ids, index_t rank, H&& h) {
  if constexpr (!is_common_scaling<Scaling>) {
    auto const& factors = dense(ctx, scaling);
    auto const& listed = dense(ctx, ids);
    if (rank > 0) run_batch(ctx, ids.cols(), scale_slots_body{rank}, factors, listed, h);
  }
}

// The same for h of (E r) x T, expert after expert.
template <class Ctx, class Scaling, class H>
void scale_experts(Ctx& ctx, Scaling const& scaling, index_t experts, index_t rank, H&& h) {
  if constexpr (!is_common_scaling<Scaling>) {
    auto factors = scratch<double>(ctx, 1, experts);
    copy(ctx, scaling, factors);
    for (index_t e = 0; e < experts; ++e)
      scale(ctx, factors.middleCols(e, 1), h.middleRows(e * rank, rank));
  }
}

}  // namespace detail

}  // namespace stiefelx
