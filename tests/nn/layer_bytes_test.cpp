// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What layers are said to take from their context, against the addresses that it hands out.

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/narrow.hpp>
#include <stiefelx/nn/expert_layer_bytes.hpp>
#include <stiefelx/nn/hydra_layer.hpp>
#include <stiefelx/nn/mixlora_layer.hpp>
#include <stiefelx/nn/task_layer.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

namespace {

using namespace support;
using stiefelx::dropout_place;
using stiefelx::expert_layer_sizes;
using stiefelx::layer_dropout;
using stiefelx::mixing;
using stiefelx::mixing_options;

/// A host context that notes how far from the first byte the scratch of algorithms reaches. What a
/// verb takes for itself is not seen.
struct noting_context : stiefelx::host::context {
  std::byte* first = nullptr;
  index_t most = 0;

  explicit noting_context(std::size_t bytes) {
    void* const block = memory.allocate(bytes);
    first = static_cast<std::byte*>(block);
    memory.release(block);
  }
};

template <class Made>
Made noted(noting_context& ctx, Made made) {
  auto const* const end = reinterpret_cast<std::byte const*>(made.data() + made.size());
  ctx.most = std::max(ctx.most, static_cast<index_t>(end - ctx.first));
  return made;
}

stiefelx::host::context& host_of(noting_context& ctx) { return ctx; }

template <class S>
auto scratch(noting_context& ctx, index_t rows, index_t cols) {
  return noted(ctx, stiefelx::host::scratch<S>(host_of(ctx), rows, cols));
}
template <class A>
auto clone(noting_context& ctx, A const& a) {
  return noted(ctx, clone(host_of(ctx), a));
}
template <class A, class B>
auto product(noting_context& ctx, A const& a, B const& b) {
  return noted(ctx, product(host_of(ctx), a, b));
}
template <class Y>
auto gram(noting_context& ctx, Y const& y) {
  return noted(ctx, gram(host_of(ctx), y));
}

/// What the verbs of the host take at once, of E r = all and k r = slots.
index_t verb_bytes(index_t number, index_t widest, index_t all, index_t chosen, index_t rank,
                   index_t tokens) {
  index_t const copied = number * (widest + 64) * (all + 64);
  return copied + (number * chosen * rank + 8 * chosen) * (tokens + 128) + (index_t{1} << 21);
}

/// Whether a step takes what was counted: no byte more, and no less than a share of it. A context that
/// holds that much and what verbs take does not grow.
template <class Step>
void expect_counted(index_t counted, index_t verbs, Step const& step, double share = 0.95) {
  index_t const lines = index_t{64} * 48;
  noting_context noting(std::size_t{1} << 28);
  step(noting);
  BOOST_TEST(noting.memory.capacity() == std::size_t{1} << 28);
  BOOST_TEST(noting.most <= counted + lines);
  BOOST_TEST(static_cast<double>(noting.most + lines) >= share * static_cast<double>(counted));
  noting_context enough(static_cast<std::size_t>(counted + lines + verbs));
  auto const held = enough.memory.capacity();
  step(enough);
  BOOST_TEST(enough.memory.capacity() == held);
}

struct form {
  mixing kind = mixing::none;
  bool shared = false, factors = false, drops = false, losses = false;
  dropout_place place = dropout_place::shared_input;
  index_t dense = 0;
};

struct counts {
  index_t experts, chosen, rank, d_in, d_out, tokens;
};

// The first has more in its tokens than in its experts, the last more in the experts.
constexpr counts several[] = {
    {4, 2, 4, 12, 20, 3000}, {3, 1, 8, 60, 9, 900}, {6, 3, 5, 7, 40, 1100}, {8, 2, 8, 96, 160, 70}};

/// Runs one form of a layer with parameters of a type and compares.
template <class S, class Stored, class Choice>
void expect_layer(counts n, form f, Choice const& choice, index_t rows) {
  index_t const all = n.experts * n.rank, own = f.shared ? n.rank : all;
  matrix_x<S> const x = random_matrix<S>(n.d_in, n.tokens, 1),
                    dy = random_matrix<S>(n.d_out, n.tokens, 2),
                    factors = random_matrix<S>(1, n.experts, 3);
  matrix_x<Stored> const down = random_matrix<S>(n.d_in, own, 4).template cast<Stored>(),
                         up = random_matrix<S>(all, n.d_out, 5).template cast<Stored>(),
                         router = random_matrix<S>(n.d_in, rows, 6).template cast<Stored>();
  matrix_x<S> y = dy, dx = x, ddown = matrix_x<S>::Zero(n.d_in, own),
              dup = matrix_x<S>::Zero(all, n.d_out), drouter = matrix_x<S>::Zero(n.d_in, rows);
  mixing_options const options{.kind = f.kind};
  index_t const chosen = stiefelx::slots_of_choice(choice, rows);
  expert_layer_sizes const sizes{.mixture = {.experts = n.experts,
                                             .chosen = chosen,
                                             .rank = n.rank,
                                             .d_out = n.d_out,
                                             .tokens = n.tokens,
                                             .dense_columns = f.dense},
                                 .rows = rows,
                                 .d_in = n.d_in,
                                 .shared_down = f.shared,
                                 .own_factors = f.factors,
                                 .drops = f.drops,
                                 .place = f.place,
                                 .gram_losses = f.losses};
  auto const run = [&](auto& ctx, auto const& bank) {
    stiefelx::expert_layer const layer{bank, router, choice, options};
    stiefelx::expert_layer_gradients const gradients(ddown, dup, drouter);
    stiefelx::no_routing_loss const none;
    auto const nothing = [](auto const&, auto const&, auto const&) {};
    auto const back = [&](auto&& saved) {
      if (f.losses)
        expert_layer_backward(ctx, layer, saved, x, dy, none, gradients, 0, dx, nothing);
      else
        expert_layer_backward(ctx, layer, saved, x, dy, none, gradients, 0, dx);
    };
    if (f.drops)
      back(expert_layer_forward(ctx, layer, layer_dropout{{0.2, 1, 0, 0}, f.place}, x, y));
    else
      back(expert_layer_forward(ctx, layer, x, y));
  };
  index_t const counted = stiefelx::saved_bytes<S>(sizes, options) +
                          stiefelx::workspace_bytes<S, Stored>(sizes, choice, options);
  index_t const verbs =
      verb_bytes(sizeof(S), std::max(n.d_in, n.d_out), all, chosen, n.rank, n.tokens);
  BOOST_TEST_CONTEXT("kind " << static_cast<int>(f.kind) << ", shared " << f.shared << ", factors "
                             << f.factors << ", drops " << f.drops << " at "
                             << static_cast<int>(f.place) << ", losses " << f.losses << ", dense "
                             << f.dense << ", tokens " << n.tokens << ", counted " << counted) {
    expect_counted(counted, verbs, [&](noting_context& ctx) {
      ctx.options.dense_expert_columns = f.dense;
      if (f.shared && f.factors)
        run(ctx, stiefelx::hydra_experts(down, up, n.experts, factors));
      else if (f.shared)
        run(ctx, stiefelx::hydra_experts(down, up, n.experts, 2));
      else if (f.factors)
        run(ctx, stiefelx::lora_experts(down, up, n.experts, factors));
      else
        run(ctx, stiefelx::lora_experts(down, up, n.experts, 2));
    });
  }
}

stiefelx::top_k some(counts n) { return {.k = n.chosen, .renormalize = n.chosen > 1}; }

}  // namespace

BOOST_AUTO_TEST_SUITE(layer_bytes)

BOOST_AUTO_TEST_CASE(a_layer_takes_what_is_counted) {
  for (counts n : several)
    for (mixing kind : {mixing::none, mixing::orthogonal})
      for (bool losses : {false, true}) {
        form f{.kind = kind, .losses = losses};
        expect_layer<float, float>(n, f, some(n), n.experts);
        expect_layer<double, double>(n, f, some(n), n.experts);
        f.dense = n.experts * n.rank;
        expect_layer<float, float>(n, f, some(n), n.experts);
        f.factors = true;
        expect_layer<double, double>(n, f, some(n), n.experts);
        f.shared = true;
        expect_layer<float, float>(n, f, some(n), n.experts);
      }
}

BOOST_AUTO_TEST_CASE(a_layer_with_dropout_takes_what_is_counted) {
  for (counts n : several)
    for (mixing kind : {mixing::none, mixing::orthogonal})
      for (bool shared : {false, true})
        for (dropout_place place :
             {dropout_place::shared_input, dropout_place::expert_input, dropout_place::rank_space})
          expect_layer<float, float>(
              n, {.kind = kind, .shared = shared, .drops = true, .place = place}, some(n),
              n.experts);
}

BOOST_AUTO_TEST_CASE(a_layer_of_two_bytes_an_entry_takes_what_is_counted) {
  for (counts n : several)
    for (mixing kind : {mixing::none, mixing::orthogonal})
      for (bool shared : {false, true})
        for (bool drops : {false, true})
          expect_layer<float, stiefelx::bfloat16>(
              n, {.kind = kind, .shared = shared, .drops = drops}, some(n), n.experts);
}

BOOST_AUTO_TEST_CASE(every_choice_of_a_layer_takes_what_is_counted) {
  for (counts n : several) {
    form const f{.kind = mixing::orthogonal};
    index_t const rows = n.experts;
    expect_layer<float, float>(n, f, stiefelx::soft{}, rows);
    expect_layer<float, float>(n, f, stiefelx::top_p{.k_max = 2}, rows);
    expect_layer<float, float>(n, f, stiefelx::expert_choice{.capacity = 9}, rows);
    expect_layer<float, float>(n, f, stiefelx::noisy_top_k{.training = true}, rows);
    expect_layer<float, float>(n, f, stiefelx::top_k{.nulls = 40}, rows + 40);
  }
}

BOOST_AUTO_TEST_CASE(a_router_takes_what_is_counted) {
  index_t const rows = 24, d = 10, tokens = 2000;
  auto const expect_route = [&]<class Stored>(Stored, index_t width, auto const& choice) {
    matrix_x<float> const x = random_matrix<float>(width, tokens, 1);
    matrix_x<Stored> const w = random_matrix<float>(width, rows, 2).template cast<Stored>();
    stiefelx::route_sizes const n{.rows = rows, .width = width, .tokens = tokens};
    index_t const counted = stiefelx::saved_bytes<float>(n, choice) +
                            stiefelx::workspace_bytes<float, Stored>(n, choice);
    expect_counted(counted, verb_bytes(4, width, rows, 1, 1, 0),
                   [&](noting_context& ctx) { (void)stiefelx::route(ctx, w, x, choice); });
  };
  expect_route(0.0F, d, stiefelx::router_options{});
  expect_route(0.0F, d, stiefelx::soft{});
  expect_route(0.0F, d, stiefelx::top_k{.k = 3, .nulls = 2});
  expect_route(0.0F, d, stiefelx::top_p{.k_max = 4});
  expect_route(0.0F, d, stiefelx::noisy_top_k{});
  expect_route(0.0F, d, stiefelx::noisy_top_k{.training = true});
  expect_route(0.0F, d, stiefelx::expert_choice{.capacity = 30});
  BOOST_TEST((stiefelx::workspace_bytes<float, stiefelx::bfloat16>(
                 stiefelx::route_sizes{rows, 9000, tokens})) == 4 * rows * 9000);
}

BOOST_AUTO_TEST_CASE(a_task_layer_takes_what_is_counted) {
  index_t const width = 300, tasks = 50;
  for (counts n : several)
    for (bool drops : {false, true}) {
      index_t const all = n.experts * n.rank;
      matrix_x<float> const x = random_matrix<float>(n.d_in, n.tokens, 1),
                            dy = random_matrix<float>(n.d_out, n.tokens, 2),
                            down = random_matrix<float>(n.d_in, all, 3),
                            up = random_matrix<float>(all, n.d_out, 4),
                            router = random_matrix<float>(width, n.experts, 5),
                            embeddings = random_matrix<float>(width, tasks, 6);
      matrix_x<int> of_tokens(1, n.tokens);
      for (index_t t = 0; t < n.tokens; ++t) of_tokens(0, t) = static_cast<int>(t % tasks);
      matrix_x<float> y = dy, dx = x, ddown = down, dup = up, drouter = router,
                      dembeddings = embeddings;
      stiefelx::task_layer const layer(stiefelx::lora_experts(down, up, n.experts, 2), router,
                                       embeddings);
      stiefelx::task_layer_sizes const sizes{.layer = {.mixture = {.experts = n.experts,
                                                                   .chosen = n.experts,
                                                                   .rank = n.rank,
                                                                   .d_out = n.d_out,
                                                                   .tokens = n.tokens},
                                                       .rows = n.experts,
                                                       .d_in = n.d_in,
                                                       .drops = drops},
                                             .width = width,
                                             .tasks = tasks};
      index_t const counted = stiefelx::saved_bytes<float>(sizes, layer.mixing) +
                              stiefelx::workspace_bytes<float>(sizes, layer.choice, layer.mixing);
      BOOST_TEST_CONTEXT("tokens " << n.tokens << ", drops " << drops << ", counted " << counted)
      expect_counted(
          counted,
          verb_bytes(4, std::max({n.d_in, n.d_out, width}), all, n.experts, n.rank, n.tokens),
          [&](noting_context& ctx) {
            auto const back = [&](auto&& saved) {
              task_layer_backward(ctx, layer, saved, of_tokens, x, dy, stiefelx::no_routing_loss{},
                                  stiefelx::task_layer_gradients(ddown, dup, drouter, dembeddings),
                                  0, dx);
            };
            if (drops)
              back(task_layer_forward(ctx, layer, layer_dropout{{0.2, 1, 0, 0}}, of_tokens, x, y));
            else
              back(task_layer_forward(ctx, layer, of_tokens, x, y));
          });
    }
}

BOOST_AUTO_TEST_CASE(a_feed_forward_layer_takes_what_is_counted) {
  index_t const experts = 4, chosen = 2, r = 3, d = 30, width = 50;
  auto const expect_block = [&]<class Stored>(Stored, index_t tokens, mixing kind, bool drops) {
    matrix_x<float> const x = random_matrix<float>(d, tokens, 1);
    auto const stored = [](matrix_x<float> const& a) -> matrix_x<Stored> {
      return a.template cast<Stored>();
    };
    index_t const all = experts * r;
    auto const gate = stored(random_matrix<float>(width, d, 2)),
               out = stored(random_matrix<float>(d, width, 3)),
               down = stored(random_matrix<float>(d, all, 4)),
               up = stored(random_matrix<float>(all, width, 5)),
               from = stored(random_matrix<float>(width, all, 6)),
               to = stored(random_matrix<float>(all, d, 7)),
               router = stored(random_matrix<float>(d, experts, 8));
    matrix_x<float> y = x, dx = x, ddown(d, all), dup(all, width), dfrom(width, all), dto(all, d),
                    drouter(d, experts);
    for (auto* m : {&ddown, &dup, &dfrom, &dto, &drouter}) m->setZero();
    auto const inner = stiefelx::lora_experts(down, up, experts, 2);
    stiefelx::mixlora_layer const layer(
        stiefelx::ffn_experts(gate, gate, out, inner, inner,
                              stiefelx::lora_experts(from, to, experts, 2)),
        router, stiefelx::top_k{.k = chosen}, mixing_options{.kind = kind});
    stiefelx::mixlora_sizes const sizes{.rows = experts,
                                        .chosen = chosen,
                                        .ranks = 3 * r,
                                        .width = d,
                                        .inner_width = width,
                                        .tokens = tokens,
                                        .drops_inputs = drops};
    index_t const counted = stiefelx::saved_bytes<float>(sizes, layer.mixing) +
                            stiefelx::workspace_bytes<float, Stored>(sizes, width * all);
    auto const step = [&](noting_context& ctx) {
      auto const back = [&](auto&& saved) {
        stiefelx::lora_gradients const first(ddown, dup), last(dfrom, dto);
        mixlora_backward(ctx, layer, saved, x, x, stiefelx::no_routing_loss{},
                         stiefelx::mixlora_gradients(first, first, last, drouter), 0, dx);
      };
      stiefelx::random_stream stream{1, 0};
      if (drops)
        back(mixlora_forward(ctx, layer, stiefelx::next_ffn_dropout(stream, 0.2), x, y));
      else
        back(mixlora_forward(ctx, layer, x, y));
    };
    BOOST_TEST_CONTEXT("tokens " << tokens << ", kind " << static_cast<int>(kind) << ", drops "
                                 << drops << ", counted " << counted)
    expect_counted(counted, verb_bytes(4, width, all, 1, r, chosen * tokens), step, 0.8);
  };
  for (mixing kind : {mixing::none, mixing::orthogonal})
    for (bool drops : {false, true}) {
      expect_block(0.0F, 500, kind, drops);
      expect_block(stiefelx::bfloat16(), 500, kind, drops);
      expect_block(stiefelx::bfloat16(), 90, kind, drops);
    }
}

BOOST_AUTO_TEST_SUITE_END()
