// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/kernels/block_sums.hpp>
#include <stiefelx/cuda/kernels/entries.hpp>

/// \file
/// \brief Kernels that add up along columns and along rows, in an order that follows from the
/// sizes.
/// \ingroup cuda

namespace stiefelx::cuda {

/// \brief Kernel: the sum of the terms of each column, or of each chunk of its rows.
/// \ingroup cuda
///
/// A column, or a chunk of one, belongs to 2^log_lanes lanes that follow each other in a warp, or
/// to a whole block. Blocks along y have the chunks.
template <int V, class Sum, class Terms, class T>
struct column_totals {
  Terms terms;         ///< what is added
  T* results;          ///< entry (chunk, column)
  index_t step;        ///< entries from the result of one column to the next
  index_t rows;        ///< rows
  index_t cols;        ///< columns
  index_t chunk;       ///< rows of a chunk, a multiple of V
  unsigned log_lanes;  ///< at most 5, or the logarithm of the block's lanes

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    index_t const top = block_y() * chunk;
    index_t const end = top + chunk < rows ? top + chunk : rows;
    unsigned const lanes = 1U << log_lanes;
    unsigned const lane = thread_rank() & (lanes - 1);
    unsigned const per_block = block_threads() >> log_lanes;
    index_t const j = block_x() * index_t{per_block} + (thread_rank() >> log_lanes);
    Sum mine(0);
    if (j < cols) {
      index_t i = top + lane * V;
      for (; i + V <= end; i += lanes * V) terms.template add<V>(mine, i, j);
      for (; V > 1 && i < end; ++i) terms.template add<1>(mine, i, j);
    }
    // Lanes without a column take part in the totals of the others.
    Sum const total =
        log_lanes <= 5 ? group_total(mine, log_lanes, plus{}) : block_total(mine, plus{});
    if (j < cols && lane == 0) results[j * step + block_y()] = static_cast<T>(total);
  }
};

/// \brief Kernel: the sum of the entries of each row, or of each chunk of its columns.
/// \ingroup cuda
///
/// A block has 2^log_rows rows; its lanes with the same row take turns at the columns, so that
/// lanes that follow each other read entries that do. Their sums meet in shared memory, a Sum a
/// lane.
template <class A, class Sum, class T>
struct row_totals {
  matrix_ref<A const> a;  ///< what is added
  T* results;             ///< entry (row, chunk)
  index_t step;           ///< entries from the results of one chunk to the next
  index_t chunk;          ///< columns of a chunk
  unsigned log_rows;      ///< logarithm of a block's rows, at most 5

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    unsigned const rows = 1U << log_rows;
    unsigned const row = thread_rank() & (rows - 1);
    unsigned const turns = block_threads() >> log_rows;
    unsigned const turn = thread_rank() >> log_rows;
    index_t const i = block_x() * index_t{rows} + row;
    index_t const first = block_y() * chunk;
    index_t const end = first + chunk < a.cols ? first + chunk : a.cols;
    Sum mine(0);
    if (i < a.rows)
      for (index_t j = first + turn; j < end; j += turns) mine += static_cast<Sum>(a(i, j));
    Sum* const sums = static_cast<Sum*>(shared_memory());
    sums[thread_rank()] = mine;
    for (unsigned rest = turns / 2; rest > 0; rest /= 2) {
      block_barrier();
      if (turn < rest) sums[thread_rank()] += sums[thread_rank() + rest * rows];
    }
    if (turn == 0 && i < a.rows) results[i + block_y() * step] = static_cast<T>(sums[row]);
  }
};

}  // namespace stiefelx::cuda
