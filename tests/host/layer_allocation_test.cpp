// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Routers, losses and ready layers allocate nothing after the first step of a loop.

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/expert_choice.hpp>
#include <stiefelx/nn/expert_counts.hpp>
#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/factored_lora.hpp>
#include <stiefelx/nn/hydra_layer.hpp>
#include <stiefelx/nn/importance_loss.hpp>
#include <stiefelx/nn/localized_balance.hpp>
#include <stiefelx/nn/lora_dropout.hpp>
#include <stiefelx/nn/mixlora_layer.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/router_noise.hpp>
#include <stiefelx/nn/router_orthogonality.hpp>
#include <stiefelx/nn/routing_statistics.hpp>
#include <stiefelx/nn/score_variance_loss.hpp>
#include <stiefelx/nn/selection_bias.hpp>
#include <stiefelx/nn/task_layer.hpp>
#include <stiefelx/nn/z_loss.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

#include "steady.hpp"

namespace {

using namespace support;
using stiefelx::host::context;

}  // namespace

BOOST_AUTO_TEST_SUITE(layer_allocation)

BOOST_AUTO_TEST_CASE(every_choice_of_experts_is_steady) {
  context ctx({.threads = 2});
  index_t const d = 64, experts = 6, tokens = 200;
  matrix_x<float> const x = random_matrix<float>(d, tokens, 1),
                        w = random_matrix<float>(d, experts, 2),
                        u = random_matrix<float>(experts, tokens, 3),
                        bias = random_matrix<float>(experts, 1, 4);
  matrix_x<float> const dweights = random_matrix<float>(experts, tokens, 5);
  matrix_x<double> const padding = matrix_x<double>::Ones(1, tokens);
  matrix_x<double> preference = matrix_x<double>::Zero(experts, 1), counts(experts + 2, 1);
  matrix_x<float> dscores(experts, tokens), dw = w, dx = x, du = u;
  stiefelx::routing_statistics statistics(ctx, experts);
  auto const steady = [&](char const* name, auto const& choice, auto const&... terms) {
    expect_steady(name, [&] {
      auto routes = stiefelx::route(ctx, w, x, choice, terms...);
      stiefelx::gate_backward(ctx, routes, dweights.topRows(routes.ids.rows()), dscores);
      if constexpr (sizeof...(terms) == 1)
        stiefelx::noise_scale_backward(ctx, routes, u, dscores, du);
    });
  };
  steady("soft", stiefelx::soft{});
  steady("top_k with terms", stiefelx::top_k{.nulls = 1}, stiefelx::router_bias{bias},
         stiefelx::token_weights{padding}, stiefelx::selection_bias{preference});
  steady("top_p", stiefelx::top_p{});
  steady("noisy_top_k", stiefelx::noisy_top_k{.training = true}, stiefelx::noise_scale{u});
  steady("expert_choice", stiefelx::expert_choice{.capacity = 50});
  auto const first = stiefelx::route(ctx, w, x, stiefelx::top_k{});
  matrix_x<int> const ids = first.ids;
  expect_steady("replay", [&] { (void)stiefelx::route_replay(ctx, u, ids, stiefelx::top_k{}); });
  expect_steady("router_backward",
                [&] { stiefelx::router_backward(ctx, w, x, dscores, dw, 1, dx); });
  expect_steady("measure_routing", [&] {
    stiefelx::measure_routing(ctx, first, stiefelx::every_token{}, statistics);
  });
  expect_steady("selection bias", [&] {
    stiefelx::expert_counts(ctx, first, stiefelx::every_token{}, counts);
    stiefelx::update_selection_bias(ctx, 1e-3, counts.topRows(experts), preference);
  });
}

BOOST_AUTO_TEST_CASE(losses_are_steady) {
  context ctx({.threads = 2});
  index_t const d = 64, experts = 6, tokens = 200;
  matrix_x<float> const w = random_matrix<float>(d, experts, 1),
                        scores = random_matrix<float>(experts, tokens, 2),
                        e = random_matrix<float>(d, 2 * tokens, 3);
  matrix_x<float> dscores = scores, dw = w, de = e, dweights(2, tokens);
  matrix_x<double> grams = random_matrix<double>(4, tokens, 4), change = grams, loss(1, 1);
  matrix_x<double> const weights = matrix_x<double>::Ones(1, tokens);
  matrix_x<int> offsets(1, 3), expert_types = matrix_x<int>::Zero(experts, 1), sample_types(1, 2);
  offsets << 0, 70, 200;
  sample_types << 0, 1;
  auto const routes = stiefelx::route_scores(ctx, scores, stiefelx::top_k{});
  expect_steady("balance_loss",
                [&] { stiefelx::balance_loss(ctx, 1, routes, weights, loss, dscores); });
  expect_steady("sequence_balance_loss", [&] {
    stiefelx::sequence_balance_loss(ctx, 1, routes, weights, offsets, loss, dscores);
  });
  expect_steady("z_loss", [&] { stiefelx::z_loss(ctx, 1, scores, weights, loss, dscores); });
  expect_steady("importance_loss",
                [&] { stiefelx::importance_loss(ctx, 1, routes, weights, loss, dscores); });
  expect_steady("importance_loss_of_gates", [&] {
    stiefelx::importance_loss_of_gates(ctx, 1, routes, weights, loss, dweights);
  });
  expect_steady("score_variance_loss",
                [&] { stiefelx::score_variance_loss(ctx, 1, routes, weights, loss, dscores); });
  expect_steady("localized_balance_loss", [&] {
    stiefelx::localized_balance_loss(ctx, 1, routes, weights, offsets, expert_types, sample_types,
                                     loss, dscores);
  });
  expect_steady("router_orthogonality_loss",
                [&] { stiefelx::router_orthogonality_loss(ctx, 1, w, loss, dw); });
  expect_steady("cross_orthogonality_loss",
                [&] { stiefelx::cross_orthogonality_loss(ctx, 1, w, w, loss, dw); });
  expect_steady("expert_orthogonality_loss", [&] {
    stiefelx::expert_orthogonality_loss(ctx, 1, e, routes.ids, weights, loss, de);
  });
  expect_steady("gram_orthogonality_loss", [&] {
    stiefelx::gram_orthogonality_loss(ctx, 1, grams, routes.ids, weights, loss, change);
  });
}

BOOST_AUTO_TEST_CASE(losses_take_a_small_part_of_a_one_hot_tensor) {
  index_t const experts = 64, tokens = 8000, k = 4;
  context routing, losses;
  matrix_x<float> const scores = random_matrix<float>(experts, tokens, 1);
  matrix_x<float> dscores = scores;
  matrix_x<double> const weights = matrix_x<double>::Ones(1, tokens);
  matrix_x<double> loss(1, 1);
  auto const routes = stiefelx::route_scores(routing, scores, stiefelx::top_k{.k = k});
  long const before = heap_bytes;
  stiefelx::balance_loss(losses, 1, routes, weights, loss, dscores);
  stiefelx::z_loss(losses, 1, scores, weights, loss, dscores);
  stiefelx::importance_loss(losses, 1, routes, weights, loss, dscores);
  BOOST_TEST(8 * (heap_bytes - before) < index_t(sizeof(float)) * experts * k * tokens);
}

BOOST_AUTO_TEST_CASE(ready_layers_are_steady) {
  index_t const d = 64, width = 96, experts = 4, r = 8, tokens = 100;
  matrix_x<float> const x = random_matrix<float>(d, tokens, 1), dy = x,
                        router = random_matrix<float>(d, experts, 2),
                        down = random_matrix<float>(d, experts * r, 3),
                        up = random_matrix<float>(experts * r, d, 4),
                        factors = random_matrix<float>(1, experts, 5);
  matrix_x<float> y = x, dx = x, ddown = down, dup = up, drouter = router, h(r, tokens), g = h;
  matrix_x<float> const shared = down.leftCols(r), own = up.topRows(r),
                        middle = random_matrix<float>(r, r, 6);
  matrix_x<float> dshared = shared, down_own = own, dmiddle = middle;
  matrix_x<double> loss(1, 1);
  context ctx({.threads = 2});
  auto const overlap = [&](auto const& routes, auto const& grams, auto& change) {
    stiefelx::gram_orthogonality_loss(ctx, 1, grams, routes.ids, stiefelx::every_token{}, loss,
                                      change);
  };
  stiefelx::layer_dropout const dropped{{0.1, 1, 0, 0}, stiefelx::dropout_place::expert_input};
  stiefelx::no_routing_loss const none;
  auto const steady = [&](char const* name, auto const& layer, auto& dbank) {
    expect_steady(name, [&] {
      auto saved = expert_layer_forward(ctx, layer, dropped, x, y);
      expert_layer_backward(ctx, layer, saved, x, dy, none,
                            stiefelx::expert_layer_gradients(dbank, dup, drouter), 0, dx, overlap);
    });
  };
  auto const bank = stiefelx::lora_experts(down, up, experts, factors);
  steady("OMoE", stiefelx::omoe_lora_preset(2).layer(bank, router), ddown);
  steady(
      "HydraLoRA",
      stiefelx::hydra_lora_preset().layer(stiefelx::hydra_experts(shared, up, experts, 2), router),
      dshared);
  matrix_x<int> const tasks = matrix_x<int>::Zero(1, tokens);
  matrix_x<float> const embeddings = random_matrix<float>(d, 2, 7);
  matrix_x<float> dembeddings = embeddings;
  stiefelx::task_layer const task(bank, router, embeddings);
  expect_steady("MOELoRA", [&] {
    auto saved = task_layer_forward(ctx, task, tasks, x, y);
    task_layer_backward(ctx, task, saved, tasks, x, dy, none,
                        stiefelx::task_layer_gradients(ddown, dup, drouter, dembeddings), 0, dx);
  });
  matrix_x<float> const gate = random_matrix<float>(width, d, 8), out = gate.transpose(),
                        to = random_matrix<float>(experts * r, width, 9),
                        from = random_matrix<float>(width, experts * r, 10);
  matrix_x<float> dto = to, dfrom = from;
  auto const inner = stiefelx::lora_experts(down, to, experts, 2);
  stiefelx::mixlora_layer const block(
      stiefelx::ffn_experts(gate, gate, out, inner, inner,
                            stiefelx::lora_experts(from, up, experts, 2)),
      router);
  expect_steady("MixLoRA", [&] {
    auto saved = mixlora_forward(ctx, block, x, y);
    stiefelx::lora_gradients const first(ddown, dto), last(dfrom, dup);
    mixlora_backward(ctx, block, saved, x, dy, none,
                     stiefelx::mixlora_gradients(first, first, last, drouter), 0, dx);
  });
  for (stiefelx::dropout_place place :
       {stiefelx::dropout_place::shared_input, stiefelx::dropout_place::expert_input,
        stiefelx::dropout_place::rank_space}) {
    stiefelx::random_stream stream{1, 0};
    auto const masks = stiefelx::next_ffn_dropout(stream, 0.1, place);
    expect_steady("MixLoRA with dropout", [&] {
      auto saved = mixlora_forward(ctx, block, masks, x, y);
      stiefelx::lora_gradients const first(ddown, dto), last(dfrom, dup);
      mixlora_backward(ctx, block, saved, x, dy, none,
                       stiefelx::mixlora_gradients(first, first, last, drouter), 0, dx);
    });
  }
  expect_steady("LoRA with dropout", [&] {
    stiefelx::lora_forward(ctx, shared, own, 2, dropped.mask, x, y, h);
    stiefelx::lora_backward(ctx, shared, own, 2, dropped.mask, x, h, dy, dshared, down_own, 0, dx);
  });
  expect_steady("StelLA", [&] {
    stiefelx::factored_lora_forward(ctx, shared, middle, own, 2, x, y, h, g);
    stiefelx::factored_lora_backward(ctx, shared, middle, own, 2, x, h, g, dy, dshared, dmiddle,
                                     down_own, 0, dx);
  });
}

BOOST_AUTO_TEST_SUITE_END()
