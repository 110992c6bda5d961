// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/lane.hpp>

namespace stiefelx::cuda {

/// \brief Kernel: s = (s + s^T) / 2, a tile and its mirror image a block.
/// \ingroup cuda
///
/// Both tiles pass through shared memory, so that both are read and written along columns.
template <class T>
struct symmetrize_tiles {
  static constexpr index_t edge = 32;         ///< rows of a tile
  static constexpr index_t pitch = edge + 1;  ///< entries between columns: no two lanes on one bank
  static constexpr std::size_t shared_bytes =
      2 * std::size_t{edge} * std::size_t{pitch} * sizeof(T);  ///< both tiles

  matrix_ref<T> s;  ///< square

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    index_t const top = block_x() * edge, left = block_y() * edge;
    // The whole block leaves: no lane of it waits at the barrier.
    if (top > left) return;
    T* const upper = static_cast<T*>(shared_memory());
    T* const lower = upper + edge * pitch;
    index_t const along = thread_rank() % edge;
    index_t const first = thread_rank() / edge, step = block_threads() / edge;
    index_t const down = lesser(edge, s.rows - top), across = lesser(edge, s.rows - left);
    for (index_t c = first; c < across; c += step)
      if (along < down) upper[along + c * pitch] = s(top + along, left + c);
    for (index_t c = first; c < down; c += step)
      if (along < across) lower[along + c * pitch] = s(left + along, top + c);
    block_barrier();
    for (index_t c = first; c < across; c += step)
      if (along < down)
        s(top + along, left + c) = mean(upper[along + c * pitch], lower[c + along * pitch]);
    if (top == left) return;
    for (index_t c = first; c < down; c += step)
      if (along < across)
        s(left + along, top + c) = mean(upper[c + along * pitch], lower[along + c * pitch]);
  }

 private:
  STIEFELX_HD static index_t lesser(index_t a, index_t b) { return a < b ? a : b; }
  STIEFELX_HD static T mean(T a, T b) { return T(0.5) * (a + b); }
};

/// \brief Queues s = (s + s^T) / 2.
/// \ingroup cuda
/// \param[in]     queue  where to queue it
/// \param[in,out] s      square
template <class T>
void queue_symmetrize(stream_ref queue, matrix_ref<T> s) {
  using kernel = symmetrize_tiles<T>;
  auto const tiles = static_cast<unsigned>((s.rows + kernel::edge - 1) / kernel::edge);
  auto const threads = static_cast<unsigned>(std::clamp<index_t>(s.rows, 1, 8) * kernel::edge);
  launch(queue, {tiles, tiles, threads, kernel::shared_bytes}, kernel{s});
}

}  // namespace stiefelx::cuda
