// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The matrix with orthonormal columns that is nearest to a given matrix c. Minimising |x - c|^2 / 2
// over the Stiefel manifold is the same as maximising tr(c^T x). The answer is known: u v^T, from the
// singular value decomposition c = u s v^T. So it can be seen whether the optimizer finds it.
#include <cstdio>

#include <Eigen/Dense>

#include <stiefelx/stiefelx.hpp>

using namespace stiefelx;

int main() {
  //! [minimise]
  host::context ctx;              // where work runs; it owns the scratch memory
  stiefel const manifold{40, 5};  // 40 x 5 matrices with orthonormal columns
  random_stream stream{.seed = 1};
  Eigen::MatrixXd c(40, 5), x(40, 5);
  fill_normal(ctx, stream, 1, c);
  random_point(ctx, manifold, stream, x);

  riemannian_momentum optimizer(ctx, manifold, x, {.learning_rate = 0.05, .momentum = 0.8});
  for (int step = 0; step < 300; ++step)
    optimizer.step(ctx, x, x - c);  // moves x along the gradient, a matrix or an expression
  //! [minimise]

  Eigen::JacobiSVD<Eigen::MatrixXd> const svd(c, Eigen::ComputeThinU | Eigen::ComputeThinV);
  double const distance = (x - svd.matrixU() * svd.matrixV().transpose()).norm();
  Eigen::Matrix<double, 1, 1> defect;
  orthonormality_error(ctx, x, defect);
  bool const found = distance < 1e-9, orthonormal = defect(0, 0) < 1e-13;
  std::printf("distance to the solution by SVD below 1e-9: %s\n", found ? "yes" : "no");
  std::printf("|x^T x - I| below 1e-13: %s\n", orthonormal ? "yes" : "no");
  return found && orthonormal ? 0 : 1;
}
