// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The step of a selection bias, and the even load that many of them reach.

#include <cmath>
#include <limits>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/selection_bias.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;
using spot = place<test_case<archetype_backend, double>>;

matrix stepped(double rate, matrix const& counts, matrix const& bias) {
  spot p;
  auto b = p.up(bias);
  stiefelx::update_selection_bias(p.ctx, rate, p.up(counts), b);
  return p.down(b);
}

matrix column(std::initializer_list<double> entries) {
  matrix a(static_cast<index_t>(entries.size()), 1);
  index_t i = 0;
  for (double x : entries) a(i++, 0) = x;
  return a;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(selection_bias)

BOOST_AUTO_TEST_CASE(each_expert_moves_by_the_rate_towards_the_mean_load) {
  // Quarters and eighths are exact: signs + + 0 -, less their mean of 1/4.
  matrix const found = stepped(0.5, column({1, 0, 4, 11}), column({0, 1, -1, 0}));
  BOOST_TEST(same(found, column({0.375, 1.375, -1.125, -0.625})));
}

BOOST_AUTO_TEST_CASE(a_mean_that_is_there_is_taken_off) {
  BOOST_TEST(same(stepped(0.25, column({2, 2}), column({3, 5})), column({-1, 1})));
  BOOST_TEST(same(stepped(0, column({2, 7}), column({-1, 1})), column({-1, 1})));
  BOOST_TEST(same(stepped(1, column({9}), column({0})), column({0})));
}

BOOST_AUTO_TEST_CASE(a_bias_never_drifts) {
  spot p;
  auto b = p.up(matrix::Zero(5, 1));
  for (int step = 0; step < 400; ++step) {
    // One expert is always full, so four rise and one falls.
    auto const counts = p.up(column({0, 0, 0, 0, 9}));
    stiefelx::update_selection_bias(p.ctx, 1e-3, counts, b);
  }
  matrix const found = p.down(b);
  BOOST_TEST(std::abs(found.sum()) <= tolerance<double>(400));
  BOOST_TEST(near(found, 0.16 * column({1, 1, 1, 1, -4}), tolerance<double>(400 * 400)));
}

BOOST_AUTO_TEST_CASE(many_steps_even_out_a_lopsided_router) {
  place<test_case<host_backend, double>> p;
  constexpr index_t experts = 6, tokens = 600, k = 2;
  matrix scores = 0.5 * random_matrix<double>(experts, tokens, 1);
  scores.row(1).array() += 1.5;
  scores.row(4).array() -= 1;
  auto const s = p.up(scores);
  auto b = p.up(matrix::Zero(experts, 1));
  double const even = static_cast<double>(k * tokens) / experts;
  double first = 0, last = 0;
  for (int step = 0; step < 400; ++step) {
    auto const ids = p.down(
        stiefelx::route_scores(p.ctx, s, stiefelx::top_k{}, stiefelx::selection_bias(b)).ids);
    matrix counts(experts, 1);
    for (int e = 0; e < experts; ++e)
      counts(e, 0) = static_cast<double>((ids.array() == e).count());
    stiefelx::update_selection_bias(p.ctx, 1e-3, p.up(counts), b);
    last = (counts.array() / even - 1).abs().maxCoeff();
    if (step == 0) first = last;
  }
  BOOST_TEST(first > 0.9);
  BOOST_TEST(last < 0.1);
}

BOOST_AUTO_TEST_CASE(wrong_arguments_are_named) {
  spot p;
  auto const three = p.up(matrix::Zero(3, 1)), row = p.up(matrix::Zero(1, 4));
  auto four = p.up(matrix::Zero(4, 1)), wide = p.up(matrix::Zero(4, 2));
  BOOST_TEST(message_of([&] { stiefelx::update_selection_bias(p.ctx, 1, three, four); }) ==
             "update_selection_bias: counts is 3x1, expected 4x1");
  BOOST_TEST(message_of([&] { stiefelx::update_selection_bias(p.ctx, 1, row, four); }) ==
             "update_selection_bias: counts is 1x4, expected 4x1");
  BOOST_TEST(message_of([&] { stiefelx::update_selection_bias(p.ctx, -1, four, four); }) ==
             "update_selection_bias: rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(message_of([&] {
               stiefelx::update_selection_bias(p.ctx, std::nan(""), four, four);
             }).starts_with("update_selection_bias: rate is "));
  BOOST_TEST(message_of([&] { stiefelx::update_selection_bias(p.ctx, 1, wide, wide); }) ==
             "update_selection_bias: counts is 4x2, expected 4x1");
  BOOST_CHECK_THROW(stiefelx::update_selection_bias(p.ctx, 1, four, four), stiefelx::alias_error);
}

BOOST_AUTO_TEST_SUITE_END()
