// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Layers with dropout and with losses on the Gram matrices: gradients against differences of losses
// that are written out, and shared factors against banks of their copies.

#include <cmath>
#include <string>
#include <type_traits>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/hydra_layer.hpp>
#include <stiefelx/nn/layer_bytes.hpp>
#include <stiefelx/nn/mixlora_layer.hpp>
#include <stiefelx/nn/task_layer.hpp>
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
using stiefelx::layer_dropout;
using stiefelx::mixing;

constexpr index_t experts = 3, r = 2, d_in = 8, d_out = 6, tokens = 7;
constexpr double scaling = 1.5, coefficient = 0.2, epsilon = 1e-2;
dropout_mask const mask{0.4, 3, 1, 0};
constexpr dropout_place places[] = {dropout_place::shared_input, dropout_place::expert_input,
                                    dropout_place::rank_space};

struct values {
  matrix down = 0.5 * random_matrix<double>(d_in, experts* r, 1);
  matrix up = 0.5 * random_matrix<double>(experts * r, d_out, 2);
  matrix router = random_matrix<double>(d_in, experts, 3);
  matrix x = random_matrix<double>(d_in, tokens, 4);
};

struct result {
  matrix y, down, up, router, x;
  double overlap = 0;  ///< what the loss on the Gram matrices wrote
};

/// Token weights of the loss; one token is padding.
matrix token_weights() {
  matrix w = matrix::Ones(1, tokens);
  w(0, 2) = 0;
  w(0, 4) = 2;
  return w;
}

/// Layer with dropout and, where wanted, a loss on the Gram matrices.
template <class Layer, class Dropped>
result run(Layer const& layer, values const& v, Dropped const& dropped, matrix const& c,
           double share) {
  stiefelx::host::context ctx;
  result found;
  found.y = matrix::Zero(d_out, tokens);
  auto saved = [&] {
    if constexpr (std::is_same_v<Dropped, layer_dropout>)
      return expert_layer_forward(ctx, layer, dropped, v.x, found.y);
    else
      return expert_layer_forward(ctx, layer, v.x, found.y);
  }();
  found.down = matrix::Zero(d_in, layer.experts.down.cols());
  found.up = matrix::Zero(experts * r, d_out);
  found.router = matrix::Zero(d_in, experts);
  found.x = matrix::Ones(d_in, tokens);
  matrix loss = matrix::Zero(1, 1);
  stiefelx::expert_layer_gradients const gradients(found.down, found.up, found.router);
  //! [overlap]
  auto const overlap = [&](auto const& routes, auto const& grams, auto& change) {
    stiefelx::gram_orthogonality_loss(ctx, share, grams, routes.ids, token_weights(), loss, change,
                                      epsilon);
  };
  //! [overlap]
  matrix const dy = wave_gradient(c, found.y);
  stiefelx::no_routing_loss const nothing;
  if (share == 0)
    expert_layer_backward(ctx, layer, saved, v.x, dy, nothing, gradients, 0.5, found.x);
  else
    expert_layer_backward(ctx, layer, saved, v.x, dy, nothing, gradients, 0.5, found.x, overlap);
  found.x -= matrix::Constant(d_in, tokens, 0.5);
  found.overlap = loss(0, 0);
  return found;
}

stiefelx::layer_preset<stiefelx::soft> all_of(mixing kind) { return {{}, {.kind = kind}}; }

auto layer_of(values const& v, mixing kind) {
  return all_of(kind).layer(stiefelx::lora_experts(v.down, v.up, experts, scaling), v.router);
}

auto shared_layer_of(values const& v, matrix const& down, mixing kind) {
  return all_of(kind).layer(stiefelx::hydra_experts(down, v.up, experts, scaling), v.router);
}

/// The overlap of all outputs of all tokens, by its definition.
double overlap_of(values const& v, double share) {
  matrix const w = token_weights();
  double sum = 0;
  for (index_t t = 0; t < tokens; ++t) {
    matrix e(d_out, experts);
    for (index_t i = 0; i < experts; ++i)
      e.col(i) = v.up.middleRows(i * r, r).transpose() *
                 (v.down.middleCols(i * r, r).transpose() * v.x.col(t));
    for (index_t i = 0; i < experts; ++i)
      for (index_t j = 0; j < experts; ++j)
        if (i != j)
          sum += w(0, t) * (e.col(i).dot(e.col(j)) / (e.col(j).squaredNorm() + epsilon) * e.col(j))
                               .squaredNorm();
  }
  return share * sum / w.sum();
}

/// Whether every gradient is that of a loss of the values.
template <class Loss>
void expect_gradients(values const& at, result const& found, Loss const& loss) {
  auto const check = [&](char const* name, matrix values::* member, matrix const& gradient) {
    auto const moved_loss = [&](matrix const& moved) {
      values other = at;
      other.*member = moved;
      return loss(other);
    };
    BOOST_TEST_CONTEXT(name) BOOST_TEST(is_gradient(moved_loss, at.*member, gradient, 6, 9));
  };
  check("down", &values::down, found.down);
  check("up", &values::up, found.up);
  check("router", &values::router, found.router);
  check("x", &values::x, found.x);
}

constexpr double no_share = 0;
stiefelx::no_layer_dropout const nothing_dropped;

}  // namespace

BOOST_AUTO_TEST_SUITE(layer_options)

BOOST_AUTO_TEST_CASE(gradients_of_a_layer_with_dropout_agree_with_central_differences) {
  values const at;
  matrix const c = random_matrix<double>(d_out, tokens, 5);
  for (dropout_place place_ : places)
    for (mixing kind : {mixing::none, mixing::orthogonal})
      BOOST_TEST_CONTEXT("place " << static_cast<int>(place_) << ", kind "
                                  << static_cast<int>(kind)) {
        layer_dropout const dropped{mask, place_};
        auto const of = [&](values const& v) {
          return run(layer_of(v, kind), v, dropped, c, no_share);
        };
        expect_gradients(at, of(at), [&](values const& v) { return wave_loss(c, of(v).y); });
      }
}

BOOST_AUTO_TEST_CASE(dropout_drops_and_a_rate_of_zero_does_not) {
  values const v;
  matrix const c = random_matrix<double>(d_out, tokens, 5);
  auto const layer = layer_of(v, mixing::orthogonal);
  auto const plain = run(layer, v, nothing_dropped, c, no_share);
  for (dropout_place place_ : places) {
    auto const none = run(layer, v, layer_dropout{{}, place_}, c, no_share);
    BOOST_TEST(near(none.y, plain.y, tolerance<double>(d_in)));
    BOOST_TEST(near(none.up, plain.up, tolerance<double>(d_in)));
    BOOST_TEST(near(none.x, plain.x, tolerance<double>(d_in)));
    auto const first = run(layer, v, layer_dropout{mask, place_}, c, no_share);
    BOOST_TEST((first.y - plain.y).norm() > 0.05 * plain.y.norm());
    dropout_mask next = mask;
    next.offset += 1;
    auto const second = run(layer, v, layer_dropout{next, place_}, c, no_share);
    BOOST_TEST((first.y - second.y).norm() > 0.05 * plain.y.norm());
  }
}

BOOST_AUTO_TEST_CASE(a_shared_factor_drops_what_a_bank_of_its_copies_drops) {
  values v;
  matrix const down = v.down.leftCols(r), c = random_matrix<double>(d_out, tokens, 5);
  v.down = down.replicate(1, experts);
  for (dropout_place place_ : places)
    for (mixing kind : {mixing::none, mixing::orthogonal})
      BOOST_TEST_CONTEXT("place " << static_cast<int>(place_) << ", kind "
                                  << static_cast<int>(kind)) {
        layer_dropout const dropped{mask, place_};
        auto const bank = run(layer_of(v, kind), v, dropped, c, coefficient);
        auto const shared = run(shared_layer_of(v, down, kind), v, dropped, c, coefficient);
        matrix sum = matrix::Zero(d_in, r);
        for (index_t e = 0; e < experts; ++e) sum += bank.down.middleCols(e * r, r);
        double const bound = tolerance<double>(d_in, 1000);
        BOOST_TEST(near(shared.y, bank.y, bound));
        BOOST_TEST(near(shared.down, sum, bound));
        BOOST_TEST(near(shared.up, bank.up, bound));
        BOOST_TEST(near(shared.router, bank.router, bound));
        BOOST_TEST(near(shared.x, bank.x, bound));
        BOOST_TEST(std::abs(shared.overlap - bank.overlap) <= bound * bank.overlap);
      }
}

BOOST_AUTO_TEST_CASE(a_loss_on_the_outputs_goes_along_with_the_mixture) {
  values const at;
  matrix const c = random_matrix<double>(d_out, tokens, 5);
  for (mixing kind : {mixing::none, mixing::orthogonal, mixing::orthonormal, mixing::symmetric})
    BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind)) {
      auto const of = [&](values const& v, double share) {
        return run(layer_of(v, kind), v, nothing_dropped, c, share);
      };
      auto const found = of(at, coefficient);
      BOOST_TEST(std::abs(found.overlap - overlap_of(at, coefficient)) <=
                 tolerance<double>(d_in, 100) * found.overlap);
      expect_gradients(at, found, [&](values const& v) {
        return wave_loss(c, of(v, no_share).y) + overlap_of(v, coefficient);
      });
      // It is no part of the output, and large enough beside the other loss to be seen.
      auto const without = of(at, no_share);
      BOOST_TEST((found.y == without.y));
      BOOST_TEST((found.down - without.down).norm() > 0.01 * without.down.norm());
    }
}

BOOST_AUTO_TEST_CASE(a_loss_that_adds_nothing_changes_no_bit) {
  values const v;
  stiefelx::host::context ctx;
  stiefelx::lora_experts const bank(v.down, v.up, experts, scaling);
  auto const routes = stiefelx::route(ctx, v.router, v.x, stiefelx::top_k{.k = 2});
  matrix const dy = random_matrix<double>(d_out, tokens, 6);
  for (mixing kind : {mixing::none, mixing::orthogonal}) {
    auto const gradients = [&](auto const& loss) {
      result out;
      out.y = matrix::Zero(d_out, tokens);
      out.down = matrix::Zero(d_in, experts * r);
      out.up = matrix::Zero(experts * r, d_out);
      out.router = matrix::Zero(2, tokens);
      out.x = matrix::Zero(d_in, tokens);
      auto saved = moe_lora_forward(ctx, bank, routes, v.x, out.y, {.kind = kind});
      moe_lora_backward(ctx, bank, routes, saved, v.x, dy, out.down, out.up, out.router, 0, out.x,
                        loss);
      return out;
    };
    auto const a = gradients(stiefelx::no_gram_loss{});
    int calls = 0;
    auto const b = gradients([&](auto const&, auto const& grams, auto const& change) {
      ++calls;
      BOOST_TEST((grams.rows() == 4 && grams.cols() == tokens && change.isZero(0)));
    });
    BOOST_TEST(calls == 1);
    BOOST_TEST((a.down == b.down && a.up == b.up && a.router == b.router && a.x == b.x));
  }
}

BOOST_AUTO_TEST_CASE(a_task_layer_with_dropout_has_the_gradients_of_its_loss) {
  values at;
  matrix const c = random_matrix<double>(d_out, tokens, 5);
  matrix const embeddings = random_matrix<double>(d_in, 2, 7);
  matrix_x<int> tasks(1, tokens);
  tasks << 0, 1, 1, 0, 1, 0, 0;
  layer_dropout const dropped{mask, dropout_place::expert_input};
  stiefelx::host::context ctx;
  auto const of = [&](values const& v) {
    stiefelx::task_layer const layer(stiefelx::lora_experts(v.down, v.up, experts, scaling),
                                     v.router, embeddings);
    result out;
    out.y = matrix::Zero(d_out, tokens);
    auto saved = task_layer_forward(ctx, layer, dropped, tasks, v.x, out.y);
    out.down = matrix::Zero(d_in, experts * r);
    out.up = matrix::Zero(experts * r, d_out);
    out.router = matrix::Zero(d_in, experts);
    out.x = matrix::Zero(d_in, tokens);
    matrix dembeddings = matrix::Zero(d_in, 2);
    stiefelx::task_layer_gradients const gradients(out.down, out.up, out.router, dembeddings);
    task_layer_backward(ctx, layer, saved, tasks, v.x, wave_gradient(c, out.y),
                        stiefelx::no_routing_loss{}, gradients, 0, out.x);
    return out;
  };
  expect_gradients(at, of(at), [&](values const& v) { return wave_loss(c, of(v).y); });
}

BOOST_AUTO_TEST_CASE(saved_bytes_of_layers_are_those_of_their_matrices) {
  stiefelx::host::context ctx;
  index_t const d = 6, width = 10, many = 20000;
  matrix const x = random_matrix<double>(d, many, 1), w = random_matrix<double>(width, d, 2),
               out = w.transpose(), router = random_matrix<double>(d, experts + 1, 3),
               down = random_matrix<double>(d, experts * r, 4),
               up = random_matrix<double>(experts * r, width, 5),
               from = random_matrix<double>(width, experts, 6),
               to = random_matrix<double>(experts, d, 7);
  auto const inner = stiefelx::lora_experts(down, up, experts, scaling);
  auto const block = stiefelx::ffn_experts(w, w, out, inner, inner,
                                           stiefelx::lora_experts(from, to, experts, scaling));
  stiefelx::mixlora_sizes const sizes{.rows = experts + 1,
                                      .chosen = 2,
                                      .ranks = 2 * r + 1,
                                      .width = d,
                                      .inner_width = width,
                                      .tokens = many};
  auto const bytes = [](auto const&... matrices) {
    return ((matrices.size() * index_t(sizeof(matrices(0, 0)))) + ...);
  };
  for (mixing kind : {mixing::none, mixing::orthogonal}) {
    stiefelx::mixlora_layer const layer(block, router, stiefelx::top_k{.nulls = 1},
                                        stiefelx::mixing_options{.kind = kind});
    matrix y(d, many);
    auto saved = mixlora_forward(ctx, layer, x, y);
    auto const& b = saved.block;
    index_t const routing =
        bytes(saved.routes.probabilities, saved.routes.weights, saved.routes.ids);
    BOOST_TEST(routing == stiefelx::routing_bytes<double>(experts + 1, 2, many));
    BOOST_TEST(routing + bytes(saved.outputs, b.ids, b.gate_h, b.up_h, b.down_h, b.gate, b.linear,
                               b.activated, saved.mixed.token_grams, saved.mixed.coefficients) ==
               stiefelx::saved_bytes<double>(sizes, {.kind = kind}));
    matrix dx(d, many), ddown = down, dup = up, dfrom = from, dto = to, drouter = router;
    stiefelx::lora_gradients const first(ddown, dup), last(dfrom, dto);
    mixlora_backward(ctx, layer, saved, x, x, stiefelx::no_routing_loss{},
                     stiefelx::mixlora_gradients(first, first, last, drouter), 0, dx);
    // Verbs take blocks of their own, and the arena grows by doubling.
    auto const held = static_cast<index_t>(ctx.memory.capacity());
    index_t const counted = stiefelx::saved_bytes<double>(sizes, {.kind = kind}) +
                            stiefelx::workspace_bytes<double>(sizes);
    BOOST_TEST(2 * held >= counted);
    BOOST_TEST(held <= 4 * counted + (1 << 21));
  }
}

BOOST_AUTO_TEST_CASE(a_wrong_rate_and_an_overlap_are_named) {
  values const v;
  stiefelx::host::context ctx;
  matrix y = matrix::Zero(d_out, tokens);
  auto const layer = layer_of(v, mixing::none);
  matrix const down = v.down.leftCols(r);
  auto const shared = shared_layer_of(v, down, mixing::none);
  layer_dropout const wrong{{1, 0, 0, 0}, dropout_place::rank_space};
  BOOST_TEST(message_of([&] { expert_layer_forward(ctx, layer, wrong, v.x, y); }) ==
             "moe_lora_forward: rate is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(message_of([&] { expert_layer_forward(ctx, shared, wrong, v.x, y); }) ==
             "hydra_lora_forward: rate is 1.000000, expected a number in [0, 1)");
  BOOST_TEST((y.isZero(0)));
  auto saved = expert_layer_forward(ctx, layer, v.x, y);
  matrix a = v.down, b = v.up, w = v.router, x = v.x;
  stiefelx::expert_layer_gradients const gradients(a, b, w);
  BOOST_TEST(message_of([&] {
               expert_layer_backward(ctx, layer, saved, x, y, stiefelx::no_routing_loss{},
                                     gradients, 0, x);
             }) == "expert_layer_backward: dx overlaps x, expected separate memory");
  matrix dx = v.x;
  auto const refused = [&](auto& down_gradient, auto& up_gradient, auto& router_gradient) {
    stiefelx::expert_layer_gradients const wrong_ones(down_gradient, up_gradient, router_gradient);
    return message_of([&] {
      expert_layer_backward(ctx, layer, saved, v.x, y, stiefelx::no_routing_loss{}, wrong_ones, 0,
                            dx);
    });
  };
  auto const apart = std::string(", expected separate memory");
  auto shares_router = dx.leftCols(experts);
  BOOST_TEST(refused(a, b, shares_router) ==
             "expert_layer_backward: gradients.router overlaps dx" + apart);
  values own = v;
  auto const of_own = layer_of(own, mixing::none);
  matrix dy = y;
  BOOST_TEST(message_of([&] {
               expert_layer_backward(ctx, of_own, saved, own.x, dy, stiefelx::no_routing_loss{},
                                     stiefelx::expert_layer_gradients(a, own.up, w), 0, dx);
             }) == "moe_lora_backward: dup overlaps experts.up" + apart);
  BOOST_TEST(message_of([&] {
               expert_layer_backward(ctx, of_own, saved, own.x, dy, stiefelx::no_routing_loss{},
                                     stiefelx::expert_layer_gradients(own.down, b, w), 0, dx);
             }) == "moe_lora_backward: ddown overlaps experts.down" + apart);
  BOOST_TEST((dx.isApprox(v.x, 0) && a.isApprox(v.down, 0) && own.up.isApprox(v.up, 0)));
}

BOOST_AUTO_TEST_SUITE_END()
