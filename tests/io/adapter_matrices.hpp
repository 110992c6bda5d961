// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>

#include <stiefelx/core/matrix.hpp>
#include <support/data.hpp>

/// Factors of adapters.
namespace io_test {

using matrix = support::matrix_x<float>;

inline matrix drawn(stiefelx::index_t rows, stiefelx::index_t cols, std::uint64_t seed) {
  return support::random_matrix<float>(rows, cols, seed);
}

inline matrix zero(stiefelx::index_t rows, stiefelx::index_t cols) {
  return matrix::Zero(rows, cols);
}

}  // namespace io_test
