// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/mixing_blocks.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Losses on the Gram matrices of a mixture, inside its backward pass.
/// \ingroup nn
///
/// Such a loss (gram_orthogonality_loss()) gives W with \f$ \bar e_i \mathrel{+}= \sum_j W_{ij} e_j \f$.
/// The mixture's own algebra gives another W of this kind, so the two add up in rank space, and tokens
/// and output gradients are read once.

namespace stiefelx {

/// No loss on the Gram matrices.
/// \ingroup nn
struct no_gram_loss {};

/// \brief Team text: Gram matrix of one token, for a plain mixture that has not saved it.
/// \ingroup nn
struct slot_grams_body {
  index_t chosen;  ///< k
  index_t rank;    ///< r

  /// \returns doubles of scratch a team
  index_t scratch_size() const { return (chosen + 1) * rank; }

  /// \param[in]  team     lanes share the rows of a block
  /// \param[in]  t        the token
  /// \param[in]  scratch  scratch_size() doubles
  /// \param[in]  h        (k r) x T
  /// \param[in]  ids      k x T
  /// \param[in]  moments  (E r) x (E r)
  /// \param[out] grams    k^2 x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<double const> moments,
                              matrix_ref<double> grams) const {
    detail::widen_column(team, h.column(t), chosen * rank, scratch);
    team.barrier();
    detail::token_gram(team, moments, ids.column(t), chosen, rank, scratch, grams.column(t),
                       scratch + chosen * rank);
  }
};

/// \brief Team text: adds \f$ \sum_j W_{ij} B_i^T B_j h_j \f$ to the gradient of one token's \f$ h_i \f$.
/// \ingroup nn
struct gram_gradient_body {
  index_t chosen;  ///< k
  index_t rank;    ///< r

  /// \returns doubles of scratch a team
  index_t scratch_size() const { return 2 * chosen * rank; }

  /// \param[in]     team     lanes share the rows of a block
  /// \param[in]     t        the token
  /// \param[in]     scratch  scratch_size() doubles
  /// \param[in]     h        (k r) x T
  /// \param[in]     ids      k x T; entries of w in empty slots are not read
  /// \param[in]     moments  (E r) x (E r)
  /// \param[in]     w        k^2 x T
  /// \param[in,out] dh       (k r) x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> h,
                              matrix_ref<int const> ids, matrix_ref<double const> moments,
                              matrix_ref<double const> w, matrix_ref<S> dh) const {
    index_t const k = chosen;
    double* const sum = scratch + k * rank;
    detail::widen_column(team, h.column(t), k * rank, scratch);
    detail::widen_column(team, static_cast<S const*>(dh.column(t)), k * rank, sum);
    team.barrier();
    detail::add_gram_rows(team, moments, ids.column(t), k, rank, w.column(t), scratch, sum);
    team.barrier();
    for (index_t a = team.rank(); a < k * rank; a += team.size()) dh(a, t) = static_cast<S>(sum[a]);
  }
};

namespace detail {

template <class GramLosses>
inline constexpr bool has_gram_losses =
    !std::is_same_v<std::remove_cvref_t<GramLosses>, no_gram_loss>;

}  // namespace detail

}  // namespace stiefelx
