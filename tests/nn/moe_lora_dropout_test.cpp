// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A mixture with dropout against the mixture of what is dropped by hand, and its gradients.

#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/moe_lora_dropout.hpp>
#include <stiefelx/nn/router.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;
using stiefelx::dropout_mask;
using stiefelx::dropout_place;
using stiefelx::mixing;

constexpr index_t experts = 3, r = 2, slots = 2, d_in = 8, d_out = 6, tokens = 7;
constexpr double scaling = 1.5;
dropout_mask const mask{0.4, 3, 1, 0};
constexpr dropout_place places[] = {dropout_place::shared_input, dropout_place::expert_input,
                                    dropout_place::rank_space};

struct values {
  matrix down = random_matrix<double>(d_in, experts* r, 1);
  matrix up = random_matrix<double>(experts * r, d_out, 2);
  matrix x = random_matrix<double>(d_in, tokens, 3);
};

// One slot of the last token is empty.
matrix_x<int> ids() {
  matrix_x<int> m(slots, tokens);
  for (index_t t = 0; t < tokens; ++t) {
    m(0, t) = static_cast<int>(t % experts);
    m(1, t) = static_cast<int>((t + 1) % experts);
  }
  m(1, tokens - 1) = -1;
  return m;
}

struct result {
  matrix y, h, ddown, dup, dx;
};

template <class Case>
result run(values const& v, dropout_place place_, mixing kind, matrix const& c) {
  place<Case> p;
  auto const down = p.up(v.down), up = p.up(v.up), x = p.up(v.x);
  stiefelx::routing const routes{p.up(matrix::Zero(experts, tokens)),
                                 p.up(matrix::Constant(slots, tokens, 0.5)), p.up(ids()),
                                 stiefelx::router_options{}};
  auto const bank = stiefelx::lora_experts(down, up, experts, scaling);
  auto y = p.up(matrix::Zero(d_out, tokens));
  auto saved = stiefelx::moe_lora_forward(p.ctx, bank, routes, mask, place_, x, y, {.kind = kind});
  result found;
  found.y = p.down(y);
  found.h = p.down(saved.h);
  auto ddown = p.up(matrix::Zero(d_in, experts * r)), dup = p.up(matrix::Zero(experts * r, d_out)),
       dx = p.up(matrix::Ones(d_in, tokens)), dweights = p.up(matrix::Zero(slots, tokens));
  stiefelx::moe_lora_backward(p.ctx, bank, routes, saved, mask, place_, x,
                              p.up(wave_gradient(c, found.y)), ddown, dup, dweights, 0.5, dx);
  found.ddown = p.down(ddown);
  found.dup = p.down(dup);
  found.dx = p.down(dx) - matrix::Constant(d_in, tokens, 0.5);
  return found;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(moe_lora_dropout)

BOOST_AUTO_TEST_CASE_TEMPLATE(rank_space_is_that_of_tokens_dropped_by_hand, Case, double_cases) {
  values const v;
  matrix_x<int> const listed = ids();
  stiefelx::host::context ctx;
  matrix ones = matrix::Ones(d_in, tokens), shared(d_in, tokens);
  stiefelx::dropout(ctx, mask, ones, shared);
  for (dropout_place at : places) {
    matrix expected = matrix::Zero(slots * r, tokens);
    for (index_t i = 0; i < slots; ++i) {
      matrix own(d_in, tokens);
      stiefelx::expert_dropout(ctx, mask, listed.row(i), ones, own);
      for (index_t t = 0; t < tokens; ++t) {
        int const e = listed(i, t);
        if (e < 0) continue;
        matrix seen = v.x.col(t);
        if (at == dropout_place::shared_input) seen = seen.cwiseProduct(shared.col(t));
        if (at == dropout_place::expert_input) seen = seen.cwiseProduct(own.col(t));
        expected.block(i * r, t, r, 1) = v.down.middleCols(e * r, r).transpose() * seen;
      }
    }
    if (at == dropout_place::rank_space) {
      matrix m(slots * r, tokens);
      stiefelx::dropout(ctx, mask, matrix::Ones(slots * r, tokens), m);
      expected = expected.cwiseProduct(m);
    }
    auto const found = run<Case>(v, at, mixing::orthogonal, matrix::Ones(d_out, tokens));
    BOOST_TEST_CONTEXT("place " << static_cast<int>(at))
    BOOST_TEST(near(found.h, expected, tolerance<double>(d_in)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, double_cases) {
  values const at;
  matrix const c = random_matrix<double>(d_out, tokens, 5);
  for (dropout_place where : places)
    for (mixing kind : {mixing::none, mixing::orthogonal}) {
      auto const found = run<Case>(at, where, kind, c);
      auto const check = [&](char const* name, matrix values::* member, matrix const& gradient) {
        auto const loss = [&](matrix const& moved) {
          values other = at;
          other.*member = moved;
          return wave_loss(c, run<Case>(other, where, kind, c).y);
        };
        BOOST_TEST_CONTEXT(name << ", place " << static_cast<int>(where) << ", kind "
                                << static_cast<int>(kind))
        BOOST_TEST(is_gradient(loss, at.*member, gradient, 6, 9));
      };
      check("down", &values::down, found.ddown);
      check("up", &values::up, found.dup);
      check("x", &values::x, found.dx);
    }
}

BOOST_AUTO_TEST_CASE(a_wrong_rate_and_overlap_are_named) {
  stiefelx::host::context ctx;
  values const v;
  stiefelx::routing const routes{matrix(matrix::Zero(experts, tokens)),
                                 matrix(matrix::Zero(slots, tokens)), ids(),
                                 stiefelx::router_options{}};
  auto const bank = stiefelx::lora_experts(v.down, v.up, experts, scaling);
  matrix y(d_out, tokens);
  BOOST_TEST(message_of([&] {
               stiefelx::moe_lora_forward(ctx, bank, routes, dropout_mask{1, 0, 0, 0},
                                          dropout_place::rank_space, v.x, y);
             }) == "moe_lora_forward: rate is 1.000000, expected a number in [0, 1)");
  auto saved =
      stiefelx::moe_lora_forward(ctx, bank, routes, mask, dropout_place::rank_space, v.x, y);
  matrix x = v.x, a = v.down, b = v.up, w(slots, tokens);
  BOOST_TEST(message_of([&] {
               stiefelx::moe_lora_backward(ctx, bank, routes, saved, mask,
                                           dropout_place::shared_input, x, y, a, b, w, 0, x);
             }) == "moe_lora_backward: dx overlaps x, expected separate memory");
}

BOOST_AUTO_TEST_SUITE_END()
