// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/mixing_options.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/team/mixing.hpp>

namespace stiefelx {

/// \brief What measure_mixture() found, 1 x 1 each, where the data live; M holds double.
/// \ingroup nn
template <class M>
struct mixture_statistics {
  M similarity_before;  ///< mean absolute cosine between two outputs of a token
  M similarity_after;   ///< the same for the vectors that the mixture adds up
  M effective_rank;  ///< mean of \f$ \exp(-\sum_i q_i \log q_i) \f$, q the eigenvalues of G over tr G
  M participation_ratio;  ///< mean of \f$ (\mathrm{tr}\,G)^2 / \lVert G \rVert_F^2 \f$, at most the above
  M redundancy;           ///< \f$ 1 - \sum \lVert v_i \rVert^2 / \sum \lVert e_i \rVert^2 \f$
  M guarded;              ///< share of the filled slots whose expert is guarded

  /// \param[in] ctx  owns the memory
  template <class Ctx>
  explicit mixture_statistics(Ctx& ctx)
      : similarity_before(zeros<double>(ctx, 1, 1)),
        similarity_after(zeros<double>(ctx, 1, 1)),
        effective_rank(zeros<double>(ctx, 1, 1)),
        participation_ratio(zeros<double>(ctx, 1, 1)),
        redundancy(zeros<double>(ctx, 1, 1)),
        guarded(zeros<double>(ctx, 1, 1)) {}
};

/// Statistics in a context's own matrices.
/// \ingroup nn
template <class Ctx>
mixture_statistics(Ctx&) -> mixture_statistics<matrix_t<Ctx, double>>;

/// \brief Team text: sums of one token's cosines, ranks and lengths, from its Gram matrix.
/// \ingroup nn
struct mixture_sums_body {
  mixing_algebra algebra;  ///< form and guard
  index_t chosen;          ///< k

  /// Rows of the sums.
  enum row : index_t {
    cosines_before,  ///< absolute cosines of pairs of outputs
    pairs_before,    ///< their number
    cosines_after,   ///< absolute cosines of pairs of vectors that are added up
    pairs_after,     ///< their number
    ranks,           ///< effective rank
    ratios,          ///< participation ratio
    ranked,          ///< 1 where they are defined
    energy,          ///< squared lengths of the outputs
    remainders,      ///< squared lengths of the residuals
    guarded,         ///< guarded experts
    filled,          ///< filled slots
    rows             ///< number of rows
  };

  /// \returns doubles of scratch a team
  index_t scratch_size() const { return mixing_state::scratch_size(chosen) + 4 * chosen * chosen; }

  /// \param[in]  team     lanes; one works
  /// \param[in]  t        the token
  /// \param[in]  scratch  scratch_size() doubles
  /// \param[in]  grams    k^2 x T
  /// \param[in]  ids      k x T, -1 in an empty slot
  /// \param[in]  w        1 x T or 1 x 1, token weights
  /// \param[out] sums     rows x T, times the token's weight
  template <Team Lanes, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch,
                              matrix_ref<double const> grams, matrix_ref<int const> ids,
                              matrix_ref<W const> w, matrix_ref<double> sums) const {
    if (team.rank() != 0) return;
    double* const sum = sums.column(t);
    for (index_t i = 0; i < rows; ++i) sum[i] = 0;
    double const weight = detail::weight_of(w, t);
    if (weight == 0) return;
    double* const g = scratch + mixing_state::scratch_size(chosen);
    index_t const k = filled_part(grams.column(t), ids.column(t), g);
    sum[filled] = static_cast<double>(k);
    if (k == 0) return;
    double* const room = g + k * k;
    add_cosines(k, g, sum + cosines_before);
    auto const state = mixing_algebra::place(k, scratch);
    add_ranks(k, g, state, sum);
    add_remainders(k, g, state, sum);
    if (algebra.kind == mixing::none) {
      add_cosines(k, g, sum + cosines_after);
    } else {
      algebra.factor(k, g, state);
      mixed_gram(k, g, state, room);
      add_cosines(k, room + 2 * k * k, sum + cosines_after);
    }
    for (index_t i = 0; i < rows; ++i) sum[i] *= weight;
  }

 private:
  // The Gram matrix of the filled slots; their number.
  STIEFELX_HD index_t filled_part(double const* all, int const* ids, double* g) const {
    index_t k = 0;
    for (index_t j = 0; j < chosen; ++j) k += ids[j] >= 0 ? 1 : 0;
    index_t column = 0;
    for (index_t j = 0; j < chosen; ++j) {
      if (ids[j] < 0) continue;
      index_t line = 0;
      for (index_t i = 0; i < chosen; ++i)
        if (ids[i] >= 0) g[line++ + column * k] = all[i + j * chosen];
      ++column;
    }
    return k;
  }

  STIEFELX_HD static void add_cosines(index_t k, double const* g, double* sum_and_pairs) {
    for (index_t j = 0; j < k; ++j)
      for (index_t i = j + 1; i < k; ++i) {
        if (!(g[i + i * k] > 0) || !(g[j + j * k] > 0)) continue;
        sum_and_pairs[0] +=
            std::abs(g[i + j * k]) / std::sqrt(g[i + i * k]) / std::sqrt(g[j + j * k]);
        sum_and_pairs[1] += 1;
      }
  }

  STIEFELX_HD static void add_ranks(index_t k, double const* g, mixing_state const& state,
                                    double* sum) {
    double trace = 0;
    for (index_t j = 0; j < k; ++j) trace += g[j + j * k];
    if (!(trace > 0)) return;
    // The symmetric form's factor() is an eigenvalue iteration; without a guard it changes nothing.
    mixing_algebra{.kind = mixing::symmetric, .guard = 0}.factor(k, g, state);
    double entropy = 0, square = 0;
    for (index_t j = 0; j < k; ++j) {
      double const q = state.d[j] / trace;
      if (q > 0) entropy -= q * std::log(q);
      for (index_t i = 0; i < k; ++i) square += (g[i + j * k] / trace) * (g[i + j * k] / trace);
    }
    sum[ranks] = std::exp(entropy);
    sum[ratios] = 1 / square;
    sum[ranked] = 1;
  }

  STIEFELX_HD void add_remainders(index_t k, double const* g, mixing_state const& state,
                                  double* sum) const {
    mixing_algebra const plain{.kind = mixing::orthogonal, .guard = algebra.guard};
    plain.factor(k, g, state);
    for (index_t j = 0; j < k; ++j) {
      sum[energy] += g[j + j * k];
      sum[remainders] += state.d[j] > 0 ? state.d[j] : 0;
      sum[guarded] += plain.is_guarded(state, j) ? 1 : 0;
    }
  }

  // N G N^T for the vectors N e that are added up: row i of N are the coefficients of c = e_i.
  STIEFELX_HD void mixed_gram(index_t k, double const* g, mixing_state const& state,
                              double* room) const {
    double* const n = room;
    double* const half = room + k * k;
    double* const after = room + 2 * k * k;
    for (index_t i = 0; i < k; ++i) {
      for (index_t j = 0; j < k; ++j) half[j] = i == j ? 1 : 0;
      algebra.coefficients(k, half, state, n + i * k);
    }
    for (index_t i = 0; i < k; ++i)
      for (index_t j = 0; j < k; ++j) {
        double sum = 0;
        for (index_t l = 0; l < k; ++l) sum += n[l + i * k] * g[l + j * k];
        half[j + i * k] = sum;
      }
    for (index_t i = 0; i < k; ++i)
      for (index_t j = 0; j < k; ++j) {
        double sum = 0;
        for (index_t l = 0; l < k; ++l) sum += half[l + i * k] * n[l + j * k];
        after[i + j * k] = sum;
      }
  }
};

/// Mean of a sum over a count, 0 for no terms.
/// \ingroup nn
struct mean_element {
  /// \param[out] mean   result
  /// \param[in]  sum    a sum
  /// \param[in]  count  its number of terms
  STIEFELX_HD void operator()(double& mean, double const& sum, double const& count) const {
    mean = count > 0 ? sum / count : 0;
  }
};

/// One minus the share that a part has of a whole, 0 for nothing.
/// \ingroup nn
struct removed_element {
  /// \param[out] removed  result
  /// \param[in]  part     what is left
  /// \param[in]  whole    what there was
  STIEFELX_HD void operator()(double& removed, double const& part, double const& whole) const {
    removed = whole > 0 ? 1 - part / whole : 0;
  }
};

namespace detail {

// Sums over all tokens, mixture_sums_body::rows x 1.
template <class Ctx, class G, class Ids, class W>
auto mixture_sums(Ctx& ctx, mixing_algebra const& algebra, G const& grams, Ids const& ids,
                  W const& w) {
  auto parts = scratch<double>(ctx, mixture_sums_body::rows, ids.cols());
  run_batch(ctx, ids.cols(), mixture_sums_body{algebra, ids.rows()}, grams, ids, w, parts);
  auto sums = scratch<double>(ctx, mixture_sums_body::rows, 1);
  sum_columns(ctx, parts, sums);
  return sums;
}

template <class Ctx, class Sums, class M>
void mean_of_rows(Ctx& ctx, Sums const& sums, index_t sum, index_t count, M&& mean) {
  transform(ctx, mean_element{}, outputs(mean),
            inputs(sums.middleRows(sum, 1), sums.middleRows(count, 1)));
}

}  // namespace detail

/// \brief How alike and how redundant the outputs of the tokens' experts are.
/// \ingroup nn
///
/// Everything follows from the Gram matrices, so no output is formed. What is added up depends on the
/// form and its policy. Cosines are averaged over the
/// pairs of outputs that are not zero, ranks over the tokens with an output that is not zero; all
/// with the tokens' weights. Redundancy and guarded experts are those of Gram-Schmidt in the listed
/// order, whatever form the mixture has: redundancy is the part of the outputs' squared length that
/// the earlier experts of the token say already.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     token_grams  k^2 x T of double: moe_lora_saved::token_grams before the backward
///                             pass, or of token_grams()
/// \param[in]     ids          k x T of int, -1 in an empty slot
/// \param[in]     w            1 x T, token weights, or every_token
/// \param[in,out] statistics   overwritten
/// \param[in]     options      form and guard; those of moe_lora_saved have the guard that was used,
///                             a guard of 0 is that of double
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if an option is outside its range
/// \par Cost
/// About 6 k^3 flops a token for the eigenvalues of each of some five sweeps and 5 k^3 beside; scratch
/// 11 T entries. The participation ratio alone needs k^2.
/// \see \cite roy2007
template <class Ctx, RealMatrix G, Matrix Ids, TokenWeights W, class M>
void measure_mixture(Ctx& ctx, G const& token_grams, Ids const& ids, W const& w,
                     mixture_statistics<M>& statistics, mixing_options options = {}) {
  char const* const name = "measure_mixture";
  index_t const k = ids.rows(), tokens = ids.cols();
  expect_shape(name, "token_grams", token_grams, k * k, tokens);
  detail::expect_mixing(name, options);
  auto const& weights = detail::weights_of(ctx, name, w, tokens);
  auto const& grams = dense(ctx, token_grams);
  auto const& listed = dense(ctx, ids);
  using body = mixture_sums_body;
  auto const sums =
      detail::mixture_sums(ctx, detail::algebra_of<double>(options), grams, listed, weights);
  detail::mean_of_rows(ctx, sums, body::cosines_before, body::pairs_before,
                       statistics.similarity_before);
  detail::mean_of_rows(ctx, sums, body::cosines_after, body::pairs_after,
                       statistics.similarity_after);
  detail::mean_of_rows(ctx, sums, body::ranks, body::ranked, statistics.effective_rank);
  detail::mean_of_rows(ctx, sums, body::ratios, body::ranked, statistics.participation_ratio);
  detail::mean_of_rows(ctx, sums, body::guarded, body::filled, statistics.guarded);
  transform(ctx, removed_element{}, outputs(statistics.redundancy),
            inputs(sums.middleRows(body::remainders, 1), sums.middleRows(body::energy, 1)));
}

}  // namespace stiefelx
