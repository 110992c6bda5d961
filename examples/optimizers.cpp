// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The optimizers from both sides: a cost given to minimize() with criteria, an observer and a line
// search, and gradients given to optimizers that step in a group under a schedule and are saved.
#include <cstdio>
#include <sstream>
#include <tuple>

#include <Eigen/Core>
#include <Eigen/SVD>

#include <stiefelx/stiefelx.hpp>

using namespace stiefelx;

namespace {

char const* say(bool yes) { return yes ? "yes" : "no"; }

}  // namespace

int main() {
  host::context ctx;
  random_stream stream{.seed = 6};
  constexpr index_t n = 30, p = 3;
  Eigen::MatrixXd target(n, p), x(n, p), g(n, p);
  fill_normal(ctx, stream, 1, target);
  Eigen::JacobiSVD<Eigen::MatrixXd> const svd(target, Eigen::ComputeThinU | Eigen::ComputeThinV);
  Eigen::MatrixXd const best = svd.matrixU() * svd.matrixV().transpose();

  //! [lambda]
  // The orthonormal frame nearest to a matrix.
  problem_of nearest{stiefel{n, p},
                     [&](auto&, auto const& y) { return 0.5 * (y - target).squaredNorm(); },
                     [&](auto&, auto const& y, auto&& gradient) { gradient = y - target; }};
  //! [lambda]

  //! [minimize]
  random_point(ctx, nearest.manifold, stream, x);
  minimum const found = minimize(ctx, nearest, x, limited_bfgs{},
                                 gradient_below{1e-8} || (seconds{5} && iterations{100}));
  std::printf("%s: %s\n", to_string(found.reason), say((x - best).norm() < 1e-7));
  //! [minimize]

  //! [observer]
  random_point(ctx, nearest.manifold, stream, x);
  double last = 1e300;
  bool falls = true;
  minimize(ctx, nearest, x, conjugate_gradient<strong_wolfe>{}, gradient_below{1e-8},
           [&](iteration const& at, auto const&) {
             falls = falls && at.cost <= last + 1e-12;
             last = at.cost;
             return at.number >= 200;  // true ends it
           });
  std::printf("the cost falls in every iteration: %s\n", say(falls));
  //! [observer]

  //! [training]
  // A frame and a matrix without constraint, each towards its target.
  Eigen::MatrixXd w = Eigen::MatrixXd::Zero(4, 4), gw(4, 4);
  random_point(ctx, stiefel{n, p}, stream, x);
  auto const make = [&] {
    return optimizer_group(group_options{.largest_norm = 10},
                           riemannian_adam(ctx, stiefel{n, p}, x), adamw(ctx, w));
  };
  auto group = make();
  cosine_schedule const schedule{.peak = 0.1, .steps = 400, .warm_up = 20};
  for (index_t t = 0; t < 400; ++t) {
    g = x - target;
    gw = w - Eigen::MatrixXd::Identity(4, 4);
    group.set_learning_rate(schedule(t));
    group.step(ctx, std::tie(x, w), std::tie(g, gw));
  }
  std::printf("both reach their targets: %s\n", say((x - best).norm() < 1e-2 && gw.norm() < 1e-1));
  //! [training]

  //! [saving]
  std::stringstream file;
  write(file, save(ctx, group));
  auto other = make();
  load(ctx, read(file), other);
  std::printf("a saved state comes back with the same bits: %s\n",
              say(save(ctx, other) == save(ctx, group)));
  //! [saving]
}
