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
/// whose id is negative is empty: its vectors are zero, and so is what is written for it.

namespace stiefelx {

namespace detail {

template <class S>
STIEFELX_HD void slot_weights(matrix_ref<S const> weights, index_t t, int const* ids, double* out) {
  for (index_t i = 0; i < weights.rows; ++i)
    out[i] = ids[i] < 0 ? 0 : static_cast<double>(weights(i, t));
}

}  // namespace detail

/// \brief Team text: Gram matrix, coefficients and weighted rank-space vectors of one token.
/// \ingroup nn
struct mix_forward_body {
  mixing_algebra algebra;  ///< form, guard and policy
  index_t chosen;          ///< k
  index_t rank;            ///< r

  /// \returns doubles of scratch a team
  index_t scratch_size() const {
    return mixing_algebra::scratch_size(chosen) + chosen + (chosen + 1) * rank;
  }

  /// \param[in]  team          lanes; one works
  /// \param[in]  t             the token
  /// \param[in]  scratch       scratch_size() doubles
  /// \param[in]  h             (k r) x T
  /// \param[in]  ids           k x T
  /// \param[in]  weights       k x T
  /// \param[in]  moments       (E r) x (E r); empty for a plain mixture
  /// \param[out] gram          k^2 x T; empty for a plain mixture
  /// \param[out] coefficients  k x T
  /// \param[out] mixed         (k r) x T, a_i h_i
  /// \param[out] status        1 x T, bits of mixing_algebra::status_of()
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<S const> weights,
                              matrix_ref<double const> moments, matrix_ref<double> gram,
                              matrix_ref<double> coefficients, matrix_ref<S> mixed,
                              matrix_ref<int> status) const {
    if (team.rank() != 0) return;
    index_t const k = chosen;
    int const* const id = ids.column(t);
    double* const a = coefficients.column(t);
    status(0, t) = 0;
    if (algebra.is_plain(k)) {
      detail::slot_weights(weights, t, id, a);
    } else {
      double* const c = scratch + mixing_algebra::scratch_size(k);
      double* const vectors = c + k;
      double* const g = gram.column(t);
      detail::widen_column(h.column(t), k * rank, vectors);
      detail::with_rank(rank, [&]<unsigned Fixed>() {
        detail::token_gram<Fixed>(moments, id, k, rank, vectors, g, vectors + k * rank);
      });
      detail::slot_weights(weights, t, id, c);
      auto const state = mixing_algebra::place(k, scratch);
      algebra.factor(k, g, state);
      algebra.coefficients(k, c, state, a);
      status(0, t) = algebra.status_of(id, state);
    }
    for (index_t i = 0; i < k; ++i) {
      S const* const from = h.column(t) + i * rank;
      S* const to = mixed.column(t) + i * rank;
      for (index_t b = 0; b < rank; ++b)
        to[b] = id[i] < 0 ? S(0) : static_cast<S>(a[i] * static_cast<double>(from[b]));
    }
  }
};

/// \brief Team text: gradients of one token's gate weights and rank-space vectors.
/// \ingroup nn
struct mix_backward_body {
  mixing_algebra algebra;  ///< form, guard and policy
  index_t chosen;          ///< k
  index_t rank;            ///< r
  double scaling;          ///< s

  /// \returns doubles of scratch a team
  index_t scratch_size() const {
    return mixing_algebra::scratch_size(chosen) + 4 * chosen + 2 * chosen * rank;
  }

  /// \param[in]     team      lanes; one works
  /// \param[in]     t         the token
  /// \param[in]     scratch   scratch_size() doubles
  /// \param[in]     h         (k r) x T
  /// \param[in]     ids       k x T
  /// \param[in]     weights   k x T
  /// \param[in]     moments   (E r) x (E r); empty for a plain mixture
  /// \param[in,out] gram      k^2 x T; becomes W, for cross_moments_body
  /// \param[in,out] dh        (k r) x T, z on entry, the gradient of h on exit
  /// \param[out]    mixed     (k r) x T, a_i h_i
  /// \param[out]    dweights  k x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<S const> weights,
                              matrix_ref<double const> moments, matrix_ref<double> gram,
                              matrix_ref<S> dh, matrix_ref<S> mixed, matrix_ref<S> dweights) const {
    if (team.rank() != 0) return;
    index_t const k = chosen;
    int const* const id = ids.column(t);
    double* const u = scratch + mixing_algebra::scratch_size(k);
    double* const c = u + k;
    double* const a = c + k;
    double* const dc = a + k;
    double* const vectors = dc + k;
    double* const dvectors = vectors + k * rank;
    detail::widen_column(h.column(t), k * rank, vectors);
    detail::slot_weights(weights, t, id, c);
    detail::widen_column(static_cast<S const*>(dh.column(t)), k * rank, dvectors);
    detail::with_rank(rank, [&]<unsigned Fixed>() {
      for (index_t i = 0; i < k; ++i)
        u[i] = scaling * detail::dot<Fixed>(rank, vectors + i * rank, dvectors + i * rank);
    });
    if (algebra.is_plain(k)) {
      for (index_t i = 0; i < k; ++i) {
        a[i] = c[i];
        dc[i] = u[i];
        scale_vector(scaling * a[i], dvectors + i * rank);
      }
    } else {
      double* const g = gram.column(t);
      auto const state = mixing_algebra::place(k, scratch);
      algebra.factor(k, g, state);
      algebra.coefficients(k, c, state, a);
      algebra.pull_back(k, u, state, dc);
      for (index_t i = 0; i < k; ++i) scale_vector(scaling * a[i], dvectors + i * rank);
      detail::with_rank(rank, [&]<unsigned Fixed>() {
        for (index_t j = 0; j < k; ++j)
          for (index_t i = 0; i < k; ++i) {
            double const w = id[i] < 0 || id[j] < 0 ? 0 : state.w(i, j);
            g[i + j * k] = w;
            if (w != 0)
              detail::add_block<Fixed>(moments, id[i], id[j], rank, w, vectors + j * rank,
                                       dvectors + i * rank);
          }
      });
    }
    for (index_t i = 0; i < k; ++i) {
      dweights(i, t) = id[i] < 0 ? S(0) : static_cast<S>(dc[i]);
      S* const to = dh.column(t) + i * rank;
      S* const weighted = mixed.column(t) + i * rank;
      for (index_t b = 0; b < rank; ++b) {
        to[b] = static_cast<S>(dvectors[i * rank + b]);
        weighted[b] = static_cast<S>(a[i] * vectors[i * rank + b]);
      }
    }
  }

 private:
  STIEFELX_HD void scale_vector(double factor, double* v) const {
    for (index_t b = 0; b < rank; ++b) v[b] *= factor;
  }
};

}  // namespace stiefelx
