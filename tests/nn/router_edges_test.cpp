// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Gradients of gates whose list names an expert twice, and gradients that overlap what they are
// formed from.

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/expert_layer.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/task_layer.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::score_kind;

/// A routing made by hand, and a gradient of its weights.
template <class S>
struct listed {
  matrix_x<S> p, weights, dweights;
  matrix_x<int> ids;
};

template <class Case>
matrix_x<typename Case::scalar> gate_gradient(listed<typename Case::scalar> const& of,
                                              stiefelx::top_k choice) {
  using S = typename Case::scalar;
  place<Case> p;
  auto probabilities = p.up(of.p), weights = p.up(of.weights);
  auto ids = p.up(of.ids);
  auto dscores = p.up(matrix_x<S>::Constant(of.p.rows(), of.p.cols(), S(7)));
  stiefelx::routing<decltype(probabilities), decltype(weights), decltype(ids), stiefelx::top_k>
      routes{std::move(probabilities), std::move(weights), std::move(ids), choice, of.p.rows()};
  stiefelx::gate_backward(p.ctx, routes, p.up(of.dweights), dscores);
  return p.down(dscores);
}

/// The text that names two overlapping arguments.
std::string overlap_of(std::string const& function, std::string const& output,
                       std::string const& input) {
  return function + ": " + output + " overlaps " + input + ", expected separate memory";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(router_edges)

BOOST_AUTO_TEST_CASE_TEMPLATE(slots_of_one_expert_count_as_their_sum, Case, real_cases) {
  using S = typename Case::scalar;
  // With 70 experts, numbers 3 and 67 agree in their last six bits.
  for (index_t rows : {5, 70}) {
    index_t const tokens = 9, other = rows - 3;
    listed<S> once{random_matrix<S>(rows, tokens, 1).cwiseAbs() / S(4),
                   random_matrix<S>(3, tokens, 2), random_matrix<S>(3, tokens, 3),
                   matrix_x<int>(3, tokens)};
    listed<S> twice{once.p, matrix_x<S>(5, tokens), matrix_x<S>(5, tokens),
                    matrix_x<int>(5, tokens)};
    for (index_t t = 0; t < tokens; ++t) {
      once.ids.col(t) << 3, static_cast<int>(t % 2 == 0 ? other : 1), 0;
      S const w0 = once.weights(0, t), w1 = once.weights(1, t), w2 = once.weights(2, t);
      S const g0 = once.dweights(0, t), g1 = once.dweights(1, t), g2 = once.dweights(2, t);
      // Two slots whose weights add up to the one's, with the same mean gradient.
      twice.ids.col(t) << 3, once.ids(1, t), -1, 3, 0;
      twice.weights.col(t) << w0 / 4, w1, 0, 3 * w0 / 4, w2;
      twice.dweights.col(t) << g0 + 3, g1, S(std::nan("")), g0 - 1, g2;
    }
    for (score_kind score : {score_kind::softmax, score_kind::sigmoid})
      for (bool renormalize : {true, false}) {
        stiefelx::top_k const choice{.renormalize = renormalize, .score = score, .scaling = 2};
        BOOST_TEST_CONTEXT(rows << " experts, renormalize " << renormalize)
        BOOST_TEST(near(gate_gradient<Case>(twice, choice), gate_gradient<Case>(once, choice),
                        tolerance<S>(20), 1));
      }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gates_have_no_gradient_in_place, Case, double_cases) {
  place<Case> p;
  auto const routes =
      stiefelx::route_scores(p.ctx, p.up(random_matrix<double>(4, 6, 1)), stiefelx::soft{});
  auto both = p.up(random_matrix<double>(4, 6, 2));
  matrix_x<double> const before = p.down(both);
  BOOST_TEST(message_of([&] { stiefelx::gate_backward(p.ctx, routes, both, both); }) ==
             overlap_of("gate_backward", "dscores", "dweights"));
  BOOST_TEST(same(p.down(both), before));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_is_not_what_it_is_formed_from, Case, double_cases) {
  place<Case> p;
  // Square, so that every argument may stand for every other one.
  auto const some = [&](std::uint64_t seed) { return p.up(random_matrix<double>(3, 3, seed)); };
  auto w = some(1), x = some(2), s = some(3), dw = some(4), dx = some(5);
  auto const router = [&](auto const& a, auto const& b, auto const& c, auto& d, auto& e) {
    return message_of([&] { stiefelx::router_backward(p.ctx, a, b, c, d, 0, e); });
  };
  BOOST_TEST(router(w, x, s, w, dx) == overlap_of("router_backward", "drouter", "router"));
  BOOST_TEST(router(w, x, s, x, dx) == overlap_of("router_backward", "drouter", "x"));
  BOOST_TEST(router(w, x, s, s, dx) == overlap_of("router_backward", "drouter", "dscores"));
  BOOST_TEST(router(w, x, s, dw, w) == overlap_of("router_backward", "dx", "router"));
  BOOST_TEST(router(w, x, s, dw, x) == "nothing was thrown");

  auto const ids = p.up(matrix_x<int>::Zero(1, 3));
  auto const task = [&](auto const& a, auto const& b, auto const& c, auto& d, auto& e) {
    return message_of([&] { stiefelx::task_scores_backward(p.ctx, a, b, ids, c, d, e); });
  };
  std::string const name = "task_scores_backward";
  BOOST_TEST(task(w, x, s, w, dx) == overlap_of(name, "drouter", "router"));
  BOOST_TEST(task(w, x, s, x, dx) == overlap_of(name, "drouter", "embeddings"));
  BOOST_TEST(task(w, x, s, s, dx) == overlap_of(name, "drouter", "dscores"));
  BOOST_TEST(task(w, x, s, dw, x) == overlap_of(name, "dembeddings", "embeddings"));
  BOOST_TEST(task(w, x, s, dw, w) == overlap_of(name, "dembeddings", "router"));
  BOOST_TEST(task(w, x, s, dw, dw) == overlap_of(name, "drouter", "dembeddings"));

  auto gain = p.up(random_matrix<double>(3, 1, 6)), dgain = p.up(random_matrix<double>(3, 1, 7));
  auto a = p.up(random_matrix<double>(3, 1, 8)), b = p.up(random_matrix<double>(3, 1, 9));
  auto const slots = p.up(matrix_x<int>::Zero(3, 1));
  auto const gains = [&](auto const& g, auto const& c, auto& dc, auto& dg) {
    return message_of([&] { stiefelx::apply_gain_backward(p.ctx, g, slots, c, dc, dg); });
  };
  BOOST_TEST(gains(gain, a, b, gain) == overlap_of("apply_gain_backward", "dgain", "gain"));
  BOOST_TEST(gains(gain, a, b, a) == overlap_of("apply_gain_backward", "dgain", "weights"));
  BOOST_TEST(gains(gain, a, b, b) == overlap_of("apply_gain_backward", "dgain", "dweights"));
  BOOST_TEST(gains(gain, a, a, dgain) == overlap_of("apply_gain_backward", "dweights", "weights"));
  BOOST_TEST(gains(gain, a, gain, dgain) == overlap_of("apply_gain_backward", "dweights", "gain"));
  BOOST_TEST(message_of([&] { stiefelx::apply_gain(p.ctx, gain, slots, gain); }) ==
             overlap_of("apply_gain", "weights", "gain"));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_layer_refuses_before_it_writes, Case, double_cases) {
  using matrix = matrix_x<double>;
  place<Case> p;
  index_t const width = 4, experts = 2, tokens = 4;
  auto const down = p.up(random_matrix<double>(width, 2, 1));
  auto const up = p.up(random_matrix<double>(2, width, 2));
  auto router = p.up(random_matrix<double>(width, experts, 3));
  auto embeddings = p.up(random_matrix<double>(width, experts, 4));
  auto x = p.up(random_matrix<double>(width, tokens, 5));
  auto const dy = p.up(random_matrix<double>(width, tokens, 6));
  auto const tasks = p.up(matrix_x<int>::Zero(1, tokens));
  auto ddown = p.up(matrix::Zero(width, 2)), dup = p.up(matrix::Zero(2, width));
  auto drouter = p.up(matrix::Zero(width, experts)), dx = p.up(matrix::Zero(width, tokens));
  auto y = p.up(matrix::Zero(width, tokens));
  stiefelx::no_routing_loss const none;
  stiefelx::lora_experts const bank{down, up, experts, 1.5};

  stiefelx::expert_layer const routed{bank, router, stiefelx::router_options{},
                                      stiefelx::mixing_options{}};
  auto const gradient_in = [&](auto& at) {
    auto saved = expert_layer_forward(p.ctx, routed, x, y);
    stiefelx::expert_layer_gradients const gradients(ddown, dup, at);
    return message_of([&] {
      stiefelx::expert_layer_backward(p.ctx, routed, saved, x, dy, none, gradients, 0, dx);
    });
  };
  std::string const layer = "expert_layer_backward";
  BOOST_TEST(gradient_in(router) == overlap_of(layer, "gradients.router", "layer.router"));
  BOOST_TEST(gradient_in(ddown) == overlap_of(layer, "gradients.router", "gradients.down"));
  auto part = x.middleCols(0, experts);
  BOOST_TEST(gradient_in(part) == overlap_of(layer, "gradients.router", "x"));

  stiefelx::task_layer const by_task{bank, router, embeddings};
  auto const gradients_in = [&](auto& of_router, auto& of_embeddings) {
    auto saved = task_layer_forward(p.ctx, by_task, tasks, x, y);
    stiefelx::task_layer_gradients const gradients(ddown, dup, of_router, of_embeddings);
    return message_of([&] {
      stiefelx::task_layer_backward(p.ctx, by_task, saved, tasks, x, dy, none, gradients, 0, dx);
    });
  };
  BOOST_TEST(gradients_in(router, drouter) ==
             overlap_of("task_layer_backward", "gradients.router", "router"));
  BOOST_TEST(gradients_in(drouter, embeddings) ==
             overlap_of("task_layer_backward", "gradients.embeddings", "embeddings"));
  BOOST_TEST(same(p.down(ddown), matrix::Zero(width, 2)));
  BOOST_TEST(same(p.down(dup), matrix::Zero(2, width)));
  BOOST_TEST(same(p.down(dx), matrix::Zero(width, tokens)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_number_of_tokens_is_not_negative, Case, double_cases) {
  place<Case> p;
  auto const w = p.up(random_matrix<double>(5, 3, 1)), task = p.up(random_matrix<double>(5, 1, 2));
  BOOST_TEST(message_of([&] { stiefelx::task_scores(p.ctx, w, task, -4); }) ==
             "task_scores: tokens is -4, expected a number of at least 0");
}

BOOST_AUTO_TEST_SUITE_END()
