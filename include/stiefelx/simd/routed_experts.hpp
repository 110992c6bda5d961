// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/simd/interleave.hpp>
#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief The d x (E r) matrix of all experts, in any order.
/// \ingroup simd
/// \tparam T  float or double
template <class T>
struct expert_columns {
  T const* data;              ///< first entry
  std::ptrdiff_t row_stride;  ///< distance of its rows
  std::ptrdiff_t col_stride;  ///< distance of its columns
  std::ptrdiff_t rows;        ///< d

  /// \brief Reads one pack of rows of some columns, with zeros below the last row.
  /// \param[in]  row    first row
  /// \param[in]  col    first column
  /// \param[in]  count  number of columns
  /// \param[out] out    one pack a column
  void read(std::ptrdiff_t row, std::ptrdiff_t col, std::ptrdiff_t count, pack<T>* out) const;
};

template <class T>
void expert_columns<T>::read(std::ptrdiff_t row, std::ptrdiff_t col, std::ptrdiff_t count,
                             pack<T>* out) const {
  constexpr std::ptrdiff_t w = native_width<T>;
  T const* const from = data + row * row_stride + col * col_stride;
  if (row + w > rows || (row_stride != 1 && col_stride != 1)) {
    std::ptrdiff_t const present = std::min(w, rows - row);
    for (std::ptrdiff_t j = 0; j < count; ++j) {
      T values[std::size_t{w}] = {};
      for (std::ptrdiff_t i = 0; i < present; ++i)
        values[i] = from[i * row_stride + j * col_stride];
      out[j] = pack<T>::load(values);
    }
  } else if (row_stride == 1) {
    for (std::ptrdiff_t j = 0; j < count; ++j) out[j] = pack<T>::load(from + j * col_stride);
  } else {
    detail::read_run<T, w>(
        count,
        [&](std::ptrdiff_t i) __attribute__((always_inline)) { return from + i * row_stride; },
        out);
  }
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
