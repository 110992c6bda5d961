// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/mixing.hpp>

/// \file
/// \brief Team text of the mixture of low-rank experts in rank space, one token a team.
/// \ingroup nn

namespace stiefelx {

namespace detail {

// out = C_ij h, with C_ij the r x r block of the moments and h of rank r.
STIEFELX_HD inline void apply_block(matrix_ref<double const> moments, index_t i, index_t j,
                                    index_t rank, double const* h, double* out) {
  for (index_t a = 0; a < rank; ++a) out[a] = 0;
  for (index_t b = 0; b < rank; ++b) {
    double const* const column = moments.column(j * rank + b) + i * rank;
    for (index_t a = 0; a < rank; ++a) out[a] += column[a] * h[b];
  }
}

STIEFELX_HD inline double dot(index_t rank, double const* a, double const* b) {
  double sum = 0;
  for (index_t i = 0; i < rank; ++i) sum += a[i] * b[i];
  return sum;
}

// The chosen experts' rank-space vectors in double, one after the other.
template <class S>
STIEFELX_HD void gather(matrix_ref<S const> h, index_t t, int const* ids, index_t k, index_t rank,
                        double* out) {
  for (index_t i = 0; i < k; ++i)
    for (index_t a = 0; a < rank; ++a)
      out[i * rank + a] = static_cast<double>(h(ids[i] * rank + a, t));
}

// k x k Gram matrix by columns, lower triangle and its mirror image.
STIEFELX_HD inline void token_gram(matrix_ref<double const> moments, int const* ids, index_t k,
                                   index_t rank, double const* h, double* g, double* room) {
  for (index_t j = 0; j < k; ++j)
    for (index_t i = j; i < k; ++i) {
      apply_block(moments, ids[i], ids[j], rank, h + j * rank, room);
      g[i + j * k] = dot(rank, h + i * rank, room);
      g[j + i * k] = g[i + j * k];
    }
}

}  // namespace detail

/// \brief Team text: Gram matrix, coefficients and weighted rank-space vectors of one token.
/// \ingroup nn
struct mix_forward_body {
  mixing_algebra algebra;  ///< form and guard
  index_t chosen;          ///< k
  index_t rank;            ///< r

  /// \returns doubles of scratch a team
  index_t scratch_size() const {
    return mixing_algebra::scratch_size(chosen) + (chosen + 1) * rank;
  }

  /// \param[in]  team          lanes; one works
  /// \param[in]  t             the token
  /// \param[in]  scratch       scratch_size() doubles
  /// \param[in]  h             (E r) x T
  /// \param[in]  ids           k x T
  /// \param[in]  weights       k x T
  /// \param[in]  moments       (E r) x (E r); empty for a plain mixture
  /// \param[out] gram          k^2 x T; empty for a plain mixture
  /// \param[out] coefficients  k x T
  /// \param[out] mixed         (E r) x T, a_i h_i, zero for experts that were not chosen
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<S const> weights,
                              matrix_ref<double const> moments, matrix_ref<double> gram,
                              matrix_ref<double> coefficients, matrix_ref<S> mixed) const {
    if (team.rank() != 0) return;
    index_t const k = chosen;
    int const* const id = ids.column(t);
    double* const a = coefficients.column(t);
    if (algebra.kind == mixing::none) {
      for (index_t i = 0; i < k; ++i) a[i] = static_cast<double>(weights(i, t));
    } else {
      double* const vectors = scratch + mixing_algebra::scratch_size(k);
      detail::gather(h, t, id, k, rank, vectors);
      detail::token_gram(moments, id, k, rank, vectors, gram.column(t), vectors + k * rank);
      auto const state = mixing_algebra::place(k, scratch);
      algebra.factor(k, gram.column(t), state);
      algebra.coefficients(k, weights.column(t), state, a);
    }
    for (index_t row = 0; row < mixed.rows; ++row) mixed(row, t) = S(0);
    for (index_t i = 0; i < k; ++i)
      for (index_t row = id[i] * rank; row < (id[i] + 1) * rank; ++row)
        mixed(row, t) = static_cast<S>(a[i] * static_cast<double>(h(row, t)));
  }
};

/// \brief Team text: gradients of one token's gate weights and rank-space vectors.
/// \ingroup nn
struct mix_backward_body {
  mixing_algebra algebra;  ///< form and guard
  index_t chosen;          ///< k
  index_t rank;            ///< r
  double scaling;          ///< s

  /// \returns doubles of scratch a team
  index_t scratch_size() const {
    return mixing_algebra::scratch_size(chosen) + chosen + (2 * chosen + 1) * rank;
  }

  /// \param[in]     team          lanes; one works
  /// \param[in]     t             the token
  /// \param[in]     scratch       scratch_size() doubles
  /// \param[in]     h             (E r) x T
  /// \param[in]     ids           k x T
  /// \param[in]     weights       k x T
  /// \param[in]     moments       (E r) x (E r); empty for a plain mixture
  /// \param[in,out] gram          k^2 x T; becomes W, for cross_moments_body
  /// \param[in]     coefficients  k x T
  /// \param[in,out] dh            (E r) x T, z on entry, the gradient of h on exit
  /// \param[out]    mixed         (E r) x T, a_i h_i, zero for experts that were not chosen
  /// \param[out]    dweights      k x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<S const> weights,
                              matrix_ref<double const> moments, matrix_ref<double> gram,
                              matrix_ref<double const> coefficients, matrix_ref<S> dh,
                              matrix_ref<S> mixed, matrix_ref<S> dweights) const {
    if (team.rank() != 0) return;
    index_t const k = chosen;
    int const* const id = ids.column(t);
    double const* const a = coefficients.column(t);
    double* const u = scratch + mixing_algebra::scratch_size(k);
    double* const vectors = u + k;
    double* const dvectors = vectors + k * rank;
    double* const room = dvectors + k * rank;
    detail::gather(h, t, id, k, rank, vectors);
    for (index_t i = 0; i < k; ++i) {
      for (index_t b = 0; b < rank; ++b)
        dvectors[i * rank + b] = scaling * static_cast<double>(dh(id[i] * rank + b, t));
      u[i] = detail::dot(rank, vectors + i * rank, dvectors + i * rank);
      for (index_t b = 0; b < rank; ++b) dvectors[i * rank + b] *= a[i];
    }
    if (algebra.kind == mixing::none) {
      for (index_t i = 0; i < k; ++i) dweights(i, t) = static_cast<S>(u[i]);
    } else {
      double* const g = gram.column(t);
      auto const state = mixing_algebra::place(k, scratch);
      algebra.factor(k, g, state);
      for (index_t i = 0; i < k; ++i)
        state.z[i] = static_cast<double>(weights(i, t)) / state.norm[i];
      algebra.pull_back(k, u, state, dweights.column(t));
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i < k; ++i) {
          double const w = state.w(i, j);
          g[i + j * k] = w;
          if (w == 0) continue;
          detail::apply_block(moments, id[i], id[j], rank, vectors + j * rank, room);
          for (index_t b = 0; b < rank; ++b) dvectors[i * rank + b] += w * room[b];
        }
    }
    for (index_t row = 0; row < dh.rows; ++row) {
      dh(row, t) = S(0);
      mixed(row, t) = S(0);
    }
    for (index_t i = 0; i < k; ++i)
      for (index_t b = 0; b < rank; ++b) {
        index_t const row = id[i] * rank + b;
        dh(row, t) = static_cast<S>(dvectors[i * rank + b]);
        mixed(row, t) = static_cast<S>(a[i] * vectors[i * rank + b]);
      }
  }
};

/// \brief Team text: what the Gram matrices contribute to the gradient of B, for one expert.
/// \ingroup nn
///
/// Column block i of \f$ K_{ji} = \sum_t W_{ij} h_j h_i^T \f$. One team adds up the tokens in order, so
/// the sum needs no atomic additions and has the same bits every time.
struct cross_moments_body {
  index_t chosen;  ///< k
  index_t rank;    ///< r

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team   lanes share the rank's columns
  /// \param[in]  e      the expert i
  /// \param[in]  h      (E r) x T
  /// \param[in]  ids    k x T
  /// \param[in]  w      k^2 x T, from mix_backward_body
  /// \param[out] sums   (E r) x (E r) of double, its column block is overwritten
  /// \param[out] cross  (E r) x (E r), the sums in the data's scalar
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t e, double*, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<double const> w,
                              matrix_ref<double> sums, matrix_ref<S> cross) const {
    index_t const k = chosen;
    for (index_t b = team.rank(); b < rank; b += team.size()) {
      double* const column = sums.column(e * rank + b);
      for (index_t row = 0; row < sums.rows; ++row) column[row] = 0;
      for (index_t t = 0; t < h.cols; ++t) {
        int const* const id = ids.column(t);
        for (index_t i = 0; i < k; ++i) {
          if (id[i] != static_cast<int>(e)) continue;
          double const own = static_cast<double>(h(e * rank + b, t));
          for (index_t j = 0; j < k; ++j) {
            double const factor = w(i + j * k, t) * own;
            index_t const first = id[j] * rank;
            for (index_t a = 0; a < rank; ++a)
              column[first + a] += factor * static_cast<double>(h(first + a, t));
          }
        }
      }
      for (index_t row = 0; row < sums.rows; ++row)
        cross(row, e * rank + b) = static_cast<S>(column[row]);
    }
  }
};

}  // namespace stiefelx
