// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Conjugate gradients: the weights by hand, restarts, and the finite end on quadratics.

#include <algorithm>
#include <cmath>
#include <vector>

#include <Eigen/Core>
#include <boost/test/unit_test.hpp>

#include <optim/conjugate_rules.hpp>
#include <optim/ended.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/optim/conjugate_gradient.hpp>
#include <stiefelx/optim/gradient_descent.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/strong_wolfe.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace stiefelx;
using matrix = matrix_x<double>;
/// One criterion type for all runs of this file, so that solvers are instantiated once.
auto steps(index_t count) { return gradient_below{0} || iterations{count}; }

/// An observer that writes down the gradients' lengths.
struct gradient_lengths {
  std::vector<double> seen;
  template <class X>
  void operator()(iteration const& at, X const&) {
    seen.push_back(at.gradient_norm);
  }
};

/// A search of a user's: always the same multiple of the direction.
struct fixed_step {
  double step;
  void expect_options() const {}
  template <class Run, class D>
  search_result operator()(Run& run, D const& direction, search_start const&) const {
    run.try_step(direction, step);
    return {step, stop_reason::none, false};
  }
};

/// x^T a x / 2 - b^T x on vectors, with a diagonal preconditioner.
struct preconditioned_quadratic {
  euclidean manifold;
  matrix a, b, inverse;

  template <class Ctx, class X>
  double cost(Ctx&, X const& x) const {
    return 0.5 * x.cwiseProduct(a * x).sum() - b.cwiseProduct(x).sum();
  }
  template <class Ctx, class X, class G>
  void gradient(Ctx&, X const& x, G& g) const {
    g = a * x - b;
  }
  template <class Ctx, class X, class V, class W>
  void precondition(Ctx&, X const&, V const& v, W& w) const {
    w = inverse.cwiseProduct(v);
  }
};

using exact = long double;
using vector = Eigen::Matrix<exact, Eigen::Dynamic, 1>;

/// The weights as the textbooks have them, of plain vectors: y^T P y stands for the square of y.
exact weight_by_hand(conjugate_rule rule, vector const& g0, vector const& d0, vector const& g,
                     vector const& inverse) {
  vector const y = g - g0, z = inverse.cwiseProduct(g), z0 = inverse.cwiseProduct(g0);
  exact const zero = 0;
  switch (rule) {
    case conjugate_rule::fletcher_reeves:
      return g.dot(z) / g0.dot(z0);
    case conjugate_rule::polak_ribiere:
      return std::max(zero, z.dot(y) / g0.dot(z0));
    case conjugate_rule::hestenes_stiefel:
      return z.dot(y) / d0.dot(y);
    case conjugate_rule::hestenes_stiefel_plus:
      return std::max(zero, z.dot(y) / d0.dot(y));
    case conjugate_rule::dai_yuan:
      return g.dot(z) / d0.dot(y);
    case conjugate_rule::liu_storey:
      return -z.dot(y) / d0.dot(g0);
    case conjugate_rule::hager_zhang: {
      exact const square = y.dot(inverse.cwiseProduct(y)), least = 0.01L;
      return std::max(-1 / (d0.norm() * std::min(least, g0.norm())),
                      (z.dot(y) - 2 * square * d0.dot(g) / d0.dot(y)) / d0.dot(y));
    }
    case conjugate_rule::hybrid:
      return std::max(zero, std::min(z.dot(y) / d0.dot(y), g.dot(z) / d0.dot(y)));
  }
  return 0;
}

/// Symmetric with the given eigenvalues, each as often as it fits.
matrix with_eigenvalues(index_t n, std::vector<double> const& values, std::uint64_t seed) {
  matrix const q = orthonormal_frame<double>(n, n, seed);
  matrix d = matrix::Zero(n, n);
  for (index_t k = 0; k < n; ++k) d(k, k) = values[static_cast<std::size_t>(k) % values.size()];
  matrix const a = q * d * q.transpose();
  return (a + a.transpose()) / 2;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(conjugate_gradient)

BOOST_AUTO_TEST_CASE(each_weight_is_that_of_the_textbook) {
  index_t const n = 7;
  host::context ctx;
  matrix const diagonal = random_matrix<double>(n, 1, 3).cwiseAbs();
  for (bool preconditioned : {false, true})
    for (std::uint64_t const seed : {1U, 2U, 3U}) {
      preconditioned_quadratic problem{{n, 1},
                                       with_eigenvalues(n, {1, 2, 5, 9}, seed),
                                       random_matrix<double>(n, 1, seed + 10),
                                       preconditioned ? matrix(diagonal) : matrix::Ones(n, 1)};
      matrix const start = random_matrix<double>(n, 1, seed + 20);
      vector const inverse = problem.inverse.cast<exact>();
      auto const gradient = [&](vector const& x) -> vector {
        return problem.a.cast<exact>() * x - problem.b.cast<exact>();
      };
      for (double step : {0.05, 0.3})
        for_each_rule([&](conjugate_rule rule) {
          matrix x = start;
          gradient_lengths lengths;
          stiefelx::conjugate_gradient const solver{
              .rule = rule, .search = fixed_step{step}, .restart_overlap = HUGE_VAL};
          auto const found = minimize(ctx, problem, x, solver, steps(3), lengths);
          BOOST_REQUIRE(ended(found, stop_reason::iteration_limit));

          vector y = start.cast<exact>(), g = gradient(y), d = -inverse.cwiseProduct(g);
          double length = 0;
          for (int k = 0; k < 3; ++k) {
            y += static_cast<exact>(step) * d;
            length = static_cast<double>(d.norm());
            vector const next = gradient(y), z = inverse.cwiseProduct(next);
            vector const turned = -z + weight_by_hand(rule, g, d, next, inverse) * d;
            d = turned.dot(next) < 0 ? turned : vector(-z);
            g = next;
          }
          BOOST_TEST(std::fabs(found.last.step_length - step * length) <=
                     tolerance<double>(n, 1e3) * step * length);
          BOOST_TEST(near(x, y.cast<double>(), tolerance<double>(n, 1e3)));
          BOOST_TEST(std::fabs(found.last.gradient_norm - static_cast<double>(g.norm())) <=
                     tolerance<double>(n, 1e3) * static_cast<double>(g.norm()));
        });
    }
}

BOOST_AUTO_TEST_CASE(hager_and_zhangs_weight_is_bounded_below) {
  // y^T P y = 1001 and q = 2 make the weight (1 - 1001) / 2.
  trial_products const at{.slope = 1, .weighted = 1, .previous_both = 1000};
  auto const weight = [&](double length) {
    return conjugate_weight(conjugate_rule::hager_zhang,
                            {.slope = -1, .squared = 4, .weighted = 4, .length = length}, at);
  };
  BOOST_TEST(std::fabs(weight(0.1) + 500) < tolerance<double>(1, 500));
  BOOST_TEST(std::fabs(weight(2) + 50) < tolerance<double>(1, 50));
}

BOOST_AUTO_TEST_CASE(steepest_descent_takes_what_the_preconditioner_makes_of_the_gradient) {
  index_t const n = 7;
  host::context ctx;
  preconditioned_quadratic const problem{{n, 1},
                                         with_eigenvalues(n, {1, 2, 5, 9}, 1),
                                         random_matrix<double>(n, 1, 2),
                                         random_matrix<double>(n, 1, 3).cwiseAbs()};
  matrix const start = random_matrix<double>(n, 1, 4);
  matrix x = start;
  gradient_lengths lengths;
  auto const found =
      minimize(ctx, problem, x, gradient_descent{.search = fixed_step{0.3}}, steps(1), lengths);
  matrix const g = problem.a * start - problem.b, z = problem.inverse.cwiseProduct(g);
  BOOST_TEST(near(x, start - 0.3 * z, tolerance<double>(n)));
  BOOST_TEST(std::fabs(found.last.step_length - 0.3 * z.norm()) < tolerance<double>(n) * z.norm());
  BOOST_TEST(std::fabs(lengths.seen[0] - g.norm()) < tolerance<double>(n) * g.norm());
}

BOOST_AUTO_TEST_CASE(restarts_come_when_due_and_by_powells_test) {
  // With a restart in every iteration, or for any overlap, the method is steepest descent.
  index_t const n = 6;
  host::context ctx;
  preconditioned_quadratic problem{{n, 1},
                                   with_eigenvalues(n, {1, 3, 4}, 1),
                                   random_matrix<double>(n, 1, 2),
                                   matrix::Ones(n, 1)};
  auto const after = [&](stiefelx::conjugate_gradient<fixed_step> const& solver) {
    matrix x = matrix::Zero(n, 1);
    gradient_lengths lengths;
    minimize(ctx, problem, x, solver, steps(4), lengths);
    return x;
  };
  auto const descent = [&](index_t restart_every) {
    vector x = vector::Zero(n), d = x, g0 = x;
    for (int k = 0; k < 4; ++k) {
      vector const g = problem.a.cast<exact>() * x - problem.b.cast<exact>();
      vector const turned = -g + (k == 0 ? exact(0) : g.squaredNorm() / g0.squaredNorm()) * d;
      d = restart_every > 0 && k % restart_every == 0 ? vector(-g) : turned;
      x += 0.1L * d;
      g0 = g;
    }
    return matrix(x.cast<double>());
  };
  auto const close = tolerance<double>(n, 10);
  auto const with = [](index_t every, double overlap) {
    return stiefelx::conjugate_gradient{.rule = conjugate_rule::fletcher_reeves,
                                        .search = fixed_step{0.1},
                                        .restart_every = every,
                                        .restart_overlap = overlap};
  };
  for (index_t every : {0, 1, 2, 3})
    BOOST_TEST(near(after(with(every, 1e9)), descent(every), close));
  BOOST_TEST(near(after(with(0, 1e-9)), descent(1), close));
  BOOST_TEST((descent(0) - descent(2)).norm() > 1e-3);
}

BOOST_AUTO_TEST_CASE(on_a_quadratic_it_ends_after_as_many_steps_as_there_are_eigenvalues) {
  index_t const n = 40;
  host::context ctx;
  std::vector<double> const values{1, 2, 4, 7, 10};
  preconditioned_quadratic problem{
      {n, 1}, with_eigenvalues(n, values, 1), random_matrix<double>(n, 1, 2), matrix::Ones(n, 1)};
  auto const expect_end = [&](auto const& search, double bound, index_t count) {
    for_each_rule([&](conjugate_rule rule) {
      matrix x = random_matrix<double>(n, 1, 3);
      stiefelx::conjugate_gradient const solver{.rule = rule, .search = search};
      gradient_lengths lengths;
      auto const found =
          minimize(ctx, problem, x, solver, gradient_below{bound} || iterations{20}, lengths);
      BOOST_TEST(ended(found, stop_reason::gradient_norm));
      BOOST_TEST(found.last.number == count);
      // One step before the end the gradient is long: the end is sudden.
      BOOST_TEST(lengths.seen[lengths.seen.size() - 2] > 1e3 * bound);
    });
  };
  auto const count = static_cast<index_t>(values.size());
  expect_end(strong_wolfe{.decrease = 1e-12, .curvature = 1e-9}, 1e-6, count);
  expect_end(hager_zhang{.decrease = 0.5 - 1e-10, .curvature = 0.5}, 1e-6, count);

  // With a preconditioner it is the eigenvalues of P A that count: two.
  matrix const scaling = Eigen::VectorXd::LinSpaced(n, 1, 100);
  matrix scaled = matrix::Zero(n, n);
  for (index_t k = 0; k < n; ++k) scaled(k, k) = scaling(k, 0) * (k % 2 == 0 ? 1 : 3);
  problem.a = scaled;
  problem.inverse = scaling.cwiseInverse();
  expect_end(strong_wolfe{.decrease = 1e-12, .curvature = 1e-9}, 1e-6, 2);
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_refused_by_name) {
  host::context ctx;
  preconditioned_quadratic problem{
      {1, 1}, matrix::Ones(1, 1), matrix::Ones(1, 1), matrix::Ones(1, 1)};
  matrix x = matrix::Zero(1, 1);
  auto const message = [&](auto const& solver) {
    gradient_lengths lengths;
    return message_of([&] { minimize(ctx, problem, x, solver, steps(1), lengths); });
  };
  BOOST_TEST(message(stiefelx::conjugate_gradient{.first_step = -1}) ==
             "conjugate_gradient: first_step is -1.000000, expected a number above 0");
  BOOST_TEST(message(stiefelx::conjugate_gradient{.restart_every = -1}) ==
             "conjugate_gradient: restart_every is -1, expected a number of at least 0");
  BOOST_TEST(message(stiefelx::conjugate_gradient{.restart_overlap = 0}) ==
             "conjugate_gradient: restart_overlap is 0.000000, expected a number above 0");
  BOOST_TEST(message(stiefelx::conjugate_gradient{.search = hager_zhang{.decrease = 0.5}}) ==
             "hager_zhang: decrease is 0.500000, expected a number in (0, 1/2)");
}

BOOST_AUTO_TEST_SUITE_END()
