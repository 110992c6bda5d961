// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// After the first step of a loop nothing is allocated any more.

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <stiefelx/nn/expert_similarity.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/cayley_adam.hpp>
#include <stiefelx/optim/clip.hpp>
#include <stiefelx/optim/group.hpp>
#include <stiefelx/optim/landing.hpp>
#include <stiefelx/optim/muon.hpp>
#include <stiefelx/optim/orthogonal_experts.hpp>
#include <stiefelx/optim/pogo.hpp>
#include <stiefelx/optim/projected_gradient.hpp>
#include <stiefelx/optim/rasa.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/riemannian_rmsprop.hpp>
#include <stiefelx/optim/sgd.hpp>
#include <stiefelx/optim/spel.hpp>
#include <stiefelx/optim/stella.hpp>
#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/polar.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

#include "steady.hpp"

namespace {

using namespace support;
using stiefelx::mixing;
using stiefelx::no_status;
using stiefelx::stiefel;
using stiefelx::host::context;

/// Keeps the compiler from leaving an allocation out.
void use(void* p) { asm volatile("" : : "r"(p) : "memory"); }

}  // namespace

BOOST_AUTO_TEST_SUITE(allocation)

BOOST_AUTO_TEST_CASE(the_counter_sees_every_allocation) {
  BOOST_TEST(allocations_of([] { use(std::make_unique<int>(1).get()); }) == 1);
  BOOST_TEST(allocations_of([] { use(std::vector<double>(100).data()); }) == 1);
  BOOST_TEST(allocations_of([] { use(matrix_x<float>(9, 9).data()); }) == 1);
  struct alignas(64) line {
    char bytes[64];
  };
  BOOST_TEST(allocations_of([] { use(std::make_unique<line>().get()); }) == 1);
  BOOST_TEST(allocations_of([] {
               void* p = std::malloc(3);
               use(p);
               p = std::realloc(p, 5000);
               use(p);
               std::free(p);
               p = std::calloc(2, 7);
               use(p);
               std::free(p);
               p = std::aligned_alloc(64, 128);
               use(p);
               std::free(p);
               BOOST_REQUIRE(posix_memalign(&p, 64, 128) == 0);
               use(p);
               std::free(p);
             }) == 5);
  BOOST_TEST(allocations_of([] {}) == 0);
}

BOOST_AUTO_TEST_CASE(products_beyond_the_stack_are_steady) {
  for (int threads : {1, 2}) {
    context ctx({.threads = threads});
    // Eigen's kernel would put 128 KiB of packed panels on the stack and more on the heap.
    matrix_x<double> const a = random_matrix<double>(400, 300, 1),
                           b = random_matrix<double>(300, 600, 2);
    matrix_x<double> c(400, 600), d(600, 400);
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(400, 600);
    expect_steady("multiply", [&] { multiply(ctx, a, b, c); });
    expect_steady("adjoint", [&] { multiply(ctx, b.adjoint(), a.adjoint(), d); });
    expect_steady("row-major", [&] { multiply(ctx, a, b, rows); });
    expect_steady("product", [&] { (void)product(ctx, a, b); });
    expect_steady("expression", [&] { multiply_add(ctx, 0.5, a + a, b, c); });
    expect_steady("gram", [&] { (void)gram(ctx, a); });
  }
}

BOOST_AUTO_TEST_CASE(factorizations_and_retractions_are_steady) {
  context ctx;
  index_t const n = 300, p = 70;
  matrix_x<float> const x = orthonormal_frame<float>(n, p, 1), v = tangent_vector<float>(x, 2);
  matrix_x<float> y = x, w = x, r(p, p);
  stiefel const m{n, p};
  expect_steady("retract by QR", [&] { retract(ctx, m, x, v, y); });
  expect_steady("retract by the polar factor",
                [&] { retract(ctx, m, x, v, y, stiefelx::polar_retraction{}); });
  expect_steady("retract by Cayley",
                [&] { retract(ctx, m, x, v, y, stiefelx::cayley_retraction{}); });
  expect_steady("retract an expression", [&] { retract(ctx, m, x, 0.5F * v, y); });
  expect_steady("project", [&] { project(ctx, m, x, v, w); });
  expect_steady("transport", [&] { transport(ctx, m, x, y, v, w); });
  expect_steady("gram_schmidt", [&] { stiefelx::gram_schmidt(ctx, v, w, r); });
  expect_steady("householder_qr", [&] { stiefelx::householder_qr(ctx, v, w, r); });
  expect_steady("cholesky_qr", [&] { stiefelx::cholesky_qr(ctx, v, w, r); });
  expect_steady("polar", [&] { stiefelx::polar(ctx, y, w); });
}

BOOST_AUTO_TEST_CASE(optimizers_are_steady) {
  context ctx;
  index_t const n = 300, p = 70;
  matrix_x<float> x = orthonormal_frame<float>(n, p, 1), g = random_matrix<float>(n, p, 2);
  Eigen::MatrixXi status = Eigen::MatrixXi::Zero(1, 1);
  stiefelx::riemannian_momentum momentum(ctx, stiefel{n, p}, x);
  stiefelx::riemannian_adam adam(ctx, stiefel{n, p}, x);
  stiefelx::adamw plain(ctx, x);
  expect_steady("riemannian_momentum", [&] { momentum.step(ctx, x, g, status); });
  expect_steady("riemannian_adam", [&] { adam.step(ctx, x, g, status); });
  expect_steady("adamw", [&] { plain.step(ctx, x, g, status); });
  expect_steady("clip_by_global_norm", [&] { stiefelx::clip_by_global_norm(ctx, 1, g, x); });
  matrix_x<float> y = x, h = g;
  stiefelx::optimizer_group group(stiefelx::group_options{.largest_norm = 1},
                                  stiefelx::adamw(ctx, x), stiefelx::sgd(ctx, y));
  expect_steady("optimizer_group",
                [&] { group.step(ctx, std::tie(x, y), std::tie(g, h), status); });
}

BOOST_AUTO_TEST_CASE(every_rule_of_a_step_is_steady) {
  context ctx;
  index_t const n = 90, p = 30;
  matrix_x<float> x = orthonormal_frame<float>(n, p, 1);
  matrix_x<float> const g = random_matrix<float>(n, p, 2);
  stiefel const m{n, p};
  auto const steady = [&](char const* name, auto opt) {
    expect_steady(name, [&] { opt.step(ctx, x, g); });
  };
  using stiefelx::adam_moment;
  steady("split", stiefelx::riemannian_adam(ctx, m, x, {.second_moment = adam_moment::split}));
  steady("rasa", stiefelx::rasa(ctx, m, x));
  steady("riemannian_rmsprop", stiefelx::riemannian_rmsprop(ctx, m, x, {.momentum = 0.5}));
  steady("landing", stiefelx::landing(ctx, m, x));
  steady("pogo", stiefelx::pogo(ctx, m, x));
  steady("muon", stiefelx::muon(ctx, x));
  steady("spel", stiefelx::spel(ctx, m, x));
  steady("stella", stiefelx::stella(ctx, m, x, stiefelx::adamw(ctx, x)));
  steady("cayley_adam", stiefelx::cayley_adam(ctx, m, x));
  steady("projected_gradient", stiefelx::projected_gradient(ctx, m, x));
  steady("orthogonal_experts",
         stiefelx::orthogonal_experts(ctx, stiefelx::adamw(ctx, x), x, {.count = 2}));
}

BOOST_AUTO_TEST_CASE(a_mixture_of_experts_is_steady) {
  index_t const d = 128, experts = 6, r = 8, tokens = 200;
  matrix_x<float> const x = random_matrix<float>(d, tokens, 1),
                        w = random_matrix<float>(d, experts, 2);
  matrix_x<float> const dy = random_matrix<float>(d, tokens, 3);
  matrix_x<float> down = random_matrix<float>(d, experts * r, 4);
  matrix_x<float> up = random_matrix<float>(experts * r, d, 5);
  matrix_x<float> y = dy, dx = dy, ddown = down, dup = up, dw = w, dscores(experts, tokens);
  matrix_x<float> gain = matrix_x<float>::Ones(experts, 1), dgain = gain, dweights(2, tokens);
  matrix_x<double> loss(1, 1), similarity(2, 1);
  stiefelx::lora_experts const bank(down, up, experts, 2);
  for (int threads : {1, 2})
    for (mixing kind : {mixing::none, mixing::orthogonal, mixing::orthonormal}) {
      context ctx({.threads = threads});
      expect_steady("forward and backward", [&] {
        auto routes = stiefelx::route(ctx, w, x, {.top_k = 2});
        auto const before = clone(ctx, routes.weights);
        stiefelx::apply_gain(ctx, gain, routes.ids, routes.weights);
        auto saved = stiefelx::moe_lora_forward(ctx, bank, routes, x, y, {.kind = kind});
        stiefelx::moe_lora_backward(ctx, bank, routes, saved, x, dy, ddown, dup, dweights, 0, dx);
        stiefelx::apply_gain_backward(ctx, gain, routes.ids, before, dweights, dgain);
        stiefelx::gate_backward(ctx, routes, dweights, dscores);
        stiefelx::balance_loss(ctx, 1e-2, routes, loss, dscores);
        stiefelx::router_backward(ctx, w, x, dscores, dw, 1, dx);
        stiefelx::expert_similarity(ctx, bank, routes, x, {.kind = kind}, similarity);
      });
    }
  context ctx;
  matrix_x<float> const e = random_matrix<float>(d, 2 * tokens, 6),
                        c = random_matrix<float>(2, tokens, 7);
  matrix_x<float> de = e;
  expect_steady("token space", [&] {
    auto saved = stiefelx::expert_gram_schmidt(ctx, e, c, y);
    stiefelx::expert_gram_schmidt_backward(ctx, e, c, saved, dy, de, dweights);
  });
}

BOOST_AUTO_TEST_CASE(fixed_sizes_allocate_nothing_after_the_first_chunk) {
  context ctx;
  (void)stiefelx::host::scratch<double>(ctx, 1, 1);
  using point = Eigen::Matrix<float, 8, 3>;
  point x = orthonormal_frame<float>(8, 3, 1), g = random_matrix<float>(8, 3, 2), v = g, y = x;
  Eigen::Matrix3f r;
  stiefel const m{8, 3};
  project(ctx, m, x, g, v);
  stiefelx::riemannian_momentum momentum(ctx, m, x);
  stiefelx::riemannian_adam adam(ctx, m, x);
  stiefelx::adamw plain(ctx, v);
  auto const expect = [](char const* name, auto const& step) {
    BOOST_TEST_CONTEXT(name) BOOST_TEST(allocations_of(step) == 0);
  };
  expect("project", [&] { project(ctx, m, x, g, v); });
  expect("retract by QR", [&] { retract(ctx, m, x, v, y); });
  expect("retract by polar", [&] { retract(ctx, m, x, v, y, stiefelx::polar_retraction{}); });
  expect("retract by Cayley", [&] { retract(ctx, m, x, v, y, stiefelx::cayley_retraction{}); });
  expect("gram_schmidt", [&] { stiefelx::gram_schmidt(ctx, g, y, r); });
  expect("householder_qr", [&] { stiefelx::householder_qr(ctx, g, y, r); });
  expect("cholesky_qr", [&] { stiefelx::cholesky_qr(ctx, g, y, r); });
  expect("polar", [&] { stiefelx::polar(ctx, g, y); });
  expect("riemannian_momentum", [&] { momentum.step(ctx, x, g); });
  expect("riemannian_adam", [&] { adam.step(ctx, x, g); });
  expect("adamw", [&] { plain.step(ctx, v, g); });
}

BOOST_AUTO_TEST_SUITE_END()
