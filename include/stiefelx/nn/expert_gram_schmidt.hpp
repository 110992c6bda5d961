// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/team/expert_gram_schmidt.hpp>

namespace stiefelx {

/// What expert_gram_schmidt() keeps for its backward pass.
/// \ingroup nn
template <class V, class L>
struct expert_gram_schmidt_saved {
  V v;                     ///< d x (k T), residuals \f$ v_i \f$
  L lengths;               ///< 2k x T of double: their squared lengths, then those of the outputs
  mixing_options options;  ///< with the guard that was used
};

/// \brief Mixes materialised experts' outputs after Gram-Schmidt, token by token.
/// \ingroup nn
///
/// The same mixture as moe_lora_forward(), for experts of any kind: column t k + i of e is output i
/// of token t, and
/// \f[ y_t = \sum_i c_{it} v_i / n_i, \qquad v_i = e_i - \sum_{j<i} \frac{\langle e_i, v_j \rangle}
///     {\langle v_j, v_j \rangle} v_j, \f]
/// by modified Gram-Schmidt with a second sweep. Guarded experts are those of mixing_algebra.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  e        d x (k T), the outputs of the chosen experts, token after token
/// \param[in]  weights  k x T
/// \param[out] y        d x T, overwritten; must not overlap e
/// \param[in]  options  form of the mixture
/// \returns what expert_gram_schmidt_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps e
/// \throws option_error  if the guard is outside [0, 1)
/// \par Cost
/// 4 k^2 d T flops; scratch d k T entries.
/// \see \cite omoe2025
template <class Ctx, RealMatrix E, RealMatrix W, class Y>
  requires OutputMatrix<Y> && SameScalar<E, W, Y>
auto expert_gram_schmidt(Ctx& ctx, E const& e, W const& weights, Y&& y,
                         mixing_options options = {}) {
  using S = scalar_t<E>;
  char const* const name = "expert_gram_schmidt";
  index_t const k = weights.rows(), tokens = weights.cols();
  expect_shape(name, "e", e, e.rows(), k * tokens);
  expect_shape(name, "y", y, e.rows(), tokens);
  expect_option(options.guard >= 0 && options.guard < 1, name, "guard", options.guard,
                "a number in [0, 1)");
  expect_distinct(ctx, name, "y", y, "e", e);
  options.guard = detail::algebra_of<S>(options).guard;
  auto const& output = dense(ctx, e);
  auto const& weight = dense(ctx, weights);
  auto v = scratch<S>(ctx, e.rows(), k * tokens);
  auto lengths = scratch<double>(ctx, 2 * k, tokens);
  run_batch(ctx, tokens, expert_gram_schmidt_body{options.kind, options.guard}, output, weight, v,
            lengths, y);
  return expert_gram_schmidt_saved<decltype(v), decltype(lengths)>{std::move(v), std::move(lengths),
                                                                   options};
}

/// \brief Gradients of expert_gram_schmidt().
/// \ingroup nn
///
/// The reverse sweep: for \f$ i = k, \ldots, 1 \f$ with \f$ g = \bar v_i \f$ and \f$ c_{ij} = \langle e_i,
/// v_j \rangle / n_j,\ t = \langle g, v_j \rangle / n_j,\ n_j = \langle v_j, v_j \rangle \f$: \f$ \bar e_i = g -
/// \sum_j t v_j \f$ and \f$ \bar v_j \mathrel{-}= c_{ij} g + t (e_i - 2 c_{ij} v_j) \f$. de and dweights
/// are overwritten. e, weights and saved are those of the forward call.
///
/// \param[in]     ctx       where to run; nothing waits
/// \param[in]     e         d x (k T)
/// \param[in]     weights   k x T
/// \param[in,out] saved     what the forward call returned; unchanged
/// \param[in]     dy        d x T
/// \param[out]    de        d x (k T); must not overlap e or dy
/// \param[out]    dweights  k x T
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if de overlaps e or dy
/// \par Cost
/// 6 k^2 d T flops.
template <class Ctx, RealMatrix E, RealMatrix W, class Saved, RealMatrix DY, class DE, class DW>
  requires OutputMatrix<DE> && OutputMatrix<DW> && SameScalar<E, W, DY, DE, DW>
void expert_gram_schmidt_backward(Ctx& ctx, E const& e, W const& weights, Saved& saved,
                                  DY const& dy, DE&& de, DW&& dweights) {
  char const* const name = "expert_gram_schmidt_backward";
  index_t const k = weights.rows(), tokens = weights.cols();
  expect_shape(name, "e", e, saved.v.rows(), k * tokens);
  expect_shape(name, "saved.v", saved.v, e.rows(), k * tokens);
  expect_shape(name, "dy", dy, e.rows(), tokens);
  expect_shape(name, "de", de, e.rows(), k * tokens);
  expect_shape(name, "dweights", dweights, k, tokens);
  expect_distinct(ctx, name, "de", de, "e", e);
  expect_distinct(ctx, name, "de", de, "dy", dy);
  auto const& output = dense(ctx, e);
  auto const& weight = dense(ctx, weights);
  auto const& incoming = dense(ctx, dy);
  run_batch(ctx, tokens,
            expert_gram_schmidt_backward_body{saved.options.kind, saved.options.guard, k}, output,
            weight, saved.v, saved.lengths, incoming, de, dweights);
}

}  // namespace stiefelx
