// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stdexcept>
#include <string>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>

namespace stiefelx {

/// \brief A matrix of the wrong size, or a size that no function can use.
/// \ingroup core
///
/// The text names the function, the argument, what was found and what was expected:
/// `retract: v is 8x4, expected 8x3`.
struct shape_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// \brief An option outside its range; the text has the form of shape_error's.
/// \ingroup core
struct option_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

namespace detail {

[[noreturn]] STIEFELX_COLD inline void throw_shape(char const* function, char const* argument,
                                                   index_t rows, index_t cols,
                                                   std::string const& expected) {
  throw shape_error(std::string(function) + ": " + argument + " is " + std::to_string(rows) + "x" +
                    std::to_string(cols) + ", expected " + expected);
}

[[noreturn]] STIEFELX_COLD inline void throw_option(char const* function, char const* argument,
                                                    std::string const& found,
                                                    char const* expected) {
  throw option_error(std::string(function) + ": " + argument + " is " + found + ", expected " +
                     expected);
}

}  // namespace detail

/// \brief Throws unless a matrix has the given size.
/// \ingroup core
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the matrix
/// \param[in] rows      expected rows
/// \param[in] cols      expected columns
/// \throws shape_error  naming all of these
template <Matrix M>
void expect_shape(char const* function, char const* argument, M const& m, index_t rows,
                  index_t cols) {
  if (m.rows() == rows && m.cols() == cols) return;
  detail::throw_shape(function, argument, m.rows(), m.cols(),
                      std::to_string(rows) + "x" + std::to_string(cols));
}

/// \brief Throws unless a matrix has at least as many rows as columns.
/// \ingroup core
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the matrix
/// \throws shape_error  when it is wide
template <Matrix M>
void expect_tall(char const* function, char const* argument, M const& m) {
  if (m.rows() >= m.cols()) return;
  detail::throw_shape(function, argument, m.rows(), m.cols(), "at least as many rows as columns");
}

/// \brief Throws unless a condition on an option holds.
/// \ingroup core
/// \param[in] holds     the condition
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of the option, for the text
/// \param[in] found     its value
/// \param[in] expected  the condition in words, for example "a number above 0"
/// \throws option_error  when it does not hold
template <class T>
void expect_option(bool holds, char const* function, char const* argument, T found,
                   char const* expected) {
  if (!holds) detail::throw_option(function, argument, std::to_string(found), expected);
}

}  // namespace stiefelx
