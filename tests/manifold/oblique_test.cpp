// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Unit columns: laws, columns that do not know of each other, and what a very long step leaves.

#include <cmath>
#include <complex>

#include <boost/test/unit_test.hpp>

#include <manifold/laws.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using unit_columns = stiefelx::oblique;

constexpr index_t n = 4, p = 3;

/// The largest distance of a column's length from one.
struct column_defect {
  template <class A>
  double operator()(A const& y) const {
    double most = 0;
    for (index_t j = 0; j < y.cols(); ++j) {
      double const off = std::abs(static_cast<double>(y.col(j).norm()) - 1);
      if (!(off <= most)) most = off;
    }
    return most;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(oblique)

BOOST_AUTO_TEST_CASE_TEMPLATE(oblique_obeys_the_laws_of_a_manifold, Case, law_cases) {
  patch<Case, unit_columns> at(unit_columns{n, p}, n, p);
  obeys_the_minimum(at);
  has_the_dimension_of_its_type(at);
  has_retraction(at, column_defect{});
  is_second_order(at);
  has_inverse_retraction(at);
  has_gradient_and_hessian(at, 1);
  has_parallel_transport(at, 2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_and_log_follow_great_circles, Case, accuracy_cases) {
  patch<Case, unit_columns> at(unit_columns{n, p}, n, p);
  has_exp_and_log(at, column_defect{}, {1e-3, 0.5, 1.6, 3});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_very_long_step_leaves_columns_of_length_one, Case, accuracy_cases) {
  patch<Case, unit_columns> at(unit_columns{n, p}, n, p);
  auto y = at.blank(), moved = at.blank();
  double const start = at.metric(at.u, at.u);
  for (double const t : {1e2, 1e4}) BOOST_TEST_CONTEXT("length " << t) {
      auto const step = at.times(t, at.v);
      exp(at.ctx, at.m, at.x, step, y);
      BOOST_TEST(column_defect{}(at.down(y)) < at.rounding());
      // The angle is known to a relative error of rounding, and so is the turn.
      transport_along(at.ctx, at.m, at.x, step, y, at.u, moved);
      BOOST_TEST(std::abs(at.metric(moved, moved) - start) < at.rounding());
      retract(at.ctx, at.m, at.x, step, y);
      BOOST_TEST(column_defect{}(at.down(y)) < at.rounding());
    }
  // Drift of the point is repaired.
  exp(at.ctx, at.m, at.times(1.01, at.x), at.v, y);
  BOOST_TEST(column_defect{}(at.down(y)) < at.rounding());
  // A thousand steps of length 3, each from where the last one ended.
  copy(at.ctx, at.x, y);
  int const steps = std::is_same_v<typename Case::backend, host_backend> ? 1000 : 100;
  for (int k = 0; k < steps; ++k) {
    random_tangent(at.ctx, at.m, at.stream, y, moved);
    scale(at.ctx, 3, moved);
    exp(at.ctx, at.m, y, moved, y);
  }
  BOOST_TEST(column_defect{}(at.down(y)) < at.rounding());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(each_column_is_a_sphere_of_its_own, Case, plain_cases) {
  patch<Case, unit_columns> at(unit_columns{n, p}, n, p);
  stiefelx::sphere const one{n, 1};
  auto const d = at.times(2, at.v);
  auto y = at.blank(), w = at.blank(), alone = at.blank(n, 1);
  exp(at.ctx, at.m, at.x, d, y);
  transport_along(at.ctx, at.m, at.x, d, y, at.u, w);
  double squares = 0;
  auto s = at.number(0.0);
  for (index_t j = 0; j < p; ++j) {
    auto const xj = at.x.middleCols(j, 1);
    auto const dj = d.middleCols(j, 1);
    auto const uj = at.u.middleCols(j, 1);
    exp(at.ctx, one, xj, dj, alone);
    BOOST_TEST(near(at.down(y).col(j), at.down(alone), at.rounding()));
    distance(at.ctx, one, xj, alone, s);
    squares += value(at.ctx, s) * value(at.ctx, s);
    transport_along(at.ctx, one, xj, dj, y.middleCols(j, 1), uj, alone);
    BOOST_TEST(near(at.down(w).col(j), at.down(alone), at.rounding()));
  }
  BOOST_TEST(std::abs(at.distance_to(at.x, y) - std::sqrt(squares)) < at.rounding());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_or_opposite_column_is_reported, Case, plain_cases) {
  patch<Case, unit_columns> at(unit_columns{n, p}, n, p);
  auto bits = status_matrix<typename Case::backend>(at.ctx);
  matrix_x<double> z = at.down(at.x) * 3;
  z.col(1).setZero();
  auto out = at.blank();
  nearest_point(at.ctx, at.m, at.up(z), out, bits);
  BOOST_TEST(value(at.ctx, bits) == stiefelx::rank_deficient);
  matrix_x<double> expected = at.down(at.x);
  expected.col(1).setZero();
  BOOST_TEST(near(at.down(out), expected, at.rounding()));

  bits = status_matrix<typename Case::backend>(at.ctx);
  matrix_x<double> y = at.down(at.x);
  y.col(2) *= -1;
  log(at.ctx, at.m, at.x, at.up(y), out, bits);
  BOOST_TEST(value(at.ctx, bits) == stiefelx::not_converged);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_named, Case, plain_cases) {
  patch<Case, unit_columns> at(unit_columns{n, p}, n, p);
  auto small = at.blank(n, 2);
  BOOST_TEST(message_of([&] { retract(at.ctx, at.m, at.x, small, at.v); }) ==
             "retract: v is 4x2, expected 4x3");
  BOOST_TEST(message_of([&] { project(at.ctx, at.m, at.x, at.v, at.x); }) ==
             "project: v overlaps x, expected separate memory");
  BOOST_TEST(message_of([&] { random_point(at.ctx, unit_columns{0, 2}, at.stream, small); }) ==
             "random_point: the manifold is oblique{0, 2}, expected n >= 1 and p >= 0");
}

BOOST_AUTO_TEST_SUITE_END()
