// expect: satisfaction of .*DeviceMatrix<A>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <Eigen/Core>
#include <stiefelx/cuda/products.hpp>

void misuse(stiefelx::cuda::context& ctx, Eigen::MatrixXd const& a, Eigen::MatrixXd& c) {
  multiply(ctx, a, a, c);
}
