// expect: satisfaction of .*OutputMatrix<V>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/manifold/stiefel.hpp>

void misuse(stiefelx::host::context& ctx, Eigen::MatrixXd const& x, Eigen::MatrixXd const& z,
            Eigen::MatrixXd const& v) {
  stiefelx::project(ctx, stiefelx::stiefel{4, 2}, x, z, v);
}
