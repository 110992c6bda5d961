// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a user's first program does: a point, a tangent, a retraction. Exits 0 if the columns of the
// result are orthonormal.
#include <array>

#include <Eigen/Core>
#include <stiefelx/stiefelx.hpp>

int main() {
  constexpr std::array<int, 3> expected{EXPECTED_VERSION};
  static_assert(expected[0] == stiefelx::version_major);
  static_assert(expected[1] == stiefelx::version_minor);
  static_assert(expected[2] == stiefelx::version_patch);

  stiefelx::host::context ctx;
  stiefelx::stiefel const m{8, 3};
  Eigen::MatrixXd x = Eigen::MatrixXd::Identity(8, 3);
  Eigen::MatrixXd v = Eigen::MatrixXd::Zero(8, 3);
  v(5, 1) = 0.5;
  Eigen::MatrixXd y(8, 3);
  retract(ctx, m, x, v, y);
  return (y.adjoint() * y).isIdentity(1e-12) && !y.isApprox(x) ? 0 : 1;
}
