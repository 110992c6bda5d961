// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

namespace detail {

// Whether a token counts: its label is a class.
STIEFELX_HD inline bool is_class(index_t label, index_t classes) {
  return label >= 0 && label < classes;
}

}  // namespace detail

/// Element text: 1 for a label that is a class, else 0.
/// \ingroup nn
struct label_counts_element {
  index_t classes;  ///< C

  /// \param[out] counts  1 or 0
  /// \param[in]  label   of a token
  STIEFELX_HD void operator()(double& counts, int const& label) const {
    counts = detail::is_class(label, classes) ? 1 : 0;
  }
};

/// \brief Team text: loss of one token and the gradient of its logits.
/// \ingroup nn
struct cross_entropy_body {
  static constexpr index_t lookers = 256;  ///< lanes that look for the largest logit, at most

  /// \returns doubles of scratch a team: a largest logit of each looker
  index_t scratch_size() const { return lookers; }

  /// \param[in]  team     lanes share the classes
  /// \param[in]  t        the token
  /// \param[in]  found    scratch_size() doubles
  /// \param[in]  logits   C x T
  /// \param[in]  labels   1 x T
  /// \param[in]  counted  1 x 1, how many tokens count
  /// \param[out] losses   1 x T, over the number of tokens that count
  /// \param[out] dlogits  C x T; may be logits
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* found,
                              matrix_ref<S const> logits, matrix_ref<int const> labels,
                              matrix_ref<double const> counted, matrix_ref<double> losses,
                              matrix_ref<S> dlogits) const {
    index_t const classes = logits.rows, label = labels(0, t);
    if (!detail::is_class(label, classes)) {
      if (team.rank() == 0) losses(0, t) = 0;
      for (index_t c = team.rank(); c < classes; c += team.size()) dlogits(c, t) = S(0);
      return;
    }
    double const weight = 1 / counted(0, 0);
    // Read before its place may hold a gradient.
    double const chosen = static_cast<double>(logits(label, t));
    index_t const looking = team.size() < lookers ? team.size() : lookers;
    if (team.rank() < looking) {
      double largest = chosen;
      for (index_t c = team.rank(); c < classes; c += looking)
        if (static_cast<double>(logits(c, t)) > largest)
          largest = static_cast<double>(logits(c, t));
      found[team.rank()] = largest;
    }
    team.barrier();
    double largest = found[0];
    for (index_t n = 1; n < looking; ++n)
      if (found[n] > largest) largest = found[n];
    double own = 0;
    for (index_t c = team.rank(); c < classes; c += team.size())
      own += std::exp(static_cast<double>(logits(c, t)) - largest);
    double const sum = team.sum(own);
    if (team.rank() == 0) losses(0, t) = weight * (std::log(sum) - (chosen - largest));
    for (index_t c = team.rank(); c < classes; c += team.size()) {
      double const p = std::exp(static_cast<double>(logits(c, t)) - largest) / sum;
      dlogits(c, t) = static_cast<S>(weight * (p - (c == label ? 1 : 0)));
    }
  }
};

/// \brief Mean cross-entropy of softmax and its gradient.
/// \ingroup nn
///
/// \f$ L = \frac1n \sum_t \left( \log \sum_c e^{\ell_{ct}} - \ell_{l_t t} \right) \f$ and
/// \f$ \bar\ell_{ct} = \frac1n (\mathrm{softmax}(\ell_t)_c - [c = l_t]) \f$, in double. The gradient is
/// overwritten. A token whose label is no class, such as the customary -100, does not count: it adds
/// nothing to the loss, its gradient is 0 whatever its logits are, and n is the number of the others.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  logits   C x T, a token is a column
/// \param[in]  labels   1 x T of int, a class in [0, C), or any other number where a token does not count
/// \param[out] loss     1 x 1 of double; 0 where no token counts
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
  auto counted = scratch<double>(ctx, 1, 1);
  auto const& scores = dense(ctx, logits);
  transform(ctx, label_counts_element{logits.rows()}, outputs(losses), inputs(labels));
  sum_columns(ctx, losses, counted);
  run_batch(ctx, tokens, cross_entropy_body{}, scores, labels, std::as_const(counted), losses,
            dlogits);
  sum_columns(ctx, losses, loss);
}

}  // namespace stiefelx
