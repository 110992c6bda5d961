// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Whole steps as graphs: an optimizer's, and forward and backward of a mixture of experts. A replay
// gives the bits of a direct call.

#include <cstddef>
#include <cstdint>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <nn/expert_layer.hpp>
#include <stiefelx/cuda/graph.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <support/device_backend.hpp>

namespace {

namespace device = stiefelx::cuda;
using stiefelx::index_t;
using support::device_backend;
using support::matrix_x;
using support::mixing;
using support::numbers;

matrix_x<double> random_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  numbers draw(seed);
  matrix_x<double> a(rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) a(i, j) = draw.normal();
  return a;
}

matrix_x<double> point(index_t n, index_t p) {
  matrix_x<double> a = matrix_x<double>::Zero(n, p);
  for (index_t j = 0; j < p; ++j) a((2 * j + 1) % n, j) = j % 2 == 0 ? 1 : -1;
  return a;
}

bool same(matrix_x<double> const& a, matrix_x<double> const& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && (a.array() == b.array()).all();
}

/// Steps of an optimizer, direct ones or replayed ones.
template <class Optimizer, class Options>
matrix_x<double> points_of(Options const& options, bool captured, int steps) {
  device::context ctx({.blas_workspace = 16384});
  stiefelx::stiefel const m{12, 4};
  auto x = device_backend::upload(ctx, point(12, 4));
  auto const g = device_backend::upload(ctx, random_matrix(12, 4, 5));
  Optimizer optimizer(ctx, m, x, options);
  auto const step = [&] { optimizer.step(ctx, x, g); };
  step();
  if (!captured) {
    for (int k = 0; k < steps; ++k) step();
    return device_backend::download(ctx, x);
  }
  auto const work = capture(ctx, step);
  for (int k = 0; k < steps; ++k) replay(ctx, work);
  return device_backend::download(ctx, x);
}

/// Buffers of a layer on the device, and a forward and backward call on them.
struct layer_call {
  support::expert_layer<double> data;
  mixing kind;
  device::context ctx{{.blas_workspace = 16384}};
  device::matrix<double> down, up, x, dy, y, ddown, dup, dweights, dx;
  stiefelx::routing<device::matrix<double>, device::matrix<double>, device::matrix<int>> routes;

  layer_call(support::expert_layer<double> const& l, mixing k)
      : data(l),
        kind(k),
        down(device_backend::upload(ctx, l.down)),
        up(device_backend::upload(ctx, l.up)),
        x(device_backend::upload(ctx, l.x)),
        dy(device_backend::upload(ctx, l.dy)),
        y(zeros<double>(ctx, l.up.cols(), l.x.cols())),
        ddown(zeros_like(ctx, down)),
        dup(zeros_like(ctx, up)),
        dweights(zeros<double>(ctx, l.weights.rows(), l.weights.cols())),
        dx(zeros_like(ctx, x)),
        routes{zeros<double>(ctx, l.experts, l.x.cols()),
               device_backend::upload(ctx, l.weights),
               device_backend::upload(ctx, l.ids),
               {}} {}

  void run() {
    for (auto* sum : {&y, &ddown, &dup}) fill(ctx, 0, *sum);
    stiefelx::lora_experts const experts(down, up, data.experts, data.scaling);
    auto saved = moe_lora_forward(ctx, experts, routes, x, y, {.kind = kind});
    moe_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dup, dweights, 0, dx);
  }
  void give(support::expert_layer<double> const& l) {
    upload(ctx, l.x.data(), x);
    upload(ctx, l.dy.data(), dy);
    upload(ctx, l.weights.data(), routes.weights);
    upload(ctx, l.ids.data(), routes.ids);
  }
  std::vector<matrix_x<double>> results() {
    std::vector<matrix_x<double>> found;
    for (auto const* a : {&y, &ddown, &dup, &dweights, &dx})
      found.push_back(device_backend::download(ctx, *a));
    return found;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(captured_steps)

BOOST_AUTO_TEST_CASE(replayed_momentum_steps_are_direct_ones_to_the_bit) {
  using optimizer = stiefelx::riemannian_momentum<stiefelx::stiefel, device::matrix<double>>;
  stiefelx::momentum_options const options{.learning_rate = 0.05, .weight_decay = 0.01};
  auto const direct = points_of<optimizer>(options, false, 5);
  BOOST_TEST(same(points_of<optimizer>(options, true, 5), direct));
  BOOST_TEST(!same(points_of<optimizer>(options, true, 4), direct));
}

BOOST_AUTO_TEST_CASE(replayed_adam_steps_are_direct_ones_to_the_bit) {
  using optimizer =
      stiefelx::riemannian_adam<stiefelx::stiefel, device::matrix<double>, device::matrix<double>>;
  stiefelx::riemannian_adam_options const options{.learning_rate = 0.05};
  auto const direct = points_of<optimizer>(options, false, 5);
  BOOST_TEST(same(points_of<optimizer>(options, true, 5), direct));
  BOOST_TEST(!same(points_of<optimizer>(options, true, 4), direct));
}

BOOST_AUTO_TEST_CASE(a_replayed_layer_follows_its_buffers_also_into_another_routing) {
  support::layer_sizes const n{5, 2, 3, 6, 9, 7};
  auto first = support::random_layer<double>(n, 1);
  auto second = support::random_layer<double>(n, 2);
  second.down = first.down;
  second.up = first.up;
  // Other experts, all tokens to the same two, and empty slots.
  auto third = second;
  third.ids.row(0).setConstant(4);
  third.ids.row(1).setConstant(2);
  third.ids(1, 3) = -1;
  for (mixing kind : {mixing::none, mixing::orthogonal}) {
    layer_call replayed(first, kind), direct(first, kind);
    replayed.run();
    auto const work = capture(replayed.ctx, [&] { replayed.run(); });
    for (auto const* l : {&second, &third, &first}) {
      replayed.give(*l);
      replay(replayed.ctx, work);
      direct.give(*l);
      direct.run();
      auto const found = replayed.results(), expected = direct.results();
      for (std::size_t i = 0; i < found.size(); ++i)
        BOOST_TEST(same(found[i], expected[i]), "result " << i << " of form " << int(kind));
      BOOST_TEST(found[0].allFinite());
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
