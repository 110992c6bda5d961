// expect: satisfaction of .*DeviceProduct<A, B
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/cuda/products.hpp>

void misuse(stiefelx::cuda::context& ctx, stiefelx::cuda::matrix<float> const& a,
            stiefelx::cuda::matrix<double> const& b) {
  (void)product(ctx, a, b);
}
