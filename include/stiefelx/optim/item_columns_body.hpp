// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Team text that brings the columns of some items together, and back.
/// \ingroup optim
///
/// A matrix holds items side by side, some columns each. `indices` is 1 x count; an index outside of
/// the items belongs to none. When an index is repeated, its first place stands for the item.

namespace stiefelx {

/// \brief Finds the first place of each index, and links the places where it is repeated.
/// \ingroup optim
///
/// One team of one lane, from the last place to the first. What `first` holds of earlier calls needs
/// no clearing: a place behind the current one that names the same index was written in this call.
struct link_items_body {
  index_t count;  ///< number of indices
  index_t items;  ///< number of items

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes, of which one works
  /// \param[in]     indices  1 x count
  /// \param[out]    next     1 x count, the next place with the same index, or -1
  /// \param[in,out] first    1 x items, the first place of each index that is given
  template <Team T, class Index>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<Index> indices,
                              matrix_ref<int> next, matrix_ref<int> first) const {
    if (team.rank() != 0) return;
    for (index_t k = count; k-- > 0;) {
      index_t const item = indices(0, k);
      next(0, k) = -1;
      if (item < 0 || item >= items) continue;
      index_t const later = first(0, item);
      if (later > k && later < count && indices(0, later) == indices(0, k))
        next(0, k) = static_cast<int>(later);
      first(0, item) = static_cast<int>(k);
    }
  }
};

/// \brief Copies the columns of the given items side by side.
/// \ingroup optim
///
/// Places behind the last index repeat the first one; an index outside of the items gets item 0.
struct gather_items_body {
  index_t count;    ///< number of indices, at least 1
  index_t items;    ///< number of items
  index_t columns;  ///< columns of each item

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     its lanes share the rows
  /// \param[in]  place    where the item goes
  /// \param[in]  indices  1 x count
  /// \param[in]  from     all items
  /// \param[out] to       the places
  template <Team T, class Index, class From, class S>
  STIEFELX_HD void operator()(T const& team, index_t place, double*, matrix_ref<Index> indices,
                              matrix_ref<From> from, matrix_ref<S> to) const {
    index_t item = indices(0, place < count ? place : 0);
    if (item < 0 || item >= items) item = 0;
    for (index_t j = 0; j < columns; ++j)
      for (index_t i = team.rank(); i < to.rows; i += team.size())
        to(i, place * columns + j) = from(i, item * columns + j);
  }
};

/// \brief Brings the gradients of the given items to their first places.
/// \ingroup optim
///
/// Gradients of a repeated index are added, in the order of its places. Every other place gets zero.
struct gather_gradients_body {
  index_t count;    ///< number of indices
  index_t items;    ///< number of items
  index_t columns;  ///< columns of each item

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     its lanes share the rows
  /// \param[in]  place    where the sum goes
  /// \param[in]  indices  1 x count
  /// \param[in]  next     from link_items_body
  /// \param[in]  first    from link_items_body
  /// \param[in]  g        one gradient an index, side by side
  /// \param[out] sums     one gradient a place
  template <Team T, class Index, class G, class S>
  STIEFELX_HD void operator()(T const& team, index_t place, double*, matrix_ref<Index> indices,
                              matrix_ref<int> next, matrix_ref<int> first, matrix_ref<G> g,
                              matrix_ref<S> sums) const {
    index_t const item = place < count ? indices(0, place) : -1;
    bool const stands = item >= 0 && item < items && first(0, item) == place;
    for (index_t j = 0; j < columns; ++j)
      for (index_t i = team.rank(); i < sums.rows; i += team.size()) {
        S sum = stands ? S(g(i, place * columns + j)) : S(0);
        if (stands)
          for (index_t k = next(0, place); k >= 0; k = next(0, k))
            sum = added(sum, g(i, k * columns + j));
        sums(i, place * columns + j) = sum;
      }
  }

 private:
  template <class S>
  STIEFELX_HD static S added(S a, S b) {
    if constexpr (std::is_floating_point_v<S>)
      return a + b;
    else
      return S(a.real() + b.real(), a.imag() + b.imag());
  }
};

/// \brief Copies columns back to the items whose first places they stand at.
/// \ingroup optim
struct scatter_items_body {
  index_t items;    ///< number of items
  index_t columns;  ///< columns of each item

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     its lanes share the rows
  /// \param[in]     place    below the number of indices
  /// \param[in]     indices  one a place
  /// \param[in]     first    from link_items_body
  /// \param[in]     from     the places
  /// \param[in,out] to       all items
  template <Team T, class Index, class From, class S>
  STIEFELX_HD void operator()(T const& team, index_t place, double*, matrix_ref<Index> indices,
                              matrix_ref<int> first, matrix_ref<From> from,
                              matrix_ref<S> to) const {
    index_t const item = indices(0, place);
    if (item < 0 || item >= items || first(0, item) != place) return;
    for (index_t j = 0; j < columns; ++j)
      for (index_t i = team.rank(); i < to.rows; i += team.size())
        to(i, item * columns + j) = from(i, place * columns + j);
  }
};

}  // namespace stiefelx
