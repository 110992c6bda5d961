// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/lane.hpp>
#include <stiefelx/cuda/runtime.hpp>

/// \file
/// \brief Kernels that move entries: converting them, and across the diagonal.
/// \ingroup cuda

namespace stiefelx::cuda {

/// \brief An entry in another precision, rounded once.
/// \ingroup cuda
/// \param[in] from  any number of a device matrix
/// \returns the nearest number of the other type; towards zero where that is int
template <class To, class From>
STIEFELX_HD constexpr To converted(From const& from) {
  if constexpr (std::is_same_v<To, From>) {
    return from;
  } else if constexpr (NarrowScalar<From>) {
    return static_cast<To>(static_cast<float>(from));
  } else {
    return static_cast<To>(from);
  }
}

/// \brief Kernel: to = from, entry by entry in to's type.
/// \ingroup cuda
///
/// A lane has one row; blocks along y share the columns.
template <class From, class To>
struct convert_entries {
  matrix_ref<From const> from;  ///< any shape
  matrix_ref<To> to;            ///< of from's shape, apart from it
  index_t step;                 ///< number of blocks along y

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    index_t const i = static_cast<index_t>(block_x()) * block_threads() + thread_rank();
    if (i >= to.rows) return;
    for (index_t j = block_y(); j < to.cols; j += step) to(i, j) = converted<To>(from(i, j));
  }
};

/// \brief Kernel: to = from^T by tiles of 32 x 32, so that both sides are read and written in runs.
/// \ingroup cuda
///
/// A block has one tile; shared memory holds it with one entry between its columns, which keeps
/// the lanes of a warp on different banks.
template <class From, class To>
struct transpose_tiles {
  static constexpr unsigned width = 32;         ///< rows and columns of a tile
  static constexpr unsigned threads = 256;      ///< lanes of a block
  static constexpr unsigned pitch = width + 1;  ///< entries from one column of the tile to the next

  matrix_ref<From const> from;  ///< m x n
  matrix_ref<To> to;            ///< n x m; from itself only with above_diagonal
  bool above_diagonal;          ///< whether only entries above from's diagonal are moved

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    auto const down = static_cast<unsigned>((from.rows + (width - 1)) / width);
    index_t const row = static_cast<index_t>(block_x() % down) * width;
    index_t const col = static_cast<index_t>(block_x() / down) * width;
    // The whole block leaves: no lane of it waits at the barrier.
    if (above_diagonal && row > col) return;
    From* const tile = static_cast<From*>(shared_memory());
    unsigned const along = thread_rank() % width;
    unsigned const across = thread_rank() / width;
    for (unsigned k = across; k < width; k += threads / width) {
      // Entries that are not moved may never have been written.
      bool const inside = row + along < from.rows && col + k < from.cols;
      bool const wanted = !above_diagonal || row + along < col + k;
      if (inside && wanted) tile[along + k * pitch] = from(row + along, col + k);
    }
    block_barrier();
    for (unsigned k = across; k < width; k += threads / width) {
      bool const inside = row + k < from.rows && col + along < from.cols;
      bool const wanted = !above_diagonal || row + k < col + along;
      if (inside && wanted) to(col + along, row + k) = converted<To>(tile[k + along * pitch]);
    }
  }
};

namespace detail {

template <class T>
void expect_sizes(char const* function, char const* argument, matrix_ref<T> a, index_t rows,
                  index_t cols) {
  if (a.rows == rows && a.cols == cols) return;
  stiefelx::detail::throw_shape(function, argument, a.rows, a.cols,
                                std::to_string(rows) + "x" + std::to_string(cols));
}

}  // namespace detail

/// \brief Queues to = from with a conversion.
/// \ingroup cuda
/// \param[in]  queue  where to queue it
/// \param[in]  from   any shape
/// \param[out] to     of from's shape, apart from it
/// \throws shape_error  when the shapes differ
template <class From, class To>
void queue_conversion(stream_ref queue, matrix_ref<From const> from, matrix_ref<To> to) {
  detail::expect_sizes("queue_conversion", "to", to, from.rows, from.cols);
  if (to.rows == 0 || to.cols == 0) return;
  // Columns that follow each other are one: then a single row keeps every lane busy too.
  if (from.stride == from.rows && to.stride == to.rows) {
    index_t const size = to.rows * to.cols;
    from = {from.data, size, 1, size};
    to = {to.data, size, 1, size};
  }
  constexpr index_t threads = 256;
  index_t const step = std::min<index_t>(to.cols, 65535);
  auto const blocks = static_cast<unsigned>((to.rows + threads - 1) / threads);
  launch(queue, {blocks, static_cast<unsigned>(step), unsigned{threads}, 0},
         convert_entries<From, To>{from, to, step});
}

/// \brief Queues to = from^T, or the copy of what lies above the diagonal to below it.
/// \ingroup cuda
/// \param[in]  queue           where to queue it
/// \param[in]  from            m x n
/// \param[out] to              n x m, apart from from; from itself with above_diagonal
/// \param[in]  above_diagonal  whether only the entries above from's diagonal are moved
/// \throws shape_error  when the shapes do not fit
template <class From, class To>
void queue_transpose(stream_ref queue, matrix_ref<From const> from, matrix_ref<To> to,
                     bool above_diagonal = false) {
  detail::expect_sizes("queue_transpose", "to", to, from.cols, from.rows);
  if (to.rows == 0 || to.cols == 0) return;
  using kernel = transpose_tiles<From, To>;
  auto const tiles = [](index_t size) { return (size + (kernel::width - 1)) / kernel::width; };
  auto const blocks = static_cast<unsigned>(tiles(from.rows) * tiles(from.cols));
  constexpr std::size_t bytes = sizeof(From) * kernel::pitch * kernel::width;
  launch(queue, {blocks, 1, kernel::threads, bytes}, kernel{from, to, above_diagonal});
}

}  // namespace stiefelx::cuda
