// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a context does for its user: threads, results that do not depend on their number, reports of
// numerical trouble, and errors for misuse.
#include <cstdio>
#include <limits>

#include <Eigen/Core>

#include <stiefelx/stiefelx.hpp>

using namespace stiefelx;

int main() {
  stiefel const manifold{300, 20};

  //! [threads]
  host::context one;
  host::context two({.threads = 2, .same_bits_for = host::determinism::any_thread_count});
  random_stream a{.seed = 1}, b{.seed = 1};
  Eigen::MatrixXf x(300, 20), y(300, 20);
  random_point(one, manifold, a, x);
  random_point(two, manifold, b, y);
  std::printf("the same bits on one thread and on two: %s\n", x == y ? "yes" : "no");
  //! [threads]

  //! [status]
  Eigen::MatrixXf g = y;
  g(3, 4) = std::numeric_limits<float>::quiet_NaN();
  Eigen::Matrix<int, 1, 1> status;
  status << 0;
  riemannian_adam optimizer(one, manifold, x);
  optimizer.step(one, x, g, status);  // leaves x and the state as they are
  std::printf("gradient not finite: %s\n", status(0, 0) & not_finite ? "yes" : "no");
  std::printf("the point is unchanged: %s\n", x == y ? "yes" : "no");
  //! [status]

  //! [errors]
  try {
    retract(one, manifold, x, g.leftCols(19), y);
  } catch (shape_error const& error) {
    std::printf("%s\n", error.what());
  }
  try {
    retract(one, manifold, x, y, y);
  } catch (alias_error const& error) {
    std::printf("%s\n", error.what());
  }
  //! [errors]
}
