// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Muon: its polynomials on known singular values, its recursion, its optimum, and the promises.

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <tuple>
#include <vector>

#include <Eigen/SVD>
#include <boost/test/unit_test.hpp>

#include <optim/step_laws.hpp>
#include <stiefelx/optim/muon.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::make_muon_schedule;
using stiefelx::muon_method;
using stiefelx::muon_options;
using stiefelx::muon_scaling;
using exact = std::complex<long double>;

/// Each backend once, with the coarsest scalar and with a complex one.
using cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, std::complex<double>>>;

template <class S>
matrix_x<S> gradient(index_t n, index_t p, int t) {
  return random_matrix<S>(n, p, static_cast<std::uint64_t>(100 + t));
}

/// The published polynomial and where it turns.
struct published {
  static constexpr long double a = 3.4445L, b = -4.7750L, c = 2.0315L;

  static long double at(long double x) { return x * (a + x * x * (b + x * x * c)); }
  static long double turn(int sign) {
    long double const root = std::sqrt(9 * b * b - 20 * a * c);
    return std::sqrt((-3 * b + static_cast<long double>(sign) * root) / (10 * c));
  }
};

long double applied(stiefelx::polar_schedule const& schedule, long double x) {
  for (int k = 0; k < schedule.count; ++k) {
    auto const& p = schedule[k];
    long double const a = p.a, b = p.b, c = p.c;
    x = x * (a + x * x * (b + x * x * c));
  }
  return x;
}

/// u diag(w) v^H.
template <class T>
matrix_x<T> assembled(matrix_x<T> const& u, std::vector<long double> const& w,
                      matrix_x<T> const& v) {
  matrix_x<T> left = u;
  for (index_t j = 0; j < left.cols(); ++j)
    left.col(j) *= static_cast<stiefelx::real_of_t<T>>(w[static_cast<std::size_t>(j)]);
  return loop_product(left, loop_adjoint(v));
}

/// The published steps in plain loops.
matrix_x<exact> orthogonalized(matrix_x<exact> x, int steps) {
  long double square = 0;
  for (index_t j = 0; j < x.cols(); ++j)
    for (index_t i = 0; i < x.rows(); ++i) square += std::norm(x(i, j));
  x *= exact(1 / (std::sqrt(square) + 1e-7L));
  for (int k = 0; k < steps; ++k) {
    matrix_x<exact> const cube = loop_product(x, loop_product(loop_adjoint(x), x));
    matrix_x<exact> const fifth = loop_product(cube, loop_product(loop_adjoint(x), x));
    x = exact(published::a) * x + exact(published::b) * cube + exact(published::c) * fifth;
  }
  return x;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(muon)

// --- the polynomials -----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(five_published_steps_end_between_the_turning_values) {
  auto const schedule = make_muon_schedule(muon_method::published, 5, 0, 0);
  long double const top = published::at(published::turn(-1));
  long double const bottom = published::at(published::turn(1));
  BOOST_TEST(std::abs(stiefelx::largest_value(schedule) - static_cast<double>(top)) <=
             tolerance<double>(1));
  long double least = 2, most = 0;
  for (int i = 0; i <= 5000; ++i) {
    long double const y = applied(schedule, std::pow(2e-3L, static_cast<long double>(i) / 5000));
    least = std::min(least, y);
    most = std::max(most, y);
  }
  BOOST_TEST(least >= bottom);
  BOOST_TEST(most <= top);
  // The digits that the page says, none of which can be better.
  BOOST_TEST((bottom >= 0.68L && least < 0.69L));
  BOOST_TEST((top <= 1.21L && most > 1.2L));
  BOOST_TEST(applied(schedule, 1e-3L) < bottom);
}

BOOST_AUTO_TEST_CASE(the_largest_value_bounds_every_schedule_and_is_met) {
  for (int iterations : {1, 2, 3, 5, 8}) {
    auto const schedule = make_muon_schedule(muon_method::polar_express, iterations, 1e-3, 0);
    double const bound = stiefelx::largest_value(schedule);
    long double most = 0;
    for (int i = 0; i <= 20000; ++i)
      most = std::max(most, applied(schedule, static_cast<long double>(i) / 20000));
    BOOST_TEST(most <= static_cast<long double>(bound) * (1 + tolerance<double>(1)));
    BOOST_TEST(most >= 0.99L * static_cast<long double>(bound));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(known_singular_values_go_through_the_polynomials, Case, cases) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  place<Case> p;
  index_t const shapes[][2] = {{7, 3}, {3, 7}, {4, 4}, {5, 1}, {1, 5}};
  for (auto const& [rows, cols] : shapes) {
    BOOST_TEST_CONTEXT(rows << "x" << cols) {
      index_t const k = std::min(rows, cols);
      matrix_x<wide> const u = orthonormal_frame<wide>(rows, k, 1);
      matrix_x<wide> const v = orthonormal_frame<wide>(cols, k, 2);
      std::vector<long double> const all{5, 0.5L, 0.03L, 2}, w(all.begin(), all.begin() + k);
      matrix_x<S> const a = loop_cast<S>(assembled(u, w, v));
      long double square = 0;
      for (long double x : w) square += x * x;
      for (auto method : {muon_method::published, muon_method::polar_express}) {
        auto const schedule = make_muon_schedule(method, 5, 1e-3, 0);
        std::vector<long double> mapped;
        for (long double x : w)
          mapped.push_back(applied(schedule, x / (std::sqrt(square) + 1e-3L)));
        auto q = p.up(matrix_x<S>::Zero(rows, cols));
        orthogonalize(p.ctx, p.up(a), q, schedule, 1e-3);
        // A small singular value and its error grow by the factor at zero, at most 8.3 a step; the
        // smallest here is 6e-3 of the norm and ends near one.
        BOOST_TEST(near(p.down(q), assembled(u, mapped, v), tolerance<S>(7, 1 / 6e-3)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_step_is_that_of_the_singular_value_decomposition) {
  stiefelx::host::context ctx;
  matrix_x<double> const a = random_matrix<double>(9, 6, 1);
  Eigen::JacobiSVD<matrix_x<double>> const svd(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
  auto const schedule = make_muon_schedule(muon_method::published, 5, 0, 0);
  Eigen::VectorXd w = svd.singularValues();
  double const length = w.norm() + 1e-7;
  for (index_t j = 0; j < 6; ++j) w(j) = static_cast<double>(applied(schedule, w(j) / length));
  matrix_x<double> const expected = svd.matrixU() * w.asDiagonal() * svd.matrixV().transpose();
  matrix_x<double> q(9, 6);
  orthogonalize(ctx, a, q, schedule);
  BOOST_TEST(near(q, expected, tolerance<double>(9, 485)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_accurate_schedule_reaches_the_polar_factor, Case, cases) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  place<Case> p;
  matrix_x<S> const u = orthonormal_frame<S>(8, 3, 1);
  matrix_x<S> const a = loop_product(u, positive_matrix<S>(3, 100, 2));
  stiefelx::muon opt(p.ctx, p.up(a),
                     {.method = muon_method::polar_express, .iterations = 0, .smallest = 1e-3});
  auto q = p.up(a);
  orthogonalize(p.ctx, q, q, opt.schedule());
  BOOST_TEST(near(p.down(q), u, tolerance<S>(8, 100)));
  // What is below the interval stays below one instead of turning into noise.
  matrix_x<wide> flat = loop_cast<wide>(u);
  flat.col(2).setZero();
  auto r = p.up(loop_cast<S>(flat));
  orthogonalize(p.ctx, r, r, opt.schedule());
  BOOST_TEST(near(p.down(r), flat, tolerance<S>(8)));
}

// --- the recursion -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(twenty_steps_agree_with_the_recursion, Case, cases) {
  using S = typename Case::scalar;
  struct setting {
    index_t rows, cols;
    muon_options o;
    long double factor;
  };
  setting const settings[] = {
      {6, 3, {}, std::sqrt(2.0L)},
      {3, 6, {.nesterov = false, .weight_decay = 0.1}, 1},
      {3, 6, {.momentum = 0.8, .scaling = muon_scaling::columns_over_rows}, std::sqrt(2.0L)},
      {4, 4, {.iterations = 3, .scaling = muon_scaling::larger_side}, 0.4L},
      {9, 2, {.momentum = 0, .scaling = muon_scaling::larger_side}, 0.6L},
      {5, 3, {.scaling = muon_scaling::unscaled}, 1}};
  for (auto const& [rows, cols, o, factor] : settings) {
    BOOST_TEST_CONTEXT(rows << "x" << cols) {
      place<Case> p;
      matrix_x<S> const start = random_matrix<S>(rows, cols, 1);
      auto x = p.up(start);
      stiefelx::muon opt(p.ctx, x, o);
      matrix_x<exact> y = start.template cast<exact>(), m = matrix_x<exact>::Zero(rows, cols);
      long double const beta = o.momentum, decay = o.weight_decay;
      for (int t = 0; t < 20; ++t) {
        if (t == 10) opt.set_learning_rate(0.05);
        long double const rate = t < 10 ? o.learning_rate : 0.05;
        matrix_x<S> const g = gradient<S>(rows, cols, t);
        opt.step(p.ctx, x, p.up(g));
        matrix_x<exact> const exact_g = g.template cast<exact>();
        m = exact(beta) * m + exact(1 - beta) * exact_g;
        matrix_x<exact> const d =
            o.nesterov ? matrix_x<exact>(exact(beta) * m + exact(1 - beta) * exact_g) : m;
        y -= exact(rate) * (exact(factor) * orthogonalized(d, o.iterations) + exact(decay) * y);
      }
      BOOST_TEST(near(p.down(opt.momentum()), m, tolerance<S>(20)));
      // Five published steps enlarge an error by at most 3.4445^5 = 485.
      BOOST_TEST(near(p.down(x), y, tolerance<S>(20, 485)));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_transposed_problem_takes_the_transposed_step, Case, cases) {
  using S = typename Case::scalar;
  muon_scaling const pairs[][2] = {
      {muon_scaling::larger_side, muon_scaling::larger_side},
      {muon_scaling::rows_over_columns, muon_scaling::columns_over_rows}};
  for (auto const& [scaling, transposed_scaling] : pairs) {
    place<Case> p;
    auto x = p.up(random_matrix<S>(7, 3, 1));
    auto y = p.up(loop_adjoint(random_matrix<S>(7, 3, 1)));
    stiefelx::muon upright(p.ctx, x, {.weight_decay = 0.1, .scaling = scaling});
    stiefelx::muon transposed(p.ctx, y, {.weight_decay = 0.1, .scaling = transposed_scaling});
    for (int t = 0; t < 5; ++t) {
      matrix_x<S> const g = gradient<S>(7, 3, t);
      upright.step(p.ctx, x, p.up(g));
      transposed.step(p.ctx, y, p.up(loop_adjoint(g)));
    }
    BOOST_TEST(near(p.down(y), loop_adjoint(p.down(x)), tolerance<S>(7, 485)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_falling_rate_reaches_the_minimum_of_a_quadratic, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  index_t const n = 6, k = 4;
  matrix_x<S> const best = random_matrix<S>(n, k, 1);
  auto const hessian = p.up(positive_matrix<S>(n, 4, 2));
  auto const goal = p.up(best);
  for (auto method : {muon_method::published, muon_method::polar_express}) {
    auto x = p.up(random_matrix<S>(n, k, 3));
    stiefelx::muon opt(p.ctx, x, {.momentum = 0.5, .method = method, .iterations = 5});
    double rate = 0.5;
    for (int t = 0; t < 700; ++t, rate *= 0.98) {
      opt.set_learning_rate(rate);
      auto off = clone(p.ctx, x);
      axpy(p.ctx, -1, goal, off);
      opt.step(p.ctx, x, product(p.ctx, hessian, off));
    }
    // A step has a length near the rate, so the point is some last steps from where it is going.
    BOOST_TEST(near(p.down(x), best, tolerance<S>(n, 4) + 10 * rate));
  }
}

BOOST_AUTO_TEST_CASE(a_long_side_is_never_squared) {
  // The square of the long side would take 80 GB.
  stiefelx::host::context ctx;
  index_t const n = 100000;
  matrix_x<double> x = matrix_x<double>::Zero(n, 1), y = matrix_x<double>::Zero(1, n);
  matrix_x<double> const g = matrix_x<double>::Ones(n, 1), row = g.transpose();
  stiefelx::muon tall(ctx, x, {.momentum = 0, .scaling = muon_scaling::unscaled});
  stiefelx::muon wide(ctx, y, {.momentum = 0, .scaling = muon_scaling::unscaled});
  tall.step(ctx, x, g);
  wide.step(ctx, y, row);
  long double const root = std::sqrt(static_cast<long double>(n));
  long double const length = applied(tall.schedule(), root / (root + 1e-7L));
  double const bound = tolerance<double>(n, 485);
  BOOST_TEST(near(x, g * static_cast<double>(-0.02L * length / root), bound));
  BOOST_TEST(near(y, x.transpose(), bound));
}

// --- what every optimizer promises ---------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_gradients_change_nothing_and_states_go_on, Case, step_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  auto const make = [](auto& ctx, auto const& x) {
    return stiefelx::muon(ctx, x, {.weight_decay = 0.1});
  };
  expect_bad_gradients_ignored<Case>(make, start);
  expect_saved_state_goes_on<Case>(make, start);
  place<Case> p;
  auto opt = make(p.ctx, p.up(start));
  BOOST_TEST(array_names(opt) == (std::vector<std::string>{"momentum"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_zero_gradient_keeps_the_parameter) {
  stiefelx::host::context ctx;
  matrix_x<double> const start = random_matrix<double>(5, 3, 1), zero = start * 0;
  matrix_x<double> x = start;
  stiefelx::muon opt(ctx, x);
  for (int t = 0; t < 3; ++t) opt.step(ctx, x, zero);
  BOOST_TEST(same(x, start));
}

BOOST_AUTO_TEST_CASE(row_major_strided_fixed_and_empty_parameters_are_taken) {
  expect_layouts_taken([](auto& ctx, auto const& x) { return stiefelx::muon(ctx, x); }, 485);
  stiefelx::host::context ctx;
  matrix_x<double> none(4, 0);
  stiefelx::muon opt(ctx, none);
  BOOST_CHECK_NO_THROW(opt.step(ctx, none, none.eval()));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(5, 3, 1));
  auto wrong = p.up(random_matrix<double>(3, 5, 1));
  auto const made = [&](muon_options o) {
    return message_of([&] { stiefelx::muon(p.ctx, x, o); });
  };
  BOOST_TEST(made({.learning_rate = -1}) ==
             "muon: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.momentum = 1}) == "muon: momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.weight_decay = -1}) ==
             "muon: weight_decay is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.iterations = 0}) == "muon: iterations is 0, expected a number of at least 1");
  stiefelx::muon opt(p.ctx, x);
  BOOST_TEST(message_of([&] { orthogonalize(p.ctx, x, wrong, opt.schedule()); }) ==
             "orthogonalize: q is 3x5, expected 5x3");
  expect_wrong_steps_named(p, "muon", stiefelx::muon(p.ctx, x));
}

BOOST_AUTO_TEST_SUITE_END()
