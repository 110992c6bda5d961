// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// riemannian_adam on stacks of points: each point steps as with an optimizer of its own, wherever it
// lies in the stack and whatever happens to the others.

#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/host/batch_lanes.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/stiefel_stack_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "step_laws.hpp"

namespace {

using namespace support;
using stiefelx::adam_moment;
using stiefelx::euclidean;
using stiefelx::fixed_stiefel;
using stiefelx::power;
using stiefelx::riemannian_adam;
using stiefelx::riemannian_adam_options;
using stiefelx::stiefel;

template <class S>
matrix_x<S> frames(index_t n, index_t p, index_t count) {
  matrix_x<S> all(n, p * count);
  for (index_t k = 0; k < count; ++k)
    all.middleCols(k * p, p) = orthonormal_frame<S>(n, p, static_cast<std::uint64_t>(1 + k));
  return all;
}

/// Gradients of different sizes, from point to point and from step to step.
template <class S>
matrix_x<S> gradients(index_t n, index_t p, index_t count, int t) {
  using real = stiefelx::real_of_t<S>;
  matrix_x<S> all = step_gradient<S>(n, p * count, t);
  for (index_t k = 0; k < count; ++k)
    all.middleCols(k * p, p) *= static_cast<real>(1 + k % 3) / static_cast<real>(1 + t % 4);
  return all;
}

/// Steps a stack and one optimizer a point, and compares.
template <class Case, class M>
void expect_steps_of_each(M const& one, index_t n, index_t p, index_t count,
                          riemannian_adam_options const& options) {
  using S = typename Case::scalar;
  constexpr int steps = 6;
  BOOST_TEST_INFO_SCOPE(count << " of " << n << "x" << p << ", amsgrad " << options.amsgrad
                              << ", moment " << int(options.second_moment));
  place<Case> at;
  matrix_x<S> const start = frames<S>(n, p, count);
  auto x = at.up(start), y = at.up(start);
  riemannian_adam together(at.ctx, power<M>{one, count}, x, options);
  std::vector<decltype(riemannian_adam(at.ctx, one, x))> each;
  for (index_t k = 0; k < count; ++k)
    each.emplace_back(at.ctx, one, at.up(matrix_x<S>(start.middleCols(k * p, p))), options);
  auto status = status_matrix<typename Case::backend>(at.ctx);
  for (int t = 0; t < steps; ++t) {
    auto const g = at.up(gradients<S>(n, p, count, t));
    together.step(at.ctx, x, g, status);
    for (index_t k = 0; k < count; ++k)
      each[static_cast<std::size_t>(k)].step(at.ctx, y.middleCols(k * p, p),
                                             g.middleCols(k * p, p));
  }
  double const bound = tolerance<S>(n, steps);
  double const size = gradients<S>(n, p, count, 0).norm() / std::sqrt(static_cast<double>(count));
  matrix_x<S> const moved = at.down(x), moments = at.down(together.first_moment());
  BOOST_TEST(status_value(at.ctx, status) == 0);
  BOOST_TEST(near(moved, at.down(y), bound));
  BOOST_TEST(!near(moved, start, 0.01));
  for (index_t k = 0; k < count; ++k) {
    auto& own = each[static_cast<std::size_t>(k)];
    // Projections cancel what is normal, so a moment is as exact as its gradients.
    BOOST_TEST(near(moments.middleCols(k * p, p), at.down(own.first_moment()), bound, size));
    if (options.second_moment == adam_moment::matrix)
      BOOST_TEST(near(at.down(together.second_moment()).col(k), at.down(own.second_moment()),
                      tolerance<S>(n * p)));
  }
}

using lane_cases = std::tuple<test_case<host_backend, float>, test_case<host_backend, double>>;
using fixed_cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, double>>;
using few_cases =
    std::tuple<test_case<host_backend, std::complex<double>>, test_case<archetype_backend, double>>;

}  // namespace

BOOST_AUTO_TEST_SUITE(adam_stack)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stack_steps_as_an_optimizer_for_each_point, Case, step_cases) {
  riemannian_adam_options const plain{.learning_rate = 0.1, .beta1 = 0.8, .beta2 = 0.9};
  riemannian_adam_options amsgrad = plain;
  amsgrad.amsgrad = true;
  for (stiefel const one : {stiefel{2, 1}, stiefel{5, 2}, stiefel{7, 7}, stiefel{16, 8}})
    for (auto const& options : {plain, amsgrad})
      expect_steps_of_each<Case>(one, one.n, one.p, 19, options);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(stacks_off_the_fused_path_step_point_by_point, Case, few_cases) {
  riemannian_adam_options const plain{.learning_rate = 0.1, .weight_decay = 0.3};
  riemannian_adam_options rows = plain, split = plain;
  rows.second_moment = adam_moment::rows_and_columns;
  split.second_moment = adam_moment::split;
  expect_steps_of_each<Case>(euclidean{4, 2}, 4, 2, 3, plain);
  expect_steps_of_each<Case>(euclidean{4, 2}, 4, 2, 3, rows);
  expect_steps_of_each<Case>(stiefel{4, 2, stiefelx::canonical_metric}, 4, 2, 3, plain);
  expect_steps_of_each<Case>(stiefel{4, 2}, 4, 2, 3, rows);
  expect_steps_of_each<Case>(stiefel{4, 2}, 4, 2, 3, split);
  split.amsgrad = true;
  expect_steps_of_each<Case>(stiefel{4, 2}, 4, 2, 3, split);
}

BOOST_AUTO_TEST_CASE(points_too_large_for_lanes_step_one_after_the_other) {
  expect_steps_of_each<test_case<host_backend, double>>(stiefel{70, 65}, 70, 65, 2,
                                                        {.learning_rate = 0.1});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(fixed_sizes_step_as_dynamic_ones, Case, fixed_cases) {
  using S = typename Case::scalar;
  index_t const count = 21;
  place<Case> at;
  auto x = at.up(frames<S>(8, 3, count)), y = at.up(at.down(x));
  riemannian_adam a(at.ctx, power<stiefel>{{8, 3}, count}, x, {.learning_rate = 0.1});
  riemannian_adam b(at.ctx, power<fixed_stiefel<8, 3>>{{}, count}, y, {.learning_rate = 0.1});
  for (int t = 0; t < 5; ++t) {
    auto const g = at.up(gradients<S>(8, 3, count, t));
    a.step(at.ctx, x, g);
    b.step(at.ctx, y, g);
  }
  BOOST_TEST(near(at.down(y), at.down(x), tolerance<S>(8, 5)));
  BOOST_TEST(near(at.down(b.first_moment()), at.down(a.first_moment()), tolerance<S>(8, 5)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_step_does_not_depend_on_the_place_in_the_stack, Case, lane_cases) {
  using S = typename Case::scalar;
  index_t const n = 5, p = 3;
  matrix_x<S> const start = orthonormal_frame<S>(n, p, 1), g = random_matrix<S>(n, p, 2);
  matrix_x<S> expected;
  for (index_t const count : {1, 2, 15, 16, 17, 40}) {
    BOOST_TEST_INFO_SCOPE(count << " points");
    place<Case> at;
    auto x = at.up(matrix_x<S>(start.replicate(1, count)));
    auto const all = at.up(matrix_x<S>(g.replicate(1, count)));
    riemannian_adam opt(at.ctx, power<stiefel>{{n, p}, count}, x, {.learning_rate = 0.1});
    for (int t = 0; t < 3; ++t) opt.step(at.ctx, x, all);
    if (count == 1) expected = at.down(x);
    BOOST_TEST(same(at.down(x), expected.replicate(1, count)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_bad_gradient_stays_with_its_own_point, Case, step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  using limits = std::numeric_limits<real>;
  index_t const n = 6, p = 2, count = 19, bad_point = 17;
  auto const others_of = [&](matrix_x<S> a) {
    a.middleCols(bad_point * p, p).setZero();
    return a;
  };
  for (bool const amsgrad : {false, true})
    for (real const bad : {limits::quiet_NaN(), limits::infinity(), -limits::infinity(),
                           std::sqrt(limits::max()) * real(0.75)}) {
      BOOST_TEST_INFO_SCOPE(bad);
      place<Case> at;
      auto x = at.up(frames<S>(n, p, count)), twin = at.up(at.down(x));
      auto late = at.up(at.down(x));
      power<stiefel> const m{{n, p}, count};
      riemannian_adam_options const options{.learning_rate = 0.1, .amsgrad = amsgrad};
      riemannian_adam opt(at.ctx, m, x, options), other(at.ctx, m, twin, options);
      riemannian_adam without(at.ctx, m, late, options);
      for (int t = 0; t < 3; ++t) {
        matrix_x<S> g = gradients<S>(n, p, count, t);
        other.step(at.ctx, twin, at.up(g));
        if (t != 1) without.step(at.ctx, late, at.up(g));
        if (t == 1) g(3, bad_point * p + 1) = S(bad);
        auto const state = state_of(at, opt);
        matrix_x<S> const before = at.down(x);
        auto status = status_matrix<typename Case::backend>(at.ctx);
        opt.step(at.ctx, x, at.up(g), status);
        BOOST_TEST(status_value(at.ctx, status) == (t == 1 ? stiefelx::not_finite : 0));
        // The others take their step.
        BOOST_TEST(same(others_of(at.down(x)), others_of(at.down(twin))));
        if (t != 1) continue;
        BOOST_TEST(
            same(at.down(x).middleCols(bad_point * p, p), before.middleCols(bad_point * p, p)));
        auto const after = state_of(at, opt);
        for (std::size_t i = 0; i < after.size(); ++i) {
          index_t const cols = after[i].cols() / count;
          BOOST_TEST(same(after[i].middleCols(bad_point * cols, cols),
                          state[i].middleCols(bad_point * cols, cols)));
        }
      }
      // To the refused point it is as if there had been two steps.
      BOOST_TEST(same(at.down(x).middleCols(bad_point * p, p),
                      at.down(late).middleCols(bad_point * p, p)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_saved_state_goes_on_with_the_same_bits, Case, step_cases) {
  using S = typename Case::scalar;
  for (bool const amsgrad : {false, true})
    expect_saved_state_goes_on<Case>(
        [&](auto& ctx, auto const& x) {
          return riemannian_adam(ctx, power<stiefel>{{6, 2}, 5}, x,
                                 {.learning_rate = 0.1, .amsgrad = amsgrad});
        },
        frames<S>(6, 2, 5));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_points, Case, step_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  matrix_x<S> const start = frames<S>(6, 2, 5);
  auto x = at.up(start);
  riemannian_adam opt(at.ctx, power<stiefel>{{6, 2}, 5}, x, {.learning_rate = 0.1});
  for (int t = 0; t < 4; ++t) opt.step(at.ctx, x, at.up(matrix_x<S>(matrix_x<S>::Zero(6, 10))));
  BOOST_TEST(near(at.down(x), start, tolerance<S>(6)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_stay_orthonormal_and_moments_tangent, Case, step_cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  index_t const n = 9, p = 4, count = 5;
  place<Case> at;
  auto x = at.up(frames<S>(n, p, count));
  riemannian_adam opt(at.ctx, power<stiefel>{{n, p}, count}, x, {.learning_rate = 0.1});
  for (int t = 0; t < (host ? 500 : 20); ++t)
    opt.step(at.ctx, x, at.up(gradients<S>(n, p, count, t)));
  matrix_x<S> const points = at.down(x), moments = at.down(opt.first_moment());
  for (index_t k = 0; k < count; ++k) {
    matrix_x<S> const y = points.middleCols(k * p, p), v = moments.middleCols(k * p, p);
    matrix_x<S> const s = loop_product(loop_adjoint(y), v);
    BOOST_TEST(frame_distance(y) <= tolerance<S>(n, 2));
    BOOST_TEST((s + loop_adjoint(s)).norm() <= tolerance<S>(n) * v.norm());
  }
}

BOOST_AUTO_TEST_CASE(row_major_and_strided_stacks_are_taken) {
  using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  index_t const n = 5, p = 2, count = 11;
  stiefelx::host::context ctx;
  power<stiefel> const m{{n, p}, count};
  matrix_x<double> x = frames<double>(n, p, count);
  row_major by_rows = x;
  matrix_x<double> all = matrix_x<double>::Constant(2 * n, p * count, -77);
  auto strided = all.middleRows(2, n);
  strided = x;
  riemannian_adam a(ctx, m, x), b(ctx, m, by_rows), c(ctx, m, strided);
  for (int t = 0; t < 3; ++t) {
    matrix_x<double> const g = gradients<double>(n, p, count, t);
    row_major const g_by_rows = g;
    a.step(ctx, x, g);
    b.step(ctx, by_rows, g_by_rows);
    c.step(ctx, strided, 2 * g - g);
  }
  BOOST_TEST(near(by_rows, x, tolerance<double>(n)));
  BOOST_TEST(near(strided, x, tolerance<double>(n)));
  strided.setConstant(-77);
  BOOST_TEST((all.array() == -77).all());
}

BOOST_AUTO_TEST_CASE(threads_share_a_stack_and_give_the_same_bits) {
  index_t const n = 8, p = 3, count = 500;
  power<stiefel> const m{{n, p}, count};
  matrix_x<float> x = frames<float>(n, p, count), y = x;
  stiefelx::host::context one({.threads = 1}), three({.threads = 3});
  riemannian_adam a(one, m, x), b(three, m, y);
  for (int t = 0; t < 2; ++t) {
    a.step(one, x, gradients<float>(n, p, count, t));
    b.step(three, y, gradients<float>(n, p, count, t));
  }
  BOOST_TEST(same(y, x));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_stacks_are_named, Case, double_cases) {
  place<Case> at;
  auto x = at.up(frames<double>(5, 2, 3));
  BOOST_TEST(
      message_of([&] { riemannian_adam(at.ctx, power<stiefel>{{5, 2}, 4}, x); }) ==
      "riemannian_adam: x has 6 columns, expected a multiple of the 4 matrices of the stack");
  riemannian_adam opt(at.ctx, power<stiefel>{{5, 3}, 2}, x);
  auto wrong = at.up(random_matrix<double>(5, 5, 1));
  BOOST_TEST(message_of([&] { opt.step(at.ctx, x, wrong); }) ==
             "riemannian_adam::step: g is 5x5, expected 5x6");
  riemannian_adam other(at.ctx, power<stiefel>{{6, 3}, 2}, x);
  BOOST_TEST(message_of([&] { other.step(at.ctx, x, at.up(random_matrix<double>(5, 6, 1))); }) ==
             "riemannian_adam::step: x is 5x6, expected 6x6");
}

BOOST_AUTO_TEST_SUITE_END()
