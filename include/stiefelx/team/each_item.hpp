// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Whether a context's run_batch() gives every item a team of many lanes.
/// \ingroup team
///
/// Then what comes before and after a body costs least as a part of it. Else it is best done for all
/// items at once by transform(), as where the lanes of a SIMD register are items.
template <class Ctx>
inline constexpr bool has_team_an_item = false;

/// \brief Team text for one matrix of each stack, made a body of run_batch().
/// \ingroup team
///
/// `item_body(team, scratch, a, b, ...)` gets the item's own columns of each matrix of a stack and
/// `item_body.scratch_entries()` scalars of scratch. All matrices have one scalar. The text is
/// written for scalars and packs alike (team/lanes.hpp), so a context whose lanes are SIMD lanes may
/// give it W items at once; every other context runs this operator.
/// \tparam Body  such team text
template <class Body>
struct each_item {
  Body item_body;  ///< text for one item
  index_t count;   ///< number of items; each matrix has a multiple of it as columns

  /// \returns doubles of scratch a team, enough for complex scalars
  index_t scratch_size() const { return 2 * item_body.scratch_entries(); }

  /// \tparam S  scalar of the matrices
  /// \returns doubles of scratch a team that are enough for it
  template <class S>
  index_t scratch_size_of() const {
    auto const bytes = static_cast<index_t>(sizeof(S)) * item_body.scratch_entries();
    auto const unit = static_cast<index_t>(sizeof(double));
    return (bytes + unit - 1) / unit;
  }

  /// \param[in]     team      lanes
  /// \param[in]     item      which one
  /// \param[in]     scratch   scratch_size() doubles
  /// \param[in,out] first     a stack
  /// \param[in,out] others    more of them
  template <Team T, class S, class... M>
  STIEFELX_HD void operator()(T const& team, index_t item, double* scratch, matrix_ref<S> first,
                              M... others) const {
    auto const own = [&](auto a) {
      index_t const cols = a.cols / count;
      return a.middle_columns(item * cols, cols);
    };
    item_body(team, reinterpret_cast<std::remove_const_t<S>*>(scratch), own(first), own(others)...);
  }
};

}  // namespace stiefelx
