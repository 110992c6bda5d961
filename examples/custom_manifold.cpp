// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A manifold of one's own: matrices of Frobenius norm 1. Three functions in the manifold's namespace
// are all that the optimizers and the checks ask for. They are written in verbs, so they run where
// the context says.
#include <cstdio>

#include <Eigen/Core>

#include <stiefelx/stiefelx.hpp>
#include <stiefelx/testing/check_gradient.hpp>
#include <stiefelx/testing/check_retraction.hpp>

//! [manifold]
namespace shapes {

struct sphere {};

// v = z - <x, z> x: the part of z that is tangent at x; may be called with v = z.
template <class Ctx, class X, class Z, class V>
void project(Ctx& ctx, sphere, X const& x, Z const& z, V&& v) {
  auto s = scratch<double>(ctx, 1, 1);
  inner(ctx, x, z, s);
  scale(ctx, -1, s);
  copy(ctx, z, v);
  axpy(ctx, s, x, v);
}

// y = (x + v) / |x + v|; may be called with y = x.
template <class Ctx, class X, class V, class Y>
void retract(Ctx& ctx, sphere, X const& x, V const& v, Y&& y) {
  auto s = scratch<double>(ctx, 1, 1);
  copy(ctx, x, y);
  axpy(ctx, 1, v, y);
  norm(ctx, y, s);
  transform(ctx, [](double& c) { c = 1 / c; }, stiefelx::outputs(s), stiefelx::inputs());
  scale(ctx, s, y);
}

// The metric of the space around it.
template <class Ctx, class X, class U, class V, class S>
void inner(Ctx& ctx, sphere, X const&, U const& u, V const& v, S&& s) {
  inner(ctx, u, v, s);
}

}  // namespace shapes
//! [manifold]

using namespace stiefelx;

int main() {
  host::context ctx;
  random_stream stream{.seed = 3};
  Eigen::MatrixXd x(8, 1), v(8, 1);
  fill_normal(ctx, stream, 1, x);
  x.normalize();
  fill_normal(ctx, stream, 1, v);
  shapes::sphere const sphere;
  project(ctx, sphere, x, v, v);

  //! [check]
  retraction_report const retraction = check_retraction(ctx, sphere, x, v);
  std::printf("retraction: %s\n", retraction.passed ? "passed" : "FAILED");
  //! [check]

  // Minimises x^T a x / 2 for a = diag(1, ..., 8): the smallest eigenvalue, at a unit vector.
  //! [use]
  Eigen::MatrixXd const a = Eigen::VectorXd::LinSpaced(8, 1, 8).asDiagonal();
  auto const cost = [&](auto&, auto const& y) { return 0.5 * y.cwiseProduct(a * y).sum(); };
  auto const gradient = [&](auto&, auto const& y, auto& g) { g.noalias() = a * y; };
  gradient_report const slope = check_gradient(ctx, sphere, x, v, cost, gradient);
  std::printf("gradient: %s\n", slope.passed ? "passed" : "FAILED");

  riemannian_momentum optimizer(ctx, sphere, x, {.learning_rate = 0.1, .momentum = 0.5});
  for (int step = 0; step < 200; ++step) optimizer.step(ctx, x, a * x);
  std::printf("smallest eigenvalue: %.6f\n", 2 * cost(ctx, x));
  //! [use]
  return retraction.passed && slope.passed ? 0 : 1;
}
