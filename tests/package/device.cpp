// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/cuda/matrix.hpp>

// A user's function on device memory, which needs the toolkit's headers and no Eigen.
stiefelx::cuda::matrix_view<float> first_columns(float* memory, stiefelx::index_t rows) {
  return stiefelx::cuda::matrix_view<float>(memory, rows, 4).middleCols(0, 2);
}
