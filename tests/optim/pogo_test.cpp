// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// POGO: its step for every base against loops in long double, how far it leaves the manifold, the
// best correction against a scan, and known optima.

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <optim/step_laws.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/pogo.hpp>

namespace {

using namespace support;
using stiefelx::momentum_base;
using stiefelx::plain_base;
using stiefelx::pogo_options;
using stiefelx::stiefel;
using stiefelx::vector_adam_base;

template <class Base>
struct make_pogo {
  Base base{};
  pogo_options options{.learning_rate = 0.05};
  template <class Ctx, class X>
  auto operator()(Ctx& ctx, X const& x) const {
    return stiefelx::pogo(ctx, stiefel{x.rows(), x.cols()}, x, options, base);
  }
};

/// Runs f with a maker for each base.
template <class F>
void for_each_base(F const& f) {
  BOOST_TEST_CONTEXT("plain") f(make_pogo<plain_base>{});
  BOOST_TEST_CONTEXT("momentum") f(make_pogo<momentum_base>{});
  BOOST_TEST_CONTEXT("vector Adam") f(make_pogo<vector_adam_base>{});
}

/// m - lambda m (m^H m - I).
matrix_x<exact> exact_corrected(matrix_x<exact> const& m, long double lambda) {
  return m - loop_product(m, exact_defect(m)) * exact(lambda);
}

/// The directions of the bases by their formulas.
struct exact_base {
  int kind;  ///< 0 plain, 1 momentum, 2 vector Adam, 3 Adam
  matrix_x<exact> m, second;
  long double v = 0;
  int t = 0;

  matrix_x<exact> operator()(matrix_x<exact> const& g) {
    ++t;
    if (kind == 0) return g;
    if (kind == 1) return m = m * exact(0.9L) + g;
    m = m * exact(0.9L) + g * exact(0.1L);
    long double const power1 = 1 - std::pow(0.9L, t), power2 = 1 - std::pow(0.999L, t);
    matrix_x<exact> u = m;
    for (index_t j = 0; j < g.cols(); ++j)
      for (index_t i = 0; i < g.rows(); ++i)
        second(i, j) = second(i, j) * 0.999L + 0.001L * std::norm(g(i, j));
    for (index_t j = 0; j < g.cols(); ++j) {
      for (index_t i = 0; i < g.rows(); ++i) {
        long double const own = kind == 3 ? second(i, j).real() : second.sum().real();
        u(i, j) = m(i, j) / power1 / (std::sqrt(own / power2) + 1e-8L);
      }
    }
    return u;
  }
};

template <class Case, class Make>
void expect_formula(Make const& make, int kind) {
  using S = typename Case::scalar;
  index_t const n = 6, k = 3;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  auto x = p.up(start);
  auto opt = make(p.ctx, x);
  matrix_x<exact> const zero = matrix_x<exact>::Zero(n, k);
  matrix_x<exact> y = loop_cast<exact>(start);
  exact_base base{kind, zero, zero};
  for (int t = 0; t < 30; ++t) {
    if (t == 20) opt.set_learning_rate(0.025);
    matrix_x<S> const g = step_gradient<S>(n, k, t);
    opt.step(p.ctx, x, p.up(g));
    matrix_x<exact> const u = base(loop_cast<exact>(g));
    y = exact_corrected(y - exact_relative(y, u) * exact(t < 20 ? 0.05L : 0.025L), 0.5L);
  }
  BOOST_TEST(near(p.down(x), y, tolerance<S>(30, 4)));
  BOOST_TEST(!near(p.down(x), start, 0.01));
}

/// The squared defect of diagonal matrices 1 + e_i after a correction.
long double defect_after(std::vector<double> const& e, long double lambda) {
  long double sum = 0;
  for (double value : e) {
    auto const x = static_cast<long double>(value);
    long double const left = x - 2 * lambda * (x + x * x) + lambda * lambda * (x * x + x * x * x);
    sum += left * left;
  }
  return sum;
}

double correction_of(std::vector<double> const& e) {
  double lambda = -1, s[7] = {};
  for (double value : e)
    for (int k = 2; k <= 6; ++k) s[k] += std::pow(value, k);
  stiefelx::defect_quartic_element{}(lambda, s[2], s[3], s[4], s[5], s[6]);
  return lambda;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(pogo)

// --- the step ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(steps_follow_the_formula_for_every_base, Case, step_cases) {
  BOOST_TEST_CONTEXT("plain") expect_formula<Case>(make_pogo<plain_base>{}, 0);
  BOOST_TEST_CONTEXT("momentum") expect_formula<Case>(make_pogo<momentum_base>{}, 1);
  BOOST_TEST_CONTEXT("vector Adam") expect_formula<Case>(make_pogo<vector_adam_base>{}, 2);
}

BOOST_AUTO_TEST_CASE(any_euclidean_optimizer_is_a_base) {
  stiefelx::optimizer_base const base{
      [](auto& ctx, auto const& x) { return stiefelx::adamw(ctx, x, {.learning_rate = 1}); }};
  make_pogo<decltype(base)> const make{base};
  using here = test_case<host_backend, double>;
  expect_formula<here>(make, 3);
  expect_bad_gradients_ignored<here>(make, orthonormal_frame<double>(6, 2, 1));
  expect_saved_state_goes_on<here>(make, orthonormal_frame<double>(6, 2, 1));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_defect_falls_to_three_quarters_of_its_square, Case, step_cases) {
  using S = typename Case::scalar;
  index_t const n = 8, k = 3;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1), g = random_matrix<S>(n, k, 2);
  matrix_x<exact> const y = loop_cast<exact>(start);
  matrix_x<exact> const psi = exact_relative(y, loop_cast<exact>(g));
  double const size = static_cast<double>(frobenius(table(psi)));
  for (double length : {0.01, 0.1, 0.3, 0.5, 1.0, 1.7}) {
    place<Case> p;
    auto x = p.up(start);
    stiefelx::pogo opt(p.ctx, stiefel{n, k}, x, {.learning_rate = length / size});
    opt.step(p.ctx, x, p.up(g));
    matrix_x<exact> const m = y - psi * exact(static_cast<long double>(length / size));
    double const d = frame_distance(m), after = frame_distance<S>(p.down(x));
    BOOST_TEST(after <= 0.75 * d * d + tolerance<S>(n));
    if (length >= 0.3) BOOST_TEST(after > 0.1 * d * d);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_largest_step_keeps_points_near_for_any_gradients, Case,
                              step_cases) {
  using S = typename Case::scalar;
  index_t const n = 6;
  for (index_t k : {1, 2, 6}) {
    place<Case> p;
    auto x = p.up(orthonormal_frame<S>(n, k, 1));
    stiefelx::pogo opt(p.ctx, stiefel{n, k}, x, {.learning_rate = 1e5, .largest_step = 1});
    double worst = 0;
    for (int t = 0; t < 200; ++t) {
      opt.step(p.ctx, x, p.up(step_gradient<S>(n, k, t)));
      worst = std::max(worst, frame_distance<S>(p.down(x)));
    }
    // A step of length one along one singular vector leaves 1/2; more vectors share it.
    BOOST_TEST(worst <= 0.5 * std::sqrt(static_cast<double>(k)) + tolerance<S>(n * k));
    BOOST_TEST(worst > 0.01);
  }
  // One shorter than the bound is taken as it is.
  place<Case> p;
  auto a = p.up(orthonormal_frame<S>(n, 2, 1)), b = p.up(orthonormal_frame<S>(n, 2, 1));
  stiefelx::pogo bounded(p.ctx, stiefel{n, 2}, a, {.learning_rate = 0.01, .largest_step = 1});
  stiefelx::pogo plain(p.ctx, stiefel{n, 2}, b, {.learning_rate = 0.01});
  bounded.step(p.ctx, a, p.up(step_gradient<S>(n, 2, 1)));
  plain.step(p.ctx, b, p.up(step_gradient<S>(n, 2, 1)));
  BOOST_TEST(near(p.down(a), p.down(b), tolerance<S>(n)));
}

// --- the best correction -------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_best_correction_is_the_first_minimum_of_a_scan) {
  std::vector<std::vector<double>> const spectra{
      {0.1, 0.2, 0},      {0.5, 0.1, 1e-3, 0}, {1, 0.9, 0.2}, {2.5, 0.3, 0.1}, {-0.3, 0.4, 0.1},
      {-0.5, -0.4, -0.1}, {-0.9, -0.2},        {1e-5, 3e-6},  {7, 0, 0, 0},    {30, 0.5, -0.5}};
  for (auto const& e : spectra) {
    BOOST_TEST_CONTEXT("largest " << e[0]) {
      double const found = correction_of(e);
      long double const here = defect_after(e, static_cast<long double>(found));
      double cut = 0;
      for (double value : e) cut += std::pow(value, 6);
      cut = std::min(2.0, 1 / std::pow(cut, 1.0 / 6));
      BOOST_TEST(found > 0);
      BOOST_TEST(found <= cut * (1 + tolerance<double>(1)));
      // It falls all the way there, and rises behind unless that is the cut.
      int const points = 4000;
      long double before = defect_after(e, 0);
      bool falls = true;
      for (int i = 1; i <= points; ++i) {
        long double const now = defect_after(e, static_cast<long double>(found) * i / points);
        falls = falls && now <= before;
        before = now;
      }
      BOOST_TEST(falls);
      if (found < cut * (1 - 1e-6))
        BOOST_TEST(defect_after(e, static_cast<long double>(found) * (1 + 1e-4L)) > here);
      for (double value : e) BOOST_TEST(1 - found * value >= -tolerance<double>(1));
    }
  }
}

BOOST_AUTO_TEST_CASE(the_best_correction_is_exact_for_one_singular_value) {
  for (double e : {1e-14, 1e-8, 1e-3, 0.1, 0.7, 3.0, 100.0, 1e6, -1e-10, -0.2, -0.5}) {
    double const a = 1 + e, expected = 1 / (a + std::sqrt(a));
    BOOST_TEST_CONTEXT("e " << e) {
      // Beyond one the three roots of the cubic are 1 / sqrt(a) apart, relative to their size.
      BOOST_TEST(std::abs(correction_of({e}) - expected) <=
                 tolerance<double>(1, std::max(1.0, a)) * expected);
    }
  }
  BOOST_TEST(correction_of({0, 0}) == 0.5);
  BOOST_TEST(correction_of({std::nan("")}) == 0.5);
  BOOST_TEST(correction_of({1e60}) == 0.5);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_best_correction_of_a_matrix_beats_every_other, Case, step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  place<Case> p;
  for (double size : {0.05, 0.3, 0.6}) {
    matrix_x<S> const m =
        orthonormal_frame<S>(7, 4, 1) + random_matrix<S>(7, 4, 2) * S(static_cast<real>(size / 4));
    matrix_x<S> const defect = loop_product(loop_adjoint(m), m) - matrix_x<S>::Identity(4, 4);
    auto lambda = p.number(0.0);
    stiefelx::best_correction(p.ctx, p.up(defect), lambda);
    double const found = p.down(lambda)(0, 0);
    matrix_x<exact> const y = loop_cast<exact>(m);
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i <= 1000; ++i)
      best = std::min(best, frame_distance(exact_corrected(y, i / 1000.0L)));
    BOOST_TEST(frame_distance(exact_corrected(y, static_cast<long double>(found))) <=
               best * (1 + tolerance<S>(7)));
    BOOST_TEST(frame_distance(exact_corrected(y, 0.5L)) > best);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_root_is_used_in_every_kth_step, Case, step_cases) {
  using S = typename Case::scalar;
  index_t const n = 6, k = 2;
  for (index_t every : {0, 1, 3}) {
    place<Case> p;
    auto x = p.up(orthonormal_frame<S>(n, k, 1));
    stiefelx::pogo opt(p.ctx, stiefel{n, k}, x, {.learning_rate = 0.2, .root_every = every});
    for (int t = 1; t <= 7; ++t) {
      matrix_x<exact> const y = loop_cast<exact>(matrix_x<S>(p.down(x)));
      matrix_x<S> const g = step_gradient<S>(n, k, t);
      opt.step(p.ctx, x, p.up(g));
      double const lambda = p.down(opt.correction())(0, 0);
      bool const root = every > 0 && t % every == 0;
      BOOST_TEST((lambda == 0.5) == !root);
      matrix_x<exact> const m = y - exact_relative(y, loop_cast<exact>(g)) * exact(0.2L);
      BOOST_TEST(
          near(p.down(x), exact_corrected(m, static_cast<long double>(lambda)), tolerance<S>(n)));
      if (root) BOOST_TEST(frame_distance<S>(p.down(x)) < frame_distance(exact_corrected(m, 0.5L)));
    }
  }
}

// --- known optima --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, step_cases) {
  using S = typename Case::scalar;
  procrustes<S> const known;
  place<Case> p;
  auto const g = p.up(known.negated);
  auto const run = [&](auto const& make, double rate) {
    auto x = p.up(orthonormal_frame<S>(8, 3, 3));
    auto opt = make(p.ctx, x);
    opt.set_learning_rate(rate);
    for (int t = 0; t < 800; ++t) opt.step(p.ctx, x, g);
    BOOST_TEST(near(p.down(x), known.best, tolerance<S>(8, 4)));
    BOOST_TEST(frame_distance<S>(p.down(x)) <= tolerance<S>(8));
  };
  run(make_pogo<plain_base>{}, 0.5);
  run(make_pogo<momentum_base>{{.momentum = 0.5}}, 0.5);
  run(make_pogo<plain_base>{{}, {.root_every = 2}}, 0.5);
  // The gradient is the same everywhere, so that this is descent with another rate.
  run(make_pogo<vector_adam_base>{{{.beta1 = 0.5, .beta2 = 0.9}}}, 0.5);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rayleigh_reaches_the_leading_eigenspace, Case, step_cases) {
  using S = typename Case::scalar;
  gapped_matrix<S> const known;
  place<Case> p;
  auto const minus_a = p.up(known.negated);
  auto x = p.up(known.start);
  stiefelx::pogo opt(p.ctx, stiefel{8, 3}, x, {.learning_rate = 0.2},
                     momentum_base{.momentum = 0.5});
  for (int t = 0; t < 300; ++t) opt.step(p.ctx, x, product(p.ctx, minus_a, x));
  matrix_x<S> const found = p.down(x);
  BOOST_TEST(
      near(loop_product(found, loop_adjoint(found)), known.projector, tolerance<S>(8, 4.0 / 2)));
}

// --- laws of every step --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(points_stay_near_the_manifold_for_thousands_of_steps, Case,
                              step_cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(12, 4, 1);
  auto x = p.up(start);
  double const rate = 1e-2;
  stiefelx::pogo opt(p.ctx, stiefel{12, 4}, x, {.learning_rate = rate}, vector_adam_base{});
  for (int t = 0; t < (host ? 5000 : 50); ++t) opt.step(p.ctx, x, p.up(step_gradient<S>(12, 4, t)));
  // A step has a length of at most some rates, and leaves a defect of its fourth power.
  BOOST_TEST(frame_distance<S>(p.down(x)) <= tolerance<S>(12) + std::pow(2 * rate, 4));
  BOOST_TEST(!near(p.down(x), start, host ? 0.1 : 1e-3));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_gradients_change_nothing_and_states_go_on, Case, step_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  for_each_base([&](auto const& make) {
    expect_bad_gradients_ignored<Case>(make, start);
    expect_saved_state_goes_on<Case>(make, start);
    place<Case> p;
    auto x = p.up(start);
    auto opt = make(p.ctx, x);
    for (int t = 0; t < 5; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(6, 2)));
    BOOST_TEST(near(p.down(x), start, tolerance<S>(6)));
  });
  // A step that overflows is not taken.
  place<Case> p;
  auto x = p.up(start);
  auto opt = make_pogo<plain_base>{{}, {.learning_rate = 1e30}}(p.ctx, x);
  auto status = status_matrix<typename Case::backend>(p.ctx);
  matrix_x<S> const large = step_gradient<S>(6, 2, 1) *
                            S(std::sqrt(std::numeric_limits<typename Case::real>::max()) / 64);
  opt.step(p.ctx, x, p.up(large), status);
  BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
  BOOST_TEST(same(p.down(x), start));
}

BOOST_AUTO_TEST_CASE(every_layout_is_taken) {
  expect_layouts_taken(make_pogo<momentum_base>{});
  expect_layouts_taken(make_pogo<plain_base>{{}, {.largest_step = 1, .root_every = 2}});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  auto const made = [&](pogo_options o, auto base) {
    return message_of([&] { stiefelx::pogo(p.ctx, stiefel{5, 3}, x, o, base); });
  };
  plain_base const plain;
  BOOST_TEST(made({.learning_rate = -1}, plain) ==
             "pogo: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.largest_step = 0}, plain) ==
             "pogo: largest_step is 0.000000, expected a number above 0");
  BOOST_TEST(made({.root_every = -1}, plain) ==
             "pogo: root_every is -1, expected a number of at least 0");
  BOOST_TEST(made({}, momentum_base{1}) ==
             "momentum_base: momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({}, vector_adam_base{{.beta1 = 1}}) ==
             "vector_adam_base: beta1 is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({}, vector_adam_base{{.beta2 = -1}}) ==
             "vector_adam_base: beta2 is -1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({}, vector_adam_base{{.epsilon = 0}}) ==
             "vector_adam_base: epsilon is 0.000000, expected a number above 0");
  BOOST_TEST(message_of([&] { stiefelx::pogo(p.ctx, stiefel{6, 3}, x); }) ==
             "pogo: x is 5x3, expected 6x3");
  expect_wrong_steps_named(p, "pogo", make_pogo<plain_base>{}(p.ctx, x));
  auto lambda = p.number(0.0);
  BOOST_TEST(message_of([&] { stiefelx::best_correction(p.ctx, x, lambda); }) ==
             "best_correction: defect is 5x3, expected 3x3");
}

BOOST_AUTO_TEST_SUITE_END()
