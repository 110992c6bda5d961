// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The unit sphere of matrices: laws, known arcs, accuracy at small angles and at the antipode.

#include <cmath>
#include <complex>
#include <limits>
#include <numbers>

#include <boost/test/unit_test.hpp>

#include <manifold/laws.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using unit_sphere = stiefelx::sphere;

constexpr index_t n = 5, p = 3;

struct unit_length {
  template <class A>
  double operator()(A const& y) const {
    return std::abs(static_cast<double>(y.norm()) - 1);
  }
};

template <class Case>
using sphere_patch = patch<Case, unit_sphere>;

}  // namespace

BOOST_AUTO_TEST_SUITE(sphere)

BOOST_AUTO_TEST_CASE_TEMPLATE(sphere_obeys_the_laws_of_a_manifold, Case, law_cases) {
  sphere_patch<Case> at(unit_sphere{n, p}, n, p);
  obeys_the_minimum(at);
  has_the_dimension_of_its_type(at);
  has_retraction(at, unit_length{});
  is_second_order(at);
  has_inverse_retraction(at);
  has_gradient_and_hessian(at, 1);
  has_parallel_transport(at, 2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_and_log_follow_great_circles, Case, accuracy_cases) {
  sphere_patch<Case> at(unit_sphere{n, p}, n, p);
  has_exp_and_log(at, unit_length{}, {1e-3, 0.5, 1.6, 3});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(arcs_of_the_circle_are_sine_and_cosine, Case, plain_cases) {
  place<Case> at;
  unit_sphere const m{3, 1};
  matrix_x<double> e = matrix_x<double>::Zero(3, 1), f = e, third = e;
  e(0) = 1;
  f(1) = 1;
  third(2) = 1;
  auto const x = at.up(e);
  auto y = at.up(e), w = at.up(e);
  for (double const t : {0.0, 1e-9, 0.3, 2.0, 4.0, 1000.0}) BOOST_TEST_CONTEXT("angle " << t) {
      auto const d = at.up(matrix_x<double>(t * f));
      exp(at.ctx, m, x, d, y);
      matrix_x<double> const expected = std::cos(t) * e + std::sin(t) * f;
      BOOST_TEST(near(at.down(y), expected, tolerance<double>(3, 1 + t)));
      // The velocity turns with the circle; what is orthogonal to it stays.
      auto const velocity = at.up(matrix_x<double>(f + third));
      transport_along(at.ctx, m, x, d, y, velocity, w);
      matrix_x<double> const turned = std::cos(t) * f - std::sin(t) * e + third;
      BOOST_TEST(near(at.down(w), turned, tolerance<double>(3, 1 + t)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(small_angles_keep_their_digits, Case, plain_cases) {
  place<Case> at;
  unit_sphere const m{3, 1};
  matrix_x<double> e = matrix_x<double>::Zero(3, 1), f = e;
  e(0) = 1;
  f(1) = 1;
  auto const x = at.up(e);
  auto v = at.up(e);
  auto s = at.number(0.0);
  for (double const t : {1e-4, 1e-9, 1e-14, 1e-100}) BOOST_TEST_CONTEXT("angle " << t) {
      auto const y = at.up(matrix_x<double>(std::cos(t) * e + std::sin(t) * f));
      log(at.ctx, m, x, y, v);
      BOOST_TEST(near(at.down(v), t * f, tolerance<double>(3)));
      distance(at.ctx, m, x, y, s);
      BOOST_TEST(std::abs(value(at.ctx, s) - t) < tolerance<double>(3) * t);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(what_has_no_answer_is_reported, Case, plain_cases) {
  sphere_patch<Case> at(unit_sphere{n, p}, n, p);
  auto out = at.blank();
  auto const status_of = [&](auto const& call) {
    auto bits = status_matrix<typename Case::backend>(at.ctx);
    call(bits);
    return value(at.ctx, bits);
  };
  auto const opposite = at.times(-1, at.x), zero = at.blank();
  auto const nan = at.times(std::numeric_limits<double>::quiet_NaN(), at.x);
  using namespace stiefelx;
  BOOST_TEST(status_of([&](auto& bits) { log(at.ctx, at.m, at.x, opposite, out, bits); }) ==
             not_converged);
  auto s = at.number(0.0);
  distance(at.ctx, at.m, at.x, opposite, s);
  BOOST_TEST(std::abs(value(at.ctx, s) - injectivity_radius(at.m)) < at.rounding());
  BOOST_TEST(status_of([&](auto& bits) { log(at.ctx, at.m, at.x, nan, out, bits); }) == not_finite);
  BOOST_TEST(status_of([&](auto& bits) {
               inverse_retract(at.ctx, at.m, at.x, opposite, out, bits);
             }) == not_converged);
  BOOST_TEST(status_of([&](auto& bits) { nearest_point(at.ctx, at.m, zero, out, bits); }) ==
             rank_deficient);
  BOOST_TEST(same(at.down(out), at.down(zero)));
  BOOST_TEST(status_of([&](auto& bits) { nearest_point(at.ctx, at.m, nan, out, bits); }) ==
             not_finite);
  auto const far = at.times(7, at.u);
  BOOST_TEST(status_of([&](auto& bits) { nearest_point(at.ctx, at.m, far, out, bits); }) == 0);
  BOOST_TEST(near(at.down(out), at.down(at.u), at.rounding()));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(weingarten_map_is_the_derivative_of_a_normal_field, Case,
                              plain_cases) {
  sphere_patch<Case> at(unit_sphere{n, p}, n, p);
  // z(y) = 2 y is normal everywhere and has the derivative 2 v; the sign changes.
  auto const z = at.times(2, at.x);
  auto w = at.blank();
  weingarten(at.ctx, at.m, at.x, at.v, z, w);
  BOOST_TEST(near(at.down(w), -2 * at.down(at.v), at.rounding()));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_named, Case, plain_cases) {
  sphere_patch<Case> at(unit_sphere{n, p}, n, p);
  auto small = at.blank(n, 2);
  auto s = at.number(0.0);
  BOOST_TEST(message_of([&] { project(at.ctx, at.m, at.x, small, at.v); }) ==
             "project: z is 5x2, expected 5x3");
  BOOST_TEST(message_of([&] { exp(at.ctx, at.m, at.x, at.v, at.v); }) ==
             "exp: y overlaps v, expected separate memory");
  BOOST_TEST(message_of([&] { log(at.ctx, at.m, at.x, at.u, at.u); }) ==
             "log: v overlaps y, expected separate memory");
  BOOST_TEST(message_of([&] { distance(at.ctx, unit_sphere{0, 1}, at.x, at.x, s); }) ==
             "distance: the manifold is sphere{0, 1}, expected n >= 1 and p >= 1");
}

BOOST_AUTO_TEST_SUITE_END()
