// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The replay of a routing, and the texts of misuse of every kind of choice.

#include <cmath>
#include <limits>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/task_scores.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;
using spot = place<test_case<archetype_backend, double>>;

std::string const about_one =
    ", expected more than 1 with renormalize, since a single weight of 1 has no gradient";

/// What a choice says of its options, for four experts.
template <class Choice>
std::string text_of(Choice choice) {
  return message_of([&] { choice.expect_options("route", 4); });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(router_replay)

BOOST_AUTO_TEST_CASE(a_replay_of_its_own_ids_has_the_bits_of_the_routing) {
  spot p;
  auto const scores = p.up(random_matrix<double>(6, 30, 1));
  auto const u = p.up(random_matrix<double>(6, 30, 2));
  auto const b = p.up(random_matrix<double>(6, 1, 3));
  matrix shares = matrix::Ones(1, 30);
  shares(0, 3) = shares(0, 29) = 0;
  auto const w = p.up(shares);
  auto const check = [&](auto choice, auto const&... terms) {
    auto const first = stiefelx::route_scores(p.ctx, scores, choice, terms...);
    auto const again = stiefelx::route_replay(p.ctx, scores, first.ids, choice, terms...);
    BOOST_TEST(same(p.down(again.ids), p.down(first.ids)));
    BOOST_TEST(same(p.down(again.weights), p.down(first.weights)));
    BOOST_TEST(same(p.down(again.probabilities), p.down(first.probabilities)));
    BOOST_TEST(again.experts == first.experts);
  };
  using stiefelx::score_kind;
  stiefelx::token_weights const padding(w);
  check(stiefelx::soft{.score = score_kind::sigmoid});
  check(stiefelx::top_k{.k = 4, .order = stiefelx::expert_order::by_index, .nulls = 2}, padding);
  check(stiefelx::top_k{.k = 3}, stiefelx::selection_bias(b));
  check(stiefelx::top_p{.p = 0.6});
  check(stiefelx::noisy_top_k{.training = true, .stream = {4, 5}}, stiefelx::noise_scale(u));
  check(stiefelx::expert_choice{.capacity = 9, .score = score_kind::sigmoid}, padding);
}

BOOST_AUTO_TEST_CASE(a_replay_keeps_experts_that_the_scores_would_not_choose) {
  spot p;
  matrix scores(3, 1);
  scores << 1, 1, 0;
  auto const chosen = stiefelx::route_scores(p.ctx, p.up(scores), stiefelx::top_k{});
  BOOST_TEST(p.down(chosen.ids)(0, 0) == 0);
  scores(1, 0) = std::nextafter(1.0, 2.0);  // another machine's last digit
  BOOST_TEST(p.down(stiefelx::route_scores(p.ctx, p.up(scores), stiefelx::top_k{}).ids)(0, 0) == 1);
  auto const again = stiefelx::route_replay(p.ctx, p.up(scores), chosen.ids, stiefelx::top_k{});
  BOOST_TEST(same(p.down(again.ids), p.down(chosen.ids)));
}

BOOST_AUTO_TEST_CASE(what_is_no_expert_of_the_list_is_an_empty_slot) {
  spot p;
  matrix const scores = random_matrix<double>(4, 4, 1);
  matrix_x<int> ids(3, 4), packed(3, 4);
  ids << -1, 2, 3, -1,  //
      2, 2, 7, -1,      //
      0, 1, 0, -1;
  packed << 2, 2, 0, -1,  //
      0, 1, -1, -1,       //
      -1, -1, -1, -1;
  stiefelx::top_k const choice{.k = 3, .nulls = 1};  // so expert 3 is none
  auto const routes = stiefelx::route_replay(p.ctx, p.up(scores), p.up(ids), choice);
  BOOST_TEST(same(p.down(routes.ids), packed));
  matrix const w = p.down(routes.weights);
  for (index_t t = 0; t < 4; ++t) {
    double sum = 0;
    for (index_t i = 0; i < 3; ++i)
      if (packed(i, t) >= 0) sum += std::exp(scores(packed(i, t), t));
    for (index_t i = 0; i < 3; ++i) {
      double const expected = packed(i, t) < 0 ? 0 : std::exp(scores(packed(i, t), t)) / sum;
      BOOST_TEST(std::abs(w(i, t) - expected) <= tolerance<double>(3) * expected);
    }
  }
}

// --- misuse --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(wrong_options_are_named) {
  using namespace stiefelx;
  std::string const k = ", expected a number from 1 to the number of experts";
  double const nan = std::nan("");
  BOOST_TEST(text_of(top_k{.k = 0}) == "route: k is 0" + k);
  BOOST_TEST(text_of(top_k{.k = 5}) == "route: k is 5" + k);
  BOOST_TEST(text_of(top_k{.k = 1}) == "route: k is 1" + about_one);
  BOOST_TEST(text_of(top_k{.k = 1, .score = score_kind::sigmoid}) == "route: k is 1" + about_one);
  BOOST_TEST(text_of(top_k{.nulls = 4}) ==
             "route: nulls is 4, expected a number from 0 to one less than the router's columns");
  for (double scaling : {0.0, -1.0, nan, HUGE_VAL})
    BOOST_TEST(text_of(top_k{.scaling = scaling}) == "route: scaling is " +
                                                         std::to_string(scaling) +
                                                         ", expected a finite number above 0");
  BOOST_TEST(text_of(soft{.scaling = 0}).starts_with("route: scaling is 0.0"));
  BOOST_TEST(text_of(expert_choice{.scaling = 0}).starts_with("route: scaling is 0.0"));
  BOOST_TEST(text_of(top_p{.scaling = 0}).starts_with("route: scaling is 0.0"));
  for (double p : {0.0, 1.5, nan})
    BOOST_TEST(text_of(top_p{.p = p}) ==
               "route: p is " + std::to_string(p) + ", expected a number above 0, at most 1");
  BOOST_TEST(text_of(top_p{.k_max = 5}) ==
             "route: k_max is 5, expected a number from 0 (no limit) to the number of experts");
  BOOST_TEST(text_of(top_p{.k_max = 1, .renormalize = true}) == "route: k_max is 1" + about_one);
  BOOST_TEST(text_of(noisy_top_k{.k = 1}) == "route: k is 1" + about_one);
  BOOST_TEST(text_of(noisy_top_k{.deviation = -1}) ==
             "route: deviation is -1.000000, expected a finite number of at least 0");
  BOOST_TEST(text_of(expert_choice{.capacity = -1}) ==
             "route: capacity is -1, expected a number of at least 0");
}

BOOST_AUTO_TEST_CASE(wrong_shapes_are_named) {
  using namespace stiefelx;
  spot p;
  auto const w = p.up(random_matrix<double>(5, 4, 1)), x = p.up(random_matrix<double>(5, 6, 2));
  auto const scores = p.up(random_matrix<double>(4, 6, 2));
  auto const wrong = p.up(matrix::Zero(3, 3));
  auto const five = p.up(matrix_x<int>::Zero(5, 6)), two = p.up(matrix_x<int>::Zero(2, 5));
  auto out = p.up(matrix::Zero(4, 6));
  auto const text = [](auto const& f) { return message_of(f); };
  BOOST_TEST(text([&] { (void)route(p.ctx, w, x, soft{}, router_bias(wrong)); }) ==
             "route: router_bias is 3x3, expected 4x1");
  BOOST_TEST(text([&] { (void)route_scores(p.ctx, scores, top_k{}, selection_bias(wrong)); }) ==
             "route_scores: selection_bias is 3x3, expected 4x1");
  BOOST_TEST(text([&] { (void)route_scores(p.ctx, scores, top_k{}, token_weights(wrong)); }) ==
             "route_scores: token_weights is 3x3, expected 1x6");
  BOOST_TEST(text([&] { (void)route_scores(p.ctx, scores, noisy_top_k{}, noise_scale(wrong)); }) ==
             "route_scores: noise_scale is 3x3, expected 4x6");
  BOOST_TEST(text([&] { (void)route_replay(p.ctx, scores, five, top_k{}); }) ==
             "route_replay: ids is 5x6, expected 4x6");
  BOOST_TEST(text([&] { (void)route_replay(p.ctx, scores, two, top_k{}); }) ==
             "route_replay: ids is 2x5, expected 2x6");
  BOOST_TEST(text([&] { (void)router_scores(p.ctx, w, wrong, x); }) ==
             "router_scores: bias is 3x3, expected 4x1");
  BOOST_TEST(text([&] { router_bias_backward(p.ctx, scores, out); }) ==
             "router_bias_backward: dbias is 4x6, expected 4x1");
  BOOST_TEST(text([&] { add_score_noise(p.ctx, {}, 1, wrong, out); }) ==
             "add_score_noise: u is 3x3, expected 4x6");
  auto const noisy = route_scores(p.ctx, scores, noisy_top_k{});
  BOOST_TEST(text([&] { noise_scale_backward(p.ctx, noisy, wrong, scores, out); }) ==
             "noise_scale_backward: u is 3x3, expected 4x6");
  BOOST_CHECK_THROW(noise_scale_backward(p.ctx, noisy, scores, out, out), alias_error);
  BOOST_TEST(text([&] { (void)task_scores(p.ctx, w, x, two); }) ==
             "task_scores: tasks is 2x5, expected 1x5");
  BOOST_TEST(text([&] { (void)task_scores(p.ctx, w, x, 7); }) ==
             "task_scores: embedding is 5x6, expected 5x1");
  BOOST_TEST(text([&] { (void)task_scores(p.ctx, wrong, x, 7); }) ==
             "task_scores: router is 3x3, expected 5x3");
}

BOOST_AUTO_TEST_SUITE_END()
