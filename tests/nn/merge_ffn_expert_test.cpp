// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One expert of a feed-forward block, merged into a block of plain weights.

#include <algorithm>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <nn/ffn_block.hpp>
#include <stiefelx/core/narrow.hpp>
#include <stiefelx/nn/merge_ffn_expert.hpp>
#include <stiefelx/nn/swiglu.hpp>
#include <support/backends.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace support::ffn;

/// The host's own backend, or the device in a build for it.
using first_case = std::tuple<std::tuple_element_t<0, double_cases>>;

/// Sums of squares of the adapted weights bound how errors of three products grow.
double size_of(values const& v) {
  double size = 1;
  for (int e = 0; e < experts; ++e)
    size = std::max(size, adapted(v.gate, v.gates, e).norm() * adapted(v.up, v.ups, e).norm() *
                              adapted(v.down, v.downs, e).norm() * v.x.squaredNorm());
  return size;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(merge_ffn_expert)

// Tokens whose only slot names one expert: the block of the merged weights gives their outputs.
BOOST_AUTO_TEST_CASE_TEMPLATE(a_merged_expert_is_a_block_with_the_outputs_of_its_slots, Case,
                              double_cases) {
  values v;
  for (int e = 0; e < experts; ++e) BOOST_TEST_CONTEXT("expert " << e) {
      v.ids = matrix_x<int>::Constant(1, tokens, e);
      place<Case> p;
      uploaded<Case> at(p, v);
      auto const x = p.up(v.x);
      auto const ids = p.up(v.ids);
      auto outputs = p.up(zero(width, tokens)), gate = p.up(zero(inner_width, width)),
           up = p.up(zero(inner_width, width)), down = p.up(zero(width, inner_width)),
           g = p.up(zero(inner_width, tokens)), u = p.up(zero(inner_width, tokens)),
           y = p.up(zero(width, tokens));
      auto& ctx = p.ctx;
      auto const shared = at.block(v);
      (void)ffn_experts_forward(ctx, shared, ids, x, outputs);
      //! [merged expert]
      stiefelx::merge_ffn_expert(ctx, shared, e, gate, up, down);
      multiply(ctx, gate, x, g);
      multiply(ctx, up, x, u);
      stiefelx::swiglu(ctx, g, u, u);
      multiply(ctx, down, u, y);
      //! [merged expert]
      double const bound = tolerance<double>(inner_width, 50);
      BOOST_TEST(near(p.down(y), p.down(outputs), bound, size_of(v)));
      BOOST_TEST(near(p.down(gate), adapted(v.gate, v.gates, e), bound, size_of(v)));
      BOOST_TEST(near(p.down(up), adapted(v.up, v.ups, e), bound, size_of(v)));
      BOOST_TEST(near(p.down(down), adapted(v.down, v.downs, e), bound, size_of(v)));
      // In place, with a factor of each expert's own.
      matrix s(1, experts);
      s << 0.5, -2, 3;
      auto const factors = p.up(s);
      auto const block =
          stiefelx::ffn_experts(at.frozen_gate, at.frozen_up, at.frozen_down,
                                stiefelx::lora_experts(at.gate_down, at.gate_up, experts, factors),
                                stiefelx::lora_experts(at.up_down, at.up_up, experts, factors),
                                stiefelx::lora_experts(at.down_down, at.down_up, experts, factors));
      stiefelx::merge_ffn_expert(p.ctx, block, e, at.frozen_gate, at.frozen_up, at.frozen_down);
      for (bank values::* b : {&values::gates, &values::ups, &values::downs})
        (v.*b).scaling = s(0, e);
      BOOST_TEST(near(p.down(at.frozen_gate), adapted(v.gate, v.gates, e), bound, size_of(v)));
      BOOST_TEST(near(p.down(at.frozen_up), adapted(v.up, v.ups, e), bound, size_of(v)));
      BOOST_TEST(near(p.down(at.frozen_down), adapted(v.down, v.downs, e), bound, size_of(v)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_merge_that_would_read_what_it_wrote_is_named, Case, first_case) {
  values const v;
  place<Case> p;
  uploaded<Case> at(p, v);
  auto gate = p.up(zero(inner_width, width)), up = p.up(zero(inner_width, width)),
       down = p.up(zero(width, inner_width));
  auto const refusal = [&](auto const& block, index_t expert, auto& g, auto& u, auto& d) {
    return message_of([&] { stiefelx::merge_ffn_expert(p.ctx, block, expert, g, u, d); });
  };
  auto const block = at.block(v);
  BOOST_TEST(refusal(block, 3, gate, up, down) ==
             "merge_ffn_expert: expert is 3, expected the index of an expert");
  BOOST_TEST(refusal(block, -1, gate, up, down) ==
             "merge_ffn_expert: expert is -1, expected the index of an expert");
  BOOST_TEST(refusal(block, 0, down, up, down) == "merge_ffn_expert: gate is 6x5, expected 5x6");
  BOOST_TEST(refusal(block, 0, gate, gate, down) ==
             "merge_ffn_expert: up overlaps gate, expected separate memory");
  BOOST_TEST(refusal(block, 0, at.frozen_up, up, down) ==
             "merge_ffn_expert: gate overlaps another frozen weight, expected separate memory");
  auto const twins = stiefelx::ffn_experts(at.frozen_gate, at.frozen_gate, at.frozen_down,
                                           block.gate, block.up, block.down);
  BOOST_TEST(refusal(twins, 0, at.frozen_gate, up, down) ==
             "merge_ffn_expert: gate overlaps another frozen weight, expected separate memory");
  BOOST_TEST((p.down(gate).isZero(0) && p.down(up).isZero(0) && p.down(down).isZero(0)));
  BOOST_TEST((p.down(at.frozen_gate) == v.gate && p.down(at.frozen_up) == v.up));
}

#if !defined(__CUDACC__)

BOOST_AUTO_TEST_CASE(a_merged_expert_of_two_bytes_is_rounded_once) {
  stiefelx::host::context ctx;
  values const v;
  auto const stored = [](matrix const& m) -> matrix_x<stiefelx::bfloat16> {
    return m.cast<float>().cast<stiefelx::bfloat16>();
  };
  auto const g = stored(v.gate), u = stored(v.up), d = stored(v.down), gd = stored(v.gates.down),
             gu = stored(v.gates.up), ud = stored(v.ups.down), uu = stored(v.ups.up),
             dd = stored(v.downs.down), du = stored(v.downs.up);
  auto const block = stiefelx::ffn_experts(g, u, d, stiefelx::lora_experts(gd, gu, experts, 0.5),
                                           stiefelx::lora_experts(ud, uu, experts, 0.5),
                                           stiefelx::lora_experts(dd, du, experts, 0.5));
  matrix_x<stiefelx::bfloat16> gate = g, up = u, down = d;
  matrix_x<float> wide_gate = g.cast<float>(), wide_up = wide_gate, wide_down = d.cast<float>();
  stiefelx::merge_ffn_expert(ctx, block, 1, gate, up, down);
  stiefelx::merge_ffn_expert(ctx, block, 1, wide_gate, wide_up, wide_down);
  BOOST_TEST((gate.cast<float>() == wide_gate.cast<stiefelx::bfloat16>().cast<float>()));
  BOOST_TEST((up.cast<float>() == wide_up.cast<stiefelx::bfloat16>().cast<float>()));
  BOOST_TEST((down.cast<float>() == wide_down.cast<stiefelx::bfloat16>().cast<float>()));
  BOOST_TEST((wide_gate - g.cast<float>()).norm() > 0.1F);
}

#endif

BOOST_AUTO_TEST_SUITE_END()
