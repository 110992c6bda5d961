// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The landing method for x^H B x = I: its field and step against loops in long double, the region,
// and generalized eigenproblems against Eigen's solver.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <tuple>
#include <utility>

#include <Eigen/Eigenvalues>
#include <boost/test/unit_test.hpp>

#include <optim/b_frame.hpp>
#include <optim/step_laws.hpp>
#include <stiefelx/optim/generalized_landing.hpp>
#include <stiefelx/optim/landing_field.hpp>

namespace {

using namespace support;
using stiefelx::generalized_landing_options;
using stiefelx::landing_outside;

matrix_x<exact> exact_field(matrix_x<exact> const& y, matrix_x<exact> const& u,
                            matrix_x<exact> const& defect, long double lambda) {
  return exact_relative(y, u) + loop_product(y, defect) * exact(lambda);
}

/// Passes a B of its own to each step, so that the laws of two arguments can be asked for.
template <class Opt, class B>
struct with_b {
  Opt opt;
  B b;
  template <class Ctx, class X, class G, class Status = stiefelx::no_status>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    opt.step(ctx, x, g, b, status);
  }
  template <class Visit>
  void for_each_array(Visit&& visit) {
    opt.for_each_array(visit);
  }
};

struct twice {
  template <class Ctx, class X, class Bx>
  void operator()(Ctx& ctx, X const& x, Bx& bx) const {
    copy(ctx, x, bx);
    scale(ctx, 2, bx);
  }
};

struct make_generalized {
  generalized_landing_options options{.learning_rate = 0.05, .momentum = 0.5};
  template <class Ctx, class X>
  auto operator()(Ctx& ctx, X const& x) const {
    stiefelx::generalized_landing opt(ctx, x, options);
    return with_b<decltype(opt), twice>{std::move(opt), {}};
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(generalized_landing)

// --- the field -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(the_field_is_its_formula_and_tangent_at_any_matrix, Case,
                              step_cases) {
  using S = typename Case::scalar;
  for (index_t k : {1, 3, 6}) {
    place<Case> p;
    // Any Hermitian B, definite or not.
    matrix_x<S> const half = random_matrix<S>(6, 6, 3);
    matrix_x<S> const b = half + loop_adjoint(half);
    matrix_x<S> const x = random_matrix<S>(6, k, 1), g = random_matrix<S>(6, k, 2);
    matrix_x<S> const bx = loop_product(b, x);
    auto const x_there = p.up(x), bx_there = p.up(bx), g_there = p.up(g);
    auto psi = p.up(g), whole = p.up(g);
    stiefelx::generalized_landing_field(p.ctx, x_there, bx_there, g_there, 0, psi);
    stiefelx::generalized_landing_field(p.ctx, x_there, bx_there, g_there, 0.75, whole);
    matrix_x<exact> const y = loop_cast<exact>(bx), u = loop_cast<exact>(g);
    matrix_x<exact> const zero = matrix_x<exact>::Zero(k, k);
    matrix_x<exact> defect = loop_product(loop_adjoint(loop_cast<exact>(x)), y);
    for (index_t j = 0; j < k; ++j) defect(j, j) -= exact(1);
    double const size = static_cast<double>(frobenius(table(bx)));
    double const scale = size * size * static_cast<double>(frobenius(table(g)));
    double const bound = tolerance<S>(6);
    BOOST_TEST(near(p.down(psi), exact_field(y, u, zero, 0), bound, scale));
    BOOST_TEST(near(p.down(whole), exact_field(y, u, defect, 0.75L), bound,
                    scale + size * size * static_cast<double>(frobenius(table(x)))));
    matrix_x<S> const found = p.down(psi), along = loop_product(loop_adjoint(found), bx);
    matrix_x<S> const sum = along + loop_adjoint(along);
    BOOST_TEST(near(sum, matrix_x<S>::Zero(k, k), bound, size * scale));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_field_is_zero_at_critical_points_alone, Case, step_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  // B = diag(4, 1, 1/4, 16), frames of its unit vectors and small integers: nothing is rounded.
  matrix_x<S> x = matrix_x<S>::Zero(4, 2), bx = x, s(2, 2);
  x(0, 1) = S(0.5);
  x(2, 0) = S(2);
  bx(0, 1) = S(2);
  bx(2, 0) = S(0.5);
  s << S(2), S(-1), S(-1), S(5);
  auto const field = [&](matrix_x<S> const& g) {
    auto f = p.up(g);
    stiefelx::generalized_landing_field(p.ctx, p.up(x), p.up(bx), p.up(g), 1, f);
    return matrix_x<S>(p.down(f));
  };
  matrix_x<S> const zero = matrix_x<S>::Zero(4, 2);
  BOOST_TEST(same(field(loop_product(bx, s)), zero));
  matrix_x<S> turning = s, leaving = loop_product(bx, s);
  turning(0, 1) += S(1);
  leaving(3, 0) += S(1);
  BOOST_TEST(!same(field(loop_product(bx, turning)), zero));
  BOOST_TEST(!same(field(leaving), zero));
}

// --- the step ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(steps_follow_the_formula_with_momentum_and_safe_length, Case,
                              step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const n = 6, k = 3;
  long double const eta = 0.125L, beta = 0.75L, lambda = 0.5L, eps = 0.25L;
  b_frame<S> const known(n, k, 3, 1);
  matrix_x<S> const start = known.x * S(real(1.03));
  place<Case> p;
  auto const b = p.up(known.b);
  auto x = p.up(start);
  stiefelx::generalized_landing opt(
      p.ctx, x, {.learning_rate = 0.125, .momentum = 0.75, .attraction = 0.5, .region = 0.25});
  matrix_x<exact> const b_exact = loop_cast<exact>(known.b);
  matrix_x<exact> y = loop_cast<exact>(start), u = matrix_x<exact>::Zero(n, k);
  int bounded = 0;
  for (int t = 0; t < 20; ++t) {
    matrix_x<S> const g = step_gradient<S>(n, k, t) * S(t % 7 == 0 ? real(4) : real(0.0625));
    opt.step(p.ctx, x, p.up(g), b);
    u = u * exact(beta) + loop_cast<exact>(g);
    matrix_x<exact> const by = loop_product(b_exact, y), defect = b_defect(y, b_exact);
    matrix_x<exact> const f = exact_field(by, u, defect, lambda);
    matrix_x<exact> half = loop_product(defect, loop_product(loop_adjoint(by), by));
    half = (half + loop_adjoint(half)) * exact(0.5L);
    matrix_x<exact> const square = loop_product(loop_adjoint(f), loop_product(b_exact, f));
    long double const d2 = exact_inner(defect, defect), d = std::sqrt(d2);
    long double const slope = exact_inner(defect, half), curve = exact_inner(half, half);
    long double const q = std::sqrt(exact_inner(square, square));
    long double const b0 =
        2 * lambda * slope / (d + std::sqrt(std::max(0.0L, d2 - slope * slope / curve)));
    long double const safe =
        std::min((b0 + std::sqrt(b0 * b0 + 4 * q * std::max(0.0L, eps - d))) / (2 * q),
                 slope / (2 * lambda * curve));
    bounded += safe < eta;
    y -= f * exact(std::min(eta, safe));
  }
  BOOST_TEST(bounded > 2);
  BOOST_TEST(bounded < 19);
  BOOST_TEST(near(p.down(opt.velocity()), u, tolerance<S>(20)));
  // The chord is taken a root of the rounding lower than it is.
  BOOST_TEST(near(p.down(x), y, std::sqrt(tolerance<S>(20))));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(no_gradient_and_no_rate_leave_the_region, Case, step_cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  for (double eps : {0.3, 0.1, 0.01}) {
    for (double lambda : {0.1, 1.0, 10.0}) {
      for (double condition : {1.0, 100.0}) {
        b_frame<S> const start(6, 3, condition, 1);
        double worst = 0;
        for (int repeat = 0; repeat < (host ? 5 : 1); ++repeat) {
          place<Case> p;
          auto const b = p.up(start.b);
          auto x = p.up(start.x);
          stiefelx::generalized_landing opt(
              p.ctx, x, {.learning_rate = 1e5, .attraction = lambda, .region = eps});
          for (int t = 0; t < 60; ++t) {
            opt.step(p.ctx, x, p.up(step_gradient<S>(6, 3, t + 60 * repeat)), b);
            worst = std::max(worst, b_distance<S>(p.down(x), start.b));
          }
        }
        BOOST_TEST_CONTEXT("eps " << eps << " lambda " << lambda << " condition " << condition) {
          // x has a norm of root condition, and so has what is rounded.
          BOOST_TEST(worst <= eps + tolerance<S>(18, condition));
          if (lambda <= 1) BOOST_TEST(worst > eps / 4);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(approach_reaches_the_region_from_any_start_of_full_rank, Case,
                              step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  b_frame<S> const known(6, 3, 4, 1);
  for (double size : {0.1, 0.5, 4.0, 100.0}) {
    place<Case> p;
    auto const b = p.up(known.b);
    matrix_x<S> const start = random_matrix<S>(6, 3, 1) * S(static_cast<real>(size));
    auto x = p.up(start);
    auto const g = p.up(random_matrix<S>(6, 3, 2));
    stiefelx::generalized_landing opt(p.ctx, x, {.learning_rate = 1e-3, .region = 0.1});
    double before = b_distance(start, known.b);
    BOOST_TEST(before > 0.1);
    int steps = 0;
    for (; steps < 300 && before > 0.1; ++steps) {
      auto status = status_matrix<typename Case::backend>(p.ctx);
      opt.step(p.ctx, x, g, b, status);
      BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_converged);
      double const now = b_distance<S>(p.down(x), known.b);
      BOOST_TEST(now < before);
      before = now;
    }
    BOOST_TEST(steps < 300);
    auto inside = status_matrix<typename Case::backend>(p.ctx);
    opt.step(p.ctx, x, g, b, inside);
    BOOST_TEST(status_value(p.ctx, inside) == 0);
  }
  // The safe step alone does not let the distance grow.
  place<Case> p;
  auto const b = p.up(known.b);
  auto x = p.up(matrix_x<S>(known.x * S(2)));
  stiefelx::generalized_landing opt(p.ctx, x,
                                    {.learning_rate = 1e5, .outside = landing_outside::safe_step});
  double before = b_distance<S>(p.down(x), known.b);
  for (int t = 0; t < 10; ++t) {
    opt.step(p.ctx, x, p.up(step_gradient<S>(6, 3, t)), b);
    double const now = b_distance<S>(p.down(x), known.b);
    BOOST_TEST(now <= std::max(before, 0.5) * (1 + tolerance<S>(18, 4)));
    before = now;
  }
}

// --- known optima --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_planted_generalized_eigenspace_is_found, Case, step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const n = 6, k = 2;
  b_frame<S> const all(n, n, 4, 1), start(n, k, 4, 1);
  // a = B X diag X^H B has the generalized eigenvectors X.
  matrix_x<S> const bx = loop_product(all.b, all.x);
  matrix_x<S> weighted = bx;
  real const values[] = {3, real(2.5), 1, real(0.5), 0, -1};
  for (index_t j = 0; j < n; ++j) weighted.col(j) *= S(-values[j]);
  matrix_x<S> const lead = all.x.leftCols(k);
  place<Case> p;
  auto const minus_a = p.up(loop_product(weighted, loop_adjoint(bx)));
  auto const b = p.up(start.b);
  for (bool safe : {true, false}) {
    auto x = p.up(start.x);
    stiefelx::generalized_landing opt(p.ctx, x,
                                      {.learning_rate = 0.25, .momentum = 0.5, .safe_step = safe});
    for (int t = 0; t < 500; ++t) {
      if (t % 2 == 0)
        opt.step(p.ctx, x, product(p.ctx, minus_a, x), b);
      else
        opt.step(p.ctx, x, product(p.ctx, minus_a, x),
                 [&](auto& ctx, auto const& y, auto& by) { multiply(ctx, b, y, by); });
    }
    matrix_x<S> const found = p.down(x);
    // Eigenvectors have a norm of root 4, and the gap is half of the largest eigenvalue.
    BOOST_TEST(near(loop_product(found, loop_adjoint(found)),
                    loop_product(lead, loop_adjoint(lead)), tolerance<S>(n, 4 * 2)));
    BOOST_TEST(b_distance(found, start.b) <= tolerance<S>(n, 4));
  }
}

BOOST_AUTO_TEST_CASE(the_generalized_eigenproblem_agrees_with_eigens_solver) {
  index_t const n = 8, k = 3;
  b_frame<double> const start(n, k, 4, 1);
  matrix_x<double> const half = random_matrix<double>(n, n, 5);
  matrix_x<double> const a = (half + loop_adjoint(half)) / 4;
  Eigen::GeneralizedSelfAdjointEigenSolver<matrix_x<double>> const solver(a, start.b);
  matrix_x<double> const lead = solver.eigenvectors().rightCols(k);
  double const gap = solver.eigenvalues()(n - k) - solver.eigenvalues()(n - k - 1);
  double const largest = solver.eigenvalues().cwiseAbs().maxCoeff();
  BOOST_TEST(gap > largest / 10);
  matrix_x<double> const minus_a = -a;
  stiefelx::host::context ctx;
  matrix_x<double> x = start.x;
  stiefelx::generalized_landing opt(ctx, x, {.learning_rate = 0.25, .momentum = 0.5});
  for (int t = 0; t < 2000; ++t) opt.step(ctx, x, loop_product(minus_a, x), start.b);
  BOOST_TEST(near(loop_product(x, loop_adjoint(x)), loop_product(lead, loop_adjoint(lead)),
                  tolerance<double>(n, 4 * largest / gap)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(two_estimates_give_the_solution_of_their_mean, Case, double_cases) {
  index_t const n = 6, k = 2;
  b_frame<double> const mean(n, k, 2, 1);
  matrix_x<double> const noise = positive_matrix<double>(n, 10, 7) * 0.2;
  // -tr(x^T B best) over x^T B x = I is least at best; estimates of B have errors of both signs.
  place<Case> p;
  auto const g = p.up(matrix_x<double>(-loop_product(mean.b, mean.x)));
  auto const more = p.up(matrix_x<double>(mean.b + noise));
  auto const less = p.up(matrix_x<double>(mean.b - noise));
  auto const callable = [&](auto& ctx, auto const& y, auto& by) { multiply(ctx, less, y, by); };
  matrix_x<double> const start = mean.x + 0.2 * random_matrix<double>(n, k, 3);
  auto x = p.up(start), biased = p.up(start);
  stiefelx::generalized_landing opt(p.ctx, x, {.safe_step = false});
  stiefelx::generalized_landing other(p.ctx, biased, {.safe_step = false});
  double rate = 0;
  for (int t = 0; t < 2000; ++t) {
    rate = 20.0 / (100 + t);
    opt.set_learning_rate(rate);
    other.set_learning_rate(rate);
    // All four pairs, one after the other.
    if (t % 4 == 0) opt.step(p.ctx, x, g, stiefelx::two_estimates{more, more});
    if (t % 4 == 1) opt.step(p.ctx, x, g, stiefelx::two_estimates{more, less});
    if (t % 4 == 2) opt.step(p.ctx, x, g, stiefelx::two_estimates{callable, more});
    if (t % 4 == 3) opt.step(p.ctx, x, g, stiefelx::two_estimates{less, callable});
    other.step(p.ctx, biased, g, t % 2 == 0 ? more : less);
  }
  // Some steps move x by the rate times the noise and back.
  BOOST_TEST(near(p.down(x), mean.x, rate));
  BOOST_TEST(!near(p.down(biased), mean.x, rate));
}

// --- laws of every step --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_gradients_change_nothing_and_states_go_on, Case, step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1) * S(std::sqrt(real(0.5)));
  expect_bad_gradients_ignored<Case>(make_generalized{}, start);
  expect_saved_state_goes_on<Case>(make_generalized{}, start);
  make_generalized const plain{{.learning_rate = 0.05, .safe_step = false}};
  expect_bad_gradients_ignored<Case>(plain, start);
  // What overflows is not taken either.
  for (bool safe : {true, false}) {
    place<Case> p;
    auto x = p.up(start);
    auto opt = make_generalized{{.momentum = 0.5, .safe_step = safe}}(p.ctx, x);
    auto status = status_matrix<typename Case::backend>(p.ctx);
    real const huge = std::numeric_limits<real>::max() / 8;
    opt.step(p.ctx, x, p.up(matrix_x<S>::Constant(6, 2, S(huge))), status);
    BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
    BOOST_TEST(same(p.down(x), start));
    BOOST_TEST(same(p.down(opt.opt.velocity()), matrix_x<S>::Zero(6, 2)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_point, Case, step_cases) {
  using S = typename Case::scalar;
  b_frame<S> const start(6, 2, 3, 1);
  place<Case> p;
  auto const b = p.up(start.b);
  auto x = p.up(start.x);
  stiefelx::generalized_landing opt(p.ctx, x);
  for (int t = 0; t < 5; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(6, 2)), b);
  BOOST_TEST(near(p.down(x), start.x, tolerance<S>(6, 3)));
}

BOOST_AUTO_TEST_CASE(every_layout_is_taken) { expect_layouts_taken(make_generalized{}); }

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  auto wide = p.up(random_matrix<double>(3, 5, 1));
  auto const g = p.up(random_matrix<double>(5, 3, 2));
  auto const made = [&](generalized_landing_options o) {
    return message_of([&] { stiefelx::generalized_landing(p.ctx, x, o); });
  };
  BOOST_TEST(made({.learning_rate = -1}) ==
             "generalized_landing: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.momentum = 1}) ==
             "generalized_landing: momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.attraction = 0}) ==
             "generalized_landing: attraction is 0.000000, expected a number above 0");
  BOOST_TEST(made({.region = 1}) ==
             "generalized_landing: region is 1.000000, expected a number in (0, 1)");
  BOOST_TEST(message_of([&] { stiefelx::generalized_landing(p.ctx, wide); }) ==
             "generalized_landing: x is 3x5, expected at least as many rows as columns");
  expect_wrong_steps_named(p, "generalized_landing", make_generalized{}(p.ctx, x));
  stiefelx::generalized_landing opt(p.ctx, x);
  BOOST_TEST(message_of([&] { opt.step(p.ctx, x, g, wide); }) ==
             "generalized_landing::step: b is 3x5, expected 5x5");
  BOOST_TEST(message_of([&] {
               opt.step(p.ctx, x, g, stiefelx::two_estimates{twice{}, twice{}});
             }) == "generalized_landing::step: safe_step is 1, expected 0 with two estimates of B");
}

BOOST_AUTO_TEST_SUITE_END()
