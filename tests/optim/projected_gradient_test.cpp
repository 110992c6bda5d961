// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Projected gradients: heavy ball where there is no constraint, one step against nearest points
// that are known, every manifold that has them, and known optima.

#include <cmath>
#include <complex>

#include <boost/test/unit_test.hpp>

#include <optim/step_laws.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/fixed_rank.hpp>
#include <stiefelx/manifold/fixed_rank_retraction.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/orthogonal.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_nearest.hpp>
#include <stiefelx/optim/projected_gradient.hpp>

namespace {

using namespace support;
using stiefelx::euclidean;
using stiefelx::projected_gradient_options;
using stiefelx::stiefel;

struct make_projected {
  projected_gradient_options options{.learning_rate = 0.05, .momentum = 0.5};
  template <class Ctx, class X>
  auto operator()(Ctx& ctx, X const& x) const {
    return stiefelx::projected_gradient(ctx, stiefel{x.rows(), x.cols()}, x, options);
  }
};

/// One step on a manifold is its nearest point of x - rate g, to the bit, and another point than x.
template <class Case, class M>
void expect_nearest(M m, index_t rows, index_t cols) {
  using S = typename Case::scalar;
  place<Case> p;
  auto x = p.up(matrix_x<S>::Zero(rows, cols));
  stiefelx::random_stream stream{1, 0};
  random_point(p.ctx, m, stream, x);
  matrix_x<S> const start = p.down(x), g = random_matrix<S>(rows, cols, 2);
  auto expected = p.up(g);
  scale(p.ctx, -0.25, expected);
  axpy(p.ctx, 1, x, expected);
  nearest_point(p.ctx, m, expected, expected, stiefelx::no_status{});
  stiefelx::projected_gradient opt(p.ctx, m, x, {.learning_rate = 0.25});
  opt.step(p.ctx, x, p.up(g));
  BOOST_TEST(near(p.down(x), p.down(expected), tolerance<S>(rows)));
  BOOST_TEST(!near(p.down(x), start, 0.01));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(projected_gradient)

// --- the step ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(on_euclidean_it_is_heavy_ball_with_decay, Case, step_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = random_matrix<S>(4, 3, 1);
  auto x = p.up(start);
  stiefelx::projected_gradient opt(p.ctx, euclidean{4, 3}, x,
                                   {.learning_rate = 0.05, .momentum = 0.8, .weight_decay = 0.1});
  matrix_x<exact> y = loop_cast<exact>(start), u = matrix_x<exact>::Zero(4, 3);
  for (int t = 0; t < 50; ++t) {
    if (t == 30) opt.set_learning_rate(0.025);
    matrix_x<S> const g = step_gradient<S>(4, 3, t);
    opt.step(p.ctx, x, p.up(g));
    u = u * exact(0.8L) + loop_cast<exact>(g);
    y -= (u + y * exact(0.1L)) * exact(t < 30 ? 0.05L : 0.025L);
  }
  BOOST_TEST(near(p.down(opt.velocity()), u, tolerance<S>(50)));
  BOOST_TEST(near(p.down(x), y, tolerance<S>(50)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_step_on_stiefel_ends_at_the_polar_factor, Case, step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  constexpr double condition = 5;
  index_t const n = 7, k = 3;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1), best = orthonormal_frame<S>(n, k, 2);
  // x - rate (u + g) = best h with a positive definite h has the polar factor best.
  matrix_x<S> const target = loop_product(best, positive_matrix<S>(k, condition, 3));
  real const rate = real(0.25);
  for (double momentum : {0.0, 0.5}) {
    place<Case> p;
    auto x = p.up(start);
    // On Stiefel the tangent part of x is zero, and so is the decay.
    stiefelx::projected_gradient opt(
        p.ctx, stiefel{n, k}, x, {.learning_rate = 0.25, .momentum = momentum, .weight_decay = 10});
    matrix_x<S> const first = random_matrix<S>(n, k, 4);
    opt.step(p.ctx, x, p.up(first));
    matrix_x<S> const now = p.down(x);
    matrix_x<S> g = (now - target) * S(1 / rate) - first * S(static_cast<real>(momentum));
    opt.step(p.ctx, x, p.up(g));
    BOOST_TEST(near(p.down(x), best, tolerance<S>(n, 4 * condition)));
  }
}

BOOST_AUTO_TEST_CASE(every_manifold_with_a_nearest_point_is_taken) {
  using Case = test_case<host_backend, double>;
  BOOST_TEST_CONTEXT("stiefel") expect_nearest<Case>(stiefel{6, 3}, 6, 3);
  BOOST_TEST_CONTEXT("oblique") expect_nearest<Case>(stiefelx::oblique{6, 3}, 6, 3);
  BOOST_TEST_CONTEXT("sphere") expect_nearest<Case>(stiefelx::sphere{6, 3}, 6, 3);
  BOOST_TEST_CONTEXT("orthogonal") expect_nearest<Case>(stiefelx::orthogonal{4}, 4, 4);
  BOOST_TEST_CONTEXT("fixed rank") expect_nearest<Case>(stiefelx::fixed_rank{5, 4, 2}, 9, 2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_step_to_a_matrix_without_rank_is_reported, Case, step_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  auto x = p.up(start);
  auto status = status_matrix<typename Case::backend>(p.ctx);
  stiefelx::projected_gradient opt(p.ctx, stiefel{6, 2}, x, {.learning_rate = 0.5});
  opt.step(p.ctx, x, p.up(matrix_x<S>(start * S(2))), status);
  BOOST_TEST(status_value(p.ctx, status) != 0);
}

// --- known optima --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, step_cases) {
  using S = typename Case::scalar;
  procrustes<S> const known;
  for (double momentum : {0.0, 0.5}) {
    place<Case> p;
    auto const g = p.up(known.negated);
    auto x = p.up(orthonormal_frame<S>(8, 3, 3));
    stiefelx::projected_gradient opt(p.ctx, stiefel{8, 3}, x,
                                     {.learning_rate = 1, .momentum = momentum});
    for (int t = 0; t < 300; ++t) opt.step(p.ctx, x, g);
    BOOST_TEST(near(p.down(x), known.best, tolerance<S>(8, 4)));
    BOOST_TEST(frame_distance<S>(p.down(x)) <= tolerance<S>(8));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rayleigh_reaches_the_leading_eigenspace, Case, step_cases) {
  using S = typename Case::scalar;
  gapped_matrix<S> const known;
  place<Case> p;
  auto const minus_a = p.up(known.negated);
  auto x = p.up(known.start);
  stiefelx::projected_gradient opt(p.ctx, stiefel{8, 3}, x, {.learning_rate = 0.5});
  for (int t = 0; t < 200; ++t) opt.step(p.ctx, x, product(p.ctx, minus_a, x));
  matrix_x<S> const found = p.down(x);
  BOOST_TEST(
      near(loop_product(found, loop_adjoint(found)), known.projector, tolerance<S>(8, 4.0 / 2)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(columns_of_the_oblique_manifold_turn_to_their_targets, Case,
                              step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  place<Case> p;
  matrix_x<S> const target = random_matrix<S>(5, 3, 1);
  matrix_x<S> best = target;
  for (index_t j = 0; j < 3; ++j) {
    double square = 0;
    for (index_t i = 0; i < 5; ++i) square += static_cast<double>(std::norm(target(i, j)));
    best.col(j) *= S(static_cast<real>(1 / std::sqrt(square)));
  }
  matrix_x<S> start = matrix_x<S>::Zero(5, 3);
  start(0, 0) = start(1, 1) = start(2, 2) = S(1);
  auto x = p.up(start);
  auto const g = p.up(matrix_x<S>(target * S(-1)));
  stiefelx::projected_gradient opt(p.ctx, stiefelx::oblique{5, 3}, x, {.learning_rate = 1});
  for (int t = 0; t < 100; ++t) opt.step(p.ctx, x, g);
  BOOST_TEST(near(p.down(x), best, tolerance<S>(5)));
}

// --- laws of every step --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_gradients_change_nothing_and_states_go_on, Case, step_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  expect_bad_gradients_ignored<Case>(make_projected{}, start);
  expect_saved_state_goes_on<Case>(make_projected{}, start);
  place<Case> p;
  auto x = p.up(start);
  auto opt = make_projected{}(p.ctx, x);
  for (int t = 0; t < 5; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(6, 2)));
  BOOST_TEST(near(p.down(x), start, tolerance<S>(6)));
}

BOOST_AUTO_TEST_CASE(every_layout_is_taken) {
  expect_layouts_taken([](auto& ctx, auto const& x) {
    stiefelx::oblique const m{x.rows(), x.cols()};
    return stiefelx::projected_gradient(ctx, m, x, {.learning_rate = 0.05, .momentum = 0.5});
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  auto const made = [&](projected_gradient_options o) {
    return message_of([&] { stiefelx::projected_gradient(p.ctx, stiefel{5, 3}, x, o); });
  };
  BOOST_TEST(made({.learning_rate = -1}) ==
             "projected_gradient: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.momentum = 1}) ==
             "projected_gradient: momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.weight_decay = -1}) ==
             "projected_gradient: weight_decay is -1.000000, expected a number of at least 0");
  expect_wrong_steps_named(p, "projected_gradient", make_projected{}(p.ctx, x));
}

BOOST_AUTO_TEST_SUITE_END()
