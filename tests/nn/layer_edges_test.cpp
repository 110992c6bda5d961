// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ready layers at the edges of their sizes, on matrices with strides, on any number of threads.

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/hydra_layer.hpp>
#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/mixlora_layer.hpp>
#include <stiefelx/nn/task_layer.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;
using stiefelx::mixing;

/// Every second row of a larger matrix: no matrix of a layer is contiguous here.
using strided = Eigen::Map<matrix, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, 2>>;

class strided_matrix {
 public:
  explicit strided_matrix(matrix const& a)
      : memory_(matrix::Constant(2 * a.rows() + 3, a.cols() + 1, -77)),
        view(memory_.data() + 1, a.rows(), a.cols(),
             Eigen::Stride<Eigen::Dynamic, 2>(memory_.rows(), 2)) {
    view = a;
  }
  strided_matrix(strided_matrix const&) = delete;

 private:
  matrix memory_;

 public:
  strided view;
};

struct sizes {
  index_t experts = 3, rank = 2, width = 6, tokens = 70;
};

enum class kind { omoe, hydra, task, mixlora };
constexpr kind kinds[] = {kind::omoe, kind::hydra, kind::task, kind::mixlora};

/// What a layer reads, square in its width.
struct values {
  sizes n;
  matrix down, up, router, x, dy, gate, weights;
  index_t chosen = 2;

  explicit values(sizes s)
      : n(s),
        down(0.5 * random_matrix<double>(n.width, n.experts * n.rank, 1)),
        up(0.5 * random_matrix<double>(n.experts * n.rank, n.width, 2)),
        router(random_matrix<double>(n.width, n.experts, 3)),
        x(random_matrix<double>(n.width, n.tokens, 4)),
        dy(random_matrix<double>(n.width, n.tokens, 5)),
        gate(random_matrix<double>(n.width, n.width, 6)),
        weights(matrix::Ones(1, n.tokens)),
        chosen(n.experts < 2 ? n.experts : 2) {}
};

struct result {
  matrix y, down, up, router, x;

  bool operator==(result const& o) const {
    return y == o.y && down == o.down && up == o.up && router == o.router && x == o.x;
  }
  bool is_finite() const {
    return y.allFinite() && down.allFinite() && up.allFinite() && router.allFinite() &&
           x.allFinite();
  }
};

/// Forward and backward; outputs and gradients start from `start` everywhere, and beta is given.
result run(kind which, values const& v, double start = 0, double beta = 1, int threads = 1) {
  stiefelx::host::context ctx({.threads = threads});
  bool const shared = which == kind::hydra;
  strided_matrix down(shared ? matrix(v.down.leftCols(v.n.rank)) : v.down), up(v.up),
      router(v.router), x(v.x), dy(v.dy), gate(v.gate);
  auto const like = [&](matrix const& a) {
    return matrix(matrix::Constant(a.rows(), a.cols(), start));
  };
  strided_matrix y(like(v.x)), ddown(like(down.view)), dup(like(v.up)), drouter(like(v.router)),
      dx(like(v.x)), other_down(like(v.down)), other_up(like(v.up)), embeddings(v.gate),
      dembeddings(like(v.gate));
  matrix loss(1, 1);
  auto const overlap = [&](auto const& routes, auto const& grams, auto& change) {
    stiefelx::gram_orthogonality_loss(ctx, 0.1, grams, routes.ids, stiefelx::every_token{}, loss,
                                      change);
  };
  stiefelx::no_routing_loss const none;
  stiefelx::layer_dropout const dropped{{0.2, 7, 0, 0}, stiefelx::dropout_place::expert_input};
  stiefelx::token_weights const padding(v.weights);
  bool const renormalize = v.chosen > 1;
  stiefelx::layer_preset<stiefelx::top_k> const preset{{.k = v.chosen, .renormalize = renormalize},
                                                       {.kind = mixing::orthogonal}};
  auto const bank = stiefelx::lora_experts(down.view, up.view, v.n.experts, 1.5);
  stiefelx::expert_layer_gradients const gradients(ddown.view, dup.view, drouter.view);
  auto const routed = [&](auto const& layer) {
    auto saved = expert_layer_forward(ctx, layer, dropped, x.view, y.view, padding);
    expert_layer_backward(ctx, layer, saved, x.view, dy.view, none, gradients, beta, dx.view,
                          overlap);
  };
  if (which == kind::omoe) routed(preset.layer(bank, router.view));
  if (shared)
    routed(
        preset.layer(stiefelx::hydra_experts(down.view, up.view, v.n.experts, 1.5), router.view));
  if (which == kind::task) {
    matrix_x<int> tasks(1, v.n.tokens);
    for (index_t t = 0; t < v.n.tokens; ++t) tasks(0, t) = static_cast<int>(t % v.n.width);
    stiefelx::task_layer const layer(bank, router.view, embeddings.view);
    auto saved = task_layer_forward(ctx, layer, tasks, x.view, y.view, padding);
    task_layer_backward(
        ctx, layer, saved, tasks, x.view, dy.view, none,
        stiefelx::task_layer_gradients(ddown.view, dup.view, drouter.view, dembeddings.view), beta,
        dx.view);
  }
  if (which == kind::mixlora) {
    stiefelx::mixlora_layer const layer(
        stiefelx::ffn_experts(gate.view, gate.view, gate.view, bank, bank, bank), router.view,
        preset.choice, preset.mixing);
    auto saved = mixlora_forward(ctx, layer, x.view, y.view, padding);
    stiefelx::lora_gradients const first(ddown.view, dup.view),
        other(other_down.view, other_up.view);
    mixlora_backward(ctx, layer, saved, x.view, dy.view, none,
                     stiefelx::mixlora_gradients(first, other, other, drouter.view), beta, dx.view);
  }
  return {y.view, ddown.view, dup.view, drouter.view, dx.view};
}

template <class Check>
void for_each_layer(Check const& check) {
  for (kind which : kinds) BOOST_TEST_CONTEXT("layer " << static_cast<int>(which)) check(which);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(layer_edges)

// More than three blocks of 128 tokens, so that sums over tokens are cut and the last part is smaller.
BOOST_AUTO_TEST_CASE(results_have_the_same_bits_on_every_number_of_threads_and_every_run) {
  values const v{{.tokens = 400}};
  for_each_layer([&](kind which) {
    auto const first = run(which, v);
    BOOST_TEST(first.is_finite());
    for (int threads : {1, 2, 3}) BOOST_TEST((run(which, v, 0, 1, threads) == first));
  });
}

BOOST_AUTO_TEST_CASE(gradients_of_parameters_accumulate_and_dx_takes_beta) {
  values const v{sizes{}};
  double const bound = tolerance<double>(v.n.tokens, 10);
  for_each_layer([&](kind which) {
    auto const zero = run(which, v), one = run(which, v, 1, 0.5);
    auto const plus = [](matrix const& a, double c) {
      return matrix(a + matrix::Constant(a.rows(), a.cols(), c));
    };
    // MixLoRA's block is the whole output.
    BOOST_TEST(near(one.y, plus(zero.y, which == kind::mixlora ? 0 : 1), bound));
    BOOST_TEST(near(one.down, plus(zero.down, 1), bound));
    BOOST_TEST(near(one.up, plus(zero.up, 1), bound));
    BOOST_TEST(near(one.router, plus(zero.router, 1), bound));
    BOOST_TEST(near(one.x, plus(zero.x, 0.5), bound));
  });
}

BOOST_AUTO_TEST_CASE(no_tokens_change_nothing) {
  for_each_layer([&](kind which) {
    auto const r = run(which, values{{.tokens = 0}}, 3);
    BOOST_TEST((r.y.cols() == 0 && r.x.cols() == 0));
    BOOST_TEST(((r.down.array() == 3).all() && (r.up.array() == 3).all()));
    BOOST_TEST((r.router.array() == 3).all());
  });
}

BOOST_AUTO_TEST_CASE(a_token_of_zeros_adds_nothing_and_stays_finite) {
  values v{{.tokens = 5}}, without{{.tokens = 5}};
  v.x.col(3).setZero();
  without.x.col(3).setZero();
  without.dy.col(3).setZero();
  for_each_layer([&](kind which) {
    auto const r = run(which, v), quiet = run(which, without);
    BOOST_TEST(r.is_finite());
    BOOST_TEST(r.y.col(3).isZero(0));
    // Its own gradient alone depends on what comes back to it.
    if (which == kind::omoe || which == kind::hydra)
      BOOST_TEST((r.down == quiet.down && r.up == quiet.up));
    BOOST_TEST((r.x.leftCols(3) == quiet.x.leftCols(3)));
  });
}

BOOST_AUTO_TEST_CASE(experts_that_no_token_takes_get_exactly_no_gradient) {
  values v{{.experts = 4, .tokens = 9}};
  v.x.row(0).setConstant(2);
  v.router.row(0) << 0, 50, 0, 40;
  for (index_t chosen : {1, 2}) {
    v.chosen = chosen;
    for (kind which : {kind::omoe, kind::hydra, kind::mixlora}) {
      auto const r = run(which, v);
      BOOST_TEST(r.is_finite());
      BOOST_TEST(r.up.middleRows(0, 2).isZero(0));
      BOOST_TEST(r.up.middleRows(4, 2).isZero(0));
      BOOST_TEST(!r.up.middleRows(2, 2).isZero(0));
      BOOST_TEST(r.up.middleRows(6, 2).isZero(0) == (chosen == 1));
    }
  }
}

// Products with all tokens multiply what padding holds by zero, so it has to be finite.
BOOST_AUTO_TEST_CASE(padding_of_finite_numbers_gets_nothing) {
  values v{{.tokens = 6}}, other{{.tokens = 6}};
  v.weights(0, 2) = other.weights(0, 2) = 0;
  other.x.col(2) *= -3;
  other.dy.col(2) *= 5;
  for_each_layer([&](kind which) {
    auto const a = run(which, v), b = run(which, other);
    BOOST_TEST((a.y == b.y && a.down == b.down && a.up == b.up && a.router == b.router));
    BOOST_TEST((a.y.col(2).isZero(0) && a.x.col(2).isZero(0)));
    BOOST_TEST(!a.y.col(1).isZero(0));
  });
}

BOOST_AUTO_TEST_CASE(scores_of_tasks_have_the_bits_of_widened_weights) {
  using stiefelx::bfloat16, stiefelx::float16;
  stiefelx::host::context ctx;
  values const v{sizes{}};
  matrix_x<bfloat16> router(v.n.width, v.n.experts);
  matrix_x<float16> embeddings(v.n.width, 2);
  copy(ctx, v.router, router);
  copy(ctx, v.gate.leftCols(2), embeddings);
  matrix_x<int> tasks(1, 3);
  tasks << 1, 0, 1;
  matrix_x<float> const dscores = random_matrix<float>(v.n.experts, 3, 9);
  auto const results_of = [&](auto const& w, auto const& e) {
    matrix_x<float> dw = matrix_x<float>::Zero(w.rows(), w.cols()), de = 0 * dw.leftCols(2);
    matrix_x<float> const scores = stiefelx::task_scores(ctx, w, e, tasks);
    stiefelx::task_scores_backward(ctx, w, e, tasks, dscores, dw, de);
    return std::vector<matrix_x<float>>{scores, dw, de};
  };
  matrix_x<float> const wide_router = router.cast<float>(), wide = embeddings.cast<float>();
  auto const found = results_of(router, embeddings);
  BOOST_TEST((found == results_of(wide_router, wide)));
  BOOST_TEST(near(found[0], wide_router.transpose() * wide(Eigen::all, {1, 0, 1}),
                  tolerance<float>(v.n.width)));
}

BOOST_AUTO_TEST_CASE(every_number_of_experts_is_valid) {
  for (index_t experts : {1, 2, 3, 9})
    for (index_t rank : {1, 5, 8}) {
      values v{{.experts = experts, .rank = rank, .tokens = 4}};
      for (index_t chosen : {index_t(1), experts}) {
        v.chosen = chosen;
        for_each_layer([&](kind which) {
          // Nine outputs in six dimensions depend on each other: the rest are guarded.
          BOOST_TEST(run(which, v).is_finite());
        });
      }
    }
}

BOOST_AUTO_TEST_CASE(orthogonalized_feed_forward_experts_have_the_gradients_of_their_layer) {
  values const at{{.tokens = 5}};
  auto const found = run(kind::mixlora, at);
  auto const check = [&](char const* name, matrix values::* member, matrix const& gradient,
                         int first) {
    auto const loss = [&](matrix const& moved) {
      values other = at;
      other.*member = moved;
      return run(kind::mixlora, other).y.cwiseProduct(at.dy).sum();
    };
    BOOST_TEST_CONTEXT(name)
    // Steps so small that no token changes its experts.
    BOOST_TEST(is_gradient(loss, at.*member, gradient, 11, first));
  };
  check("router", &values::router, found.router, 9);
  check("x", &values::x, found.x, 10);
}

BOOST_AUTO_TEST_CASE(a_null_expert_leaves_the_frame_of_symmetric_mixing) {
  stiefelx::host::context ctx;
  values const v{{.tokens = 24}};
  auto const bank = stiefelx::lora_experts(v.down, v.up, v.n.experts, 1.5);
  stiefelx::ffn_experts const block(v.gate, v.gate, v.gate, bank, bank, bank);
  matrix const router = random_matrix<double>(v.n.width, v.n.experts + 2, 8);
  stiefelx::mixlora_layer const layer(block, router, stiefelx::top_k{.k = 2, .nulls = 2},
                                      stiefelx::mixing_options{.kind = mixing::symmetric});
  matrix y(v.n.width, v.n.tokens);
  auto const saved = mixlora_forward(ctx, layer, v.x, y);
  matrix outputs(v.n.width, 2 * v.n.tokens);
  ffn_experts_forward(ctx, block, saved.routes.ids, v.x, outputs);
  index_t alone = 0;
  for (index_t t = 0; t < v.n.tokens; ++t) {
    if (saved.routes.ids(0, t) < 0 || saved.routes.ids(1, t) >= 0) continue;
    // One vector is its own frame: c e / |e|.
    matrix const wanted = saved.routes.weights(0, t) * outputs.col(2 * t).normalized();
    BOOST_TEST(near(matrix(y.col(t)), wanted, tolerance<double>(v.n.width, 100)));
    ++alone;
  }
  BOOST_TEST(alone > 0);
}

BOOST_AUTO_TEST_CASE(one_expert_of_a_layer_is_lora) {
  stiefelx::host::context ctx;
  values const v{{.experts = 1, .tokens = 4}};
  auto const layer =
      stiefelx::omoe_lora_preset().layer(stiefelx::lora_experts(v.down, v.up, 1, 1.5), v.router);
  matrix y = matrix::Zero(6, 4), expected = y, h(2, 4), dx(6, 4), dx_expected(6, 4);
  matrix ddown = matrix::Zero(6, 2), dup = matrix::Zero(2, 6), drouter = matrix::Zero(6, 1);
  matrix down_expected = ddown, up_expected = dup;
  auto saved = expert_layer_forward(ctx, layer, v.x, y);
  expert_layer_backward(ctx, layer, saved, v.x, v.dy, stiefelx::no_routing_loss{},
                        stiefelx::expert_layer_gradients(ddown, dup, drouter), 0, dx);
  stiefelx::lora_forward(ctx, v.down, v.up, 1.5, v.x, expected, h);
  stiefelx::lora_backward(ctx, v.down, v.up, 1.5, v.x, h, v.dy, down_expected, up_expected, 0,
                          dx_expected);
  double const bound = tolerance<double>(6);
  BOOST_TEST(near(y, expected, bound));
  BOOST_TEST(near(ddown, down_expected, bound));
  BOOST_TEST(near(dup, up_expected, bound));
  BOOST_TEST(near(dx, dx_expected, bound));
  BOOST_TEST(drouter.isZero(0));
}

BOOST_AUTO_TEST_CASE(dx_of_a_mixture_may_be_x) {
  stiefelx::host::context ctx;
  values const v{{.tokens = 7}};
  stiefelx::lora_experts const bank(v.down, v.up, 3, 1.5);
  auto const routes = stiefelx::route(ctx, v.router, v.x, stiefelx::top_k{});
  auto const gradients = [&](matrix& x, matrix& dx) {
    matrix y = matrix::Zero(6, 7), ddown = matrix::Zero(6, 6), dup = ddown, dweights(2, 7);
    auto saved = moe_lora_forward(ctx, bank, routes, x, y);
    moe_lora_backward(ctx, bank, routes, saved, x, v.dy, ddown, dup, dweights, 0.5, dx);
    return result{y, ddown, dup, dweights, dx};
  };
  matrix x = v.x, same = v.x, dx = v.x;
  BOOST_TEST((gradients(x, dx) == gradients(same, same)));
}

BOOST_AUTO_TEST_CASE(beta_says_what_becomes_of_what_an_activation_holds) {
  constexpr index_t experts = 3, r = 2, d = 6, tokens = 9;
  matrix const down = random_matrix<double>(d, experts * r, 1), up = down.transpose();
  matrix const router = random_matrix<double>(d, experts, 2),
               x = random_matrix<double>(d, tokens, 3);
  matrix const dy = random_matrix<double>(d, tokens, 4), held = random_matrix<double>(d, tokens, 5);
  auto const layer = stiefelx::expert_layer(stiefelx::lora_experts(down, up, experts, 1.5), router,
                                            stiefelx::router_options{.top_k = 2},
                                            stiefelx::mixing_options{.kind = mixing::orthogonal});
  for (index_t const dense_columns : {0, 512}) {
    stiefelx::host::context ctx({.dense_expert_columns = dense_columns});
    // What y and dx become that hold the same before.
    auto const passed = [&](matrix const& before, double beta) {
      matrix y = before, dx = before;
      matrix a = matrix::Zero(d, experts * r), b = a.transpose(), w = matrix::Zero(d, experts);
      auto saved = expert_layer_forward(ctx, layer, x, beta, y);
      expert_layer_backward(ctx, layer, saved, x, dy, stiefelx::no_routing_loss{},
                            stiefelx::expert_layer_gradients(a, b, w), beta, dx);
      return std::pair(y, dx);
    };
    auto const [y, dx] =
        passed(matrix::Constant(d, tokens, std::numeric_limits<double>::quiet_NaN()), 0);
    for (double const beta : {0.5, 1.0}) {
      auto const [other_y, other_dx] = passed(held, beta);
      double const bound = tolerance<double>(experts * r);
      BOOST_TEST(near(other_y, matrix(y + beta * held), bound, y.norm() + held.norm()));
      BOOST_TEST(near(other_dx, matrix(dx + beta * held), bound, dx.norm() + held.norm()));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
