// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/mixing_options.hpp>
#include <stiefelx/team/expert_gram_schmidt.hpp>

namespace stiefelx {

/// \brief What expert_gram_schmidt() keeps for its backward pass.
/// \ingroup nn
template <class G, class A>
struct expert_gram_schmidt_saved {
  G token_grams;           ///< k^2 x T of double, each column a token's Gram matrix
  A coefficients;          ///< k x T of double, \f$ y = \sum_i a_i e_i \f$
  mixing_options options;  ///< with the guard that was used
};

/// \brief Mixes materialised experts' outputs after orthogonalizing them, token by token.
/// \ingroup nn
///
/// The same mixtures as moe_lora_forward(), by the same k x k algebra, for experts of any kind:
/// column t k + i of e is output i of token t. For `orthogonal`
/// \f[ y_t = \sum_i c_{it} v_i, \qquad v_i = e_i - \sum_{j<i} \frac{\langle e_i, v_j \rangle}
///     {\langle v_j, v_j \rangle} v_j . \f]
/// The outputs are read twice and nothing of their size is kept. Their Gram matrix and all that follows
/// from it are in double, so an output of float has an error of about \f$ \epsilon / \delta \f$ for
/// experts that differ by a part \f$ \delta \f$ of their size; for double data there is a term
/// \f$ \epsilon / \delta^2 \f$, as in rank space. An empty slot is a column of zeros.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     e        d x (k T), the outputs of the chosen experts, token after token
/// \param[in]     weights  k x T
/// \param[out]    y        d x T, overwritten; must not overlap e
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}; gets `rank_deficient` where an expert is guarded
///                         and `not_finite` where a Gram matrix is not finite
/// \returns what expert_gram_schmidt_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps e
/// \throws option_error  if an option is outside its range
/// \par Cost
/// k (k + 3) d T flops; scratch (k^2 + k) T doubles.
/// \see \cite omoe2025
template <class Ctx, RealMatrix E, RealMatrix W, class Y, class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<E, W, Y>
auto expert_gram_schmidt(Ctx& ctx, E const& e, W const& weights, Y&& y, mixing_options options = {},
                         Status&& status = {}) {
  using S = scalar_t<E>;
  char const* const name = "expert_gram_schmidt";
  index_t const k = weights.rows(), tokens = weights.cols();
  expect_shape(name, "e", e, e.rows(), k * tokens);
  expect_shape(name, "y", y, e.rows(), tokens);
  detail::expect_mixing(name, options);
  expect_distinct(ctx, name, "y", y, "e", e);
  auto const algebra = detail::algebra_of<S>(options);
  auto const& output = dense(ctx, e);
  auto const& weight = dense(ctx, weights);
  auto grams = scratch<double>(ctx, algebra.is_plain(k) ? 0 : k * k, tokens);
  auto coefficients = scratch<double>(ctx, k, tokens);
  auto bits = scratch<int>(ctx, 1, tokens);
  run_batch(ctx, tokens, expert_gram_schmidt_body{algebra, k}, output, weight, grams, coefficients,
            y, bits);
  raise(ctx, status, bits);
  return expert_gram_schmidt_saved<decltype(grams), decltype(coefficients)>{
      std::move(grams), std::move(coefficients), detail::settled<S>(options)};
}

/// \brief Gradients of expert_gram_schmidt().
/// \ingroup nn
///
/// With \f$ u_i = \langle e_i, \bar y \rangle \f$ and the adjoint \f$ (\bar c, W) \f$ of the k x k algebra:
/// \f$ \bar e_i = a_i \bar y + \sum_j W_{ij} e_j \f$. de and dweights are overwritten. e, weights and
/// saved are those of the forward call.
///
/// \param[in]  ctx       where to run; nothing waits
/// \param[in]  e         d x (k T)
/// \param[in]  weights   k x T
/// \param[in]  saved     what the forward call returned
/// \param[in]  dy        d x T
/// \param[out] de        d x (k T); must not overlap e or dy
/// \param[out] dweights  k x T
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if de overlaps e or dy
/// \par Cost
/// 2 k (k + 2) d T flops.
template <class Ctx, RealMatrix E, RealMatrix W, class Saved, RealMatrix DY, class DE, class DW>
  requires OutputMatrix<DE> && OutputMatrix<DW> && SameScalar<E, W, DY, DE, DW>
void expert_gram_schmidt_backward(Ctx& ctx, E const& e, W const& weights, Saved const& saved,
                                  DY const& dy, DE&& de, DW&& dweights) {
  using S = scalar_t<E>;
  char const* const name = "expert_gram_schmidt_backward";
  index_t const k = weights.rows(), tokens = weights.cols();
  expect_shape(name, "e", e, e.rows(), k * tokens);
  expect_shape(name, "saved.coefficients", saved.coefficients, k, tokens);
  expect_shape(name, "dy", dy, e.rows(), tokens);
  expect_shape(name, "de", de, e.rows(), k * tokens);
  expect_shape(name, "dweights", dweights, k, tokens);
  expect_distinct(ctx, name, "de", de, "e", e);
  expect_distinct(ctx, name, "de", de, "dy", dy);
  auto const& output = dense(ctx, e);
  auto const& weight = dense(ctx, weights);
  auto const& incoming = dense(ctx, dy);
  run_batch(ctx, tokens, expert_gram_schmidt_backward_body{detail::algebra_of<S>(saved.options), k},
            output, weight, saved.token_grams, incoming, de, dweights);
}

}  // namespace stiefelx
