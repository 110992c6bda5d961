// expect: is computed in float
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/host/multiply.hpp>

using stored = Eigen::Matrix<stiefelx::bfloat16, Eigen::Dynamic, Eigen::Dynamic>;

void misuse(stiefelx::host::context& ctx, stored const& a, Eigen::MatrixXf const& b, stored& c) {
  multiply(ctx, a, b, c);
}
