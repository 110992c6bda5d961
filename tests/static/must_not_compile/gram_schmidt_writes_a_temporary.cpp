// expect: satisfaction of .*OutputMatrix<Q>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>

void misuse(stiefelx::host::context& ctx, Eigen::MatrixXd const& a, Eigen::MatrixXd& r) {
  stiefelx::gram_schmidt(ctx, a, Eigen::MatrixXd(4, 2), r);
}
