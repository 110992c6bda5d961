// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/moe_lora.hpp>

namespace stiefelx {

/// \brief Team text: sums of absolute cosines between one token's outputs, before and after.
/// \ingroup nn
struct similarity_body {
  mixing_algebra algebra;  ///< form and guard
  index_t chosen;          ///< k
  index_t rank;            ///< r

  /// \returns doubles of scratch a team
  index_t scratch_size() const {
    return mixing_algebra::scratch_size(chosen) + 2 * chosen * chosen + (chosen + 1) * rank;
  }

  /// \param[in]  team     lanes; one works
  /// \param[in]  t        the token
  /// \param[in]  scratch  scratch_size() doubles
  /// \param[in]  h        (E r) x T
  /// \param[in]  ids      k x T
  /// \param[in]  moments  (E r) x (E r)
  /// \param[out] sums     T columns of 4: sum before, pairs before, sum after, pairs after
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<double const> moments,
                              matrix_ref<double> sums) const {
    if (team.rank() != 0) return;
    index_t const k = chosen;
    double* const g = scratch + mixing_algebra::scratch_size(k);
    double* const after = g + k * k;
    double* const vectors = after + k * k;
    detail::gather(h, t, ids.column(t), k, rank, vectors);
    detail::token_gram(moments, ids.column(t), k, rank, vectors, g, vectors + k * rank);
    add_cosines(k, g, sums.column(t));
    for (index_t i = 0; i < k * k; ++i) after[i] = g[i];
    if (algebra.kind != mixing::none) {
      auto const state = mixing_algebra::place(k, scratch);
      algebra.factor(k, g, state);
      // M^-1 G M^-T by forward substitution on the columns and then on the rows.
      for (index_t c = 0; c < k; ++c)
        for (index_t i = 0; i < k; ++i)
          for (index_t j = 0; j < i; ++j) after[i + c * k] -= state.m(i, j) * after[j + c * k];
      for (index_t r = 0; r < k; ++r)
        for (index_t i = 0; i < k; ++i)
          for (index_t j = 0; j < i; ++j) after[r + i * k] -= state.m(i, j) * after[r + j * k];
    }
    add_cosines(k, after, sums.column(t) + 2);
  }

 private:
  STIEFELX_HD static void add_cosines(index_t k, double const* g, double* sum_and_pairs) {
    sum_and_pairs[0] = 0;
    sum_and_pairs[1] = 0;
    for (index_t j = 0; j < k; ++j)
      for (index_t i = j + 1; i < k; ++i) {
        double const lengths = g[i + i * k] * g[j + j * k];
        if (!(lengths > 0)) continue;
        sum_and_pairs[0] += std::abs(g[i + j * k]) / std::sqrt(lengths);
        sum_and_pairs[1] += 1;
      }
  }
};

/// Mean of a sum over a count, 0 for no pairs.
/// \ingroup nn
struct mean_element {
  /// \param[out] mean   result
  /// \param[in]  sum    a sum
  /// \param[in]  count  its number of terms
  STIEFELX_HD void operator()(double& mean, double const& sum, double const& count) const {
    mean = count > 0 ? sum / count : 0;
  }
};

/// \brief How alike the experts' outputs are: mean absolute cosine before and after mixing's
/// Gram-Schmidt.
/// \ingroup nn
///
/// The mean runs over all tokens and all pairs of chosen experts whose outputs are not zero. It
/// needs the Gram matrices alone, so no output is formed.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  experts  E experts of rank r
/// \param[in]  routes   of route()
/// \param[in]  x        d_in x T
/// \param[in]  options  form of the mixture; with `none` both numbers agree
/// \param[out] s        2 x 1 of double: before, after
/// \throws shape_error  if a shape does not fit
/// \par Cost
/// 2 E r d_in T + 2 (E r)^2 d_out flops and k^2 r^2 a token.
template <class Ctx, class Down, class Up, class Routing, RealMatrix X, class S>
  requires OutputMatrix<S>
void expert_similarity(Ctx& ctx, lora_experts<Down, Up> const& experts, Routing const& routes,
                       X const& x, mixing_options options, S&& s) {
  index_t const tokens = x.cols(), k = routes.ids.rows();
  detail::expect_experts("expert_similarity", experts, routes, x.rows(), experts.up.cols(), tokens);
  expect_shape("expert_similarity", "s", s, 2, 1);
  auto const h = product(ctx, experts.down.adjoint(), x);
  auto const moments = detail::expert_moments(ctx, experts.up);
  auto sums = scratch<double>(ctx, 4, tokens);
  index_t const rank = experts.down.cols() / experts.count;
  run_batch(ctx, tokens, similarity_body{detail::algebra_of<scalar_t<X>>(options), k, rank}, h,
            routes.ids, moments, sums);
  auto totals = scratch<double>(ctx, 4, 1);
  sum_columns(ctx, sums, totals);
  for (index_t i = 0; i < 2; ++i)
    transform(ctx, mean_element{}, outputs(s.middleRows(i, 1)),
              inputs(totals.middleRows(2 * i, 1), totals.middleRows(2 * i + 1, 1)));
}

}  // namespace stiefelx
