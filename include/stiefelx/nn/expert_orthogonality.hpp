// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/expert_overlap.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/column.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: overlap of one token's outputs, and their gradient.
/// \ingroup nn
struct output_overlap_body {
  expert_overlap overlap;  ///< the loss of a token
  double coefficient;      ///< \f$ \alpha \f$
  index_t chosen;          ///< k

  /// \returns doubles of scratch a team
  index_t scratch_size() const { return 2 * chosen * chosen; }

  /// \param[in]     team     lanes share the rows
  /// \param[in]     t        the token
  /// \param[in]     scratch  scratch_size() doubles
  /// \param[in]     e        d x (k T)
  /// \param[in]     ids      k x T, -1 in an empty slot
  /// \param[in]     w        1 x T or 1 x 1, token weights
  /// \param[in]     total    1 x 1, sum of the weights
  /// \param[out]    losses   1 x T
  /// \param[in,out] de       d x (k T), accumulates
  template <Team Lanes, class S, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> e,
                              matrix_ref<int const> ids, matrix_ref<W const> w,
                              matrix_ref<double const> total, matrix_ref<double> losses,
                              matrix_ref<S> de) const {
    index_t const k = chosen;
    int const* const id = ids.column(t);
    double const weight = detail::weight_of(w, t);
    if (weight == 0) {
      if (team.rank() == 0) losses(0, t) = 0;
      return;
    }
    double* const g = scratch;
    double* const change = scratch + k * k;
    for (index_t j = 0; j < k; ++j)
      for (index_t i = j; i < k; ++i) {
        bool const filled = id[i] >= 0 && id[j] >= 0;
        double const sum =
            filled ? wide_dot<8>(team, e.column(t * k + i), e.column(t * k + j), e.rows) : 0;
        if (team.rank() != 0) continue;
        g[i + j * k] = sum;
        g[j + i * k] = sum;
        change[i + j * k] = 0;
        change[j + i * k] = 0;
      }
    double const share = coefficient * weight / total(0, 0);
    if (team.rank() == 0) {
      losses(0, t) = share * overlap.value(k, id, g);
      overlap.add_gradient(k, id, g, share, change);
    }
    team.barrier();
    for (index_t j = 0; j < k; ++j)
      for (index_t i = 0; i < k; ++i) {
        double const factor = change[i + j * k];
        if (factor == 0) continue;
        S const* const from = e.column(t * k + j);
        S* const to = de.column(t * k + i);
        for (index_t row = team.rank(); row < e.rows; row += team.size())
          to[row] += static_cast<S>(factor * static_cast<double>(from[row]));
      }
  }
};

/// \brief Penalty on how much the outputs of a token's experts overlap.
/// \ingroup nn
///
/// Over the ordered pairs of filled slots of a token, \cite guo2025specialization :
/// \f[ L = \frac{\alpha}{T_v} \sum_t w_t \sum_{i \ne j} \Big\lVert \frac{\langle e_i, e_j \rangle}
///     {\langle e_j, e_j \rangle + \epsilon}\, e_j \Big\rVert^2 , \qquad
///     \bar e_i \mathrel{+}= \sum_j W_{ij} e_j \f]
/// with W of expert_overlap. The paper sums over tokens: its coefficient times \f$ T_v \f$ is this one.
/// 0 for orthogonal outputs; k (k - 1) \f$ \lVert e \rVert^2 \f$ a token for equal ones. It falls with
/// the squared size of the outputs too, so it also shrinks them.
///
/// An orthogonalized mixture needs no such penalty; it is for comparison, and for layers that mix
/// plainly.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \alpha \f$
/// \param[in]     e            d x (k T), the outputs of the chosen experts, token after token
/// \param[in]     ids          k x T of int, -1 in an empty slot, whose column of e is not read
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[out]    loss         1 x 1 of double; 0 where all weights are 0
/// \param[in,out] de           d x (k T), accumulates; must not overlap e
/// \param[in]     epsilon      \f$ \epsilon \f$, 0 or more; with 0 a zero output counts nothing
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if de overlaps e
/// \throws option_error  if epsilon is negative
/// \par Cost
/// (k (k + 1) + 2 k^2) d T flops; scratch T entries.
/// \see gram_orthogonality_loss()
template <class Ctx, RealMatrix E, Matrix Ids, TokenWeights W, class L, class DE>
  requires OutputMatrix<L> && OutputMatrix<DE> && SameScalar<E, DE>
void expert_orthogonality_loss(Ctx& ctx, double coefficient, E const& e, Ids const& ids, W const& w,
                               L&& loss, DE&& de, double epsilon = 1e-6) {
  char const* const name = "expert_orthogonality_loss";
  index_t const k = ids.rows(), tokens = ids.cols();
  expect_shape(name, "e", e, e.rows(), k * tokens);
  expect_shape(name, "loss", loss, 1, 1);
  expect_shape(name, "de", de, e.rows(), k * tokens);
  expect_option(epsilon >= 0, name, "epsilon", epsilon, "a number of at least 0");
  expect_distinct(ctx, name, "de", de, "e", e);
  auto const& weights = detail::weights_of(ctx, name, w, tokens);
  auto const& output = dense(ctx, e);
  auto const& listed = dense(ctx, ids);
  auto const total = detail::total_weight(ctx, weights, tokens);
  auto losses = scratch<double>(ctx, 1, tokens);
  run_batch(ctx, tokens, output_overlap_body{{epsilon}, coefficient, k}, output, listed, weights,
            total, losses, de);
  sum_columns(ctx, losses, loss);
}

/// \brief Team text: overlap from the Gram matrices of a block of tokens, and their gradient.
/// \ingroup nn
struct gram_overlap_body {
  expert_overlap overlap;  ///< the loss of a token
  double coefficient;      ///< \f$ \alpha \f$
  token_range range;       ///< blocks

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes share the tokens
  /// \param[in]     item    the block
  /// \param[in]     grams   k^2 x T
  /// \param[in]     ids     k x T, -1 in an empty slot
  /// \param[in]     w       1 x T or 1 x 1, token weights
  /// \param[in]     total   1 x 1, sum of the weights
  /// \param[out]    losses  1 x blocks
  /// \param[in,out] change  k^2 x T, accumulates
  template <Team Lanes, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*,
                              matrix_ref<double const> grams, matrix_ref<int const> ids,
                              matrix_ref<W const> w, matrix_ref<double const> total,
                              matrix_ref<double> losses, matrix_ref<double> change) const {
    double sum = 0;
    index_t const end = range.end({}, item, ids.cols);
    for (index_t t = range.first({}, item, ids.cols) + team.rank(); t < end; t += team.size()) {
      double const weight = detail::weight_of(w, t);
      if (weight == 0) continue;
      double const share = coefficient * weight / total(0, 0);
      sum += share * overlap.value(ids.rows, ids.column(t), grams.column(t));
      overlap.add_gradient(ids.rows, ids.column(t), grams.column(t), share, change.column(t));
    }
    sum = team.sum(sum);
    if (team.rank() == 0) losses(0, item) = sum;
  }
};

/// \brief expert_orthogonality_loss() of linear experts, from the tokens' Gram matrices.
/// \ingroup nn
///
/// \f$ G_{ij} = \langle e_i, e_j \rangle \f$ is all that the loss needs, so no output is formed. Its
/// gradient is W of expert_overlap, \f$ \bar e_i = \sum_j W_{ij} e_j \f$: the convention of
/// mixing_algebra::pull_back(), so both are simply added.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  \f$ \alpha \f$
/// \param[in]     token_grams  k^2 x T of double, each column a token's Gram matrix
/// \param[in]     ids          k x T of int, -1 in an empty slot, whose entries are not read
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[out]    loss         1 x 1 of double; 0 where all weights are 0
/// \param[in,out] change       k^2 x T of double, W, accumulates; must not overlap token_grams
/// \param[in]     epsilon      \f$ \epsilon \f$, 0 or more; with 0 a zero output counts nothing
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if change overlaps token_grams
/// \throws option_error  if epsilon is negative
/// \par Cost
/// About 10 k^2 T flops.
template <class Ctx, RealMatrix G, Matrix Ids, TokenWeights W, class L, class DG>
  requires OutputMatrix<L> && OutputMatrix<DG> && SameScalar<G, L, DG>
void gram_orthogonality_loss(Ctx& ctx, double coefficient, G const& token_grams, Ids const& ids,
                             W const& w, L&& loss, DG&& change, double epsilon = 1e-6) {
  char const* const name = "gram_orthogonality_loss";
  index_t const k = ids.rows(), tokens = ids.cols();
  expect_shape(name, "token_grams", token_grams, k * k, tokens);
  expect_shape(name, "loss", loss, 1, 1);
  expect_shape(name, "change", change, k * k, tokens);
  expect_option(epsilon >= 0, name, "epsilon", epsilon, "a number of at least 0");
  expect_distinct(ctx, name, "change", change, "token_grams", token_grams);
  auto const& weights = detail::weights_of(ctx, name, w, tokens);
  auto const& grams = dense(ctx, token_grams);
  auto const& listed = dense(ctx, ids);
  auto const total = detail::total_weight(ctx, weights, tokens);
  token_range const range;
  auto losses = scratch<double>(ctx, 1, range.blocks(tokens));
  run_batch(ctx, losses.cols(), gram_overlap_body{{epsilon}, coefficient, range}, grams, listed,
            weights, total, losses, change);
  sum_columns(ctx, losses, loss);
}

}  // namespace stiefelx
