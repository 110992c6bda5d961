// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Experts that choose tokens, against a sorted list of each.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/router.hpp>
#include <stiefelx/testing/thread_team.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

using stiefelx::score_kind;
using matrix = matrix_x<double>;
using spot = place<test_case<archetype_backend, double>>;

/// Whether expert e takes token t: the tokens of an expert, sorted by value, ties by position.
matrix_x<bool> sorted_takers(matrix const& scores, stiefelx::expert_choice choice,
                             std::vector<bool> const& padded) {
  matrix_x<bool> taken = matrix_x<bool>::Constant(scores.rows(), scores.cols(), false);
  for (index_t e = 0; e < scores.rows(); ++e) {
    std::vector<long double> value;
    std::vector<index_t> order;
    for (index_t t = 0; t < scores.cols(); ++t) {
      long double sum = 0;
      for (index_t j = 0; j < scores.rows(); ++j)
        sum += std::exp(static_cast<long double>(scores(j, t)) - scores(e, t));
      value.push_back(choice.score == score_kind::sigmoid ? scores(e, t) : 1 / sum);
      if (!padded[static_cast<std::size_t>(t)]) order.push_back(t);
    }
    auto const at = [&](index_t t) { return value[static_cast<std::size_t>(t)]; };
    std::sort(order.begin(), order.end(),
              [&](index_t i, index_t j) { return at(i) != at(j) ? at(i) > at(j) : i < j; });
    for (std::size_t i = 0; i < order.size() && static_cast<index_t>(i) < choice.capacity; ++i)
      taken(e, order[i]) = true;
  }
  return taken;
}

/// The same relation from a list of ids.
matrix_x<bool> takers(matrix_x<int> const& ids) {
  matrix_x<bool> taken = matrix_x<bool>::Constant(ids.rows(), ids.cols(), false);
  for (index_t t = 0; t < ids.cols(); ++t)
    for (index_t i = 0; i < ids.rows(); ++i)
      if (ids(i, t) >= 0) taken(ids(i, t), t) = true;
  return taken;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(expert_choice)

BOOST_AUTO_TEST_CASE(every_expert_takes_the_tokens_at_the_head_of_its_sorted_list) {
  spot p;
  matrix const scores = random_matrix<double>(5, 37, 1);
  std::vector<bool> const nobody(37, false);
  for (score_kind score : {score_kind::softmax, score_kind::sigmoid})
    for (index_t capacity : {0, 1, 2, 7, 8, 36, 37, 50}) {
      stiefelx::expert_choice const choice{.capacity = capacity, .score = score};
      auto const ids = p.down(stiefelx::route_scores(p.ctx, p.up(scores), choice).ids);
      BOOST_TEST_CONTEXT("capacity " << capacity) {
        BOOST_TEST(
            same(takers(ids).cast<int>(), sorted_takers(scores, choice, nobody).cast<int>()));
        for (index_t e = 0; e < 5; ++e)
          BOOST_TEST((ids.array() == static_cast<int>(e)).count() ==
                     std::min<index_t>(capacity, 37));
      }
    }
}

BOOST_AUTO_TEST_CASE(ties_go_to_the_first_tokens_and_padding_to_none) {
  spot p;
  matrix scores = matrix::Zero(3, 8);
  scores.row(1) << 1, -1, 0, 1, -0.0, 1, -1, 1;
  matrix shares = matrix::Ones(1, 8);
  shares(0, 3) = 0;
  auto const padding = p.up(shares);
  for (index_t capacity : {1, 2, 3, 4, 5, 7, 8}) {
    stiefelx::expert_choice const choice{.capacity = capacity, .score = score_kind::sigmoid};
    auto const ids = p.down(
        stiefelx::route_scores(p.ctx, p.up(scores), choice, stiefelx::token_weights(padding)).ids);
    std::vector<bool> padded(8, false);
    padded[3] = true;
    BOOST_TEST(same(takers(ids).cast<int>(), sorted_takers(scores, choice, padded).cast<int>()));
  }
}

BOOST_AUTO_TEST_CASE(scores_that_differ_by_a_constant_are_equal_values) {
  spot p;
  // Softmax does not see what is added to all scores of a token; whole numbers stay exact.
  index_t const experts = 3, tokens = 40;
  matrix scores(experts, tokens);
  for (index_t t = 0; t < tokens; ++t) {
    scores.col(t) << 3, 1, t % 5 == 0 ? -9 : 2;
    scores.col(t).array() += static_cast<double>(37 * t % 101 - 50);
  }
  auto const all = p.down(stiefelx::route_scores(p.ctx, p.up(scores), stiefelx::soft{}).weights);
  for (index_t t = 0; t < tokens; ++t) BOOST_TEST(same(all.col(t), all.col(t % 5 == 0 ? 0 : 1)));
  for (index_t capacity = 1; capacity < tokens; capacity += 3) {
    auto const ids = p.down(
        stiefelx::route_scores(p.ctx, p.up(scores), stiefelx::expert_choice{.capacity = capacity})
            .ids);
    matrix_x<bool> const taken = takers(ids);
    for (index_t e = 0; e < experts; ++e)
      for (index_t t = 0; t < tokens; ++t)
        for (index_t later = t + 1; later < tokens; ++later)
          if (!taken(e, t) && taken(e, later)) BOOST_TEST(all(e, later) > all(e, t));
  }
}

BOOST_AUTO_TEST_CASE(many_equal_scores_are_taken_in_the_order_of_the_tokens) {
  spot p;
  // Scores of three levels: nearly every bound falls among equals.
  matrix scores = random_matrix<double>(2, 200, 3);
  scores = scores.array().round().max(-1).min(1).matrix().eval();
  std::vector<bool> const nobody(200, false);
  for (index_t capacity = 0; capacity < 200; capacity += 13) {
    stiefelx::expert_choice const choice{.capacity = capacity, .score = score_kind::sigmoid};
    auto const ids = p.down(stiefelx::route_scores(p.ctx, p.up(scores), choice).ids);
    BOOST_TEST(same(takers(ids).cast<int>(), sorted_takers(scores, choice, nobody).cast<int>()));
  }
}

BOOST_AUTO_TEST_CASE(any_number_of_lanes_takes_the_same_tokens) {
  matrix scores = random_matrix<double>(1, 53, 4);
  scores.leftCols(20).setZero();
  matrix level = matrix::Zero(2, 53);
  auto const ref = [](auto& m) {
    return stiefelx::matrix_ref<std::remove_reference_t<decltype(m(0, 0))>>{m.data(), m.rows(),
                                                                            m.cols(), m.rows()};
  };
  for (index_t capacity : {5, 30, 33, 53, 60}) {
    stiefelx::take_tokens_body const body{capacity};
    matrix_x<int> alone(1, 53), together(1, 53);
    auto const run = [&](auto const& team, matrix_x<int>& taken) {
      body(team, 0, nullptr, stiefelx::matrix_ref<double const>(ref(scores)),
           stiefelx::matrix_ref<double const>(ref(level)),
           stiefelx::matrix_ref<double const>{nullptr, 0, 0, 0}, ref(taken));
    };
    run(stiefelx::serial_team{}, alone);
    stiefelx::run_thread_team(3, [&](auto const& team) { run(team, together); });
    BOOST_TEST(same(together, alone));
    BOOST_TEST(alone.sum() == std::min<index_t>(capacity, 53));
  }
}

BOOST_AUTO_TEST_CASE(scores_that_are_not_numbers_are_taken_last) {
  spot p;
  matrix scores = random_matrix<double>(2, 6, 5);
  scores(0, 1) = scores(0, 2) = std::nan("");
  scores(0, 3) = -std::numeric_limits<double>::infinity();
  auto const ids = [&](index_t capacity) {
    return p.down(stiefelx::route_scores(
                      p.ctx, p.up(scores),
                      stiefelx::expert_choice{.capacity = capacity, .score = score_kind::sigmoid})
                      .ids);
  };
  matrix_x<bool> const four = takers(ids(4)), five = takers(ids(5));
  BOOST_TEST(four(0, 3));
  BOOST_TEST((!four(0, 1) && !four(0, 2)));
  BOOST_TEST((five(0, 1) && !five(0, 2)));
}

BOOST_AUTO_TEST_CASE(weights_are_values_of_the_experts_that_took_the_token) {
  spot p;
  matrix const scores = random_matrix<double>(4, 20, 2);
  stiefelx::expert_choice choice{.capacity = 6};
  auto const routes = stiefelx::route_scores(p.ctx, p.up(scores), choice);
  auto const all = stiefelx::route_scores(p.ctx, p.up(scores), stiefelx::soft{});
  matrix const v = p.down(all.weights), w = p.down(routes.weights);
  matrix_x<int> const ids = p.down(routes.ids);
  BOOST_TEST(same(p.down(routes.probabilities), v));
  index_t empty = 0;
  for (index_t t = 0; t < 20; ++t) {
    for (index_t i = 0; i < 4; ++i) {
      BOOST_TEST(w(i, t) == (ids(i, t) < 0 ? 0 : v(ids(i, t), t)));
      if (i > 0) BOOST_TEST(w(i, t) <= w(i - 1, t));  // falling, so the empty slots come last
    }
    empty += ids(0, t) < 0 ? 1 : 0;
  }
  BOOST_TEST(empty > 0);
  choice.renormalize = true;
  matrix const shares = p.down(stiefelx::route_scores(p.ctx, p.up(scores), choice).weights);
  for (index_t t = 0; t < 20; ++t)
    BOOST_TEST(std::abs(shares.col(t).sum() - (ids(0, t) < 0 ? 0 : 1)) <= tolerance<double>(4));
}

BOOST_AUTO_TEST_CASE(whole_numbers_have_the_order_of_doubles) {
  double const inf = std::numeric_limits<double>::infinity();
  double const tiny = std::numeric_limits<double>::denorm_min();
  double const rising[] = {-inf,  -1e300, -2, -1, -tiny, 0, tiny, 1, std::nextafter(1.0, 2.0),
                           1e300, inf};
  for (std::size_t i = 1; i < std::size(rising); ++i)
    BOOST_TEST(stiefelx::ordered_bits(rising[i - 1]) < stiefelx::ordered_bits(rising[i]));
  BOOST_TEST(stiefelx::ordered_bits(-0.0) == stiefelx::ordered_bits(0.0));
  BOOST_TEST(stiefelx::ordered_bits(std::nan("")) < stiefelx::ordered_bits(-inf));
  BOOST_TEST(stiefelx::ordered_bits(-std::nan("")) == 0U);
}

BOOST_AUTO_TEST_CASE(capacity_of_a_factor_is_rounded_up) {
  BOOST_TEST(stiefelx::expert_capacity(16, 4, 2) == 8);
  BOOST_TEST(stiefelx::expert_capacity(17, 4, 1) == 5);
  BOOST_TEST(stiefelx::expert_capacity(1, 8, 1) == 1);
  BOOST_TEST(stiefelx::expert_capacity(0, 8, 1) == 0);
  BOOST_TEST(stiefelx::expert_capacity(8, 4, 0) == 0);
  auto const misuse = [](index_t tokens, index_t experts, double factor) {
    return message_of([&] { stiefelx::expert_capacity(tokens, experts, factor); });
  };
  BOOST_TEST(misuse(8, 0, 1) == "expert_capacity: experts is 0, expected a number of at least 1");
  BOOST_TEST(misuse(-1, 2, 1) == "expert_capacity: tokens is -1, expected a number of at least 0");
  for (double factor : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()})
    BOOST_TEST(misuse(8, 2, factor) == "expert_capacity: factor is " + std::to_string(factor) +
                                           ", expected a finite number of at least 0");
}

BOOST_AUTO_TEST_SUITE_END()
