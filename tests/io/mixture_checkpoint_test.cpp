// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A checkpoint of a whole mixture: router, experts, an optimizer's state for each, the counters of
// dropout. A run that stops and goes on has the bits of one that did not stop.

#include <cstdint>
#include <string>

#include <boost/test/unit_test.hpp>

#include <io/files.hpp>
#include <stiefelx/host/context.hpp>
#include <stiefelx/host/multiply.hpp>
#include <stiefelx/io/checkpoint.hpp>
#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/nn/gate_backward.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/state.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

namespace {

using stiefelx::index_t;
using matrix = support::matrix_x<float>;

constexpr index_t width = 6, experts = 3, rank = 2, tokens = 9;

/// A layer that learns to be a random map, with an orthogonal mixture and dropout of its input.
struct training {
  stiefelx::host::context ctx;
  matrix router = support::random_matrix<float>(width, experts, 1);
  matrix down = support::random_matrix<float>(width, experts* rank, 2);
  matrix up = support::random_matrix<float>(experts * rank, width, 3);
  stiefelx::random_stream stream{7, 0};
  std::int64_t step = 0;
  stiefelx::adamw_options options{.learning_rate = 0.03};
  decltype(stiefelx::adamw(ctx, router, options)) router_opt{ctx, router, options},
      down_opt{ctx, down, options}, up_opt{ctx, up, options};

  void run(int steps) {
    for (int k = 0; k < steps; ++k, ++step) {
      matrix x = support::random_matrix<float>(width, tokens, static_cast<std::uint64_t>(step));
      dropout(ctx, stiefelx::next_dropout_mask(stream, 0.25), x, x);
      matrix y = matrix::Zero(width, tokens), dx = y;
      matrix drouter = matrix::Zero(width, experts), ddown = matrix::Zero(width, experts * rank);
      matrix dup = matrix::Zero(experts * rank, width);
      matrix dweights(2, tokens), dscores(experts, tokens);
      {
        auto const routes = stiefelx::route(ctx, router, x, {.top_k = 2});
        auto const layer = stiefelx::lora_experts(down, up, experts, 1.5);
        auto saved = stiefelx::moe_lora_forward(ctx, layer, routes, x, y,
                                                {.kind = stiefelx::mixing::orthogonal});
        matrix const dy = y - support::random_matrix<float>(width, tokens, 99);
        stiefelx::moe_lora_backward(ctx, layer, routes, saved, x, dy, ddown, dup, dweights, 0, dx);
        stiefelx::gate_backward(ctx, routes, dweights, dscores);
        stiefelx::router_backward(ctx, router, x, dscores, drouter, 1, dx);
      }
      router_opt.step(ctx, router, drouter);
      down_opt.step(ctx, down, ddown);
      up_opt.step(ctx, up, dup);
    }
  }

  void write(std::string const& path) {
    stiefelx::checkpoint_writer to;
    to.add("router", router);
    to.add("down", down);
    to.add("up", up);
    to.add_state("router", save(ctx, router_opt));
    to.add_state("down", save(ctx, down_opt));
    to.add_state("up", save(ctx, up_opt));
    to.add_stream("dropout", stream);
    to.add_number("step", step);
    to.write(path);
  }

  void read(std::string const& path) {
    stiefelx::checkpoint_reader const from(path);
    from.read("router", router);
    from.read("down", down);
    from.read("up", up);
    load(ctx, from.state<stiefelx::optimizer_state>("router"), router_opt);
    load(ctx, from.state<stiefelx::optimizer_state>("down"), down_opt);
    load(ctx, from.state<stiefelx::optimizer_state>("up"), up_opt);
    stream = from.stream("dropout");
    step = from.number("step");
  }

  bool has_the_bits_of(training const& other) const {
    return router == other.router && down == other.down && up == other.up &&
           stream.offset == other.stream.offset && step == other.step;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(mixture_checkpoint)

BOOST_AUTO_TEST_CASE(a_mixture_goes_on_with_the_same_bits) {
  io_test::temporary_folder const folder;
  training whole, first, second;
  whole.run(8);
  first.run(3);
  first.write(folder / "run.safetensors");
  second.run(1);  // What a program did before it reads does not count.
  second.read(folder / "run.safetensors");
  BOOST_TEST(second.has_the_bits_of(first));
  second.run(5);
  BOOST_TEST(second.has_the_bits_of(whole));
  BOOST_TEST(whole.router.allFinite());
  BOOST_TEST(!whole.has_the_bits_of(first));
}

// A part that is left out shows, so the equality above is not one of runs that depend on nothing.
BOOST_AUTO_TEST_CASE(every_part_of_a_checkpoint_counts) {
  io_test::temporary_folder const folder;
  training whole, first;
  whole.run(5);
  first.run(3);
  first.write(folder / "run.safetensors");
  auto const differs = [&](auto const& forget) {
    training second;
    second.read(folder / "run.safetensors");
    forget(second);
    second.run(2);
    return !second.has_the_bits_of(whole);
  };
  BOOST_TEST(!differs([](training&) {}));
  training fresh;
  BOOST_TEST(differs([&](training& t) { t.router = fresh.router; }));
  BOOST_TEST(differs([&](training& t) { t.up = fresh.up; }));
  BOOST_TEST(
      differs([&](training& t) { load(t.ctx, save(fresh.ctx, fresh.down_opt), t.down_opt); }));
  BOOST_TEST(differs([](training& t) { t.stream.offset = 0; }));
  BOOST_TEST(differs([](training& t) { t.step = 0; }));
}

BOOST_AUTO_TEST_SUITE_END()
