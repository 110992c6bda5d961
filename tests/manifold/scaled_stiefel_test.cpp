// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// x^H x = r^2 I: the laws for a large and a small radius, and what the radius does to lengths.

#include <cmath>
#include <complex>
#include <numbers>

#include <boost/test/unit_test.hpp>

#include <manifold/laws.hpp>
#include <stiefelx/manifold/scaled_stiefel.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using scaled = stiefelx::scaled_stiefel;
using stiefelx::polar_retraction;
using stiefelx::stiefel;

constexpr index_t n = 6, p = 2;

/// How far y / r is from orthonormal columns.
struct scaled_defect {
  double radius;

  template <class A>
  double operator()(A const& y) const {
    matrix_x<typename A::Scalar> const g = y.adjoint() * y;
    double const square = radius * radius;
    using real = stiefelx::real_of_t<typename A::Scalar>;
    return static_cast<double>(
        (g / static_cast<real>(square) - matrix_x<typename A::Scalar>::Identity(g.rows(), g.cols()))
            .norm());
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(scaled_stiefel)

BOOST_AUTO_TEST_CASE_TEMPLATE(scaled_stiefel_obeys_the_laws_of_a_manifold, Case, law_cases) {
  patch<Case, scaled> at(scaled{n, p, 3}, n, p);
  obeys_the_minimum(at);
  has_the_dimension_of_its_type(at);
  has_retraction(at, scaled_defect{3});
  has_inverse_retraction(at);
  is_second_order(at, polar_retraction{});
  has_gradient_and_hessian(at, 1);
  BOOST_TEST(injectivity_radius(at.m) == 3 * std::numbers::pi);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(lengths_are_those_of_stiefel_times_the_radius, Case, plain_cases) {
  for (double const radius : {0.1, 40.0}) BOOST_TEST_CONTEXT("radius " << radius) {
      patch<Case, scaled> at(scaled{n, p, radius}, n, p);
      stiefel const plain{n, p};
      BOOST_TEST(scaled_defect{radius}(at.down(at.x)) < at.rounding());
      auto const q = at.times(1 / radius, at.x), small = at.times(0.5, at.v),
                 step = at.times(0.5 * radius, at.v);
      auto y = at.blank(), expected = at.blank(), back = at.blank();
      exp(at.ctx, at.m, at.x, step, y);
      exp(at.ctx, plain, q, small, expected);
      BOOST_TEST(near(at.down(y), radius * at.down(expected), at.rounding()));
      log(at.ctx, at.m, at.x, y, back);
      BOOST_TEST(near(at.down(back), at.down(step), at.rounding(10)));
      BOOST_TEST(std::abs(at.distance_to(at.x, y) - radius / 2) < at.rounding(10 * radius));
      retract(at.ctx, at.m, at.x, step, y, polar_retraction{});
      retract(at.ctx, plain, q, small, expected, polar_retraction{});
      BOOST_TEST(near(at.down(y), radius * at.down(expected), at.rounding()));
      auto const z = at.up(random_matrix<double>(n, p, 5));
      nearest_point(at.ctx, at.m, z, y);
      BOOST_TEST(scaled_defect{radius}(at.down(y)) < at.rounding());
      // The residual is normal.
      axpy(at.ctx, -1, z, y);
      nearest_point(at.ctx, at.m, z, expected);
      project(at.ctx, at.m, expected, y, y);
      BOOST_TEST(static_cast<double>(at.down(y).norm()) < at.rounding(radius + 5));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_named, Case, plain_cases) {
  patch<Case, scaled> at(scaled{n, p, 1}, n, p);
  auto small = at.blank(n, 1);
  BOOST_TEST(message_of([&] { project(at.ctx, at.m, at.x, small, at.v); }) ==
             "project: z is 6x1, expected 6x2");
  BOOST_TEST(message_of([&] { retract(at.ctx, scaled{n, p, 0}, at.x, at.v, at.u); }) ==
             "retract: scaled_stiefel::radius is 0.000000, expected a finite number above 0");
  BOOST_TEST(message_of([&] { exp(at.ctx, scaled{2, 3, 1}, at.x, at.v, at.u); }) ==
             "exp: the manifold is scaled_stiefel{2, 3}, expected 0 <= p <= n");
}

BOOST_AUTO_TEST_SUITE_END()
