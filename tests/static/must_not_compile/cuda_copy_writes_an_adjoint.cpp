// expect: satisfaction of .*DeviceOutput<B>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/cuda/transfer.hpp>

void misuse(stiefelx::cuda::context& ctx, stiefelx::cuda::matrix<float> const& a,
            stiefelx::cuda::matrix<float>& b) {
  copy(ctx, a, b.adjoint());
}
