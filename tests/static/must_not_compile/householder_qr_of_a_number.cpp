// expect: satisfaction of .*Matrix<A>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/orth/householder_qr.hpp>

void misuse(stiefelx::host::context& ctx, Eigen::MatrixXd& q, Eigen::MatrixXd& r) {
  stiefelx::householder_qr(ctx, 1.0, q, r);
}
