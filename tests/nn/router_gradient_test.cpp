// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Gradients of every kind of gate against central differences, the choice held fixed by a replay.

#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/expert_counts.hpp>
#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/importance_loss.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/task_scores.hpp>
#include <stiefelx/testing/thread_team.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::expert_order;
using stiefelx::score_kind;
using matrix = matrix_x<double>;
using spot = place<test_case<archetype_backend, double>>;

constexpr index_t width = 5, experts = 4, tokens = 6;

/// A router with a bias, a batch, and the loss sum c sin(weights).
struct problem {
  matrix w = random_matrix<double>(width, experts, 1), b = random_matrix<double>(experts, 1, 2),
         x = random_matrix<double>(width, tokens, 3), c = random_matrix<double>(experts, tokens, 4);
  matrix padding = matrix::Ones(1, tokens);
};

/// The loss's gradient, with NaN where a slot is empty: nobody may read it.
matrix slopes(problem const& of, matrix const& weights, matrix_x<int> const& ids) {
  matrix g = wave_gradient(of.c.topRows(weights.rows()), weights);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < ids.rows(); ++i)
      if (ids(i, t) < 0) g(i, t) = std::numeric_limits<double>::quiet_NaN();
  return g;
}

template <class Choice>
void check_gradients(problem const& of, Choice choice) {
  spot p;
  auto const w = p.up(of.w), b = p.up(of.b), x = p.up(of.x), padding = p.up(of.padding);
  auto const routes = stiefelx::route(p.ctx, w, x, choice, stiefelx::router_bias(b),
                                      stiefelx::token_weights(padding));
  matrix_x<int> const ids = p.down(routes.ids);
  auto dscores = p.up(matrix::Constant(experts, tokens, std::nan("")));
  auto dw = p.up(matrix::Zero(width, experts)), db = p.up(matrix::Zero(experts, 1));
  auto dx = p.up(matrix::Constant(width, tokens, std::nan("")));
  stiefelx::gate_backward(p.ctx, routes, p.up(slopes(of, p.down(routes.weights), ids)), dscores);
  stiefelx::router_backward(p.ctx, w, x, dscores, dw, 0, dx);
  stiefelx::router_bias_backward(p.ctx, dscores, db);

  auto const loss = [&](matrix const& weight, matrix const& bias, matrix const& input) {
    spot q;
    auto const scores = stiefelx::router_scores(q.ctx, q.up(weight), q.up(bias), q.up(input));
    auto const shares = q.up(of.padding);
    auto const again =
        stiefelx::route_replay(q.ctx, scores, q.up(ids), choice, stiefelx::token_weights(shares));
    return wave_loss(of.c.topRows(ids.rows()), q.down(again.weights));
  };
  BOOST_TEST_CONTEXT("router")
  BOOST_TEST(
      is_gradient([&](matrix const& m) { return loss(m, of.b, of.x); }, of.w, p.down(dw), 5, 6));
  BOOST_TEST_CONTEXT("bias")
  BOOST_TEST(
      is_gradient([&](matrix const& m) { return loss(of.w, m, of.x); }, of.b, p.down(db), 6, 6));
  BOOST_TEST_CONTEXT("x")
  BOOST_TEST(
      is_gradient([&](matrix const& m) { return loss(of.w, of.b, m); }, of.x, p.down(dx), 7, 6));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(router_gradient)

BOOST_AUTO_TEST_CASE(an_id_of_no_expert_counts_for_nothing) {
  // Beside the last expert's row there is that of a null expert, and then the next token's.
  index_t const rows = experts + 1;
  matrix_x<int> ids(2, tokens);
  for (index_t t = 0; t < tokens; ++t) {
    ids(0, t) = static_cast<int>(t % experts);
    ids(1, t) = t % 2 == 0 ? -1 : static_cast<int>((t + 1) % experts);
  }
  auto const results = [&](int nobody, bool renormalize) {
    spot p;
    auto listed = ids;
    for (int& id : listed.reshaped())
      if (id < 0) id = nobody;
    auto probabilities = p.up(matrix(random_matrix<double>(rows, tokens, 5).cwiseAbs()));
    auto weights = p.up(random_matrix<double>(2, tokens, 6)), gated = p.up(p.down(weights));
    auto const slots = p.up(listed);
    auto dweights = p.up(random_matrix<double>(2, tokens, 7));
    auto dscores = p.up(matrix::Zero(rows, tokens)), counts = p.up(matrix::Zero(experts + 2, 1));
    auto first = p.up(matrix::Zero(experts + 2, 1)), loss = p.up(matrix::Zero(1, 1));
    auto const gain = p.up(random_matrix<double>(experts, 1, 8));
    stiefelx::routing<decltype(probabilities), decltype(weights), decltype(p.up(listed)),
                      stiefelx::top_k>
        routes{std::move(probabilities),
               std::move(weights),
               p.up(listed),
               {.k = 2, .renormalize = renormalize, .nulls = 1},
               experts};
    stiefelx::gate_backward(p.ctx, routes, dweights, dscores);
    stiefelx::expert_counts(p.ctx, routes, stiefelx::every_token{}, counts);
    stiefelx::expert_counts(p.ctx, routes, stiefelx::every_token{}, first, true);
    stiefelx::importance_loss_of_gates(p.ctx, 0.5, routes, stiefelx::every_token{}, loss, dweights);
    stiefelx::apply_gain(p.ctx, gain, slots, gated);
    matrix all(rows + 2 + 2, tokens);
    all << p.down(dscores), p.down(dweights), p.down(gated);
    matrix sums(2 * experts + 5, 1);
    sums << p.down(counts), p.down(first), p.down(loss);
    return std::pair{all, sums};
  };
  for (bool renormalize : {true, false})
    for (int nobody : {static_cast<int>(experts), std::numeric_limits<int>::max()}) {
      auto const found = results(nobody, renormalize), expected = results(-1, renormalize);
      BOOST_TEST(same(found.first, expected.first));
      BOOST_TEST(same(found.second, expected.second));
    }
}

BOOST_AUTO_TEST_CASE(soft_and_top_k_gates_have_the_gradient_of_their_weights) {
  for (score_kind score : {score_kind::softmax, score_kind::sigmoid})
    for (bool renormalize : {true, false})
      BOOST_TEST_CONTEXT("sigmoid " << (score == score_kind::sigmoid) << ", renormalize "
                                    << renormalize) {
        check_gradients(problem{}, stiefelx::soft{score, renormalize, 2.5});
        check_gradients(problem{}, stiefelx::top_k{3, renormalize, score, 2.5});
        check_gradients(problem{},
                        stiefelx::top_k{2, renormalize, score, 1, expert_order::by_index});
      }
  check_gradients(problem{}, stiefelx::top_k{.k = 1, .renormalize = false});
  check_gradients(problem{},
                  stiefelx::top_k{.k = 1, .renormalize = false, .score = score_kind::sigmoid});
}

BOOST_AUTO_TEST_CASE(gates_with_empty_slots_have_the_gradient_of_their_weights) {
  for (bool renormalize : {true, false}) {
    problem of;
    BOOST_TEST_CONTEXT("renormalize " << renormalize) {
      check_gradients(of, stiefelx::top_p{.p = 0.9, .renormalize = renormalize});
      check_gradients(of, stiefelx::top_k{.k = 3, .renormalize = renormalize, .nulls = 2});
      check_gradients(of, stiefelx::expert_choice{.capacity = 3, .renormalize = renormalize});
      of.padding(0, 1) = of.padding(0, 4) = 0;
      check_gradients(of, stiefelx::top_k{.k = 2, .renormalize = renormalize});
      check_gradients(of, stiefelx::expert_choice{.capacity = 2,
                                                  .renormalize = renormalize,
                                                  .score = score_kind::sigmoid,
                                                  .scaling = 0.5});
    }
  }
}

BOOST_AUTO_TEST_CASE(any_number_of_lanes_adds_up_the_slots_of_one_expert) {
  matrix p = random_matrix<double>(experts, 1, 1).cwiseAbs(),
         weights = random_matrix<double>(5, 1, 2), dweights = random_matrix<double>(5, 1, 3);
  matrix_x<int> ids(5, 1);
  ids << 1, 3, 1, -1, 1;
  auto const ref = [](auto& m) {
    return stiefelx::matrix_ref<std::remove_reference_t<decltype(m(0, 0))>>{m.data(), m.rows(),
                                                                            m.cols(), m.rows()};
  };
  for (bool renormalize : {true, false}) {
    stiefelx::gate_backward_body const body{{score_kind::softmax, renormalize, 1}};
    matrix alone(experts, 1), together(experts, 1);
    auto const run = [&](auto const& team, matrix& dscores) {
      body(team, 0, nullptr, stiefelx::matrix_ref<double const>(ref(p)),
           stiefelx::matrix_ref<double const>(ref(weights)),
           stiefelx::matrix_ref<int const>(ref(ids)),
           stiefelx::matrix_ref<double const>(ref(dweights)), ref(dscores));
    };
    run(stiefelx::serial_team{}, alone);
    stiefelx::run_thread_team(3, [&](auto const& team) { run(team, together); });
    BOOST_TEST(same(together, alone));
    double const mu = weights.cwiseProduct(dweights).sum() - weights(3, 0) * dweights(3, 0);
    double sum = 0;
    for (index_t i : {0, 2, 4}) sum += weights(i, 0) * (dweights(i, 0) - (renormalize ? mu : 0));
    BOOST_TEST(std::abs(alone(1, 0) - (renormalize ? sum : sum - p(1, 0) * mu)) <=
               tolerance<double>(20));
  }
}

BOOST_AUTO_TEST_CASE(tokens_without_experts_have_no_gradient) {
  spot p;
  matrix scores = random_matrix<double>(3, 4, 1);
  scores.row(2).setConstant(9);  // the null expert takes every token
  auto const routes = stiefelx::route_scores(
      p.ctx, p.up(scores), stiefelx::top_k{.k = 1, .renormalize = false, .nulls = 1});
  auto dscores = p.up(matrix::Constant(3, 4, 7));
  stiefelx::gate_backward(p.ctx, routes, p.up(matrix::Constant(1, 4, std::nan(""))), dscores);
  BOOST_TEST(same(p.down(dscores), matrix::Zero(3, 4)));
}

// --- tasks ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(tokens_of_a_task_share_the_gates_of_its_embedding) {
  spot p;
  matrix const w = random_matrix<double>(width, experts, 1), e = random_matrix<double>(width, 3, 2);
  matrix_x<int> tasks(1, 7);
  tasks << 2, 0, 0, 2, 1, 3, -1;  // the last two are no tasks
  auto const scores = stiefelx::task_scores(p.ctx, p.up(w), p.up(e), p.up(tasks));
  matrix const of_task = loop_product(loop_adjoint(w), e), found = p.down(scores);
  for (index_t t = 0; t < 7; ++t) {
    int const task = tasks(0, t);
    matrix const expected =
        task < 0 || task > 2 ? matrix::Zero(experts, 1) : matrix(of_task.col(task));
    BOOST_TEST(near(found.col(t), expected, tolerance<double>(width), 1));
  }
  matrix const gates = p.down(stiefelx::route_scores(p.ctx, scores, stiefelx::soft{}).weights);
  BOOST_TEST(same(gates.col(0), gates.col(3)));
  BOOST_TEST(same(gates.col(1), gates.col(2)));
  auto const one = stiefelx::task_scores(p.ctx, p.up(w), p.up(matrix(e.col(1))), 5);
  BOOST_TEST(near(p.down(one), of_task.col(1).replicate(1, 5), tolerance<double>(width)));
}

BOOST_AUTO_TEST_CASE(gradients_of_task_gates_agree_with_central_differences) {
  problem const of;
  matrix const e = random_matrix<double>(width, 3, 8);
  matrix_x<int> tasks(1, tokens);
  tasks << 2, 0, 0, 2, 5, 0;  // nobody has task 1
  for (bool single : {false, true}) {
    spot p;
    matrix const embeddings = single ? matrix(e.col(0)) : e;
    auto const w = p.up(of.w), task = p.up(embeddings);
    auto const ids = p.up(tasks);
    // Both gradients accumulate, so they start from something.
    auto dw = p.up(matrix::Constant(width, experts, 0.5));
    auto de = p.up(matrix::Constant(width, embeddings.cols(), -2));
    auto const weights_of = [&](spot& q, auto const& scores) {
      return q.down(stiefelx::route_scores(q.ctx, scores, stiefelx::soft{}).weights);
    };
    auto const loss = [&](matrix const& weight, matrix const& embedding) {
      spot q;
      auto const a = q.up(weight), b = q.up(embedding);
      auto const c = q.up(tasks);
      return wave_loss(of.c, single ? weights_of(q, stiefelx::task_scores(q.ctx, a, b, tokens))
                                    : weights_of(q, stiefelx::task_scores(q.ctx, a, b, c)));
    };
    auto dscores = p.up(matrix::Zero(experts, tokens));
    auto const backward = [&](auto const& scores) {
      auto const routes = stiefelx::route_scores(p.ctx, scores, stiefelx::soft{});
      stiefelx::gate_backward(p.ctx, routes, p.up(wave_gradient(of.c, p.down(routes.weights))),
                              dscores);
    };
    if (single) {
      backward(stiefelx::task_scores(p.ctx, w, task, tokens));
      stiefelx::task_scores_backward(p.ctx, w, task, dscores, dw, de);
    } else {
      backward(stiefelx::task_scores(p.ctx, w, task, ids));
      stiefelx::task_scores_backward(p.ctx, w, task, ids, dscores, dw, de);
    }
    matrix const gw = p.down(dw).array() - 0.5, ge = p.down(de).array() + 2;
    BOOST_TEST_CONTEXT("one task " << single) {
      BOOST_TEST(is_gradient([&](matrix const& m) { return loss(m, embeddings); }, of.w, gw, 5, 6));
      BOOST_TEST(is_gradient([&](matrix const& m) { return loss(of.w, m); }, embeddings, ge, 6, 6));
      if (!single) BOOST_TEST(same(ge.col(1), matrix::Zero(width, 1)));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
