// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Steps of Barzilai and Borwein: the quotients by hand, what a patient reference admits, and known
// optima.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <Eigen/Eigenvalues>
#include <boost/test/unit_test.hpp>

#include <optim/brockett.hpp>
#include <optim/ended.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/barzilai_borwein.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace stiefelx;
using rule = barzilai_borwein_rule;
using matrix = matrix_x<double>;
using exact = long double;
using vector = Eigen::Matrix<exact, Eigen::Dynamic, 1>;

/// x^T D x / 2 with a diagonal D, and a diagonal preconditioner.
struct valley {
  euclidean manifold;
  matrix diagonal, inverse;

  template <class Ctx, class X>
  double cost(Ctx&, X const& x) const {
    return 0.5 * diagonal.cwiseProduct(x.cwiseProduct(x)).sum();
  }
  template <class Ctx, class X, class G>
  void gradient(Ctx&, X const& x, G& g) const {
    g = diagonal.cwiseProduct(x);
  }
  template <class Ctx, class X, class V, class W>
  void precondition(Ctx&, X const&, V const& v, W& w) const {
    w = inverse.cwiseProduct(v);
  }
};

/// An observer that keeps the records.
struct history {
  std::vector<iteration> seen;
  template <class X>
  void operator()(iteration const& at, X const&) {
    seen.push_back(at);
  }
};

/// A reference that admits every cost.
struct anything {
  void expect_options() const {}
  auto start() const {
    return [](double) { return 1e300; };
  }
};

/// The step after one from x0 to x1 by the definitions, with P^-1 in the product of steps and P in
/// that of gradients.
struct quotients {
  exact first, second;
};
quotients by_hand(vector const& s, vector const& y, vector const& inverse) {
  return {s.dot(s.cwiseQuotient(inverse)) / s.dot(y), s.dot(y) / y.dot(inverse.cwiseProduct(y))};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(barzilai_borwein)

BOOST_AUTO_TEST_CASE(steps_are_the_quotients_of_the_last_step_and_change) {
  index_t const n = 6;
  host::context ctx;
  for (bool preconditioned : {false, true}) {
    valley problem{{n, 1}, Eigen::VectorXd::LinSpaced(n, 1, 7), matrix::Ones(n, 1)};
    if (preconditioned) problem.inverse = random_matrix<double>(n, 1, 4).cwiseAbs();
    matrix const start = random_matrix<double>(n, 1, 5);
    for (auto each : {rule::first, rule::second, rule::alternating, rule::adaptive_smallest}) {
      matrix x = start;
      history records;
      stiefelx::barzilai_borwein const solver{.rule = each,
                                              .reference = anything{},
                                              .first_step = 0.1,
                                              .ratio = 0.5,
                                              .memory_length = 2};
      int const count = 7;
      minimize(ctx, problem, x, solver, iterations{count}, records);

      vector const diagonal = problem.diagonal.cast<exact>(),
                   inverse = problem.inverse.cast<exact>();
      vector y = start.cast<exact>(), g = diagonal.cwiseProduct(y), z = inverse.cwiseProduct(g);
      exact t = 0.1L / z.norm(), short_before = HUGE_VALL;
      for (int k = 0; k < count; ++k) {
        vector const next = y - t * z, next_g = diagonal.cwiseProduct(next);
        auto const& record = records.seen[static_cast<std::size_t>(k) + 1];
        BOOST_TEST(std::fabs(record.step_length - static_cast<double>((next - y).norm())) <=
                   tolerance<double>(n, 100) * record.step_length);
        auto const found = by_hand(next - y, next_g - g, inverse);
        exact const shortest = std::min(found.second, short_before);
        switch (each) {
          case rule::first:
            t = found.first;
            break;
          case rule::second:
            t = found.second;
            break;
          case rule::alternating:
            t = k % 2 == 0 ? found.first : found.second;
            break;
          case rule::adaptive_smallest:
            t = found.second < 0.5L * found.first ? shortest : found.first;
            break;
        }
        short_before = found.second;
        y = next;
        g = next_g;
        z = inverse.cwiseProduct(g);
      }
      BOOST_TEST(near(x, y.cast<double>(), tolerance<double>(n, 1e3)));
    }
  }
}

BOOST_AUTO_TEST_CASE(steps_are_kept_in_their_range_and_long_where_curvature_is_negative) {
  host::context ctx;
  // The cost -x^2/2 falls for ever; the quotients are negative.
  valley const hill{{1, 1}, -matrix::Ones(1, 1), matrix::Ones(1, 1)};
  auto const lengths = [&](double longer, double largest) {
    matrix x = matrix::Ones(1, 1);
    history records;
    stiefelx::barzilai_borwein const solver{
        .reference = anything{}, .first_step = 0.5, .largest_step = largest, .long_step = longer};
    minimize(ctx, hill, x, solver, iterations{3}, records);
    return records.seen;
  };
  // Each step is a multiple of the gradient, whose length is |x|: 1, 1.5, 1.5 (1 + 0.5 * 4).
  auto const grown = lengths(4, 1e10);
  BOOST_TEST(std::fabs(grown[2].step_length - 1.5 * 2) < tolerance<double>(1, 10));
  BOOST_TEST(std::fabs(grown[3].step_length - 4.5 * 8) < tolerance<double>(1, 100));
  auto const limited = lengths(4, 0.75);
  BOOST_TEST(std::fabs(limited[2].step_length - 1.5 * 0.75) < tolerance<double>(1, 10));

  valley const steep{{1, 1}, 1e3 * matrix::Ones(1, 1), matrix::Ones(1, 1)};
  matrix x = matrix::Ones(1, 1);
  history records;
  stiefelx::barzilai_borwein const solver{
      .reference = anything{}, .first_step = 0.1, .smallest_step = 1e-2};
  minimize(ctx, steep, x, solver, iterations{2}, records);
  // The quotient is 1e-3.
  BOOST_TEST(std::fabs(records.seen[2].step_length - 1e-2 * records.seen[1].gradient_norm) <
             tolerance<double>(1, 1e3));
}

BOOST_AUTO_TEST_CASE(costs_rise_and_stay_below_the_largest_of_the_last) {
  index_t const n = 30;
  host::context ctx;
  valley const problem{{n, 1}, Eigen::VectorXd::LinSpaced(n, 1, 100), matrix::Ones(n, 1)};
  auto const run = [&](auto const& reference) {
    matrix x = random_matrix<double>(n, 1, 6);
    history records;
    stiefelx::barzilai_borwein const solver{.rule = rule::first, .reference = reference};
    auto const found =
        minimize(ctx, problem, x, solver, gradient_below{1e-3} || iterations{1000}, records);
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    return records.seen;
  };
  auto const slope_times_step = [](iteration const& before, iteration const& after) {
    return -before.gradient_norm * after.step_length;
  };
  for (index_t count : {1, 3, 10}) {
    auto const seen = run(largest_recent{.count = count});
    bool rises = false;
    for (std::size_t k = 0; k + 1 < seen.size(); ++k) {
      double reference = seen[k].cost;
      for (std::size_t j = 1; j < static_cast<std::size_t>(count) && j <= k; ++j)
        reference = std::max(reference, seen[k - j].cost);
      double const bound = reference + 1e-4 * slope_times_step(seen[k], seen[k + 1]);
      BOOST_TEST(seen[k + 1].cost <= bound + tolerance<double>(n) * reference);
      rises = rises || seen[k + 1].cost > seen[k].cost;
    }
    BOOST_TEST(rises == (count > 1));
  }
  auto const seen = run(average_cost{.decay = 0.8});
  double weight = 0, sum = 0;
  for (std::size_t k = 0; k + 1 < seen.size(); ++k) {
    weight = 0.8 * weight + 1;
    sum = 0.8 * sum + seen[k].cost;
    double const bound = sum / weight + 1e-4 * slope_times_step(seen[k], seen[k + 1]);
    BOOST_TEST(seen[k + 1].cost <= bound + tolerance<double>(n) * sum);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_rule_finds_the_leading_eigenspace, Case, double_cases) {
  index_t const n = 24, p = 3;
  place<Case> at;
  matrix const a = positive_matrix<double>(n, 30, 5);
  auto problem = brockett<Case, stiefel, false>::make(at.ctx, stiefel{n, p}, -a, matrix::Zero(n, p),
                                                      equal_weights(p));
  double const largest = Eigen::SelfAdjointEigenSolver<matrix>(a).eigenvalues().tail(p).sum();
  for (auto each : {rule::first, rule::second, rule::alternating, rule::adaptive_smallest}) {
    auto x = at.up(orthonormal_frame<double>(n, p, 60));
    auto const found = minimize(at.ctx, problem, x, stiefelx::barzilai_borwein{.rule = each},
                                gradient_below{1e-8 * a.norm()} || iterations{600});
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    BOOST_TEST_MESSAGE("eigenspace: " << found.last.number << " iterations, "
                                      << found.last.cost_evaluations << " costs");
    BOOST_TEST(std::fabs(-2 * found.last.cost - largest) < tolerance<double>(n) * largest);
    BOOST_TEST(problem.most_gradients == 1);
    // Nearly every first trial is accepted.
    BOOST_TEST(found.last.cost_evaluations < 1.5 * static_cast<double>(found.last.number));
  }
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_refused_by_name) {
  host::context ctx;
  valley const problem{{1, 1}, matrix::Ones(1, 1), matrix::Ones(1, 1)};
  matrix x = matrix::Zero(1, 1);
  using solver = stiefelx::barzilai_borwein<armijo, default_retraction, anything>;
  auto const message = [&](solver const& options) {
    history records;
    return message_of([&] { minimize(ctx, problem, x, options, iterations{1}, records); });
  };
  BOOST_TEST(message({.smallest_step = 0}) ==
             "barzilai_borwein: smallest_step is 0.000000, expected a number above 0");
  BOOST_TEST(message({.smallest_step = 2, .largest_step = 1}) ==
             "barzilai_borwein: largest_step is 1.000000, expected a number of at least "
             "smallest_step");
  BOOST_TEST(message({.long_step = -1}) ==
             "barzilai_borwein: long_step is -1.000000, expected a number above 0");
  BOOST_TEST(message({.ratio = 1.5}) ==
             "barzilai_borwein: ratio is 1.500000, expected a number in (0, 1]");
  BOOST_TEST(message({.memory_length = 17}) ==
             "barzilai_borwein: memory_length is 17, expected a number from 1 to 16");
  BOOST_TEST(message({.search = {.contraction = 1}}) ==
             "armijo: contraction is 1.000000, expected a number in (0, 1)");
}

BOOST_AUTO_TEST_SUITE_END()
