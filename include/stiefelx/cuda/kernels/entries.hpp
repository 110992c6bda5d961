// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/lane.hpp>

/// \file
/// \brief How kernels go through the entries of matrices: packs of 16 bytes, and which lane has
/// which.
/// \ingroup cuda

namespace stiefelx::cuda {

/// \brief V adjacent entries of a column, loaded and stored at once where they are aligned.
/// \ingroup cuda
template <class T, int V>
struct alignas(std::min<std::size_t>(std::size_t{V} * sizeof(T), 16)) entry_pack {
  T entry[std::size_t{V}];  ///< in the order of the column
};

/// \brief Entries of a pack for operands of these types: 16 bytes of the smallest.
/// \ingroup cuda
template <class... T>
inline constexpr int pack_entries = static_cast<int>(16 / std::min({sizeof(T)...}));

/// \brief Whether every column of a starts at a multiple of 16 bytes.
/// \ingroup cuda
/// \param[in] a  any matrix in device memory
/// \returns true when packs of it may be loaded and stored at once
template <class T>
bool has_aligned_columns(matrix_ref<T> const& a) {
  bool const first = reinterpret_cast<std::uintptr_t>(a.data) % 16 == 0;
  return first && (a.cols <= 1 || a.stride * static_cast<index_t>(sizeof(T)) % 16 == 0);
}

/// \brief One matrix of a kernel; a single entry may stand for every entry.
/// \ingroup cuda
template <class T>
struct entry_operand {
  using Scalar = std::remove_const_t<T>;  ///< entry type

  T* data;         ///< first entry
  index_t stride;  ///< entries from one column to the next
  bool single;     ///< whether the first entry serves every place

  /// \tparam V    entries of the pack; several need aligned columns
  /// \param[in] i  row of its first entry
  /// \param[in] j  column
  /// \returns the pack
  template <int V>
  STIEFELX_HD entry_pack<Scalar, V> load(index_t i, index_t j) const {
    entry_pack<Scalar, V> pack;
    if (single) {
      for (int v = 0; v < V; ++v) pack.entry[v] = *data;
    } else {
      pack = *reinterpret_cast<entry_pack<Scalar, V> const*>(data + i + j * stride);
    }
    return pack;
  }
  /// \param[in] i     row of the first entry
  /// \param[in] j     column
  /// \param[in] pack  what is written
  template <int V>
  STIEFELX_HD void store(index_t i, index_t j, entry_pack<Scalar, V> const& pack) const {
    *reinterpret_cast<entry_pack<Scalar, V>*>(data + i + j * stride) = pack;
  }
};

/// \brief A number for each of V adjacent entries, known to the compiler.
/// \ingroup cuda
template <int V>
using pack_size = std::integral_constant<int, V>;

/// \brief Which lane has which packs of a matrix.
/// \ingroup cuda
///
/// The lanes of a block cover a tile of 2^log_down packs of each of so many columns that all lanes
/// are busy; blocks step over the matrix tile by tile. Lanes that follow each other have packs that
/// do.
struct entry_walk {
  index_t rows;       ///< rows of the matrix
  index_t cols;       ///< columns
  index_t blocks_y;   ///< blocks along y, which share the columns
  unsigned log_down;  ///< logarithm of the lanes along a column

  /// \brief Calls visit(i, j, pack_size<V>) for the packs of this lane, and for the entries of a
  /// column that fill no pack visit(i, j, pack_size<1>).
  /// \tparam V        entries of a pack
  /// \param[in] visit  callable
  template <int V, class Visit>
  STIEFELX_HD void each(Visit const& visit) const {
    unsigned const down = 1U << log_down;
    unsigned const across = block_threads() >> log_down;
    index_t const first = (block_x() * index_t{down} + (thread_rank() & (down - 1))) * V;
    index_t const step = grid_x() * index_t{down} * V;
    for (index_t j = block_y() * index_t{across} + (thread_rank() >> log_down); j < cols;
         j += blocks_y * across) {
      index_t i = first;
      for (; i + V <= rows; i += step) visit(i, j, pack_size<V>{});
      // Only the lane whose pack the column's end cuts has entries left.
      for (; V > 1 && i < rows; ++i) visit(i, j, pack_size<1>{});
    }
  }
};

/// \brief A walk and the launch that goes with it.
/// \ingroup cuda
struct walk_plan {
  entry_walk walk;     ///< what each lane does
  launch_shape shape;  ///< without shared memory
};

/// \brief Chooses tiles for a matrix; the choice depends on the sizes alone.
/// \ingroup cuda
/// \param[in] rows            at least 1
/// \param[in] cols            at least 1
/// \param[in] v               entries of a pack
/// \param[in] most_blocks     at most so many blocks in all
/// \param[in] packs_of_lane   so many packs are worth a lane
/// \returns the walk and its launch
inline walk_plan plan_walk(index_t rows, index_t cols, int v, index_t most_blocks,
                           index_t packs_of_lane = 1) {
  auto const ceil_power = [](index_t n) {
    return std::bit_ceil(static_cast<std::size_t>(std::min<index_t>(n, 256)));
  };
  auto const blocks = [](index_t n, index_t of) { return (n + of - 1) / of; };
  index_t const packs = blocks(rows, v);
  auto const down = static_cast<index_t>(ceil_power(packs));
  auto const threads = std::clamp<index_t>(down * static_cast<index_t>(ceil_power(cols)), 32, 256);
  index_t const across = threads / down;
  index_t const x = std::clamp<index_t>(blocks(packs, down * packs_of_lane), 1, most_blocks);
  index_t const y =
      std::clamp<index_t>(blocks(cols, across), 1, std::clamp<index_t>(most_blocks / x, 1, 32768));
  auto const log_down = static_cast<unsigned>(std::countr_zero(static_cast<std::size_t>(down)));
  return {{rows, cols, y, log_down},
          {static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(threads), 0}};
}

}  // namespace stiefelx::cuda
