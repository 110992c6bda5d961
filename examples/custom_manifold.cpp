// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A manifold of one's own: matrices of Frobenius norm 1. Three functions in the manifold's
// namespace are all that the optimizers and the checks ask for; the rest is deduced. They come in
// two styles: in verbs, which run where the context says, and with Eigen::Ref, which needs no
// template.
#include <cstdio>

#include <Eigen/Core>

#include <stiefelx/stiefelx.hpp>
#include <stiefelx/testing/check_gradient.hpp>
#include <stiefelx/testing/check_manifold.hpp>

//! [manifold]
namespace shapes {

struct sphere {};

// v = z - <x, z> x: the part of z that is tangent at x; may be called with v = z.
void project(auto& ctx, sphere, auto const& x, auto const& z, auto&& v) {
  auto s = scratch<double>(ctx, 1, 1);
  inner(ctx, x, z, s);
  scale(ctx, -1, s);
  copy(ctx, z, v);
  axpy(ctx, s, x, v);
}

// y = (x + v) / |x + v|; may be called with y = x.
void retract(auto& ctx, sphere, auto const& x, auto const& v, auto&& y) {
  auto s = scratch<double>(ctx, 1, 1);
  copy(ctx, x, y);
  axpy(ctx, 1, v, y);
  norm(ctx, y, s);
  transform(ctx, stiefelx::reciprocal_element{}, stiefelx::outputs(s), stiefelx::inputs(s));
  scale(ctx, s, y);
}

// The metric of the space around it.
void inner(auto& ctx, sphere, auto const&, auto const& u, auto const& v, auto&& s) {
  inner(ctx, u, v, s);
}

}  // namespace shapes
//! [manifold]

//! [ref]
namespace plain {

using in = Eigen::Ref<Eigen::MatrixXd const> const&;
using out = Eigen::Ref<Eigen::MatrixXd>;
using stiefelx::host::context;

struct sphere {};

void project(context&, sphere, in x, in z, out v) { v = z - x.cwiseProduct(z).sum() * x; }
void retract(context&, sphere, in x, in v, out y) { y = (x + v).normalized(); }
void inner(context&, sphere, in, in u, in v, out s) { s(0, 0) = u.cwiseProduct(v).sum(); }

}  // namespace plain
//! [ref]

using namespace stiefelx;

// Minimises x^T a x / 2 for a = diag(1, ..., 8): the smallest eigenvalue, at a unit vector.
template <class Manifold>
bool run(char const* style, Manifold const& sphere) {
  host::context ctx;
  random_stream stream{.seed = 3};
  Eigen::MatrixXd x(8, 1), v(8, 1), y(8, 1), w(8, 1), s(1, 1);
  fill_normal(ctx, stream, 1, x);
  x.normalize();

  //! [check]
  manifold_report const laws = check_manifold(ctx, sphere, x, stream);
  std::printf("%s: laws %s", style, laws.passed ? "passed" : "FAILED");
  //! [check]

  //! [deduced]
  random_tangent_or_project(ctx, sphere, stream, x, v);
  norm_or_inner(ctx, sphere, x, v, s);
  std::printf(", |v| = %.6f", s(0, 0));
  retract_and_transport(ctx, sphere, x, v, v, y, w);  // y = R_x(v), and v carried to y
  distance_or_chord(ctx, sphere, x, y, s);
  std::printf(", |R(v) - x| = %.6f", s(0, 0));
  //! [deduced]

  //! [use]
  Eigen::MatrixXd const a = Eigen::VectorXd::LinSpaced(8, 1, 8).asDiagonal();
  auto const cost = [&](auto&, auto const& point) {
    return 0.5 * point.cwiseProduct(a * point).sum();
  };
  auto const gradient = [&](auto&, auto const& point, auto& g) { g.noalias() = a * point; };
  gradient_report const slope = check_gradient(ctx, sphere, x, v, cost, gradient);
  std::printf(", gradient %s", slope.passed ? "passed" : "FAILED");

  riemannian_momentum optimizer(ctx, sphere, x, {.learning_rate = 0.1, .momentum = 0.5});
  for (int step = 0; step < 200; ++step) optimizer.step(ctx, x, a * x);
  std::printf(", smallest eigenvalue %.6f\n", 2 * cost(ctx, x));
  //! [use]
  return laws.passed && slope.passed;
}

int main() {
  bool const verbs = run("verbs", shapes::sphere{});
  bool const ref = run("Eigen::Ref", plain::sphere{});
  return verbs && ref ? 0 : 1;
}
