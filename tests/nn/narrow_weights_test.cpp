// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Layers over weights of two bytes an entry: the bits of the same layers over the widened weights.

#include <concepts>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <host/counted_heap.hpp>
#include <stiefelx/nn/dora.hpp>
#include <stiefelx/nn/expert_layer.hpp>
#include <stiefelx/nn/factored_lora.hpp>
#include <stiefelx/nn/ffn_experts.hpp>
#include <stiefelx/nn/hydra_lora.hpp>
#include <stiefelx/nn/lora_dropout.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <stiefelx/nn/moe_lora_dropout.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using stiefelx::bfloat16;
using stiefelx::float16;
using stiefelx::mixing;
using matrix_f = matrix_x<float>;
using host_float = test_case<host_backend, float>;
using archetype_float = test_case<archetype_backend, float>;

constexpr index_t d_in = 21, d_out = 18, experts = 4, width = 3, all = experts * width, tokens = 10;
constexpr double s = 1.5;

template <class S>
matrix_x<S> rounded(matrix_f const& a) {
  matrix_x<S> b(a.rows(), a.cols());
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) b(i, j) = S(a(i, j));
  return b;
}

/// Weights as a layer gets them: in two bytes, or the same numbers in float.
template <class Case, bool narrow>
struct weights {
  place<Case> p;

  template <class S>
  auto made(index_t rows, index_t cols, std::uint64_t seed) {
    matrix_x<S> const a = rounded<S>(0.4F * random_matrix<float>(rows, cols, seed));
    if constexpr (narrow)
      return p.up(a);
    else
      return p.up(matrix_f(a.template cast<float>()));
  }
  auto bf(index_t rows, index_t cols, std::uint64_t seed) {
    return made<bfloat16>(rows, cols, seed);
  }
  auto f16(index_t rows, index_t cols, std::uint64_t seed) {
    return made<float16>(rows, cols, seed);
  }
  auto floats(index_t rows, index_t cols, std::uint64_t seed) {
    return p.up(random_matrix<float>(rows, cols, seed));
  }
  auto zero(index_t rows, index_t cols) { return p.up(matrix_f(matrix_f::Zero(rows, cols))); }
};

using results = std::vector<matrix_f>;

template <class Place, class... A>
results downloaded(Place& p, A const&... a) {
  return {p.down(a)...};
}

/// layer(weights) with narrow and with widened weights gives the same bits, and some of them.
template <class Case, class Layer>
void expect_bits_of_widened(Layer const& layer) {
  weights<Case, true> stored;
  weights<Case, false> widened;
  results const found = layer(stored), expected = layer(widened);
  BOOST_REQUIRE(found.size() == expected.size());
  for (std::size_t k = 0; k < found.size(); ++k) BOOST_TEST_CONTEXT("result " << k) {
      matrix_f const &a = found[k], &b = expected[k];
      BOOST_REQUIRE((a.rows() == b.rows() && a.cols() == b.cols() && a.size() > 0));
      BOOST_TEST(std::memcmp(a.data(), b.data(), sizeof(float) * std::size_t(a.size())) == 0);
      BOOST_TEST((a.allFinite() && a.norm() > 0));
    }
}

matrix_x<int> ids_of(index_t chosen) {
  matrix_x<int> ids(chosen, tokens);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < chosen; ++i) ids(i, t) = static_cast<int>((t + i) % experts);
  ids(chosen - 1, tokens - 1) = -1;
  return ids;
}

template <class W>
auto routes_of(W& w, index_t chosen) {
  auto probabilities = w.zero(experts, tokens);
  auto gates = w.floats(chosen, tokens, 90);
  auto ids = w.p.up(ids_of(chosen));
  return stiefelx::routing<decltype(probabilities), decltype(gates), decltype(ids)>{
      std::move(probabilities), std::move(gates), std::move(ids), {}};
}

/// Forward and backward of a mixture; `mask` where it drops entries.
template <class W>
results mixture(W& w, mixing kind, stiefelx::dropout_place const* place) {
  auto const down = w.bf(d_in, all, 1);
  auto const up = w.f16(all, d_out, 2);
  stiefelx::lora_experts const bank(down, up, experts, s);
  auto const routes = routes_of(w, 3);
  auto const x = w.floats(d_in, tokens, 3), dy = w.floats(d_out, tokens, 4);
  auto y = w.floats(d_out, tokens, 5), ddown = w.floats(d_in, all, 6),
       dup = w.floats(all, d_out, 7);
  auto dweights = w.zero(3, tokens), dx = w.floats(d_in, tokens, 8);
  if (place == nullptr) {
    auto saved = stiefelx::moe_lora_forward(w.p.ctx, bank, routes, x, y, {.kind = kind});
    stiefelx::moe_lora_backward(w.p.ctx, bank, routes, saved, x, dy, ddown, dup, dweights, 0.5, dx);
  } else {
    stiefelx::dropout_mask const mask{0.2, 11, 0, 0};
    auto saved =
        stiefelx::moe_lora_forward(w.p.ctx, bank, routes, mask, *place, x, y, {.kind = kind});
    stiefelx::moe_lora_backward(w.p.ctx, bank, routes, saved, mask, *place, x, dy, ddown, dup,
                                dweights, 0.5, dx);
  }
  return downloaded(w.p, y, ddown, dup, dweights, dx);
}

template <class W>
results adapter(W& w) {
  auto const down = w.f16(d_in, width, 1);
  auto const up = w.bf(width, d_out, 2);
  auto const x = w.floats(d_in, tokens, 3), dy = w.floats(d_out, tokens, 4);
  auto y = w.floats(d_out, tokens, 5), h = w.zero(width, tokens), ddown = w.floats(d_in, width, 6);
  auto dup = w.floats(width, d_out, 7), dx = w.floats(d_in, tokens, 8);
  stiefelx::lora_forward(w.p.ctx, down, up, s, x, y, h);
  stiefelx::lora_backward(w.p.ctx, down, up, s, x, h, dy, ddown, dup, 0.5, dx);
  stiefelx::dropout_mask const mask{0.2, 11, 0, 0};
  auto dropped = w.zero(width, tokens);
  stiefelx::lora_forward(w.p.ctx, down, up, s, mask, x, y, dropped);
  stiefelx::lora_backward(w.p.ctx, down, up, s, mask, x, dropped, dy, ddown, dup, 0.5, dx);
  return downloaded(w.p, y, h, dropped, ddown, dup, dx);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(narrow_weights)

BOOST_AUTO_TEST_CASE(a_mixture_of_every_kind_has_the_bits_of_widened_experts) {
  for (mixing kind :
       {mixing::none, mixing::orthogonal, mixing::orthonormal, mixing::norm_preserving,
        mixing::symmetric, mixing::partial, mixing::anchored})
    BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind)) {
      auto const layer = [&](auto& w) { return mixture(w, kind, nullptr); };
      expect_bits_of_widened<host_float>(layer);
      expect_bits_of_widened<archetype_float>(layer);
    }
  for (auto where : {stiefelx::dropout_place::shared_input, stiefelx::dropout_place::expert_input,
                     stiefelx::dropout_place::rank_space})
    expect_bits_of_widened<host_float>(
        [&](auto& w) { return mixture(w, mixing::orthogonal, &where); });
}

BOOST_AUTO_TEST_CASE(one_adapter_has_the_bits_of_widened_factors) {
  auto const layer = [](auto& w) { return adapter(w); };
  expect_bits_of_widened<host_float>(layer);
  expect_bits_of_widened<archetype_float>(layer);
}

BOOST_AUTO_TEST_CASE(three_factors_and_dora_have_the_bits_of_widened_weights) {
  expect_bits_of_widened<host_float>([](auto& w) {
    auto const down = w.bf(d_in, width, 1), middle = w.bf(width, width, 2),
               up = w.bf(width, d_out, 3);
    auto const x = w.floats(d_in, tokens, 4), dy = w.floats(d_out, tokens, 5);
    auto y = w.floats(d_out, tokens, 6), h = w.zero(width, tokens), g = w.zero(width, tokens);
    auto ddown = w.zero(d_in, width), dmiddle = w.zero(width, width), dup = w.zero(width, d_out);
    auto dx = w.zero(d_in, tokens);
    stiefelx::factored_lora_forward(w.p.ctx, down, middle, up, s, x, y, h, g);
    stiefelx::factored_lora_backward(w.p.ctx, down, middle, up, s, x, h, g, dy, ddown, dmiddle, dup,
                                     0, dx);
    return downloaded(w.p, y, h, g, ddown, dmiddle, dup, dx);
  });
  expect_bits_of_widened<host_float>([](auto& w) {
    auto const frozen = w.f16(d_out, d_in, 1), magnitude = w.f16(1, d_out, 2);
    auto const down = w.bf(d_in, width, 3), up = w.bf(width, d_out, 4);
    auto const x = w.floats(d_in, tokens, 5), dy = w.floats(d_out, tokens, 6);
    auto norms = w.p.up(matrix_x<double>(matrix_x<double>::Zero(1, d_out)));
    auto z = w.zero(d_out, tokens), y = w.zero(d_out, tokens), h = w.zero(width, tokens);
    auto dm = w.zero(1, d_out), ddown = w.zero(d_in, width), dup = w.zero(width, d_out);
    auto dz = w.zero(d_out, tokens), dx = w.zero(d_in, tokens);
    stiefelx::dora_norms(w.p.ctx, frozen, down, up, s, norms);
    multiply(w.p.ctx, frozen, x, z);
    stiefelx::dora_forward(w.p.ctx, magnitude, norms, down, up, s, x, z, y, h);
    stiefelx::dora_backward(w.p.ctx, magnitude, norms, down, up, s, x, z, h, dy, dm, ddown, dup, dz,
                            0, dx);
    multiply_add(w.p.ctx, 1, frozen.adjoint(), dz, dx);
    return downloaded(w.p, matrix_f(w.p.down(norms).template cast<float>()), z, y, h, dm, ddown,
                      dup, dz, dx);
  });
}

BOOST_AUTO_TEST_CASE(shared_factors_routers_and_feed_forward_blocks_have_the_bits_of_widened_ones) {
  expect_bits_of_widened<host_float>([](auto& w) {
    auto const down = w.bf(d_in, width, 1), up = w.bf(all, d_out, 2);
    stiefelx::hydra_experts const bank(down, up, experts, s);
    auto const routes = routes_of(w, 2);
    auto const x = w.floats(d_in, tokens, 3), dy = w.floats(d_out, tokens, 4);
    auto y = w.zero(d_out, tokens), ddown = w.zero(d_in, width), dup = w.zero(all, d_out);
    auto dweights = w.zero(2, tokens), dx = w.zero(d_in, tokens);
    auto saved =
        stiefelx::hydra_lora_forward(w.p.ctx, bank, routes, x, y, {.kind = mixing::orthogonal});
    stiefelx::hydra_lora_backward(w.p.ctx, bank, routes, saved, x, dy, ddown, dup, dweights, 0, dx);
    return downloaded(w.p, y, ddown, dup, dweights, dx);
  });
  expect_bits_of_widened<host_float>([](auto& w) {
    auto const down = w.bf(d_in, all, 1), router = w.bf(d_in, experts, 9);
    auto const up = w.f16(all, d_out, 2);
    stiefelx::expert_layer const layer{stiefelx::lora_experts(down, up, experts, s), router,
                                       stiefelx::top_k{.k = 2},
                                       stiefelx::mixing_options{.kind = mixing::orthogonal}};
    auto const x = w.floats(d_in, tokens, 3), dy = w.floats(d_out, tokens, 4);
    auto y = w.zero(d_out, tokens), ddown = w.zero(d_in, all), dup = w.zero(all, d_out);
    auto drouter = w.zero(d_in, experts), dx = w.zero(d_in, tokens);
    auto saved = stiefelx::expert_layer_forward(w.p.ctx, layer, x, y);
    stiefelx::expert_layer_backward(w.p.ctx, layer, saved, x, dy, stiefelx::no_routing_loss{},
                                    stiefelx::expert_layer_gradients(ddown, dup, drouter), 0, dx);
    return downloaded(w.p, y, ddown, dup, drouter, dx);
  });
  expect_bits_of_widened<host_float>([](auto& w) {
    constexpr index_t d = 14, inner = 23;
    auto const gate = w.bf(inner, d, 1), value = w.bf(inner, d, 2), out = w.bf(d, inner, 3);
    auto const gd = w.bf(d, all, 4), gu = w.bf(all, inner, 5), dd = w.bf(inner, all, 6),
               du = w.bf(all, d, 7);
    stiefelx::lora_experts const in_bank(gd, gu, experts, s), out_bank(dd, du, experts, s);
    auto const block = stiefelx::ffn_experts(gate, value, out, in_bank, in_bank, out_bank);
    auto const ids = w.p.up(ids_of(2));
    auto const x = w.floats(d, tokens, 8), de = w.floats(d, 2 * tokens, 9);
    auto e = w.zero(d, 2 * tokens), g1 = w.zero(d, all), g2 = w.zero(all, inner);
    auto u1 = w.zero(d, all), u2 = w.zero(all, inner), o1 = w.zero(inner, all), o2 = w.zero(all, d);
    auto dx = w.zero(d, tokens);
    auto saved = stiefelx::ffn_experts_forward(w.p.ctx, block, ids, x, e);
    stiefelx::ffn_experts_backward(
        w.p.ctx, block, ids, saved, x, de, stiefelx::lora_gradients(g1, g2),
        stiefelx::lora_gradients(u1, u2), stiefelx::lora_gradients(o1, o2), 0, dx);
    return downloaded(w.p, e, g1, g2, u1, u2, o1, o2, dx);
  });
}

BOOST_AUTO_TEST_CASE(a_merge_into_a_stored_weight_rounds_the_sum_in_float_once) {
  // Wide enough for several blocks of columns, the last one smaller.
  index_t const rows = 1030, cols = 600;
  stiefelx::host::context ctx;
  matrix_x<bfloat16> w = rounded<bfloat16>(random_matrix<float>(rows, cols, 1));
  // Factors of 8 bits: their products are exact, whether or not a sum is fused with them.
  matrix_f const down = rounded<bfloat16>(random_matrix<float>(cols, 1, 2)).cast<float>();
  matrix_f const up = rounded<bfloat16>(random_matrix<float>(1, rows, 3)).cast<float>();
  matrix_x<bfloat16> expected(rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i)
      expected(i, j) = bfloat16(float(w(i, j)) + 0.5F * up(0, i) * down(j, 0));
  stiefelx::merge_lora(ctx, down, up, 0.5, w);
  index_t different = 0;
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) different += w(i, j).bits != expected(i, j).bits ? 1 : 0;
  BOOST_TEST(different == 0);

  matrix_x<float16> v = rounded<float16>(random_matrix<float>(d_out, d_in, 4));
  matrix_f wide = v.cast<float>();
  auto const d = rounded<bfloat16>(random_matrix<float>(d_in, all, 5));
  auto const u = rounded<bfloat16>(random_matrix<float>(all, d_out, 6));
  matrix_f const df = d.cast<float>(), uf = u.cast<float>(),
                 gates = random_matrix<float>(experts, 1, 7);
  stiefelx::merge_experts(ctx, stiefelx::lora_experts(d, u, experts, s), gates, mixing::none, v);
  stiefelx::merge_experts(ctx, stiefelx::lora_experts(df, uf, experts, s), gates, mixing::none,
                          wide);
  BOOST_TEST((v.cast<float>() == rounded<float16>(wide).cast<float>()));
}

BOOST_AUTO_TEST_CASE(training_steps_allocate_nothing_and_follow_the_master_copy) {
  stiefelx::host::context ctx;
  matrix_f master = 0.4F * random_matrix<float>(d_in, all, 1);
  auto down = zeros<bfloat16>(ctx, d_in, all);
  auto const up = rounded<bfloat16>(random_matrix<float>(all, d_out, 2));
  matrix_f const x = random_matrix<float>(d_in, tokens, 3),
                 dy = random_matrix<float>(d_out, tokens, 4);
  weights<host_float, true> w;
  auto const routes = routes_of(w, 2);
  matrix_f y(d_out, tokens), ddown(d_in, all), dup(all, d_out), dweights(2, tokens),
      dx(d_in, tokens);
  stiefelx::lora_experts const bank(down, up, experts, s);
  matrix_f last = master;
  auto const frozen = rounded<float16>(random_matrix<float>(d_out, d_in, 5));
  auto const step = [&] {
    last = master;
    ddown.setZero(), dup.setZero();
    //! [stored]
    copy(ctx, master, down);      // float to bfloat16: every number is rounded once
    multiply(ctx, frozen, x, y);  // float16 times float, in float
    auto saved = stiefelx::moe_lora_forward(ctx, bank, routes, x, y);
    stiefelx::moe_lora_backward(ctx, bank, routes, saved, x, dy, ddown, dup, dweights, 0, dx);
    multiply_add(ctx, 1, frozen.adjoint(), dy, dx);
    axpy(ctx, -1e-4, ddown, master);  // gradients and the master copy are float
    //! [stored]
  };
  step();
  long const before = heap_calls;
  for (int k = 0; k < 20; ++k) step();
  BOOST_TEST(heap_calls == before);
  // The stored weight is the master copy rounded, which moves where rounding would hide a step.
  BOOST_TEST((down.cast<float>() == rounded<bfloat16>(last).cast<float>()));
  auto const moved = (last.array() != master.array()).count();
  auto const shown =
      (down.cast<float>().array() != rounded<bfloat16>(master).cast<float>().array()).count();
  BOOST_TEST(moved == master.size());
  BOOST_TEST(shown < moved);
}

BOOST_AUTO_TEST_CASE(the_workspace_counts_widened_experts) {
  stiefelx::moe_lora_sizes const n{8, 2, 16, 1024, 2048};
  index_t const plain = stiefelx::workspace_bytes<float>(n);
  BOOST_TEST((stiefelx::workspace_bytes<float, float>(n, 512)) == plain);
  BOOST_TEST((stiefelx::workspace_bytes<float, bfloat16>(n, 512)) ==
             plain + 4 * 128 * (512 + 1024));
}

BOOST_AUTO_TEST_CASE(shapes_of_stored_factors_are_checked_first) {
  stiefelx::host::context ctx;
  matrix_x<bfloat16> const down(5, 2), up(3, 4);
  matrix_f const x = matrix_f::Ones(5, 6);
  matrix_f y = matrix_f::Ones(4, 6), h(2, 6);
  BOOST_TEST(message_of([&] { stiefelx::lora_forward(ctx, down, up, 1, x, y, h); }) ==
             "lora_forward: up is 3x4, expected 2x4");
  BOOST_TEST((y.array() == 1).all());
}

BOOST_AUTO_TEST_SUITE_END()
