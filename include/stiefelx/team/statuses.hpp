// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: adds the status bits of each matrix of a stack to that matrix's status.
/// \ingroup orth
struct collect_statuses_body {
  index_t columns;  ///< how many columns of bits belong to one matrix

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     item    which matrix of the stack
  /// \param[in]     bits    1 x (columns count)
  /// \param[in,out] status  1 x count
  template <Team T>
  STIEFELX_HD void operator()(T const& team, index_t item, double*, matrix_ref<int> bits,
                              matrix_ref<int> status) const {
    if (team.rank() != 0) return;
    for (index_t j = 0; j < columns; ++j) status(0, item) |= bits(0, item * columns + j);
  }
};

}  // namespace stiefelx
