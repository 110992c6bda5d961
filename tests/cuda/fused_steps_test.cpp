// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Steps over stacks on the device: one launch for all points, and each point's own step.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/eigen_transfer.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/factor.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/reductions.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/cuda/transform.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/stiefel_stack_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/team/lane_symmetric_product.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::matrix_ref;
using stiefelx::power;
using stiefelx::riemannian_adam;
using stiefelx::stiefel;
namespace device = stiefelx::cuda;

constexpr char const* launching = "launch";

template <class F>
long launches(F const& f) {
  long const before = fake_cuda::calls(launching);
  f();
  return fake_cuda::calls(launching) - before;
}

matrix_x<double> frames(index_t n, index_t p, index_t count) {
  matrix_x<double> all(n, p * count);
  for (index_t k = 0; k < count; ++k)
    all.middleCols(k * p, p) = orthonormal_frame<double>(n, p, static_cast<std::uint64_t>(k + 1));
  return all;
}

// Gram matrix, its upper triangle and the symmetric part of a product, in a row.
struct products_body {
  stiefelx::index_t scratch_size() const { return 0; }
  template <stiefelx::Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t, double*,
                              matrix_ref<double const> a, matrix_ref<double const> b,
                              matrix_ref<double> c) const {
    stiefelx::index_t const n = a.rows, p = a.cols;
    stiefelx::adjoint_product<false>(team, n, p, a.data, a.stride, b.data, b.stride, c.data);
    stiefelx::adjoint_product<true>(team, n, p, a.data, a.stride, a.data, a.stride, c.data + p * p);
    stiefelx::symmetric_product(team, n, p, a.data, a.stride, b.data, b.stride, c.data + 2 * p * p);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(fused_steps)

BOOST_AUTO_TEST_CASE(adam_on_a_stack_is_one_launch) {
  constexpr index_t n = 12, p = 3, count = 5;
  device::context ctx;
  auto x = on_device(ctx, frames(n, p, count));
  auto const g = on_device(ctx, random_matrix<double>(n, p * count, 1));
  auto status = zeros<int>(ctx, 1, 1);
  for (bool const amsgrad : {false, true}) {
    riemannian_adam opt(ctx, power<stiefel>{{n, p}, count}, x, {.amsgrad = amsgrad});
    BOOST_TEST(launches([&] { opt.step(ctx, x, g); }) == 1);
    // One more brings the points' bits together.
    BOOST_TEST(launches([&] { opt.step(ctx, x, g, status); }) == 2);
  }
}

BOOST_AUTO_TEST_CASE(the_launches_of_adam_do_not_grow_with_the_matrix) {
  for (index_t const cols : {4, 400}) {
    device::context ctx;
    auto x = on_device(ctx, random_matrix<float>(30, cols, 1));
    auto const g = on_device(ctx, random_matrix<float>(30, cols, 2));
    stiefelx::adamw opt(ctx, x);
    long const now = launches([&] { opt.step(ctx, x, g); });
    // The gradient's squared norm, whether it is finite, the powers, the step; where the norm takes
    // more blocks than one, another launch adds up what they found.
    BOOST_TEST(now == (cols == 4 ? 4 : 5));
  }
}

BOOST_AUTO_TEST_CASE(a_point_of_a_stack_steps_as_on_its_own) {
  struct shape {
    index_t n, p, count;
    bool amsgrad;
  };
  // Work memory in the block and beyond it, few tiles and many; one point takes the verbs.
  for (auto const [n, p, count, amsgrad] :
       {shape{9, 2, 4, false}, shape{300, 4, 2, true}, shape{64, 16, 3, true},
        shape{1100, 5, 2, false}, shape{40, 36, 2, false}})
    BOOST_TEST_CONTEXT(count << " of " << n << "x" << p) {
      device::context ctx;
      matrix_x<double> const start = frames(n, p, count);
      auto x = on_device(ctx, start), y = on_device(ctx, start);
      stiefelx::riemannian_adam_options const options{.learning_rate = 0.05, .amsgrad = amsgrad};
      riemannian_adam together(ctx, power<stiefel>{{n, p}, count}, x, options);
      std::vector<decltype(riemannian_adam(ctx, stiefel{n, p}, x))> each;
      for (index_t k = 0; k < count; ++k)
        each.emplace_back(ctx, stiefel{n, p}, y.middleCols(k * p, p), options);
      for (int t = 0; t < 3; ++t) {
        matrix_x<double> gradient =
            random_matrix<double>(n, p * count, static_cast<std::uint64_t>(t + 7));
        if (t == 1) gradient(0, p) = std::nan("");
        auto const g = on_device(ctx, gradient);
        together.step(ctx, x, g);
        for (index_t k = 0; k < count; ++k)
          each[static_cast<std::size_t>(k)].step(ctx, y.middleCols(k * p, p),
                                                 g.middleCols(k * p, p));
      }
      double const rounding = tolerance<double>(n, 100);
      BOOST_TEST(near(on_host(ctx, x), on_host(ctx, y), rounding));
      for (index_t k = 0; k < count; ++k) {
        auto const& own = each[static_cast<std::size_t>(k)];
        BOOST_TEST(near(on_host(ctx, together.first_moment().middleCols(k * p, p)),
                        on_host(ctx, own.first_moment()), rounding));
        BOOST_TEST(near(on_host(ctx, together.second_moment().middleCols(k, 1)),
                        on_host(ctx, own.second_moment()), rounding));
      }
    }
}

BOOST_AUTO_TEST_CASE(larger_points_than_the_hosts_are_one_launch_too) {
  constexpr index_t n = 1200, p = 4, count = 2;
  device::context ctx;
  auto x = on_device(ctx, frames(n, p, count));
  auto v = on_device(ctx, random_matrix<double>(n, p * count, 1));
  auto w = zeros<double>(ctx, n, p * count);
  power<stiefel> const m{{n, p}, count};
  BOOST_TEST(launches([&] { project(ctx, m, x, v, w); }) == 1);
  BOOST_TEST(launches([&] { retract(ctx, m, x, w, v); }) == 1);
  // A point of more work is left to products that fill the device, unless there are enough of them;
  // one of more entries always is.
  stiefel const wide{4096, 32};
  BOOST_TEST(!stiefelx::detail::is_for_lanes<device::context>(wide, 1));
  BOOST_TEST(stiefelx::detail::is_for_lanes<device::context>(wide, 4));
  BOOST_TEST(!stiefelx::detail::is_for_lanes<device::context>(stiefel{20000, 16}, 100));
  matrix_x<double> const y = on_host(ctx, v);
  for (index_t k = 0; k < count; ++k) {
    matrix_x<double> const yk = y.middleCols(k * p, p);
    BOOST_TEST(near(yk.transpose() * yk, matrix_x<double>::Identity(p, p), tolerance<double>(n)));
  }
}

BOOST_AUTO_TEST_CASE(products_by_rows_are_products_by_tiles) {
  for (auto const& [n, p] : {std::pair<index_t, index_t>{1000, 3}, {700, 8}, {2000, 13}}) {
    matrix_x<double> const a = random_matrix<double>(n, p, 1), b = random_matrix<double>(n, p, 2);
    matrix_x<double> const product = a.transpose() * b;
    matrix_x<double> const gram = a.transpose() * a;
    for (unsigned const lanes : {32u, 64u, 256u}) BOOST_TEST_CONTEXT(lanes << " lanes, p = " << p) {
        device::context ctx;
        auto const da = on_device(ctx, a), db = on_device(ctx, b);
        auto c = on_device(ctx, matrix_x<double>(matrix_x<double>::Constant(p, 3 * p, 7)));
        device::detail::run_teams(ctx, 1, lanes, products_body{}, ref(da), ref(db), ref(c));
        matrix_x<double> const found = on_host(ctx, c);
        double const rounding = tolerance<double>(n, 10);
        BOOST_TEST(near(found.leftCols(p), product, rounding));
        matrix_x<double> upper = found.middleCols(p, p);
        BOOST_TEST(near(upper.template triangularView<Eigen::Upper>().toDenseMatrix(),
                        gram.template triangularView<Eigen::Upper>().toDenseMatrix(), rounding));
        BOOST_TEST((p == 1 || upper(p - 1, 0) == 7));
        BOOST_TEST(near(found.rightCols(p), (product + product.transpose()) / 2, rounding));
      }
  }
}

BOOST_AUTO_TEST_SUITE_END()
