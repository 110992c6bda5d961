// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// GELU and cross-entropy against long double formulas, slopes of differences and edge cases.

#include <cmath>
#include <limits>
#include <numbers>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/cross_entropy.hpp>
#include <stiefelx/nn/gelu.hpp>
#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/router.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

long double exact_gelu(long double x) {
  return x * std::erfc(-x / std::numbers::sqrt2_v<long double>) / 2;
}

long double exact_slope(long double x) {
  return std::erfc(-x / std::numbers::sqrt2_v<long double>) / 2 +
         x * std::exp(-x * x / 2) * std::numbers::inv_sqrtpi_v<long double> /
             std::numbers::sqrt2_v<long double>;
}

matrix_x<int> some_labels(index_t classes, index_t tokens) {
  matrix_x<int> labels(1, tokens);
  for (index_t t = 0; t < tokens; ++t) labels(0, t) = static_cast<int>((3 * t + 1) % classes);
  return labels;
}

template <class Case>
struct entropy {
  double loss;
  matrix_x<typename Case::scalar> gradient;

  entropy(matrix_x<typename Case::scalar> const& scores, matrix_x<int> const& classes) {
    place<Case> p;
    auto const logits = p.up(scores);
    auto const labels = p.up(classes);
    auto value_of = p.number(-1.0);
    auto dlogits = p.up(scores);
    stiefelx::cross_entropy(p.ctx, logits, labels, value_of, dlogits);
    loss = p.down(value_of)(0, 0);
    gradient = p.down(dlogits);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(network_pieces)

BOOST_AUTO_TEST_CASE_TEMPLATE(gelu_is_exact, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> x = 3 * random_matrix<S>(7, 9, 1), y(7, 9), slope(7, 9);
  x(0, 0) = 0;
  x(1, 0) = 12;
  x(2, 0) = -12;
  for (index_t i = 0; i < x.size(); ++i) {
    y.data()[i] = static_cast<S>(exact_gelu(x.data()[i]));
    slope.data()[i] = static_cast<S>(exact_slope(x.data()[i]));
  }
  auto input = p.up(x);
  auto output = p.up(x);
  auto derivative = p.up(x);
  stiefelx::gelu(p.ctx, input, output, derivative);
  BOOST_TEST(near(p.down(output), y, tolerance<S>(1)));
  BOOST_TEST(near(p.down(derivative), slope, tolerance<S>(1)));
  stiefelx::gelu(p.ctx, input, input, derivative);
  BOOST_TEST(same(p.down(input), p.down(output)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cross_entropy_matches_long_double_sums, Case, real_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const scores = 4 * random_matrix<S>(5, 6, 2);
  matrix_x<int> const labels = some_labels(5, 6);
  entropy<Case> const e(scores, labels);
  long double loss = 0;
  matrix_x<S> gradient(5, 6);
  for (index_t t = 0; t < 6; ++t) {
    long double sum = 0;
    for (index_t c = 0; c < 5; ++c) sum += std::exp(static_cast<long double>(scores(c, t)));
    loss += (std::log(sum) - static_cast<long double>(scores(labels(0, t), t))) / 6;
    for (index_t c = 0; c < 5; ++c)
      gradient(c, t) = static_cast<S>(
          (std::exp(static_cast<long double>(scores(c, t))) / sum - (c == labels(0, t) ? 1 : 0)) /
          6);
  }
  BOOST_TEST(std::abs(e.loss - static_cast<double>(loss)) < tolerance<S>(6) * std::abs(e.loss));
  BOOST_TEST(near(e.gradient, gradient, tolerance<S>(6)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cross_entropy_gradient_is_its_slope, Case, double_cases) {
  matrix_x<double> const scores = random_matrix<double>(4, 3, 3),
                         d = random_matrix<double>(4, 3, 4);
  matrix_x<int> const labels = some_labels(4, 3);
  double const slope = entropy<Case>(scores, labels).gradient.cwiseProduct(d).sum();
  auto const error = [&](double h) {
    double const above = entropy<Case>(scores + h * d, labels).loss;
    double const below = entropy<Case>(scores - h * d, labels).loss;
    return std::abs((above - below) / (2 * h) - slope);
  };
  // Central differences: a quarter of the step has a sixteenth of the error.
  BOOST_TEST(std::abs(std::log2(error(4e-2) / error(1e-2)) - 4) < 0.1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cross_entropy_survives_huge_scores, Case, real_cases) {
  using S = typename Case::scalar;
  matrix_x<S> scores = matrix_x<S>::Zero(3, 2);
  scores(1, 0) = S(1e4);
  scores(0, 1) = S(-1e4);
  matrix_x<int> labels = matrix_x<int>::Zero(1, 2);
  entropy<Case> const e(scores, labels);
  BOOST_TEST(e.loss == (1e4 + 1e4 + std::log(2.0)) / 2, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(e.gradient.allFinite());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cross_entropy_of_no_tokens_is_zero, Case, real_cases) {
  entropy<Case> const e(matrix_x<typename Case::scalar>(3, 0), matrix_x<int>(1, 0));
  BOOST_TEST(e.loss == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cross_entropy_passes_over_labels_that_are_no_class, Case,
                              real_cases) {
  using S = typename Case::scalar;
  index_t const classes = 5, tokens = 6;
  matrix_x<S> scores = 4 * random_matrix<S>(classes, tokens, 2);
  matrix_x<int> labels = some_labels(classes, tokens);
  labels(0, 1) = -100;
  labels(0, 3) = static_cast<int>(classes);
  labels(0, 4) = std::numeric_limits<int>::max();
  scores(2, 3) = std::numeric_limits<S>::quiet_NaN();  // nobody asks for it
  matrix_x<S> left(classes, 3);
  left << scores.col(0), scores.col(2), scores.col(5);
  matrix_x<int> kept(1, 3);
  kept << labels(0, 0), labels(0, 2), labels(0, 5);
  entropy<Case> const e(scores, labels), alone(left, kept);
  matrix_x<S> expected = matrix_x<S>::Zero(classes, tokens);
  expected.col(0) = alone.gradient.col(0);
  expected.col(2) = alone.gradient.col(1);
  expected.col(5) = alone.gradient.col(2);
  BOOST_TEST(e.loss == alone.loss, boost::test_tools::tolerance(1e-14));
  BOOST_TEST(same(e.gradient, expected));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cross_entropy_of_tokens_that_do_not_count_is_zero, Case, real_cases) {
  using S = typename Case::scalar;
  for (index_t classes : {0, 3}) {
    entropy<Case> const e(matrix_x<S>::Ones(classes, 4), matrix_x<int>::Constant(1, 4, -1));
    BOOST_TEST(e.loss == 0);
    BOOST_TEST(same(e.gradient, matrix_x<S>(matrix_x<S>::Zero(classes, 4))));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(beta_scales_and_zero_does_not_read, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = random_matrix<S>(3, 4, 9);
  auto dx = p.up(start);
  stiefelx::apply_beta(p.ctx, 1, dx);
  BOOST_TEST(same(p.down(dx), start));
  stiefelx::apply_beta(p.ctx, 0.5, dx);
  BOOST_TEST(same(p.down(dx), matrix_x<S>(start / 2)));
  auto bad = p.up(matrix_x<S>::Constant(3, 4, std::numeric_limits<S>::quiet_NaN()).eval());
  stiefelx::apply_beta(p.ctx, 0, bad);
  BOOST_TEST(same(p.down(bad), matrix_x<S>(matrix_x<S>::Zero(3, 4))));
}

BOOST_AUTO_TEST_CASE(saved_and_activation_gradients_may_not_overlap) {
  stiefelx::host::context ctx;
  Eigen::MatrixXd const down = Eigen::MatrixXd::Ones(4, 4), scores = Eigen::MatrixXd::Ones(4, 3);
  Eigen::MatrixXd x = Eigen::MatrixXd::Ones(4, 3), y = x, wide = Eigen::MatrixXd::Ones(4, 8);
  BOOST_CHECK_THROW(stiefelx::lora_forward(ctx, down, down, 1, x, y, x), stiefelx::alias_error);
  BOOST_CHECK_THROW(stiefelx::lora_forward(ctx, down, down, 1, x, y, y), stiefelx::alias_error);
  BOOST_CHECK_THROW(stiefelx::router_backward(ctx, down, x, y, wide.leftCols(4), 0, y),
                    stiefelx::alias_error);
  BOOST_CHECK_THROW(
      stiefelx::router_backward(ctx, down, x, scores, wide.leftCols(4), 0, wide.middleCols(2, 3)),
      stiefelx::alias_error);
}

BOOST_AUTO_TEST_CASE(wrong_shapes_and_overlaps_are_refused) {
  stiefelx::host::context ctx;
  Eigen::MatrixXd x(3, 4), wide(3, 5), tall(4, 4), loss(1, 1);
  Eigen::MatrixXi labels = Eigen::MatrixXi::Zero(1, 3);
  BOOST_CHECK_EXCEPTION(
      stiefelx::cross_entropy(ctx, x, labels, loss, x), stiefelx::shape_error, [](auto const& e) {
        return std::string(e.what()) == "cross_entropy: labels is 1x3, expected 1x4";
      });
  BOOST_CHECK_EXCEPTION(stiefelx::gelu(ctx, x, tall, x), stiefelx::shape_error, [](auto const& e) {
    return std::string(e.what()) == "gelu: y is 4x4, expected 3x4";
  });
  Eigen::MatrixXd y(3, 4);
  BOOST_CHECK_THROW(stiefelx::gelu(ctx, x, y, x), stiefelx::alias_error);
  BOOST_CHECK_THROW(stiefelx::gelu(ctx, x, y, y), stiefelx::alias_error);
  BOOST_CHECK_THROW(stiefelx::gelu(ctx, wide.leftCols(4), wide.rightCols(4), x),
                    stiefelx::alias_error);
}

BOOST_AUTO_TEST_SUITE_END()
