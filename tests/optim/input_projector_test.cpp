// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The projector of past inputs against the inverse that defines it, and over many updates.

#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>

#include <Eigen/Eigenvalues>
#include <boost/test/unit_test.hpp>

#include <stiefelx/optim/input_projector.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::input_projector;

/// I + S / alpha for the inputs given so far, the inverse of what a projector is.
template <class W>
struct exact_projector {
  double alpha;
  matrix_x<W> inverse;

  exact_projector(index_t d, double a) : alpha(a), inverse(matrix_x<W>::Identity(d, d)) {}

  template <class S>
  void observe(matrix_x<S> const& a) {
    inverse += loop_product(loop_cast<W>(a), loop_adjoint(loop_cast<W>(a))) / alpha;
  }
  void forget(double rho) {
    inverse = rho * inverse + (1 - rho) * matrix_x<W>::Identity(inverse.rows(), inverse.cols());
  }
};

/// Both backends, real and complex.
using cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, std::complex<double>>>;

template <class W>
matrix_x<W> identity(index_t d) {
  return matrix_x<W>::Identity(d, d);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(input_projector)

BOOST_AUTO_TEST_CASE_TEMPLATE(blocks_of_inputs_give_the_inverse, Case, cases) {
  using S = typename Case::scalar;
  using W = stiefelx::wide_t<S>;
  for (double alpha : {0.1, 1.0, 30.0}) {
    place<Case> p;
    stiefelx::input_projector projector(p.ctx, p.up(matrix_x<S>::Zero(7, 2)), alpha);
    exact_projector<W> exact(7, alpha);
    BOOST_TEST(same(p.down(projector.projector(p.ctx)), identity<W>(7)));
    std::uint64_t seed = 1;
    for (index_t count : {1, 3, 0, 2, 130, 1}) {
      matrix_x<S> const a = random_matrix<S>(7, count, seed++);
      projector.observe(p.ctx, p.up(a));
      exact.observe(a);
      BOOST_TEST_CONTEXT("alpha " << alpha << ", " << count << " inputs") {
        matrix_x<W> const found = p.down(projector.projector(p.ctx));
        double const largest = 1 + exact.inverse.norm();
        BOOST_TEST(near(found * exact.inverse, identity<W>(7), tolerance<W>(130, largest)));
        BOOST_TEST(same(found, found.adjoint()));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_hundred_thousand_updates_in_float_stay_symmetric_and_positive) {
  using long_matrix = matrix_x<long double>;
  stiefelx::host::context ctx;
  index_t const d = 6;
  double const alpha = 0.5;
  matrix_x<float> const none(d, 1);
  stiefelx::input_projector projector(ctx, none, alpha);
  // Sizes from 1e-2 to 1e2, and the last coordinate is never met.
  matrix_x<float> const pool = random_matrix<float>(d, 1000, 3);
  matrix_x<float> const mix = conditioned_matrix<float>(d, d, 1e4, 4) * 100;
  matrix_x<float> inputs = mix * pool;
  inputs.row(d - 1).setZero();
  long_matrix s = long_matrix::Zero(d, d);
  for (int t = 0; t < 100000; ++t) {
    index_t const first = t % 997;
    projector.observe(ctx, inputs.middleCols(first, 1 + t % 3));
  }
  for (int t = 0; t < 100000; ++t) {
    long_matrix const a = inputs.middleCols(t % 997, 1 + t % 3).cast<long double>();
    s += a * a.transpose();
  }
  long_matrix const inverse = long_matrix::Identity(d, d) + s / alpha;
  matrix_x<double> const found = projector.projector(ctx);
  BOOST_TEST(same(found, found.transpose()));
  Eigen::SelfAdjointEigenSolver<matrix_x<double>> const values(found, Eigen::EigenvaluesOnly);
  BOOST_TEST(values.eigenvalues().minCoeff() > 0);
  BOOST_TEST(values.eigenvalues().maxCoeff() <= 1 + tolerance<double>(100000));
  BOOST_TEST(values.eigenvalues().maxCoeff() >= 1 - tolerance<double>(100000));
  // With w = P^-1 v, w^T P w is v^T w: along directions of great energy, where P is smallest.
  for (index_t i = 0; i < d; ++i) {
    long_matrix const w = inverse.col(i);
    long double const ratio = (w.transpose() * found.cast<long double>() * w)(0, 0) / w(i, 0);
    BOOST_TEST(std::abs(static_cast<double>(ratio - 1)) <= tolerance<double>(100000, 1e4));
  }
  BOOST_TEST(values.eigenvalues().minCoeff() < 1e-8);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(forgetting_scales_the_inputs_of_the_past, Case, cases) {
  using S = typename Case::scalar;
  using W = stiefelx::wide_t<S>;
  place<Case> p;
  stiefelx::input_projector projector(p.ctx, p.up(matrix_x<S>::Zero(5, 1)), 0.3);
  exact_projector<W> exact(5, 0.3);
  for (int t = 0; t < 40; ++t) {
    double const rho = t % 4 == 0 ? 0.2 : 0.9;
    matrix_x<S> const a = random_matrix<S>(5, 2, static_cast<std::uint64_t>(t));
    projector.observe(p.ctx, p.up(a));
    exact.observe(a);
    auto const before = p.down(projector.factor());
    projector.forget(p.ctx, rho, p.number(0.0));
    projector.forget(p.ctx, 1.0, p.number(1.0));
    BOOST_TEST(same(p.down(projector.factor()), before));
    projector.forget(p.ctx, rho, p.number(1.0));
    exact.forget(rho);
    matrix_x<W> const found = p.down(projector.projector(p.ctx));
    BOOST_TEST(near(found * exact.inverse, identity<W>(5), tolerance<W>(40, exact.inverse.norm())));
    BOOST_TEST(same(found, found.adjoint()));
  }
}

BOOST_AUTO_TEST_CASE(a_direction_met_at_every_step_does_not_stall_with_forgetting) {
  stiefelx::host::context ctx;
  matrix_x<double> x = matrix_x<double>::Zero(3, 1), on = matrix_x<double>::Ones(1, 1);
  x(0, 0) = 2;
  stiefelx::input_projector fading(ctx, x, 1.0), full(ctx, x, 1.0);
  for (int t = 0; t < 400; ++t) {
    fading.observe(ctx, x);
    full.observe(ctx, x);
    fading.forget(ctx, 0.9, on);
  }
  // S tends to 4 rho / (1 - rho) = 36 behind a step, and without forgetting to 1600.
  BOOST_TEST(std::abs(fading.projector(ctx)(0, 0) - 1.0 / 37) <= tolerance<double>(400));
  BOOST_TEST(std::abs(full.projector(ctx)(0, 0) - 1.0 / 1601) <= tolerance<double>(400));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(apply_multiplies_by_the_projector, Case, cases) {
  using S = typename Case::scalar;
  using W = stiefelx::wide_t<S>;
  place<Case> p;
  auto g = p.up(random_matrix<S>(6, 4, 1));
  matrix_x<S> const start = p.down(g);
  stiefelx::input_projector projector(p.ctx, g, 0.7);
  projector.observe(p.ctx, p.up(random_matrix<S>(6, 3, 2)));
  auto y = p.up(matrix_x<S>::Zero(6, 4));
  projector.apply(p.ctx, g, y);
  BOOST_TEST(same(p.down(g), start));
  matrix_x<W> const exact = p.down(projector.projector(p.ctx)) * loop_cast<W>(start);
  BOOST_TEST(near(p.down(y), exact, tolerance<S>(6)));
  projector.apply(p.ctx, g, g);
  BOOST_TEST(same(p.down(g), p.down(y)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(inputs_that_say_nothing_change_no_bit, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  stiefelx::input_projector projector(p.ctx, p.up(matrix_x<S>::Zero(4, 1)), 1.0);
  projector.observe(p.ctx, p.up(random_matrix<S>(4, 2, 1)));
  auto const before = p.down(projector.factor());
  projector.observe(p.ctx, p.up(matrix_x<S>::Zero(4, 3)));
  BOOST_TEST(same(p.down(projector.factor()), before));
  using Real = typename Case::real;
  for (S bad :
       {S(std::numeric_limits<Real>::quiet_NaN()), S(-std::numeric_limits<Real>::infinity())}) {
    auto status = status_matrix<typename Case::backend>(p.ctx);
    matrix_x<S> a = random_matrix<S>(4, 3, 2);
    projector.observe(p.ctx, p.up(matrix_x<S>::Zero(4, 1)), status);
    BOOST_TEST(status_value(p.ctx, status) == 0);
    a(3, 1) = bad;
    projector.observe(p.ctx, p.up(a), status);
    BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
    BOOST_TEST(same(p.down(projector.factor()), before));
  }
  if constexpr (std::is_same_v<S, stiefelx::wide_t<S>>) {
    auto status = status_matrix<typename Case::backend>(p.ctx);
    projector.observe(p.ctx, p.up(matrix_x<S>::Constant(4, 1, 1e200)), status);
    BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
    BOOST_TEST(same(p.down(projector.factor()), before));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_vanishing_alpha_removes_the_inputs_to_rounding, Case, cases) {
  using S = typename Case::scalar;
  using W = stiefelx::wide_t<S>;
  place<Case> p;
  stiefelx::input_projector projector(p.ctx, p.up(matrix_x<S>::Zero(6, 1)), 1e-40);
  matrix_x<S> const frame = orthonormal_frame<S>(6, 2, 1);
  // Exactly dependent, of different sizes, and met again and again.
  matrix_x<S> inputs(6, 5);
  inputs << frame, frame.col(0) * S(64), frame.col(1) * S(0.125), frame.col(0);
  for (int t = 0; t < 200; ++t) projector.observe(p.ctx, p.up(inputs));
  matrix_x<W> const found = p.down(projector.projector(p.ctx));
  double const rounding = tolerance<W>(200);
  BOOST_TEST(near(found * loop_cast<W>(frame), matrix_x<W>::Zero(6, 2), rounding, 1));
  BOOST_TEST(near(found * found, found, rounding));
  BOOST_TEST(std::abs(std::abs(found.trace()) - 4) <= rounding);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_copied_factor_goes_on_with_the_same_bits, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  auto like = p.up(matrix_x<S>::Zero(5, 1));
  stiefelx::input_projector one(p.ctx, like, 2.0), other(p.ctx, like, 2.0);
  one.observe(p.ctx, p.up(random_matrix<S>(5, 4, 1)));
  one.for_each_array([&](std::string const& name, auto& from) {
    BOOST_TEST(name == "factor");
    auto const kept = p.up(p.down(from));
    other.for_each_array([&](std::string const&, auto& to) { copy(p.ctx, kept, to); });
  });
  one.observe(p.ctx, p.up(random_matrix<S>(5, 2, 2)));
  other.observe(p.ctx, p.up(random_matrix<S>(5, 2, 2)));
  BOOST_TEST(same(p.down(one.factor()), p.down(other.factor())));
  BOOST_TEST(decltype(one)::bytes(5) == 25 * static_cast<double>(sizeof(stiefelx::wide_t<S>)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(4, 3, 1));
  auto tall = p.up(random_matrix<double>(5, 3, 1));
  BOOST_TEST(message_of([&] { stiefelx::input_projector(p.ctx, x, 0); }) ==
             "input_projector: alpha is 0.000000, expected a number above 0");
  stiefelx::input_projector projector(p.ctx, x, 1);
  BOOST_TEST(message_of([&] { projector.observe(p.ctx, tall); }) ==
             "input_projector::observe: a is 5x3, expected 4x3");
  BOOST_TEST(message_of([&] { projector.apply(p.ctx, tall, x); }) ==
             "input_projector::apply: g is 5x3, expected 4x3");
  BOOST_TEST(message_of([&] { projector.apply(p.ctx, x, tall); }) ==
             "input_projector::apply: y is 5x3, expected 4x3");
  BOOST_TEST(message_of([&] { projector.forget(p.ctx, 1.5, p.number(1.0)); }) ==
             "input_projector::forget: rho is 1.500000, expected a number in (0, 1]");
}

BOOST_AUTO_TEST_SUITE_END()
