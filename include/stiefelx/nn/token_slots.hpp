// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Between columns that are tokens and columns that are slots of tokens.
/// \ingroup nn
///
/// Slot i of token t is column t k + i: the layout of experts' outputs in expert_gram_schmidt().
/// These are team text for run_batch(), one item a token.

namespace stiefelx {

/// \brief Team text: copies a token's column to each of its slots.
/// \ingroup nn
struct spread_slots_body {
  index_t slots;  ///< k

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes share the rows
  /// \param[in]  t     the token
  /// \param[in]  x     d x T
  /// \param[out] y     d x (k T)
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> x,
                              matrix_ref<S> y) const {
    for (index_t i = 0; i < slots; ++i)
      for (index_t row = team.rank(); row < x.rows; row += team.size())
        y(row, t * slots + i) = x(row, t);
  }
};

/// \brief Team text: adds up a token's slots, in their order.
/// \ingroup nn
struct sum_slots_body {
  index_t slots;  ///< k

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes share the rows
  /// \param[in]  t     the token
  /// \param[in]  x     d x (k T)
  /// \param[out] y     d x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> x,
                              matrix_ref<S> y) const {
    for (index_t row = team.rank(); row < x.rows; row += team.size()) {
      S sum = S(0);
      for (index_t i = 0; i < slots; ++i) sum += x(row, t * slots + i);
      y(row, t) = sum;
    }
  }
};

/// \brief Team text: takes a token's stacked slots apart, (k r) x T to r x (k T).
/// \ingroup nn
struct unstack_slots_body {
  index_t slots;  ///< k

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes share the rows
  /// \param[in]  t     the token
  /// \param[in]  x     (k r) x T
  /// \param[out] y     r x (k T)
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> x,
                              matrix_ref<S> y) const {
    for (index_t i = 0; i < slots; ++i)
      for (index_t row = team.rank(); row < y.rows; row += team.size())
        y(row, t * slots + i) = x(i * y.rows + row, t);
  }
};

/// \brief Team text: stacks a token's slots, r x (k T) to (k r) x T.
/// \ingroup nn
struct stack_slots_body {
  index_t slots;  ///< k

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes share the rows
  /// \param[in]  t     the token
  /// \param[in]  x     r x (k T)
  /// \param[out] y     (k r) x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> x,
                              matrix_ref<S> y) const {
    for (index_t i = 0; i < slots; ++i)
      for (index_t row = team.rank(); row < x.rows; row += team.size())
        y(i * x.rows + row, t) = x(row, t * slots + i);
  }
};

}  // namespace stiefelx
