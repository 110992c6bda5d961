// expect: satisfaction of .*RealMatrix<X>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/host/multiply.hpp>
#include <stiefelx/nn/lora.hpp>

using stored = Eigen::Matrix<stiefelx::bfloat16, Eigen::Dynamic, Eigen::Dynamic>;

void misuse(stiefelx::host::context& ctx, stored const& down, stored const& up, stored const& x,
            Eigen::MatrixXf& y, Eigen::MatrixXf& h) {
  stiefelx::lora_forward(ctx, down, up, 1, x, y, h);
}
