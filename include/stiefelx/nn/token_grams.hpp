// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: Gram matrix of one token's outputs, from rank space.
/// \ingroup nn
struct token_gram_body {
  index_t rank;        ///< r
  rank_layout layout;  ///< of h

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes share the columns of a block
  /// \param[in]  t        the token
  /// \param[in]  h        (E r) x T or (k r) x T
  /// \param[in]  ids      k x T, -1 in an empty slot
  /// \param[in]  moments  (E r) x (E r)
  /// \param[out] grams    k^2 x T; zero for empty slots
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<double const> moments,
                              matrix_ref<double> grams) const {
    index_t const k = ids.rows, experts = rank > 0 ? moments.cols / rank : 0;
    int const* const id = ids.column(t);
    double* const g = grams.column(t);
    for (index_t j = 0; j < k; ++j)
      for (index_t i = j; i < k; ++i) {
        double sum = 0;
        if (detail::is_filled(id[i], experts) && detail::is_filled(id[j], experts)) {
          S const* const left = vector_of(h, t, id, i);
          S const* const right = vector_of(h, t, id, j);
          for (index_t b = team.rank(); b < rank; b += team.size()) {
            double const* const block = moments.column(id[j] * rank + b) + id[i] * rank;
            double along = 0;
            for (index_t a = 0; a < rank; ++a) along += block[a] * static_cast<double>(left[a]);
            sum += along * static_cast<double>(right[b]);
          }
        }
        sum = team.sum(sum);
        if (team.rank() != 0) continue;
        g[i + j * k] = sum;
        g[j + i * k] = sum;
      }
  }

 private:
  template <class S>
  STIEFELX_HD S const* vector_of(matrix_ref<S const> h, index_t t, int const* id, index_t i) const {
    return h.column(t) + rank * (layout == rank_layout::by_slot ? i : index_t(id[i]));
  }
};

/// \brief Gram matrices of every token's outputs: \f$ G_{ij} = h_i^T (B_i^T B_j) h_j \f$.
/// \ingroup nn
///
/// A mixture that orthogonalizes has them already. This is for a plain one, for expert_similarity()
/// and for the losses that need G alone. Outputs are those before a common scaling s.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  h        (E r) x T or (k r) x T, rank-space vectors
/// \param[in]  ids      k x T of int, -1 in an empty slot
/// \param[in]  moments  (E r) x (E r) of double, blocks \f$ B_i^T B_j \f$
/// \param[in]  rank     r
/// \param[out] grams    k^2 x T of double, each column a Gram matrix by columns; 0 in the rows and
///                      columns of empty slots
/// \param[in]  layout   of h; where k = E its shape does not tell
/// \throws shape_error  if a shape does not fit
/// \par Cost
/// k (k + 1) r^2 flops a token, in double.
template <class Ctx, RealMatrix H, Matrix Ids, RealMatrix C, class G>
  requires OutputMatrix<G> && SameScalar<C, G>
void token_grams(Ctx& ctx, H const& h, Ids const& ids, C const& moments, index_t rank, G&& grams,
                 rank_layout layout = rank_layout::by_slot) {
  char const* const name = "token_grams";
  index_t const k = ids.rows(), tokens = ids.cols();
  bool const by_slot = layout == rank_layout::by_slot;
  expect_shape(name, "moments", moments, moments.rows(), moments.rows());
  expect_shape(name, "h", h, by_slot ? k * rank : moments.rows(), tokens);
  expect_shape(name, "grams", grams, k * k, tokens);
  auto const& vectors = dense(ctx, h);
  auto const& listed = dense(ctx, ids);
  auto const& blocks = dense(ctx, moments);
  run_batch(ctx, tokens, token_gram_body{rank, layout}, vectors, listed, blocks, grams);
}

/// \brief token_grams() of a bank of experts, whose moments are formed on the way.
/// \ingroup nn
///
/// For a plain mixture, which saves neither Gram matrices nor moments:
/// `token_grams(ctx, experts, saved.h, routes.ids, grams)`. The saved h has the experts' own factors in it,
/// where they have their own; they are not applied again.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  experts  E experts of rank r
/// \param[in]  h        (k r) x T or (E r) x T
/// \param[in]  ids      k x T of int, -1 in an empty slot
/// \param[out] grams    k^2 x T of double
/// \param[in]  layout   of h
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if there is no expert
/// \par Cost
/// 2 (E r)^2 d_out flops beside those of the tokens.
template <class Ctx, class Down, class Up, class Scaling, RealMatrix H, Matrix Ids, class G>
  requires OutputMatrix<G>
void token_grams(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts, H const& h,
                 Ids const& ids, G&& grams, rank_layout layout = rank_layout::by_slot) {
  expect_option(experts.count >= 1, "token_grams", "experts.count", experts.count,
                "a number of at least 1");
  token_grams(ctx, h, ids, detail::expert_moments(ctx, experts.up),
              experts.up.rows() / experts.count, grams, layout);
}

}  // namespace stiefelx
