// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/kernels/block_sums.hpp>
#include <stiefelx/cuda/kernels/entries.hpp>

namespace stiefelx::cuda {

/// \brief Kernel of one block: *target |= every entry of a matrix.
/// \ingroup cuda
struct raise_bits {
  int* target;                 ///< status
  matrix_ref<int const> bits;  ///< any shape
  entry_walk walk;             ///< which entries a lane has

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    int mine = 0;
    walk.each<1>([&](index_t i, index_t j, pack_size<1>) { mine |= bits(i, j); });
    int const all = block_total(mine, either_bit{});
    if (thread_rank() == 0) *target |= all;
  }
};

}  // namespace stiefelx::cuda
