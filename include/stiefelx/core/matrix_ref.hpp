// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>

namespace stiefelx {

/// \brief What a team body receives of a matrix: pointer, sizes and column stride.
/// \ingroup core
///
/// Entry (i, j) is at `data[i + j * stride]`. It owns nothing and checks nothing: shapes are
/// checked before a body runs.
template <class T>
struct matrix_ref {
  using Scalar = std::remove_const_t<T>;  ///< entry type without const

  T* data;         ///< first entry
  index_t rows;    ///< rows
  index_t cols;    ///< columns
  index_t stride;  ///< entries from one column to the next, at least rows

  /// \param[in] i  row
  /// \param[in] j  column
  /// \returns entry (i, j)
  STIEFELX_HD T& operator()(index_t i, index_t j) const { return data[i + j * stride]; }

  /// \param[in] j  column
  /// \returns pointer to its first entry
  STIEFELX_HD T* column(index_t j) const { return data + j * stride; }

  /// \param[in] first  first column of the view
  /// \param[in] count  number of columns
  /// \returns a view of these columns
  STIEFELX_HD matrix_ref middle_columns(index_t first, index_t count) const {
    return {data + first * stride, rows, count, stride};
  }

  /// A view that may be written serves where one is only read.
  template <class U>
    requires(std::is_same_v<U, T const> && !std::is_const_v<T>)
  STIEFELX_HD operator matrix_ref<U>() const {
    return {data, rows, cols, stride};
  }
};

}  // namespace stiefelx
