// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: loss of one token and the gradient of its logits.
/// \ingroup nn
struct cross_entropy_body {
  double weight;  ///< 1 / T

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes; one works
  /// \param[in]  t        the token
  /// \param[in]  logits   C x T
  /// \param[in]  labels   1 x T
  /// \param[out] losses   1 x T, weighted
  /// \param[out] dlogits  C x T; may be logits
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> logits,
                              matrix_ref<int const> labels, matrix_ref<double> losses,
                              matrix_ref<S> dlogits) const {
    if (team.rank() != 0) return;
    index_t const classes = logits.rows, label = labels(0, t);
    double largest = static_cast<double>(logits(0, t));
    for (index_t c = 1; c < classes; ++c)
      if (static_cast<double>(logits(c, t)) > largest) largest = static_cast<double>(logits(c, t));
    double sum = 0;
    for (index_t c = 0; c < classes; ++c)
      sum += std::exp(static_cast<double>(logits(c, t)) - largest);
    losses(0, t) = weight * (std::log(sum) - (static_cast<double>(logits(label, t)) - largest));
    for (index_t c = 0; c < classes; ++c) {
      double const p = std::exp(static_cast<double>(logits(c, t)) - largest) / sum;
      dlogits(c, t) = static_cast<S>(weight * (p - (c == label ? 1 : 0)));
    }
  }
};

/// \brief Mean cross-entropy of softmax and its gradient.
/// \ingroup nn
///
/// \f$ L = \frac1T \sum_t \left( \log \sum_c e^{\ell_{ct}} - \ell_{l_t t} \right) \f$ and
/// \f$ \bar\ell_{ct} = \frac1T (\mathrm{softmax}(\ell_t)_c - [c = l_t]) \f$, in double. The gradient is
/// overwritten.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  logits   C x T, a token is a column
/// \param[in]  labels   1 x T of int, each in [0, C)
/// \param[out] loss     1 x 1 of double; 0 for no tokens
/// \param[out] dlogits  C x T; may be logits
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dlogits overlaps logits without being them
template <class Ctx, RealMatrix X, Matrix Labels, class L, class DX>
  requires OutputMatrix<L> && OutputMatrix<DX> && SameScalar<X, DX>
void cross_entropy(Ctx& ctx, X const& logits, Labels const& labels, L&& loss, DX&& dlogits) {
  index_t const tokens = logits.cols();
  expect_shape("cross_entropy", "labels", labels, 1, tokens);
  expect_shape("cross_entropy", "loss", loss, 1, 1);
  expect_shape("cross_entropy", "dlogits", dlogits, logits.rows(), tokens);
  expect_same_or_distinct(ctx, "cross_entropy", "dlogits", dlogits, "logits", logits);
  auto losses = scratch<double>(ctx, 1, tokens);
  double const weight = tokens > 0 ? 1 / static_cast<double>(tokens) : 0;
  auto const& scores = dense(ctx, logits);
  run_batch(ctx, tokens, cross_entropy_body{weight}, scores, labels, losses, dlogits);
  sum_columns(ctx, losses, loss);
}

}  // namespace stiefelx
