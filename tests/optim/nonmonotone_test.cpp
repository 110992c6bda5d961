// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The costs that non-monotone searches hold their steps against.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <Eigen/Core>
#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/optim/gradient_descent.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/nonmonotone.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace stiefelx;
using matrix = matrix_x<double>;

/// A reference of a user's: the current cost and a margin.
struct with_margin {
  double margin;
  void expect_options() const {}
  auto start() const {
    return [by = margin](double cost) { return cost + by; };
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(nonmonotone)

BOOST_AUTO_TEST_CASE(references_are_the_maximum_and_the_average_of_the_costs) {
  numbers draw(1);
  std::vector<double> costs;
  auto recent = largest_recent{.count = 4}.start();
  auto single_cost = largest_recent{.count = 1}.start();
  auto mean = average_cost{.decay = 1}.start();
  auto average = average_cost{.decay = 0.7}.start();
  auto none = average_cost{.decay = 0}.start();
  auto same_cost = monotone{}.start();
  double const fall = 3;
  for (int k = 0; k < 20; ++k) {
    costs.push_back(draw.normal() - fall * k);
    double const cost = costs.back();
    BOOST_TEST(recent(cost) ==
               *std::max_element(costs.end() - std::min<std::ptrdiff_t>(4, k + 1), costs.end()));
    BOOST_TEST(single_cost(cost) == cost);
    BOOST_TEST(same_cost(cost) == cost);
    long double sum = 0, weighted = 0, weights = 0;
    for (int j = 0; j <= k; ++j) {
      auto const each = static_cast<long double>(costs[static_cast<std::size_t>(j)]);
      long double const weight = std::pow(0.7L, k - j);
      sum += each;
      weighted += weight * each;
      weights += weight;
    }
    BOOST_TEST(std::fabs(mean(cost) - static_cast<double>(sum / (k + 1))) < 60 * 1e-15);
    BOOST_TEST(std::fabs(average(cost) - static_cast<double>(weighted / weights)) < 60 * 1e-15);
    BOOST_TEST(none(cost) == cost);
  }
}

BOOST_AUTO_TEST_CASE(a_patient_reference_admits_a_rise_that_a_monotone_one_does_not) {
  problem_of const square{euclidean{1, 1},
                          [](host::context&, auto const& x) { return x(0, 0) * x(0, 0); },
                          [](host::context&, auto const& x, auto& g) { g = 2 * x; }};
  // The first trial from 1 is -1.2, where the cost has risen by 0.44.
  host::context ctx;
  auto const cost_after_one_step = [&](auto const& reference) {
    matrix x = matrix::Ones(1, 1);
    return minimize(ctx, square, x, gradient_descent{.first_step = 2.2, .reference = reference},
                    iterations{1})
        .last.cost;
  };
  BOOST_TEST(std::fabs(cost_after_one_step(with_margin{0.5}) - 1.44) < tolerance<double>(1));
  BOOST_TEST(cost_after_one_step(with_margin{0.4}) < 1);
  BOOST_TEST(cost_after_one_step(monotone{}) < 1);
  // With one cost known the patient ones are monotone.
  BOOST_TEST(cost_after_one_step(largest_recent{}) < 1);
  BOOST_TEST(cost_after_one_step(average_cost{}) < 1);
}

BOOST_AUTO_TEST_SUITE_END()
