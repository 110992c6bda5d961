// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Feed-forward experts and their layer against the block written out, with and without dropout, and
// their gradients against differences.

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <nn/ffn_block.hpp>
#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/mixlora_layer.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace support::ffn;
using stiefelx::mixing;

/// The host's own backend, or the device in a build for it.
using first_case = std::tuple<std::tuple_element_t<0, double_cases>>;

/// Whether every gradient is that of a loss of the values.
template <class Loss>
void expect_gradients(values const& at, result const& r, Loss const& loss_of, int first = 6) {
  auto const check = [&](char const* name, auto const& member, matrix const& gradient) {
    values other = at;
    auto const loss = [&](matrix const& moved) {
      member(other) = moved;
      return loss_of(other);
    };
    matrix const here = member(other);
    BOOST_TEST_CONTEXT(name) BOOST_TEST(is_gradient(loss, here, gradient, 21, first));
  };
  check("gate.down", [](values& v) -> matrix& { return v.gates.down; }, r.gate_down);
  check("gate.up", [](values& v) -> matrix& { return v.gates.up; }, r.gate_up);
  check("up.down", [](values& v) -> matrix& { return v.ups.down; }, r.up_down);
  check("up.up", [](values& v) -> matrix& { return v.ups.up; }, r.up_up);
  check("down.down", [](values& v) -> matrix& { return v.downs.down; }, r.down_down);
  check("down.up", [](values& v) -> matrix& { return v.downs.up; }, r.down_up);
  check("x", [](values& v) -> matrix& { return v.x; }, r.dx);
}

constexpr dropout_place places[] = {dropout_place::shared_input, dropout_place::expert_input,
                                    dropout_place::rank_space};

ffn_dropout dropped_at(dropout_place where, double rate = 0.4) {
  stiefelx::random_stream stream{3, 1};
  return stiefelx::next_ffn_dropout(stream, rate, where);
}

/// Sums of squares of the adapted weights bound how errors of three products grow.
double size_of(values const& v) {
  double size = 1;
  for (int e = 0; e < experts; ++e)
    size = std::max(size, adapted(v.gate, v.gates, e).norm() * adapted(v.up, v.ups, e).norm() *
                              adapted(v.down, v.downs, e).norm() * v.x.squaredNorm());
  return size;
}

constexpr double share = 0.3, epsilon = 1e-2;

struct layer_result {
  matrix y, outputs, router;
  result gradients;
};

/// A layer that mixes all experts, with dropout and a loss on their outputs; its gradients if wanted.
template <class Case>
layer_result run_layer(values const& v, matrix const& router, mixing kind,
                       ffn_dropout const& dropped, matrix const& c, bool backward) {
  place<Case> p;
  uploaded<Case> at(p, v);
  auto const x = p.up(v.x), w = p.up(router);
  auto y = p.up(zero(width, tokens)), dx = p.up(matrix::Ones(width, tokens)),
       drouter = p.up(zero(width, experts)), loss = p.up(zero(1, 1));
  stiefelx::mixlora_layer const layer(at.block(v), w, stiefelx::soft{},
                                      stiefelx::mixing_options{.kind = kind});
  auto saved = mixlora_forward(p.ctx, layer, dropped, x, y);
  layer_result found{p.down(y), p.down(saved.outputs), {}, {}};
  if (!backward) return found;
  stiefelx::lora_gradients const gates(at.dgate_down, at.dgate_up), ups(at.dup_down, at.dup_up),
      downs(at.ddown_down, at.ddown_up);
  mixlora_backward(
      p.ctx, layer, saved, x, p.up(wave_gradient(c, found.y)), stiefelx::no_routing_loss{},
      stiefelx::mixlora_gradients(gates, ups, downs, drouter), 0.5, dx,
      [&](auto const& routes, auto const& outputs, auto& doutputs) {
        stiefelx::expert_orthogonality_loss(p.ctx, share, outputs, routes.ids,
                                            stiefelx::every_token{}, loss, doutputs, epsilon);
      });
  found.router = p.down(drouter);
  found.gradients = at.gradients(dx);
  return found;
}

/// Loss of the layer's output and of the overlap of its experts' outputs, by its definition.
double layer_loss(layer_result const& r, matrix const& c) {
  double sum = 0;
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < experts; ++i)
      for (index_t j = 0; j < experts; ++j) {
        if (i == j) continue;
        matrix const a = r.outputs.col(t * experts + i), b = r.outputs.col(t * experts + j);
        sum += (a.cwiseProduct(b).sum() / (b.squaredNorm() + epsilon) * b).squaredNorm();
      }
  return wave_loss(c, r.y) + share / tokens * sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ffn_experts)

BOOST_AUTO_TEST_CASE_TEMPLATE(outputs_are_those_of_dense_blocks, Case, double_cases) {
  values const v;
  matrix const found = run<Case>(v, [](matrix const& e) { return matrix(0 * e); }).e;
  BOOST_TEST(near(found, direct(v), tolerance<double>(width), size_of(v)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, double_cases) {
  values const at;
  matrix const c = masked(drawn(width, slots * tokens, 20));
  expect_gradients(at, run<Case>(at, [&](matrix const& e) { return wave_gradient(c, e); }),
                   [&](values const& v) { return wave_loss(c, direct(v)); });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(dropout_and_its_gradients_are_those_of_entries_dropped_by_hand, Case,
                              double_cases) {
  values const at;
  matrix const c = masked(drawn(width, slots * tokens, 20)), whole = direct(at);
  for (dropout_place where : places) BOOST_TEST_CONTEXT("place " << static_cast<int>(where)) {
      ffn_dropout const dropped = dropped_at(where);
      all_kept const k = drops<Case>(dropped);
      auto const found =
          run<Case>(at, [&](matrix const& e) { return wave_gradient(c, e); }, dropped);
      BOOST_TEST(near(found.e, direct(at, k), tolerance<double>(width), size_of(at)));
      BOOST_TEST((found.e - whole).norm() > 0.05 * whole.norm());
      expect_gradients(at, found, [&](values const& v) { return wave_loss(c, direct(v, k)); });
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_rate_of_zero_has_the_bits_of_no_dropout, Case, double_cases) {
  values const v;
  auto const gradient_of = [](matrix const& e) { return e; };
  auto const plain = run<Case>(v, gradient_of);
  for (dropout_place where : places) {
    BOOST_TEST((run<Case>(v, gradient_of, dropped_at(where, 0)) == plain));
    BOOST_TEST(!(run<Case>(v, gradient_of, dropped_at(where)) == plain));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(masks_of_the_banks_are_independent, Case, first_case) {
  stiefelx::random_stream stream{5, 2};
  ffn_dropout const dropped = stiefelx::next_ffn_dropout(stream, 0.5);
  BOOST_TEST(stream.offset == 5U);
  constexpr index_t n = 64;
  place<Case> p;
  auto const kept_entries = [&](dropout_mask const& mask) {
    kept k(n, 1, n);
    drop(p, mask, dropped.place, matrix_x<int>(matrix_x<int>::Zero(1, n)), k);
    return k.input;
  };
  matrix const masks[] = {kept_entries(dropped.gate), kept_entries(dropped.up),
                          kept_entries(dropped.down)};
  for (int i = 0; i < 3; ++i) {
    auto const same = (masks[i].array() == masks[(i + 1) % 3].array()).count();
    // Five standard deviations of n^2 coins.
    BOOST_TEST(std::abs(static_cast<double>(same) - n * n / 2) <= 5 * n / 2);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_batch_in_two_pieces_has_the_masks_of_the_whole, Case, first_case) {
  values const v;
  auto const gradient_of = [](matrix const& e) { return e; };
  for (dropout_place where : places) {
    ffn_dropout dropped = dropped_at(where);
    auto const whole = run<Case>(v, gradient_of, dropped);
    values last = v;
    last.x = v.x.rightCols(1);
    last.ids = v.ids.rightCols(1);
    for (dropout_mask* mask : {&dropped.gate, &dropped.up, &dropped.down})
      mask->first_token = tokens - 1;
    auto const piece = run<Case>(last, gradient_of, dropped);
    double const bound = tolerance<double>(width);
    BOOST_TEST(near(piece.e, matrix(whole.e.rightCols(slots)), bound, size_of(v)));
    BOOST_TEST(near(piece.dx, matrix(whole.dx.rightCols(1)), bound, size_of(v)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_of_a_layer_with_dropout_and_a_loss_on_its_outputs, Case,
                              first_case) {
  values const at;
  matrix const router = random_matrix<double>(width, experts, 12), c = drawn(width, tokens, 22);
  std::pair<dropout_place, mixing> const forms[] = {
      {dropout_place::shared_input, mixing::orthogonal},
      {dropout_place::expert_input, mixing::none},
      {dropout_place::rank_space, mixing::orthogonal}};
  for (auto const& [where, kind] : forms)
    BOOST_TEST_CONTEXT("place " << static_cast<int>(where) << ", kind " << static_cast<int>(kind)) {
      auto const of = [&, at_place = where, form = kind](values const& v, matrix const& w,
                                                         bool backward) {
        return run_layer<Case>(v, w, form, dropped_at(at_place), c, backward);
      };
      // Outputs that are made orthogonal curve more.
      int const first = kind == mixing::none ? 6 : 9;
      auto const found = of(at, router, true);
      auto const loss = [&](values const& v) { return layer_loss(of(v, router, false), c); };
      expect_gradients(at, found.gradients, loss, first);
      auto const of_router = [&](matrix const& w) { return layer_loss(of(at, w, false), c); };
      BOOST_TEST(is_gradient(of_router, router, found.router, 23, first));
    }
}

BOOST_AUTO_TEST_CASE(threads_keep_the_bits) {
  // More than three of the pieces that products and sums over tokens are cut into.
  constexpr index_t many = 400;
  values v;
  v.x = drawn(width, many, 10);
  v.ids = few_ids().replicate(1, many / tokens);
  auto const found = [&](int threads, auto const& dropped) {
    place<test_case<host_backend, double>> p{stiefelx::host::context({.threads = threads})};
    return run_in(p, v, dropped, [](matrix const& e) { return e; });
  };
  ffn_dropout const dropped = dropped_at(dropout_place::expert_input);
  auto const plain = found(1, no_ffn_dropout{}), some = found(1, dropped);
  for (int threads : {2, 3}) {
    BOOST_TEST((found(threads, no_ffn_dropout{}) == plain));
    BOOST_TEST((found(threads, dropped) == some));
  }
}

BOOST_AUTO_TEST_CASE(misuse_is_named) {
  stiefelx::host::context ctx;
  values const v;
  matrix e(width, slots * tokens), wrong = zero(2, 2);
  auto const forward = [&](auto const& frozen, index_t count, auto& out) {
    auto const block = stiefelx::ffn_experts(
        frozen, v.up, v.down, stiefelx::lora_experts(v.gates.down, v.gates.up, experts, 0.5),
        stiefelx::lora_experts(v.ups.down, v.ups.up, count, 0.5),
        stiefelx::lora_experts(v.downs.down, v.downs.up, experts, 0.5));
    return message_of([&] { stiefelx::ffn_experts_forward(ctx, block, v.ids, v.x, out); });
  };
  BOOST_TEST(forward(wrong, experts, e) == "ffn_experts_forward: frozen_gate is 2x2, expected 2x6");
  BOOST_TEST(forward(v.gate, 1, e) ==
             "ffn_experts_forward: up.count is 1, expected the number of experts of the gate");
  BOOST_TEST(forward(v.gate, experts, wrong) == "ffn_experts_forward: e is 2x2, expected 6x8");
}

BOOST_AUTO_TEST_CASE(overlap_and_a_wrong_rate_are_named_before_anything_is_written) {
  place<test_case<host_backend, double>> p;
  values v;
  // As many tokens as experts: the router's gradient has the shape of dx.
  v.x = drawn(width, experts, 10);
  uploaded<test_case<host_backend, double>> at(p, v);
  matrix const w = drawn(width, experts, 12), dy = v.x;
  matrix y = zero(width, experts), x = v.x, dx = v.x, drouter = w;
  stiefelx::mixlora_layer const layer(at.block(v), w, stiefelx::soft{});
  ffn_dropout wrong;
  wrong.up.rate = 1;
  std::string const text = ": rate is 1.000000, expected a number in [0, 1)";
  BOOST_TEST(message_of([&] { mixlora_forward(p.ctx, layer, wrong, v.x, y); }) ==
             "mixlora_forward" + text);
  matrix e = zero(width, experts * experts);
  matrix_x<int> const all = matrix_x<int>::Constant(experts, experts, 1);
  BOOST_TEST(message_of([&] { ffn_experts_forward(p.ctx, layer.block, wrong, all, v.x, e); }) ==
             "ffn_experts_forward" + text);
  BOOST_TEST(y.isZero(0));

  auto saved = mixlora_forward(p.ctx, layer, ffn_dropout{}, x, y);
  auto const backward = [&](matrix& gate_down, matrix& router, matrix& to) {
    stiefelx::lora_gradients const gates(gate_down, at.dgate_up), ups(at.dup_down, at.dup_up),
        downs(at.ddown_down, at.ddown_up);
    return message_of([&] {
      mixlora_backward(p.ctx, layer, saved, x, dy, stiefelx::no_routing_loss{},
                       stiefelx::mixlora_gradients(gates, ups, downs, router), 0, to);
    });
  };
  std::string const apart = ", expected separate memory";
  BOOST_TEST(backward(at.dgate_down, dx, dx) ==
             "mixlora_backward: gradients.router overlaps dx" + apart);
  BOOST_TEST(backward(at.dgate_down, x, dx) ==
             "mixlora_backward: gradients.router overlaps x" + apart);
  BOOST_TEST(backward(at.dgate_down, drouter, x) == "mixlora_backward: dx overlaps x" + apart);
  BOOST_TEST(backward(at.gate_down, drouter, dx) ==
             "mixlora_backward: gradients.gate.down overlaps the bank's down" + apart);
  BOOST_TEST(message_of([&] {
               ffn_experts_backward(p.ctx, layer.block, saved.routes.ids, saved.block, x, e,
                                    stiefelx::lora_gradients(at.dgate_down, at.dgate_up),
                                    stiefelx::lora_gradients(at.dup_down, at.up_up),
                                    stiefelx::lora_gradients(at.ddown_down, at.ddown_up), 0, dx);
             }) == "ffn_experts_backward: dup.up overlaps the bank's up" + apart);
  BOOST_TEST((x == v.x && dx == v.x && drouter == w && at.gate_down == v.gates.down));
  BOOST_TEST((at.up_up == v.ups.up && at.dgate_down.isZero(0) && at.dup_down.isZero(0) &&
              at.ddown_up.isZero(0)));
}

BOOST_AUTO_TEST_SUITE_END()
