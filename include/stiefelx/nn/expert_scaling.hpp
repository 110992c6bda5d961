// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/nn/stored_weights.hpp>
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
/// In a bank the factors are constants: they have no gradient. They are applied to the rank-space vectors,
/// \f$ s_i h_i \f$, and everything behind them is that of a bank with s = 1. So the saved h is
/// \f$ s_i h_i \f$, and Gram matrices, statistics and losses that are made from it see the scaled outputs.
///
/// Factors that are trained go into the experts' up: expert_scaling_forward() before the layer,
/// expert_scaling_backward() after it.

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

template <class Scaling, class Up>
void expect_trained_scaling(char const* function, Scaling const& scaling, Up const& up) {
  index_t const experts = scaling.cols();
  expect_option(experts >= 1, function, "the number of scaling's columns", experts,
                "a number of at least 1");
  expect_shape(function, "scaling", scaling, 1, experts);
  expect_shape(function, "up", up, up.rows() / experts * experts, up.cols());
}

}  // namespace detail

/// \brief Experts' up with their factors in it: \f$ \tilde B_e = s_e B_e \f$.
/// \ingroup nn
///
/// A bank `lora_experts(down, folded, E, 1)`, or one of hydra_experts or of ffn_experts, is the bank of
/// `up` whose experts have these factors, in every form of the mixture and with any dropout. Its
/// gradient of `folded` is what expert_scaling_backward() takes, so that factors can be trained.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  scaling  1 x E, real
/// \param[in]  up       (E r) x d_out; may have two bytes an entry
/// \param[out] folded   of up's shape; must not overlap up
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if there is no expert
/// \throws alias_error   if folded overlaps up
/// \par Cost
/// Two passes over up; E doubles of scratch.
template <class Ctx, RealMatrix Scaling, RealWeight Up, class Folded>
  requires OutputMatrix<Folded> && StoredAs<scalar_t<Folded>, Up>
void expert_scaling_forward(Ctx& ctx, Scaling const& scaling, Up const& up, Folded&& folded) {
  char const* const name = "expert_scaling_forward";
  detail::expect_trained_scaling(name, scaling, up);
  expect_shape(name, "folded", folded, up.rows(), up.cols());
  expect_distinct(ctx, name, "folded", folded, "up", up);
  copy(ctx, up, folded);
  detail::scale_experts(ctx, scaling, scaling.cols(), up.rows() / scaling.cols(), folded);
}

/// \brief Gradients of expert_scaling_forward().
/// \ingroup nn
///
/// \f$ \bar s_e \mathrel{+}= \langle B_e, \bar{\tilde B}_e \rangle \f$, which is \f$ \sum \langle \bar e_i,
/// B_e h_i \rangle \f$ over the slots of expert e with \f$ \bar e_i \f$ the gradient of its output, and
/// \f$ \bar B_e \mathrel{+}= s_e \bar{\tilde B}_e \f$. Both accumulate: both are parameters. The first is
/// exact at \f$ s_e = 0 \f$ too, where the plain mixture has a gradient and the others a jump.
///
/// \param[in]     ctx       where to run; nothing waits
/// \param[in]     scaling   1 x E, as in the forward call
/// \param[in]     up        (E r) x d_out, likewise
/// \param[in]     dfolded   of up's shape, from the layer's backward call
/// \param[in,out] dscaling  1 x E, accumulates; must not overlap scaling
/// \param[in,out] dup       of up's shape, accumulates; must not overlap up or dfolded
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if there is no expert
/// \throws alias_error   if dscaling overlaps scaling, or dup overlaps up or dfolded
/// \par Cost
/// 4 E r d_out flops; scratch 3 E numbers, and up widened where it has two bytes an entry.
template <class Ctx, RealMatrix Scaling, RealWeight Up, RealMatrix DFolded, class DScaling,
          class DUp>
  requires OutputMatrix<DScaling> && RealMatrix<DScaling> && OutputMatrix<DUp> &&
           SameScalar<DFolded, DUp> && StoredAs<scalar_t<DFolded>, Up>
void expert_scaling_backward(Ctx& ctx, Scaling const& scaling, Up const& up, DFolded const& dfolded,
                             DScaling&& dscaling, DUp&& dup) {
  char const* const name = "expert_scaling_backward";
  detail::expect_trained_scaling(name, scaling, up);
  index_t const experts = scaling.cols(), rank = up.rows() / experts;
  expect_shape(name, "dfolded", dfolded, up.rows(), up.cols());
  expect_shape(name, "dscaling", dscaling, 1, experts);
  expect_shape(name, "dup", dup, up.rows(), up.cols());
  expect_distinct(ctx, name, "dscaling", dscaling, "scaling", scaling);
  expect_distinct(ctx, name, "dup", dup, "up", up);
  expect_distinct(ctx, name, "dup", dup, "dfolded", dfolded);
  auto factors = scratch<double>(ctx, 1, experts);
  auto sums = scratch<double>(ctx, 1, experts);
  auto rounded = scratch<scalar_t<DScaling>>(ctx, 1, experts);
  copy(ctx, scaling, factors);
  auto const& wide = widened_weight(ctx, up);
  for (index_t e = 0; e < experts; ++e) {
    auto const own = dfolded.middleRows(e * rank, rank);
    inner(ctx, wide.middleRows(e * rank, rank), own, sums.middleCols(e, 1));
    axpy(ctx, factors.middleCols(e, 1), own, dup.middleRows(e * rank, rank));
  }
  copy(ctx, sums, rounded);
  axpy(ctx, 1, rounded, dscaling);
}

}  // namespace stiefelx
