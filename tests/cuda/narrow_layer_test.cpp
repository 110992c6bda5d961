// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A mixture of experts on the device whose factors have two bytes an entry: the bits of the same
// layer over the widened factors, forward and backward, with routed products and with dense ones.

#include <limits>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/placed.hpp>
#include <stiefelx/cuda.hpp>
#include <stiefelx/nn/moe_lora.hpp>

namespace {

using namespace tables;
using stiefelx::bfloat16;
using stiefelx::float16;

constexpr index_t d_in = 24, d_out = 17, experts = 4, width = 8, all = experts * width, tokens = 10,
                  slots = 2;

using results = std::vector<table<float>>;

// The layer on factors as f makes them of stored ones.
template <class F>
results mixture(device::context& ctx, F const& f, int nobody = -1,
                stiefelx::mixing kind = stiefelx::mixing::orthogonal) {
  auto const down = f(random_table<bfloat16>(d_in, all, 1));
  auto const up = f(random_table<float16>(all, d_out, 2));
  table<int> ids(slots, tokens);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < slots; ++i) ids(i, t) = static_cast<int>((t + i) % experts);
  ids(1, tokens - 1) = ids(0, 2) = nobody;
  auto probabilities = on_device(ctx, table<float>(experts, tokens));
  auto gates = on_device(ctx, random_table<float>(slots, tokens, 3));
  auto chosen = on_device(ctx, ids);
  stiefelx::routing<decltype(probabilities), decltype(gates), decltype(chosen)> const routes{
      std::move(probabilities), std::move(gates), std::move(chosen), {}};
  stiefelx::lora_experts const bank(down, up, experts, 1.5);
  auto const x = on_device(ctx, random_table<float>(d_in, tokens, 4));
  auto const dy = on_device(ctx, random_table<float>(d_out, tokens, 5));
  auto y = on_device(ctx, random_table<float>(d_out, tokens, 6));
  auto ddown = on_device(ctx, random_table<float>(d_in, all, 7));
  auto dup = on_device(ctx, random_table<float>(all, d_out, 8));
  auto dweights = on_device(ctx, table<float>(slots, tokens));
  auto dx = on_device(ctx, random_table<float>(d_in, tokens, 9));
  auto status = on_device(ctx, table<int>(1, 1));
  auto saved = stiefelx::moe_lora_forward(ctx, bank, routes, x, y, {.kind = kind}, status);
  auto const coefficients = on_host(ctx, saved.coefficients);
  int const bits = value(ctx, status);
  stiefelx::moe_lora_backward(ctx, bank, routes, saved, x, dy, ddown, dup, dweights, 0.5, dx);
  table<float> told(1, 1);
  told(0, 0) = static_cast<float>(bits);
  return {on_host(ctx, y),
          on_host(ctx, ddown),
          on_host(ctx, dup),
          on_host(ctx, dweights),
          on_host(ctx, dx),
          cast<float>(coefficients),
          told};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(narrow_layer)

BOOST_AUTO_TEST_CASE(a_mixture_on_the_device_has_the_bits_of_widened_experts) {
  for (index_t columns : {0, 512}) {
    device::context ctx({.dense_expert_columns = columns});
    auto const found = mixture(ctx, [&](auto const& a) { return on_device(ctx, a); });
    auto const expected =
        mixture(ctx, [&](auto const& a) { return on_device(ctx, cast<float>(a)); });
    for (std::size_t k = 0; k < found.size(); ++k) {
      BOOST_TEST(same_bits(found[k], expected[k]), "result " << k);
      BOOST_TEST(std::ranges::all_of(found[k].entries, [](float v) { return v - v == 0; }));
    }
    BOOST_TEST(!same_bits(found[0], random_table<float>(d_out, tokens, 6)));
  }
}

BOOST_AUTO_TEST_CASE(an_id_of_no_expert_makes_an_empty_slot) {
  for (index_t columns : {0, 512})
    for (auto kind : {stiefelx::mixing::none, stiefelx::mixing::orthonormal,
                      stiefelx::mixing::symmetric, stiefelx::mixing::anchored})
      for (int nobody : {static_cast<int>(experts), std::numeric_limits<int>::max()}) {
        device::context ctx({.dense_expert_columns = columns});
        auto const plain = [&](auto const& a) { return on_device(ctx, cast<float>(a)); };
        auto const found = mixture(ctx, plain, nobody, kind),
                   expected = mixture(ctx, plain, -1, kind);
        for (std::size_t k = 0; k < found.size(); ++k)
          BOOST_TEST(same_bits(found[k], expected[k]), "columns " << columns << ", result " << k);
        BOOST_TEST(found.back()(0, 0) == 0);
      }
}

BOOST_AUTO_TEST_SUITE_END()
