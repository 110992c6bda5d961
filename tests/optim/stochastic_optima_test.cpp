// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The optimizers for training loops reach known minima, with exact gradients and with noise.

#include <cmath>
#include <functional>
#include <string>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <optim/problems.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/cayley_adam.hpp>
#include <stiefelx/optim/cayley_momentum.hpp>
#include <stiefelx/optim/landing.hpp>
#include <stiefelx/optim/muon.hpp>
#include <stiefelx/optim/pogo.hpp>
#include <stiefelx/optim/projected_gradient.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/spel.hpp>
#include <stiefelx/optim/stella.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::stiefel;
using matrix = matrix_x<double>;
using problem = known_problem<stiefel>;

/// An optimizer as the tests run it.
struct contestant {
  std::string name;
  /// Whether a step is as long as the rate, whatever the gradient; else rate times the gradient.
  bool fixed_length;
  double rate;  ///< for gradients of size 1
  std::function<void(matrix&, matrix const&)> step;
  std::function<void(double)> set_rate;
};

/// Runs f with every optimizer, started at x.
template <class F>
void for_each_optimizer(stiefel m, matrix const& x, F const& f) {
  stiefelx::host::context ctx;
  auto const run = [&](char const* name, bool fixed_length, double rate, auto opt) {
    BOOST_TEST_CONTEXT(name)
    f(contestant{name, fixed_length, rate, [&](matrix& y, matrix const& g) { opt.step(ctx, y, g); },
                 [&](double r) { opt.set_learning_rate(r); }});
  };
  run("riemannian_momentum", false, 0.4,
      stiefelx::riemannian_momentum(ctx, m, x, {.momentum = 0.5}));
  run("riemannian_adam", true, 0.1,
      stiefelx::riemannian_adam(ctx, m, x, {.beta1 = 0.5, .beta2 = 0.9}));
  run("landing", false, 0.4, stiefelx::landing(ctx, m, x));
  run("pogo", false, 0.4, stiefelx::pogo(ctx, m, x));
  run("projected_gradient", false, 0.4, stiefelx::projected_gradient(ctx, m, x));
  run("cayley_momentum", false, 0.4, stiefelx::cayley_momentum(ctx, m, x, {.momentum = 0.5}));
  // Its second moment counts the normal part of the gradient, so its steps shrink as well.
  run("cayley_adam", false, 0.8, stiefelx::cayley_adam(ctx, m, x, {.beta1 = 0.5, .beta2 = 0.9}));
  run("spel", true, 0.1, stiefelx::spel(ctx, m, x, {.momentum = 0.5}));
  run("stella of adamw", true, 0.05,
      stiefelx::stella(ctx, m, x,
                       stiefelx::adamw(ctx, x, {.beta1 = 0.5, .beta2 = 0.9, .weight_decay = 0})));
  run("stella of muon", true, 0.1,
      stiefelx::stella(ctx, m, x, stiefelx::muon(ctx, x, {.momentum = 0.5, .nesterov = false})));
}

/// \brief Steps with a rate that falls in equal ratios, and compares the end to what is known.
///
/// A method whose steps have the length of the rate ends some last steps away from the minimum; one
/// whose steps shrink with the gradient ends as near as rounding lets it.
template <class Distance>
void every_optimizer_reaches(problem const& what, matrix const& start, Distance const& distance) {
  // Plain descent shortens the distance by 1 - 0.4 c / s a step at least, c the least curvature and s
  // the size of the gradient: e^-40 is below rounding.
  int const steps = static_cast<int>(40 * what.size / (0.4 * what.convexity)) + 400;
  double const rounding = tolerance<double>(start.size(), what.size / what.convexity);
  BOOST_REQUIRE(distance(start) > 0.1);
  for_each_optimizer(what.manifold, start, [&](contestant const& opt) {
    matrix x = start;
    // The last step of a fixed length is a millionth of the first.
    double const last = opt.fixed_length ? 1e-6 * opt.rate : opt.rate;
    double const fall = std::pow(last / opt.rate, 1.0 / steps);
    double rate = opt.rate;
    for (int t = 0; t < steps; ++t, rate *= fall) {
      opt.set_rate(rate);
      opt.step(x, what.slope(x) / what.size);
    }
    double const bound =
        rounding +
        (opt.fixed_length ? 20 * last * std::sqrt(static_cast<double>(start.size())) : 0);
    BOOST_TEST_MESSAGE("  " << opt.name << ": distance " << distance(x) << " of at most " << bound);
    BOOST_TEST(distance(x) <= bound);
    BOOST_TEST((x.transpose() * x - matrix::Identity(x.cols(), x.cols())).norm() <=
               tolerance<double>(start.size()));
  });
}

problem leading(index_t n, index_t p, matrix const& q) {
  Eigen::VectorXd values = Eigen::VectorXd::LinSpaced(n, 0.5, -0.5);
  for (index_t j = 0; j < p; ++j) values(j) = 1.5 - 0.1 * static_cast<double>(j);
  return eigenspace_problem<stiefel, double>({n, p}, with_eigenvalues(q, values), values);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stochastic_optima)

BOOST_AUTO_TEST_CASE(every_optimizer_finds_the_leading_eigenspace) {
  index_t const n = 12, p = 3;
  matrix const q = orthonormal_frame<double>(n, n, 1), lead = q.leftCols(p);
  every_optimizer_reaches(leading(n, p, q), orthonormal_frame<double>(n, p, 2),
                          [&](matrix const& x) { return space_distance<double>(x, lead); });
}

BOOST_AUTO_TEST_CASE(every_optimizer_finds_the_polar_factor) {
  index_t const n = 10, p = 3;
  matrix const best = orthonormal_frame<double>(n, p, 3);
  matrix const target = best * positive_matrix<double>(p, 4, 4);
  problem const what{.manifold = {n, p},
                     .of = {},
                     .slope = [&](matrix const&) { return matrix(-target); },
                     .curvature = {},
                     .size = 1,
                     .convexity = 0.25};
  every_optimizer_reaches(what, orthonormal_frame<double>(n, p, 5),
                          [&](matrix const& x) { return (x - best).norm(); });
}

BOOST_AUTO_TEST_CASE(every_optimizer_finds_eigenvectors_in_order) {
  index_t const n = 10, p = 3;
  matrix const q = orthonormal_frame<double>(n, n, 6), lead = q.leftCols(p);
  auto const what = brockett_problem<stiefel, double>(
      {n, p}, with_eigenvalues<double>(q, Eigen::VectorXd::LinSpaced(n, -1, 1)),
      Eigen::VectorXd::LinSpaced(n, -1, 1), Eigen::VectorXd::LinSpaced(p, 3, 1));
  every_optimizer_reaches(what, orthonormal_frame<double>(n, p, 7), [&](matrix const& x) {
    double square = 0;
    for (index_t j = 0; j < p; ++j)
      square += (x.col(j) - lead.col(j) * lead.col(j).dot(x.col(j))).squaredNorm();
    return std::sqrt(square);
  });
}

BOOST_AUTO_TEST_CASE(noise_of_mean_zero_leaves_a_distance_that_falls_with_the_rate) {
  index_t const n = 12, p = 3;
  matrix const q = orthonormal_frame<double>(n, n, 8), lead = q.leftCols(p);
  problem const what = leading(n, p, q);
  matrix const start = orthonormal_frame<double>(n, p, 9);
  double const noise = 0.3;
  for_each_optimizer(what.manifold, start, [&](contestant const& opt) {
    matrix x = start;
    numbers draw(10);
    double rate = opt.rate / 4;
    auto const walk = [&](int steps) {
      double sum = 0;
      for (int t = 0; t < steps; ++t) {
        opt.set_rate(rate);
        matrix g = what.slope(x) / what.size;
        for (index_t i = 0; i < g.size(); ++i) g(i) += noise * draw.entry<double>();
        opt.step(x, g);
        if (2 * t >= steps) sum += space_distance<double>(x, lead);
      }
      return sum / (steps / 2);
    };
    double const rough = walk(400);
    rate /= 64;
    double const fine = walk(1500);
    BOOST_TEST_MESSAGE("  " << opt.name << ": " << rough << ", then " << fine);
    // The spread goes as the root of the rate: an eighth; a half leaves room for chance.
    BOOST_TEST(fine <= rough / 2);
    BOOST_TEST(fine <= 0.2);
  });
}

BOOST_AUTO_TEST_SUITE_END()
