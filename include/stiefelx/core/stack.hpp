// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>

#include <stiefelx/core/shape.hpp>

namespace stiefelx {

/// \brief Many matrices of one shape, side by side in one matrix.
/// \ingroup core
///
/// Matrix k of a stack of n x p matrices is the columns k p, ..., k p + p - 1 of an n x (p count)
/// matrix. Column-major memory then holds one matrix after the other.
struct stack {
  index_t count;  ///< number of matrices, at least 0
};

/// \brief Columns of one matrix of a stack.
/// \ingroup core
/// \param[in] function  name for the message
/// \param[in] argument  name for the message
/// \param[in] s         the stack
/// \param[in] a         the matrix that holds it
/// \returns a's columns divided by s.count; 0 for an empty stack
/// \throws shape_error  if s.count is negative, or the columns of a are not a multiple of it
template <Matrix A>
index_t columns_of_each(char const* function, char const* argument, stack s, A const& a) {
  index_t const cols = a.cols();
  if (s.count < 0 || (s.count == 0 ? cols != 0 : cols % s.count != 0))
    throw shape_error(std::string(function) + ": " + argument + " has " + std::to_string(cols) +
                      " columns, expected a multiple of the " + std::to_string(s.count) +
                      " matrices of the stack");
  return s.count == 0 ? 0 : cols / s.count;
}

}  // namespace stiefelx
