// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which experts a token gets, and what they weigh: sigmoid scores, top-p, null experts, orders,
// selection bias and padding, against plain loops in long double.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/router.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::expert_order;
using stiefelx::score_kind;

// float, the type that mixtures are trained in; gradients are tested in double.
using S = float;
using spot = place<test_case<archetype_backend, S>>;

/// A routing, downloaded.
struct decision {
  matrix_x<S> probabilities, weights;
  matrix_x<int> ids;
  index_t experts;
};

template <class Choice, class... Terms>
decision decide(spot& p, matrix_x<S> const& scores, Choice choice, Terms const&... terms) {
  auto const r = stiefelx::route_scores(p.ctx, p.up(scores), choice, terms...);
  return {p.down(r.probabilities), p.down(r.weights), p.down(r.ids), r.experts};
}

/// The experts of one token and their weights by plain loops, filled slots alone.
struct listed {
  std::vector<int> ids;
  std::vector<long double> weights;
};

/// What a list is made of.
struct recipe {
  index_t limit;
  long double mass;
  stiefelx::gate_rule gates;
  expert_order order;
  index_t experts;
};

std::vector<long double> values_of(score_kind kind, std::vector<long double> const& scores) {
  std::vector<long double> v;
  for (long double s : scores)
    v.push_back(kind == score_kind::sigmoid ? 1 / (1 + std::exp(-s)) : std::exp(s));
  if (kind == score_kind::sigmoid) return v;
  long double const sum = std::accumulate(v.begin(), v.end(), 0.0L);
  for (long double& x : v) x /= sum;
  return v;
}

/// Sorts, takes, filters, sorts again.
listed reference(std::vector<long double> const& scores, recipe how,
                 std::vector<double> const& bias = {}) {
  auto const v = values_of(how.gates.score, scores);
  std::vector<int> sorted(v.size());
  std::iota(sorted.begin(), sorted.end(), 0);
  auto const at = [](auto const& a, int e) { return a[static_cast<std::size_t>(e)]; };
  auto const key = [&](int e) {
    return bias.empty() ? at(scores, e) : at(v, e) + static_cast<long double>(at(bias, e));
  };
  std::sort(sorted.begin(), sorted.end(),
            [&](int a, int b) { return key(a) != key(b) ? key(a) > key(b) : a < b; });
  listed found;
  long double reached = 0, all = 0, chosen = 0;
  for (long double x : v) all += x;
  for (int e : sorted) {
    if (static_cast<index_t>(found.ids.size()) == how.limit) break;
    if (!found.ids.empty() && reached >= how.mass * all) break;
    found.ids.push_back(e);
    reached += at(v, e);
  }
  std::erase_if(found.ids, [&](int e) { return e >= how.experts; });
  if (how.order == expert_order::by_index) std::sort(found.ids.begin(), found.ids.end());
  if (how.order == expert_order::by_score)
    std::sort(found.ids.begin(), found.ids.end(), [&](int a, int b) {
      return at(scores, a) != at(scores, b) ? at(scores, a) > at(scores, b) : a < b;
    });
  for (int e : found.ids) chosen += at(v, e);
  for (int e : found.ids)
    found.weights.push_back(static_cast<long double>(how.gates.scaling) * at(v, e) /
                            (how.gates.renormalize ? chosen : 1));
  return found;
}

/// Whether a decision is the reference's, token by token.
void expect_reference(decision const& d, matrix_x<S> const& scores, recipe how,
                      std::vector<double> const& bias = {}) {
  double const bound =
      tolerance<S>(scores.rows(), 1 + static_cast<double>(scores.cwiseAbs().maxCoeff()));
  BOOST_TEST(d.experts == how.experts);
  for (index_t t = 0; t < scores.cols(); ++t) {
    std::vector<long double> column;
    for (index_t e = 0; e < scores.rows(); ++e) column.push_back(scores(e, t));
    auto const expected = reference(column, how, bias);
    auto const filled = static_cast<index_t>(expected.ids.size());
    BOOST_TEST_REQUIRE(filled <= d.ids.rows());
    for (index_t i = 0; i < d.ids.rows(); ++i) {
      bool const used = i < filled;
      auto const place = static_cast<std::size_t>(i);
      BOOST_TEST(d.ids(i, t) == (used ? expected.ids[place] : -1));
      double const w = used ? static_cast<double>(expected.weights[place]) : 0;
      BOOST_TEST(std::abs(static_cast<double>(d.weights(i, t)) - w) <= bound * w);
    }
    auto const v = values_of(how.gates.score, column);
    for (index_t e = 0; e < scores.rows(); ++e) {
      auto const value = static_cast<double>(v[static_cast<std::size_t>(e)]);
      BOOST_TEST(std::abs(static_cast<double>(d.probabilities(e, t)) - value) <= bound * value);
    }
  }
}

double const no_mass = std::numeric_limits<double>::infinity();

}  // namespace

BOOST_AUTO_TEST_SUITE(router_choice)

BOOST_AUTO_TEST_CASE(every_choice_is_that_of_a_sorted_list) {
  spot p;
  matrix_x<S> const scores = random_matrix<S>(7, 40, 3);
  for (score_kind score : {score_kind::softmax, score_kind::sigmoid})
    for (bool renormalize : {true, false})
      for (expert_order order : {expert_order::by_score, expert_order::by_index}) {
        stiefelx::gate_rule const gates{score, renormalize, 2.5};
        BOOST_TEST_CONTEXT("sigmoid " << (score == score_kind::sigmoid) << ", renormalize "
                                      << renormalize << ", by index "
                                      << (order == expert_order::by_index)) {
          auto const d = decide(p, scores, stiefelx::soft{score, renormalize, 2.5, order});
          expect_reference(d, scores, {7, no_mass, gates, order, 7});
          for (index_t k : {2, 3, 7})
            expect_reference(decide(p, scores, stiefelx::top_k{k, renormalize, score, 2.5, order}),
                             scores, {k, no_mass, gates, order, 7});
          for (double mass : {1e-9, 0.3, 0.8, 1.0})
            for (index_t most : {0, 2, 4})
              expect_reference(
                  decide(p, scores, stiefelx::top_p{mass, most, renormalize, score, 2.5, order}),
                  scores, {most == 0 ? 7 : most, mass, gates, order, 7});
          for (index_t k : {2, 5})
            expect_reference(
                decide(p, scores, stiefelx::top_k{k, renormalize, score, 2.5, order, 3}), scores,
                {k, no_mass, gates, order, 4});
        }
      }
}

BOOST_AUTO_TEST_CASE(hand_made_tokens_are_routed_as_computed_by_hand) {
  spot p;
  S const half = std::log(S(2)), tenth = std::log(S(8));
  matrix_x<S> scores(4, 2);  // values 1/12 (1 2 8 1) and 1/4 (1 1 1 1)
  scores << 0, 3, half, 3, tenth, 3, 0, 3;
  auto const nucleus = decide(p, scores, stiefelx::top_p{.p = 0.75});
  matrix_x<int> ids(4, 2);
  ids << 2, 0, 1, 1, -1, 2, -1, -1;
  BOOST_TEST(same(nucleus.ids, ids));
  // The null expert 3 ties with 0 and loses; with a larger score it takes a slot.
  scores(3, 0) = S(5);
  auto const nulls = decide(p, scores, stiefelx::top_k{.k = 2, .nulls = 1});
  BOOST_TEST(nulls.experts == 3);
  BOOST_TEST(nulls.ids(0, 0) == 2);
  BOOST_TEST(nulls.ids(1, 0) == -1);
  BOOST_TEST(nulls.weights(0, 0) == S(1));
  BOOST_TEST(nulls.weights(1, 0) == S(0));
  auto const alone = decide(p, scores, stiefelx::top_k{.k = 1, .renormalize = false, .nulls = 1});
  BOOST_TEST(alone.ids(0, 0) == -1);
  BOOST_TEST(alone.weights(0, 0) == S(0));
  BOOST_TEST(alone.ids(0, 1) == 0);
  // Each null expert taken leaves a slot empty, so that they can be counted.
  auto const mostly = decide(p, scores, stiefelx::top_k{.k = 4, .nulls = 3});
  BOOST_TEST(same(mostly.ids, (matrix_x<int>(4, 2) << 0, 0, -1, -1, -1, -1, -1, -1).finished()));
}

BOOST_AUTO_TEST_CASE(weights_of_values_that_vanish_are_exact) {
  spot p;
  matrix_x<S> scores(3, 1);  // with the bias experts 1 and 2 are chosen, of values near 1e-1302
  scores << S(3000), S(1), S(1);
  auto const bias = p.up((matrix_x<double>(3, 1) << -9, 0, 0).finished());
  auto const soft = decide(p, scores, stiefelx::top_k{.k = 2}, stiefelx::selection_bias(bias));
  BOOST_TEST(same(soft.weights, matrix_x<S>::Constant(2, 1, S(0.5))));
  scores << S(-3000), S(-3000), S(-4000);
  auto const apart =
      decide(p, scores, stiefelx::top_k{.k = 2, .score = score_kind::sigmoid, .scaling = 3});
  BOOST_TEST(same(apart.weights, matrix_x<S>::Constant(2, 1, S(1.5))));
}

BOOST_AUTO_TEST_CASE(values_that_vanish_still_choose) {
  spot p;
  // Every sigmoid is zero in rounding: the share that they reach is 0 of 0.
  auto const none = decide(p, matrix_x<S>::Constant(3, 1, S(-900)),
                           stiefelx::top_p{.p = 0.5, .k_max = 2, .score = score_kind::sigmoid});
  BOOST_TEST(none.ids(0, 0) == 0);
  // Every sigmoid is one in rounding: scores decide where value + bias is a tie.
  matrix_x<S> const large = (matrix_x<S>(3, 1) << 50, 60, 55).finished();
  auto const zero = p.up(matrix_x<double>::Zero(3, 1));
  auto const full = decide(p, large, stiefelx::top_k{.score = score_kind::sigmoid},
                           stiefelx::selection_bias(zero));
  BOOST_TEST(same(full.ids, (matrix_x<int>(2, 1) << 1, 2).finished()));
}

BOOST_AUTO_TEST_CASE(a_score_that_is_not_a_number_is_the_lowest) {
  spot p;
  S const nan = std::numeric_limits<S>::quiet_NaN();
  matrix_x<S> const scores = (matrix_x<S>(3, 3) << nan, nan, 1, 1, 2, nan, 2, nan, nan).finished();
  auto const zero = p.up(matrix_x<double>::Zero(3, 1));
  for (score_kind score : {score_kind::softmax, score_kind::sigmoid}) {
    matrix_x<int> two(2, 3), all(3, 3);
    two << 2, 1, 0, 1, 0, 1;
    all << 2, 1, 0, 1, 0, 1, 0, 2, 2;
    stiefelx::top_k const some{.k = 2, .score = score}, every{.k = 3, .score = score};
    BOOST_TEST(same(decide(p, scores, some).ids, two));
    BOOST_TEST(same(decide(p, scores, every).ids, all));
    auto const biased = stiefelx::selection_bias(zero);
    BOOST_TEST(same(decide(p, scores, some, biased).ids, two));
    BOOST_TEST(same(decide(p, scores, every, biased).ids, all));
  }
}

// --- bias ----------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_bias_moves_the_choice_and_nothing_else) {
  spot p;
  matrix_x<S> const scores = random_matrix<S>(6, 50, 5);
  matrix_x<double> const b = random_matrix<double>(6, 1, 6);
  std::vector<double> const list(b.data(), b.data() + 6);
  auto const bias = p.up(b);
  auto const biased = stiefelx::selection_bias(bias);
  for (score_kind score : {score_kind::softmax, score_kind::sigmoid}) {
    stiefelx::top_k const two{.k = 2, .score = score};
    auto const d = decide(p, scores, two, biased);
    expect_reference(d, scores, {2, no_mass, two.gates(), expert_order::by_score, 6}, list);
    auto const plain = decide(p, scores, two);
    BOOST_TEST(same(d.probabilities, plain.probabilities));
    BOOST_TEST(!same(d.ids, plain.ids));
    for (index_t t = 0; t < 50; ++t)
      if (d.ids.col(t) == plain.ids.col(t))
        BOOST_TEST(same(d.weights.col(t), plain.weights.col(t)));
  }
  stiefelx::top_p const most{.p = 0.7};
  expect_reference(decide(p, scores, most, biased), scores,
                   {6, 0.7L, most.gates(), expert_order::by_score, 6}, list);
  auto const zero = p.up(matrix_x<double>::Constant(6, 1, 0.25));
  BOOST_TEST(same(decide(p, scores, stiefelx::top_k{}, stiefelx::selection_bias(zero)).ids,
                  decide(p, scores, stiefelx::top_k{}).ids));
}

BOOST_AUTO_TEST_CASE(a_linear_bias_is_a_constant_input) {
  spot p;
  matrix_x<S> const w = random_matrix<S>(5, 4, 1), b = random_matrix<S>(4, 1, 2);
  matrix_x<S> const x = random_matrix<S>(5, 9, 3);
  matrix_x<S> const sum = w.transpose() * x + b * matrix_x<S>::Ones(1, 9);
  auto const bias = p.up(b);
  auto const r = stiefelx::route(p.ctx, p.up(w), p.up(x), stiefelx::top_k{.k = 3},
                                 stiefelx::router_bias(bias));
  auto const expected = decide(p, sum, stiefelx::top_k{.k = 3});
  BOOST_TEST(same(p.down(r.ids), expected.ids));
  BOOST_TEST(near(p.down(r.weights), expected.weights, tolerance<S>(6, 4)));
}

// --- symmetries and padding ----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(permuted_experts_have_permuted_ids) {
  spot p;
  matrix_x<S> const scores = random_matrix<S>(5, 30, 8);
  int const turn[] = {3, 0, 4, 1, 2};
  matrix_x<S> moved(5, 30);
  for (index_t e = 0; e < 5; ++e) moved.row(turn[e]) = scores.row(e);
  auto const check = [&](auto choice) {
    auto const a = decide(p, scores, choice), b = decide(p, moved, choice);
    BOOST_TEST(near(b.weights, a.weights, tolerance<S>(5)));
    for (index_t t = 0; t < 30; ++t)
      for (index_t i = 0; i < a.ids.rows(); ++i)
        BOOST_TEST(b.ids(i, t) == (a.ids(i, t) < 0 ? -1 : turn[a.ids(i, t)]));
  };
  check(stiefelx::top_k{.k = 3});
  check(stiefelx::top_p{.p = 0.6});
  check(stiefelx::expert_choice{.capacity = 11});
}

BOOST_AUTO_TEST_CASE(tokens_of_padding_get_nothing_and_disturb_nobody) {
  spot p;
  matrix_x<S> scores = random_matrix<S>(4, 10, 9);
  matrix_x<S> shares = matrix_x<S>::Constant(1, 10, S(0.5));
  for (index_t t : {0, 4, 9}) {
    shares(0, t) = 0;
    scores.col(t).setConstant(std::numeric_limits<S>::quiet_NaN());
  }
  auto const w = p.up(shares);
  auto const check = [&](auto choice) {
    auto const d = decide(p, scores, choice, stiefelx::token_weights(w));
    auto const all = decide(p, scores, choice);
    for (index_t t = 0; t < 10; ++t) {
      bool const padded = shares(0, t) == S(0);
      BOOST_TEST((d.ids.col(t).maxCoeff() == -1) == padded);
      BOOST_TEST((d.weights.col(t).norm() == S(0)) == padded);
      BOOST_TEST((d.probabilities.col(t).norm() == S(0)) == padded);
      if (!padded) BOOST_TEST(same(d.weights.col(t), all.weights.col(t)));
    }
  };
  check(stiefelx::soft{});
  check(stiefelx::top_k{});
  check(stiefelx::top_p{});
  check(stiefelx::noisy_top_k{.training = true});
}

BOOST_AUTO_TEST_CASE(edges_of_every_choice_are_routed) {
  spot p;
  auto const check = [&](auto choice) {
    BOOST_TEST(decide(p, matrix_x<S>(4, 0), choice).ids.cols() == 0);
    auto const one = decide(p, matrix_x<S>::Constant(1, 3, S(2)), choice);
    BOOST_TEST(same(one.ids, matrix_x<int>::Zero(1, 3)));
    BOOST_TEST(same(one.weights, matrix_x<S>::Ones(1, 3)));
    matrix_x<S> crowd = matrix_x<S>::Zero(4, 6);  // every token wants expert 2 first
    crowd.row(2).setOnes();
    auto const d = decide(p, crowd, choice);
    BOOST_TEST((d.ids.array() == 2).count() == 6);
  };
  check(stiefelx::soft{});
  check(stiefelx::top_k{.k = 1, .renormalize = false});
  check(stiefelx::top_p{});
  check(stiefelx::noisy_top_k{.k = 1, .renormalize = false});
  check(stiefelx::expert_choice{.capacity = 6});
}

BOOST_AUTO_TEST_SUITE_END()
