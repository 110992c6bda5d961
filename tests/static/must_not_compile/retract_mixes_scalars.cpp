// expect: satisfaction of .*SameScalar<X, V, Y>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>

void misuse(stiefelx::host::context& ctx, Eigen::MatrixXd const& x, Eigen::MatrixXf const& v,
            Eigen::MatrixXd& y) {
  stiefelx::retract(ctx, stiefelx::stiefel{4, 2}, x, v, y);
}
