// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The landing method: its field and step against loops in long double, the region that no gradient
// and no learning rate leaves, starts outside of it, and known optima.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>

#include <boost/test/unit_test.hpp>

#include <optim/step_laws.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/optim/landing.hpp>
#include <stiefelx/optim/landing_field.hpp>

namespace {

using namespace support;
using stiefelx::landing_options;
using stiefelx::landing_outside;
using stiefelx::stiefel;

struct make_landing {
  landing_options options{.learning_rate = 0.05, .momentum = 0.5};
  template <class Ctx, class X>
  auto operator()(Ctx& ctx, X const& x) const {
    return stiefelx::landing(ctx, stiefel{x.rows(), x.cols()}, x, options);
  }
};

/// A matrix at a distance from orthonormal columns, between singular values 1 - t and 1 + t.
template <class S>
matrix_x<S> near_frame(index_t n, index_t p, double t, std::uint64_t seed) {
  matrix_x<S> x = orthonormal_frame<S>(n, p, seed);
  for (index_t j = 0; j < p; ++j)
    x.col(j) *= S(static_cast<stiefelx::real_of_t<S>>(1 + (j % 2 == 0 ? t : -t)));
  return loop_product(x, orthonormal_frame<S>(p, p, seed + 1));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(landing)

// --- the field -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(the_field_is_its_formula_and_its_parts_are_orthogonal, Case,
                              step_cases) {
  using S = typename Case::scalar;
  for (index_t k : {1, 3, 6}) {
    place<Case> p;
    matrix_x<S> const x = random_matrix<S>(6, k, 1), g = random_matrix<S>(6, k, 2);
    auto const x_there = p.up(x), g_there = p.up(g);
    auto psi = p.up(g), whole = p.up(g);
    stiefelx::relative_gradient(p.ctx, x_there, g_there, psi);
    stiefelx::landing_field(p.ctx, x_there, g_there, 0.75, whole);
    matrix_x<exact> const y = loop_cast<exact>(x),
                          expected = exact_relative(y, loop_cast<exact>(g));
    matrix_x<exact> const normal = loop_product(y, exact_defect(x));
    double const size = static_cast<double>(frobenius(table(x)));
    double const scale = size * size * static_cast<double>(frobenius(table(g)));
    double const bound = tolerance<S>(6);
    BOOST_TEST(near(p.down(psi), expected, bound, scale));
    BOOST_TEST(
        near(p.down(whole), expected + normal * exact(0.75L), bound, scale + size * size * size));
    // x^H psi is skew-Hermitian, so psi is orthogonal to x times any Hermitian matrix.
    matrix_x<S> const found = p.down(psi), along = loop_product(loop_adjoint(x), found);
    matrix_x<S> const sum = along + loop_adjoint(along);
    BOOST_TEST(near(sum, matrix_x<S>::Zero(k, k), bound, size * scale));
    exact overlap(0);
    for (index_t j = 0; j < k; ++j)
      for (index_t i = 0; i < 6; ++i)
        overlap += std::conj(exact(found(i, j))) * exact(normal(i, j));
    BOOST_TEST(std::abs(static_cast<double>(overlap.real())) <=
               bound * scale * static_cast<double>(frobenius(table(normal))));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_field_is_zero_at_critical_points_alone, Case, step_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  // Unit vectors and small integers, so that nothing is rounded.
  matrix_x<S> x = matrix_x<S>::Zero(5, 3), s(3, 3);
  x(1, 0) = x(4, 1) = x(0, 2) = S(1);
  s << S(2), S(-1), S(3), S(-1), S(5), S(4), S(3), S(4), S(-7);
  if constexpr (!std::is_floating_point_v<S>) {
    s(0, 1) = S(-1, 2);
    s(1, 0) = S(-1, -2);
  }
  auto const field = [&](matrix_x<S> const& at, matrix_x<S> const& g) {
    auto f = p.up(g);
    stiefelx::landing_field(p.ctx, p.up(at), p.up(g), 1, f);
    return matrix_x<S>(p.down(f));
  };
  matrix_x<S> const critical = loop_product(x, s);
  BOOST_TEST(same(field(x, critical), matrix_x<S>::Zero(5, 3)));
  matrix_x<S> turning = s, leaving = critical;
  turning(0, 1) += S(1);
  leaving(2, 0) += S(1);
  BOOST_TEST(!same(field(x, loop_product(x, turning)), matrix_x<S>::Zero(5, 3)));
  BOOST_TEST(!same(field(x, leaving), matrix_x<S>::Zero(5, 3)));
  matrix_x<S> const larger = x * S(2);
  BOOST_TEST(!same(field(larger, critical), matrix_x<S>::Zero(5, 3)));
}

// --- the step ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(steps_follow_the_formula_with_momentum_and_safe_length, Case,
                              step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const n = 6, k = 3;
  long double const eta = 0.125L, beta = 0.75L, lambda = 2, eps = 0.25L;
  place<Case> p;
  matrix_x<S> const start = near_frame<S>(n, k, 0.05, 1);
  auto x = p.up(start);
  stiefelx::landing opt(
      p.ctx, stiefel{n, k}, x,
      {.learning_rate = 0.125, .momentum = 0.75, .attraction = 2, .region = 0.25});
  matrix_x<exact> y = loop_cast<exact>(start), u = matrix_x<exact>::Zero(n, k);
  int bounded = 0;
  for (int t = 0; t < 20; ++t) {
    matrix_x<S> const g = step_gradient<S>(n, k, t) * S(t % 4 == 0 ? real(1.5) : real(0.125));
    opt.step(p.ctx, x, p.up(g));
    u = u * exact(beta) + loop_cast<exact>(g);
    matrix_x<exact> const defect = exact_defect(y);
    matrix_x<exact> const f = exact_relative(y, u) + loop_product(y, defect) * exact(lambda);
    long double const d = std::sqrt(exact_inner(defect, defect)), c = std::sqrt(exact_inner(f, f)),
                      b = lambda * d * (1 - d);
    long double const root = std::sqrt(b * b + c * c * std::max(0.0L, eps - d));
    long double const safe = std::min((b + root) / (c * c), 1 / (2 * lambda));
    bounded += safe < eta;
    y -= f * exact(std::min(eta, safe));
    BOOST_TEST(near(p.down(opt.step_length()),
                    matrix_x<double>::Constant(1, 1, static_cast<double>(std::min(eta, safe))),
                    tolerance<S>(20, 4)));
  }
  BOOST_TEST(bounded > 3);
  BOOST_TEST(bounded < 17);
  BOOST_TEST(near(p.down(opt.velocity()), u, tolerance<S>(20)));
  BOOST_TEST(near(p.down(x), y, tolerance<S>(20, 4)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(no_gradient_and_no_rate_leave_the_region, Case, step_cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  int const repeats = host ? 10 : 1;
  for (double eps : {0.3, 0.1, 0.01}) {
    for (double lambda : {0.1, 1.0, 10.0}) {
      for (index_t n : {2, 10}) {
        double worst = 0;
        for (int repeat = 0; repeat < repeats; ++repeat) {
          place<Case> p;
          matrix_x<S> const start =
              orthonormal_frame<S>(n, n, static_cast<std::uint64_t>(1 + repeat));
          auto x = p.up(start);
          stiefelx::landing opt(p.ctx, stiefel{n, n}, x,
                                {.learning_rate = 1e5, .attraction = lambda, .region = eps});
          auto const g = p.up(step_gradient<S>(n, n, repeat));
          for (int t = 0; t < 100; ++t) {
            if (t % 2 == 0)
              opt.step(p.ctx, x, g);
            else
              opt.step(p.ctx, x, p.up(step_gradient<S>(n, n, t)));
            worst = std::max(worst, frame_distance<S>(p.down(x)));
          }
        }
        BOOST_TEST_CONTEXT("eps " << eps << " lambda " << lambda << " n " << n) {
          BOOST_TEST(worst <= eps + tolerance<S>(n * n));
          // With a strong attraction 1 / (2 lambda) is the shorter bound.
          if (lambda <= 1) BOOST_TEST(worst > eps / 4);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_safe_step_of_one_column_ends_on_the_border, Case, step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  place<Case> p;
  matrix_x<S> start = matrix_x<S>::Zero(4, 1), g = random_matrix<S>(4, 1, 1);
  start(2, 0) = S(1);
  for (real size : {real(1e-8), real(1), real(1e8)}) {
    auto x = p.up(start);
    auto status = status_matrix<typename Case::backend>(p.ctx);
    stiefelx::landing opt(p.ctx, stiefel{4, 1}, x, {.learning_rate = 1e20, .attraction = 1e-12});
    opt.step(p.ctx, x, p.up(matrix_x<S>(g * S(size))), status);
    BOOST_TEST(std::abs(frame_distance<S>(p.down(x)) - 0.5) <= tolerance<S>(4));
    BOOST_TEST(status_value(p.ctx, status) == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_field_that_overflows_changes_nothing, Case, step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(5, 2, 1);
  auto x = p.up(start);
  auto opt = make_landing{}(p.ctx, x);
  auto const state = state_of(p, opt);
  auto status = status_matrix<typename Case::backend>(p.ctx);
  real const huge = std::numeric_limits<real>::max() / 8;
  opt.step(p.ctx, x, p.up(matrix_x<S>::Constant(5, 2, S(huge))), status);
  BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
  BOOST_TEST(same(p.down(x), start));
  auto const after = state_of(p, opt);
  for (std::size_t i = 0; i < state.size(); ++i) BOOST_TEST(same(after[i], state[i]));
}

// --- starts outside the region -------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(approach_reaches_the_region_from_any_start_of_full_rank, Case,
                              step_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  for (double size : {1e-2, 0.3, 4.0, 1e3}) {
    place<Case> p;
    matrix_x<S> const start = random_matrix<S>(6, 3, 1) * S(static_cast<real>(size));
    auto x = p.up(start);
    auto const g = p.up(random_matrix<S>(6, 3, 2));
    stiefelx::landing opt(p.ctx, stiefel{6, 3}, x, {.learning_rate = 1e-3, .region = 0.1});
    double before = frame_distance(start);
    BOOST_TEST(before > 0.1);
    int steps = 0;
    for (; steps < 100 && before > 0.1; ++steps) {
      auto status = status_matrix<typename Case::backend>(p.ctx);
      opt.step(p.ctx, x, g, status);
      BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_converged);
      double const now = frame_distance<S>(p.down(x));
      BOOST_TEST(now < before);
      if (steps == 0) {
        matrix_x<exact> const y = loop_cast<exact>(start);
        auto const length = 1 / (2 * (1 + static_cast<long double>(before)));
        BOOST_TEST(near(p.down(x), y - loop_product(y, exact_defect(y)) * exact(length),
                        tolerance<S>(6), static_cast<double>(frobenius(table(start)))));
      }
      before = now;
    }
    BOOST_TEST(steps < 100);
    // Without the gradient the singular vectors stay: x^H start is Hermitian.
    matrix_x<S> const found = p.down(x), along = loop_product(loop_adjoint(found), start);
    BOOST_TEST(near(along, loop_adjoint(along), tolerance<S>(6 * steps)));
    auto inside = status_matrix<typename Case::backend>(p.ctx);
    opt.step(p.ctx, x, g, inside);
    BOOST_TEST(status_value(p.ctx, inside) == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_safe_step_keeps_the_distance_of_a_start_outside, Case,
                              step_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  landing_options const o{
      .learning_rate = 1e5, .region = 0.1, .outside = landing_outside::safe_step};
  {
    matrix_x<S> const start = near_frame<S>(6, 3, 0.2, 1);
    auto x = p.up(start);
    auto opt = make_landing{o}(p.ctx, x);
    double before = frame_distance(start);
    BOOST_TEST(before > 0.4);
    BOOST_TEST(before < 0.9);
    for (int t = 0; t < 20; ++t) {
      opt.step(p.ctx, x, p.up(step_gradient<S>(6, 3, t)));
      double const now = frame_distance<S>(p.down(x));
      BOOST_TEST(now <= std::max(before, 0.1) + tolerance<S>(18));
      before = now;
    }
    BOOST_TEST(!near(p.down(x), start, 0.1));
  }
  // At a distance of one or more nothing is safe.
  matrix_x<S> const far = orthonormal_frame<S>(6, 3, 1) * S(2);
  auto x = p.up(far);
  auto opt = make_landing{o}(p.ctx, x);
  opt.step(p.ctx, x, p.up(step_gradient<S>(6, 3, 1)));
  BOOST_TEST(same(p.down(x), far));
}

// --- known optima --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(the_trace_of_a_rotation_reaches_three, Case, step_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  // A turn by 2.5 about an axis; the trace -tr x has its minimum -3 at the identity.
  auto const c = static_cast<typename Case::real>(std::cos(2.5)),
             s = static_cast<typename Case::real>(std::sin(2.5));
  matrix_x<S> start(3, 3);
  start << S(c), S(0), S(s), S(0), S(1), S(0), S(-s), S(0), S(c);
  auto x = p.up(start);
  auto const g = p.up(matrix_x<S>(-matrix_x<S>::Identity(3, 3)));
  stiefelx::landing opt(p.ctx, stiefel{3, 3}, x, {.learning_rate = 0.3});
  for (int t = 0; t < 100; ++t) opt.step(p.ctx, x, g);
  matrix_x<S> const found = p.down(x);
  double trace = 0;
  for (index_t j = 0; j < 3; ++j) trace += static_cast<double>(std::real(found(j, j)));
  BOOST_TEST(3 - trace < 1e-5);
  BOOST_TEST(frame_distance(found) <= tolerance<S>(9));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, step_cases) {
  using S = typename Case::scalar;
  procrustes<S> const known;
  for (double momentum : {0.0, 0.5}) {
    place<Case> p;
    auto const g = p.up(known.negated);
    auto x = p.up(near_frame<S>(8, 3, 0.1, 3));
    stiefelx::landing opt(p.ctx, stiefel{8, 3}, x, {.learning_rate = 0.4, .momentum = momentum});
    for (int t = 0; t < 800; ++t) opt.step(p.ctx, x, g);
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
  stiefelx::landing opt(p.ctx, stiefel{8, 3}, x, {.learning_rate = 0.2, .momentum = 0.5});
  for (int t = 0; t < 300; ++t) opt.step(p.ctx, x, product(p.ctx, minus_a, x));
  matrix_x<S> const found = p.down(x);
  BOOST_TEST(
      near(loop_product(found, loop_adjoint(found)), known.projector, tolerance<S>(8, 4.0 / 2)));
}

// --- laws of every step --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_gradients_change_nothing_and_states_go_on, Case, step_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  expect_bad_gradients_ignored<Case>(make_landing{}, start);
  expect_saved_state_goes_on<Case>(make_landing{}, start);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_point, Case, step_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  auto x = p.up(start);
  auto opt = make_landing{}(p.ctx, x);
  for (int t = 0; t < 5; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(6, 2)));
  BOOST_TEST(near(p.down(x), start, tolerance<S>(6)));
}

BOOST_AUTO_TEST_CASE(every_layout_is_taken) { expect_layouts_taken(make_landing{}); }

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  auto const made = [&](landing_options o) {
    return message_of([&] { stiefelx::landing(p.ctx, stiefel{5, 3}, x, o); });
  };
  BOOST_TEST(made({.learning_rate = -1}) ==
             "landing: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.momentum = 1}) == "landing: momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.attraction = 0}) ==
             "landing: attraction is 0.000000, expected a number above 0");
  BOOST_TEST(made({.region = 1}) == "landing: region is 1.000000, expected a number in (0, 1)");
  BOOST_TEST(message_of([&] { stiefelx::landing(p.ctx, stiefel{6, 3}, x); }) ==
             "landing: x is 5x3, expected 6x3");
  expect_wrong_steps_named(p, "landing", make_landing{}(p.ctx, x));
  auto f = p.up(random_matrix<double>(5, 3, 2));
  BOOST_TEST(message_of([&] { stiefelx::relative_gradient(p.ctx, x, f, f); }) ==
             "relative_gradient: f overlaps g, expected separate memory");
  BOOST_TEST(message_of([&] { stiefelx::landing_field(p.ctx, x, f, 1, x); }) ==
             "landing_field: f overlaps x, expected separate memory");
}

BOOST_AUTO_TEST_SUITE_END()
