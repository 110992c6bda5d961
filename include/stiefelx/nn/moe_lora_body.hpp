// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/mixing.hpp>
#include <stiefelx/team/mixing_blocks.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Team text of the mixture of low-rank experts in rank space, one token a team.
/// \ingroup nn
///
/// Slot i of token t has its rank-space vector in the rows i r .. i r + r - 1 of column t. A slot
/// that names no expert is empty: its vectors are zero, and so is what is written for it.
///
/// What comes from a product with the experts and what goes into the next one lies by slot, or by expert
/// where that product takes every token with every expert (dense_expert_columns()). Then the rows of an
/// expert that the token did not list are zero, and one that it listed twice has the sum of both slots.

namespace stiefelx {

/// \brief Where a token's rank-space vectors \f$ h_e = A_e x \f$ are.
/// \ingroup nn
enum class rank_layout {
  by_expert,  ///< (E r) x T: expert e in rows e r .. e r + r - 1
  by_slot,    ///< (k r) x T: the expert of slot i in rows i r .. i r + r - 1
};

namespace detail {

// E. Without a rank nothing tells it, and nothing is read of an expert.
template <class Up>
index_t experts_of(Up const& up, index_t rank) {
  return rank > 0 ? up.rows() / rank : any_expert;
}

template <class Lanes, class S>
STIEFELX_HD void slot_weights(Lanes const& team, matrix_ref<S const> weights, index_t t,
                              int const* ids, index_t experts, double* out) {
  for (index_t i = team.rank(); i < weights.rows; i += team.size())
    out[i] = is_filled(ids[i], experts) ? static_cast<double>(weights(i, t)) : 0;
}

// One token's vectors by expert, as those of its slots.
template <class Lanes, class From, class To>
STIEFELX_HD void take_slots(Lanes const& team, int const* ids, index_t k, index_t rank,
                            index_t experts, From const* by_expert, To* by_slot) {
  for (index_t i = 0; i < k; ++i)
    for (index_t b = team.rank(); b < rank; b += team.size())
      by_slot[i * rank + b] =
          is_filled(ids[i], experts) ? static_cast<To>(by_expert[ids[i] * rank + b]) : To(0);
}

// The way back: factor_i v_i of every slot, added up for each expert.
template <class Lanes, class Factor, class From, class To>
STIEFELX_HD void put_slots(Lanes const& team, int const* ids, index_t k, index_t rank,
                           index_t experts, Factor const& factor, From const* by_slot,
                           To* by_expert) {
  auto const width = static_cast<unsigned>(rank);
  for (index_t row = team.rank(); row < experts * rank; row += team.size()) {
    auto const e = static_cast<int>(static_cast<unsigned>(row) / width);
    index_t const b = row - e * rank;
    double sum = 0;
    for (index_t i = 0; i < k; ++i)
      if (ids[i] == e) sum += factor(i) * static_cast<double>(by_slot[i * rank + b]);
    by_expert[row] = static_cast<To>(sum);
  }
}

}  // namespace detail

/// \brief Team text: Gram matrix, coefficients and weighted rank-space vectors of one token.
/// \ingroup nn
struct mix_forward_body {
  mixing_algebra algebra;                     ///< form, guard and policy
  index_t chosen;                             ///< k
  index_t rank;                               ///< r
  rank_layout layout = rank_layout::by_slot;  ///< of mixed
  index_t experts = detail::any_expert;       ///< E, where no layout by expert tells it

  /// \returns doubles of scratch a team
  index_t scratch_size() const {
    return mixing_algebra::scratch_size(chosen) + chosen + (chosen + 1) * rank;
  }

  /// \param[in]     team          lanes share the rows; one does the k x k algebra
  /// \param[in]     t             the token
  /// \param[in]     scratch       scratch_size() doubles
  /// \param[in,out] h             (k r) x T; written where mixed is by expert
  /// \param[in]     ids           k x T
  /// \param[in]     weights       k x T
  /// \param[in]     moments       (E r) x (E r); empty for a plain mixture
  /// \param[out]    gram          k^2 x T; empty for a plain mixture
  /// \param[out]    coefficients  k x T
  /// \param[in,out] mixed         a_i h_i: (k r) x T, or (E r) x T with h by expert on entry
  /// \param[out]    status        1 x T, bits of mixing_algebra::status_of()
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S> h,
                              matrix_ref<int const> ids, matrix_ref<S const> weights,
                              matrix_ref<double const> moments, matrix_ref<double> gram,
                              matrix_ref<double> coefficients, matrix_ref<S> mixed,
                              matrix_ref<int> status) const {
    index_t const k = chosen;
    int const* const id = ids.column(t);
    double* const a = coefficients.column(t);
    index_t const named =
        layout == rank_layout::by_expert && rank > 0 ? mixed.rows / rank : experts;
    if (layout == rank_layout::by_expert) {
      detail::take_slots(team, id, k, rank, named, mixed.column(t), h.column(t));
      team.barrier();
    }
    if (algebra.is_plain(k)) {
      detail::slot_weights(team, weights, t, id, named, a);
      if (team.rank() == 0) status(0, t) = 0;
    } else {
      double* const c = scratch + mixing_algebra::scratch_size(k);
      double* const vectors = c + k;
      double* const g = gram.column(t);
      detail::widen_column(team, h.column(t), k * rank, vectors);
      detail::slot_weights(team, weights, t, id, named, c);
      team.barrier();
      detail::token_gram(team, moments, id, k, rank, vectors, g, vectors + k * rank);
      if (team.rank() == 0) {
        auto const state = mixing_algebra::place(k, scratch);
        algebra.factor(k, g, state);
        algebra.coefficients(k, c, state, a);
        status(0, t) = algebra.status_of(id, state, named);
      }
    }
    team.barrier();
    if (layout == rank_layout::by_expert) {
      detail::put_slots(
          team, id, k, rank, named, [a](index_t i) { return a[i]; }, h.column(t), mixed.column(t));
      return;
    }
    for (index_t i = 0; i < k; ++i) {
      S const* const from = h.column(t) + i * rank;
      S* const to = mixed.column(t) + i * rank;
      for (index_t b = team.rank(); b < rank; b += team.size())
        to[b] = detail::is_filled(id[i], named)
                    ? static_cast<S>(a[i] * static_cast<double>(from[b]))
                    : S(0);
    }
  }
};

/// \brief Team text: gradients of one token's gate weights and rank-space vectors.
/// \ingroup nn
struct mix_backward_body {
  mixing_algebra algebra;                     ///< form, guard and policy
  index_t chosen;                             ///< k
  index_t rank;                               ///< r
  double scaling;                             ///< s
  rank_layout layout = rank_layout::by_slot;  ///< of dh and mixed
  index_t experts = detail::any_expert;       ///< E, where no layout by expert tells it

  /// \returns doubles of scratch a team
  index_t scratch_size() const {
    return mixing_algebra::scratch_size(chosen) + 4 * chosen + 2 * chosen * rank;
  }

  /// \param[in]     team      lanes share the rows; one does the k x k algebra
  /// \param[in]     t         the token
  /// \param[in]     scratch   scratch_size() doubles
  /// \param[in]     h         (k r) x T
  /// \param[in]     ids       k x T
  /// \param[in]     weights   k x T
  /// \param[in]     moments   (E r) x (E r); empty for a plain mixture
  /// \param[in,out] gram      k^2 x T; becomes W, for cross_moments_body
  /// \param[in,out] dh        (k r) x T or (E r) x T, z on entry, the gradient of h on exit
  /// \param[out]    mixed     of dh's shape, a_i h_i
  /// \param[out]    dweights  k x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<S const> weights,
                              matrix_ref<double const> moments, matrix_ref<double> gram,
                              matrix_ref<S> dh, matrix_ref<S> mixed, matrix_ref<S> dweights) const {
    index_t const k = chosen;
    int const* const id = ids.column(t);
    index_t const named = layout == rank_layout::by_expert && rank > 0 ? dh.rows / rank : experts;
    double* const u = scratch + mixing_algebra::scratch_size(k);
    double* const c = u + k;
    double* const a = c + k;
    double* const dc = a + k;
    double* const vectors = dc + k;
    double* const dvectors = vectors + k * rank;
    detail::widen_column(team, h.column(t), k * rank, vectors);
    detail::slot_weights(team, weights, t, id, named, c);
    if (layout == rank_layout::by_expert)
      detail::take_slots(team, id, k, rank, named, dh.column(t), dvectors);
    else
      detail::widen_column(team, static_cast<S const*>(dh.column(t)), k * rank, dvectors);
    team.barrier();
    detail::with_rank(team, rank, [&]<unsigned Fixed>() {
      for (index_t i = 0; i < k; ++i) {
        double const along =
            scaling * detail::dot<Fixed>(team, rank, vectors + i * rank, dvectors + i * rank);
        if (team.rank() == 0) u[i] = along;
      }
    });
    bool const plain = algebra.is_plain(k);
    double* const g = plain ? nullptr : gram.column(t);
    if (team.rank() == 0) find_coefficients(plain, k, named, id, u, c, scratch, g, a, dc);
    team.barrier();
    for (index_t i = 0; i < k; ++i)
      for (index_t b = team.rank(); b < rank; b += team.size())
        dvectors[i * rank + b] *= scaling * a[i];
    if (!plain) detail::add_gram_rows(team, moments, id, k, rank, g, vectors, dvectors);
    for (index_t i = team.rank(); i < k; i += team.size())
      dweights(i, t) = detail::is_filled(id[i], named) ? static_cast<S>(dc[i]) : S(0);
    if (layout == rank_layout::by_expert) {
      team.barrier();
      detail::put_slots(
          team, id, k, rank, named, [](index_t) { return 1.0; }, dvectors, dh.column(t));
      detail::put_slots(
          team, id, k, rank, named, [a](index_t i) { return a[i]; }, vectors, mixed.column(t));
      return;
    }
    for (index_t i = 0; i < k; ++i) {
      S* const to = dh.column(t) + i * rank;
      S* const weighted = mixed.column(t) + i * rank;
      for (index_t b = team.rank(); b < rank; b += team.size()) {
        to[b] = static_cast<S>(dvectors[i * rank + b]);
        weighted[b] = static_cast<S>(a[i] * vectors[i * rank + b]);
      }
    }
  }

 private:
  // a and the gradient of the weights; g becomes W.
  STIEFELX_HD void find_coefficients(bool plain, index_t k, index_t named, int const* id,
                                     double const* u, double const* c, double* scratch, double* g,
                                     double* a, double* dc) const {
    if (plain) {
      for (index_t i = 0; i < k; ++i) {
        a[i] = c[i];
        dc[i] = u[i];
      }
      return;
    }
    auto const state = mixing_algebra::place(k, scratch);
    algebra.factor(k, g, state);
    algebra.coefficients(k, c, state, a);
    algebra.pull_back(k, u, state, dc);
    for (index_t j = 0; j < k; ++j)
      for (index_t i = 0; i < k; ++i) {
        bool const filled = detail::is_filled(id[i], named) && detail::is_filled(id[j], named);
        g[i + j * k] = filled ? state.w(i, j) : 0;
      }
  }
};

}  // namespace stiefelx
