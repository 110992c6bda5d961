// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/kernels/entries.hpp>

/// \file
/// \brief What the kernels of routed products read: experts by columns or by rows, a factor, packs
/// of rows.
/// \ingroup cuda

namespace stiefelx::cuda {

/// Rank columns of an expert that a lane keeps in registers.
/// \ingroup cuda
inline constexpr int rank_tile = 8;

/// \brief The packs of a column from row i on, with zeros beyond its end.
/// \ingroup cuda
/// \tparam V         entries of a pack; several need aligned columns
/// \param[in] column  its first entry
/// \param[in] i       row of the first entry
/// \param[in] rows    rows of the column
/// \returns the pack
template <int V, class T>
STIEFELX_HD entry_pack<T, V> load_rows(T const* column, index_t i, index_t rows) {
  if (i + V <= rows) return *reinterpret_cast<entry_pack<T, V> const*>(column + i);
  entry_pack<T, V> pack;
  for (int v = 0; v < V; ++v) pack.entry[v] = i + v < rows ? column[i + v] : T(0);
  return pack;
}

/// \brief A d x (E r) matrix whose columns lie one after the other, or whose rows do.
/// \ingroup cuda
template <class T, bool ByRows>
struct expert_columns {
  T* data;         ///< first entry
  index_t rows;    ///< d
  index_t cols;    ///< E r
  index_t stride;  ///< entries from one column to the next, or from one row

  /// \param[in] i  row
  /// \param[in] c  column
  /// \returns the entry
  STIEFELX_HD T& operator()(index_t i, index_t c) const {
    return ByRows ? data[c + i * stride] : data[i + c * stride];
  }
  /// \param[in] i  row of the first entry
  /// \param[in] c  column
  /// \returns V entries of a column, with zeros beyond its end
  template <int V>
  STIEFELX_HD auto load(index_t i, index_t c) const {
    using S = std::remove_const_t<T>;
    if constexpr (ByRows) {
      entry_pack<S, V> pack;
      for (int v = 0; v < V; ++v) pack.entry[v] = i + v < rows ? data[c + (i + v) * stride] : S(0);
      return pack;
    } else {
      return load_rows<V>(static_cast<S const*>(data + c * stride), i, rows);
    }
  }
};

/// \brief A coefficient: a number, or one that the kernel reads.
/// \ingroup cuda
template <class T, class C>
struct device_number {
  T number;     ///< where there is no address
  C const* at;  ///< on the device, or null

  /// \returns the coefficient
  STIEFELX_HD T value() const { return at == nullptr ? number : static_cast<T>(*at); }
};

}  // namespace stiefelx::cuda
