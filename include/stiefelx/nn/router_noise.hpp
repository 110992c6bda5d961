// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/nn/routing.hpp>

namespace stiefelx {

/// \brief Element text: \f$ \ell \mathrel{+}= \epsilon\,\mathrm{softplus}(u) \f$.
/// \ingroup nn
struct add_scaled_noise_entry {
  /// \param[in,out] l  score
  /// \param[in]     e  noise
  /// \param[in]     u  score of the noise
  template <class S>
  STIEFELX_HD void operator()(S& l, S e, S u) const {
    // log(1 + e^u), which neither overflows nor loses a small e^u.
    auto const x = static_cast<double>(u);
    double const softplus = (x > 0 ? x : 0) + std::log1p(std::exp(x > 0 ? -x : x));
    l = static_cast<S>(static_cast<double>(l) + static_cast<double>(e) * softplus);
  }
};

/// \brief Element text: \f$ \bar u = \bar\ell\,\epsilon / (1 + e^{-u}) \f$.
/// \ingroup nn
struct noise_scale_backward_entry {
  /// \param[in,out] du  noise; becomes the gradient
  /// \param[in]     dl  gradient of the score
  /// \param[in]     u   score of the noise
  template <class S>
  STIEFELX_HD void operator()(S& du, S dl, S u) const {
    double const slope = 1 / (1 + std::exp(-static_cast<double>(u)));
    du = static_cast<S>(static_cast<double>(du) * static_cast<double>(dl) * slope);
  }
};

/// \brief Adds normal noise to scores.
/// \ingroup nn
///
/// The same numbers as fill_normal() with this stream and deviation, so the noise of a score is a
/// function of the stream's integers, its token and its expert.
///
/// \param[in]     ctx        where to run; nothing waits
/// \param[in]     stream     names the noise; the caller advances it
/// \param[in]     deviation  standard deviation
/// \param[in,out] scores     E x T
/// \par Cost
/// E T scratch entries.
template <class Ctx, class Scores>
  requires OutputMatrix<Scores> && RealMatrix<Scores>
void add_score_noise(Ctx& ctx, random_stream stream, double deviation, Scores&& scores) {
  auto noise = scratch<scalar_t<Scores>>(ctx, scores.rows(), scores.cols());
  fill_normal(ctx, stream, deviation, noise);
  axpy(ctx, 1, noise, scores);
}

/// \brief Adds normal noise of a learned size to scores.
/// \ingroup nn
///
/// \f$ \ell \mathrel{+}= \sigma\,\mathrm{softplus}(u)\,\epsilon \f$ with the same noise
/// \cite shazeer2017.
///
/// \param[in]     ctx        where to run; nothing waits
/// \param[in]     stream     names the noise; the caller advances it
/// \param[in]     deviation  \f$ \sigma \f$
/// \param[in]     u          E x T, scores of the noise
/// \param[in,out] scores     E x T
/// \throws shape_error  if u has another shape than scores
/// \par Cost
/// E T scratch entries.
template <class Ctx, RealMatrix U, class Scores>
  requires OutputMatrix<Scores> && SameScalar<U, Scores>
void add_score_noise(Ctx& ctx, random_stream stream, double deviation, U const& u,
                     Scores&& scores) {
  expect_shape("add_score_noise", "u", u, scores.rows(), scores.cols());
  auto noise = scratch<scalar_t<Scores>>(ctx, scores.rows(), scores.cols());
  fill_normal(ctx, stream, deviation, noise);
  transform(ctx, add_scaled_noise_entry{}, outputs(scores), inputs(noise, u));
}

/// \brief Gradient of the scores of the noise from that of the scores.
/// \ingroup nn
///
/// \f$ \bar u = \bar\ell\,\sigma \epsilon / (1 + e^{-u}) \f$; \f$ \epsilon \f$ is drawn again from
/// the stream in the routing. Zero where the forward call had no noise. Then router_backward() with
/// the noise router's weights takes \f$ \bar u \f$ as dscores.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  routes   of the forward call, with noisy_top_k
/// \param[in]  u        E x T, of the forward call
/// \param[in]  dscores  E x T, complete
/// \param[out] du       E x T, overwritten; must not overlap u or dscores
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if du overlaps u or dscores
template <class Ctx, class Routing, RealMatrix U, RealMatrix DS, class DU>
  requires OutputMatrix<DU> && SameScalar<U, DS, DU>
void noise_scale_backward(Ctx& ctx, Routing const& routes, U const& u, DS const& dscores, DU&& du) {
  index_t const rows = routes.probabilities.rows(), tokens = routes.probabilities.cols();
  expect_shape("noise_scale_backward", "u", u, rows, tokens);
  expect_shape("noise_scale_backward", "dscores", dscores, rows, tokens);
  expect_shape("noise_scale_backward", "du", du, rows, tokens);
  expect_distinct(ctx, "noise_scale_backward", "du", du, "u", u);
  expect_distinct(ctx, "noise_scale_backward", "du", du, "dscores", dscores);
  noisy_top_k const& options = routes.options;
  if (!options.training) return fill(ctx, 0, du);
  random_stream stream = options.stream;
  fill_normal(ctx, stream, options.deviation, du);
  transform(ctx, noise_scale_backward_entry{}, outputs(du), inputs(dscores, u));
}

}  // namespace stiefelx
