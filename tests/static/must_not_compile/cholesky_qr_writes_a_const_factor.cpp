// expect: satisfaction of .*OutputMatrix<R>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/orth/cholesky_qr.hpp>

void misuse(stiefelx::host::context& ctx, Eigen::MatrixXd const& a, Eigen::MatrixXd& q,
            Eigen::MatrixXd const& r) {
  stiefelx::cholesky_qr(ctx, a, q, r);
}
