// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/filled_slot.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: multiplies a token's gate weights by its experts' gains.
/// \ingroup nn
struct gain_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes; one works
  /// \param[in]     t        the token
  /// \param[in]     gain     E x 1
  /// \param[in]     ids      k x T
  /// \param[in,out] weights  k x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> gain,
                              matrix_ref<int const> ids, matrix_ref<S> weights) const {
    if (team.rank() != 0) return;
    for (index_t i = 0; i < ids.rows; ++i)
      if (detail::is_filled(ids(i, t), gain.rows)) weights(i, t) *= gain(ids(i, t), 0);
  }
};

/// \brief Team text: the gradient of one expert's gain, over all tokens in order.
/// \ingroup nn
struct gain_backward_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team      lanes share the tokens
  /// \param[in]     e         the expert
  /// \param[in]     weights   k x T, before the gain
  /// \param[in]     ids       k x T
  /// \param[in]     dweights  k x T, of the weights after the gain
  /// \param[in,out] dgain     E x 1, accumulates
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t e, double*, matrix_ref<S const> weights,
                              matrix_ref<int const> ids, matrix_ref<S const> dweights,
                              matrix_ref<S> dgain) const {
    double sum = 0;
    for (index_t t = team.rank(); t < ids.cols; t += team.size())
      for (index_t i = 0; i < ids.rows; ++i)
        if (ids(i, t) == static_cast<int>(e))
          sum += static_cast<double>(weights(i, t)) * static_cast<double>(dweights(i, t));
    sum = team.sum(sum);
    if (team.rank() == 0) dgain(e, 0) += static_cast<S>(sum);
  }
};

/// \brief Multiplies gate weights by a learned gain for each expert.
/// \ingroup nn
///
/// \f$ c_{it} = \gamma_{e}\,w_{it} \f$ for the expert e listed at (i, t); empty slots stay. The orthonormal mixture forgets
/// the size of B; a gain that starts at zero lets such a layer start as the frozen one and learn
/// its size.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     gain     E x 1
/// \param[in]     ids      k x T, of a routing
/// \param[in,out] weights  k x T; must not overlap gain
/// \throws shape_error  if weights has another shape than ids
/// \throws alias_error  if weights overlaps gain
template <class Ctx, RealMatrix Gain, Matrix Ids, class W>
  requires OutputMatrix<W> && SameScalar<Gain, W>
void apply_gain(Ctx& ctx, Gain const& gain, Ids const& ids, W&& weights) {
  expect_shape("apply_gain", "gain", gain, gain.rows(), 1);
  expect_shape("apply_gain", "weights", weights, ids.rows(), ids.cols());
  expect_distinct(ctx, "apply_gain", "weights", weights, "gain", gain);
  run_batch(ctx, ids.cols(), gain_body{}, gain, ids, weights);
}

/// \brief Gradients of apply_gain().
/// \ingroup nn
///
/// \f$ \bar\gamma_e \mathrel{+}= \sum w_{it} \bar c_{it} \f$ over the places where e is listed, and
/// \f$ \bar w_{it} = \gamma_e \bar c_{it} \f$ in place.
///
/// \param[in]     ctx       where to run; nothing waits
/// \param[in]     gain      E x 1
/// \param[in]     ids       k x T
/// \param[in]     weights   k x T, before the gain
/// \param[in,out] dweights  k x T, gradient of the weights after the gain; becomes that before it
/// \param[in,out] dgain     E x 1, accumulates
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dweights or dgain overlaps gain, weights or the other one
template <class Ctx, RealMatrix Gain, Matrix Ids, RealMatrix W, class DW, class DG>
  requires OutputMatrix<DW> && OutputMatrix<DG> && SameScalar<Gain, W, DW, DG>
void apply_gain_backward(Ctx& ctx, Gain const& gain, Ids const& ids, W const& weights,
                         DW&& dweights, DG&& dgain) {
  char const* const name = "apply_gain_backward";
  expect_shape(name, "weights", weights, ids.rows(), ids.cols());
  expect_shape(name, "dweights", dweights, ids.rows(), ids.cols());
  expect_shape(name, "dgain", dgain, gain.rows(), 1);
  expect_distinct(ctx, name, "dweights", dweights, "gain", gain);
  expect_distinct(ctx, name, "dweights", dweights, "weights", weights);
  expect_distinct(ctx, name, "dgain", dgain, "gain", gain);
  expect_distinct(ctx, name, "dgain", dgain, "weights", weights);
  expect_distinct(ctx, name, "dgain", dgain, "dweights", dweights);
  run_batch(ctx, gain.rows(), gain_backward_body{}, weights, ids, std::as_const(dweights), dgain);
  run_batch(ctx, ids.cols(), gain_body{}, gain, ids, dweights);
}

}  // namespace stiefelx
