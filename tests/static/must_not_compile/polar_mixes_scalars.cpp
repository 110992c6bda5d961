// expect: satisfaction of .*SameScalar<A, Q>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <complex>

#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/orth/polar.hpp>

void misuse(stiefelx::host::context& ctx, Eigen::MatrixXd const& a, Eigen::MatrixXcd& q) {
  stiefelx::polar(ctx, a, q);
}
