// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <type_traits>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/shape.hpp>

namespace stiefelx {

/// \brief A matrix in memory with the members of Eigen's matrices, maps and blocks.
/// \ingroup io
template <class M>
concept StoredMatrix = requires(M& m) {
  m.data();
  { m.rows() } -> std::convertible_to<index_t>;
  { m.cols() } -> std::convertible_to<index_t>;
  { m.outerStride() } -> std::convertible_to<index_t>;
  { m.innerStride() } -> std::convertible_to<index_t>;
  std::remove_cvref_t<M>::IsRowMajor;
};

/// \brief The view through which files are read into a matrix and written from it.
/// \ingroup io
/// \param[in] m  a view already
/// \returns m
/// \throws shape_error  if its columns overlap
template <class T>
matrix_ref<T> column_major(matrix_ref<T> m) {
  if (m.rows < 0 || m.cols < 0 || (m.cols > 1 && m.stride < m.rows))
    detail::throw_shape("column_major", "m", m.rows, m.cols,
                        "sizes that are not negative and a stride of at least its rows");
  return m;
}

/// \brief The view through which files are read into a matrix and written from it.
/// \ingroup io
/// \param[in] m  a column-major matrix, map or block, or a row vector; it outlives the view
/// \returns a view of its entries
/// \throws shape_error  if the entries of a column are not next to each other
template <StoredMatrix M>
auto column_major(M&& m) {
  using stored = std::remove_cvref_t<M>;
  constexpr bool row_vector = [] {
    if constexpr (requires { stored::RowsAtCompileTime; }) return stored::RowsAtCompileTime == 1;
    return false;
  }();
  static_assert(!stored::IsRowMajor || row_vector,
                "column_major: m lies row by row; read or write its transpose instead");
  using entry = std::remove_pointer_t<decltype(m.data())>;
  if (m.innerStride() != 1 && !stored::IsRowMajor && m.rows() > 1)
    detail::throw_shape("column_major", "m", m.rows(), m.cols(),
                        "columns whose entries are next to each other");
  return matrix_ref<entry>{m.data(), m.rows(), m.cols(),
                           stored::IsRowMajor ? m.innerStride() : m.outerStride()};
}

}  // namespace stiefelx
