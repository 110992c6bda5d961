// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// O(n), SO(n) and U(n): laws of a group's geometry, determinants, and the nearest rotation.

#include <cmath>
#include <complex>
#include <concepts>
#include <numbers>

#include <Eigen/LU>
#include <boost/test/unit_test.hpp>

#include <manifold/laws.hpp>
#include <stiefelx/manifold/orthogonal.hpp>
#include <stiefelx/manifold/special_orthogonal.hpp>
#include <stiefelx/manifold/unitary.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using stiefelx::cayley_retraction;
using stiefelx::orthogonal;
using stiefelx::polar_retraction;
using stiefelx::special_orthogonal;
using stiefelx::unitary;

constexpr index_t n = 4;

struct frame_defect {
  template <class A>
  double operator()(A const& y) const {
    matrix_x<typename A::Scalar> const g = y.adjoint() * y;
    return static_cast<double>(
        (g - matrix_x<typename A::Scalar>::Identity(g.rows(), g.cols())).norm());
  }
};

template <class P>
void obeys_the_laws_of_a_group(P& at) {
  obeys_the_minimum(at);
  has_the_dimension_of_its_type(at);
  has_retraction(at, frame_defect{});
  is_second_order(at, polar_retraction{});
  is_second_order(at, cayley_retraction{});
  has_inverse_retraction(at);
  has_exp_and_log(at, frame_defect{}, {1e-3, 0.5, 3});
  has_parallel_transport(at, 1.5);
  has_gradient_and_hessian(at, 1);
}

template <class A>
double determinant_of(A const& x) {
  return static_cast<double>(x.determinant());
}

/// (orthogonal, special_orthogonal, unitary) accepts points of these scalars.
template <class M, class S>
constexpr bool accepts =
    requires(stiefelx::host::context& ctx, M m, matrix_x<S>& x, stiefelx::random_stream& stream) {
      random_point(ctx, m, stream, x);
      project(ctx, m, x, x, x);
    };

static_assert(accepts<orthogonal, float> && accepts<special_orthogonal, double>);
static_assert(!accepts<orthogonal, std::complex<double>>);
static_assert(!accepts<special_orthogonal, std::complex<double>>);
static_assert(accepts<unitary, std::complex<double>> && !accepts<unitary, double>);

}  // namespace

BOOST_AUTO_TEST_SUITE(orthogonal_group)

BOOST_AUTO_TEST_CASE_TEMPLATE(special_orthogonal_obeys_the_laws_of_a_group, Case, real_law_cases) {
  patch<Case, special_orthogonal> at(special_orthogonal{n}, n, n);
  obeys_the_laws_of_a_group(at);
}

BOOST_AUTO_TEST_CASE(unitary_obeys_the_laws_of_a_group) {
  using Case = test_case<host_backend, std::complex<double>>;
  patch<Case, unitary> at(unitary{n}, n, n);
  obeys_the_laws_of_a_group(at);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(determinant_sign_is_that_of_the_determinant, Case, plain_cases) {
  place<Case> at;
  auto s = at.number(7.0);
  for (index_t size = 1; size < 7; ++size)
    for (std::uint64_t seed = 1; seed < 9; ++seed) {
      matrix_x<double> a = random_matrix<double>(size, size, seed);
      double const expected = determinant_of(a) > 0 ? 1 : -1;
      stiefelx::determinant_sign(at.ctx, at.up(a), s);
      BOOST_TEST(value(at.ctx, s) == expected);
      a.col(0).setZero();
      stiefelx::determinant_sign(at.ctx, at.up(a), s);
      BOOST_TEST(value(at.ctx, s) == 0);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(random_rotations_have_determinant_one_and_orthogonals_either, Case,
                              plain_cases) {
  place<Case> at;
  stiefelx::random_stream stream{5, 0};
  auto x = at.up(matrix_x<double>::Zero(3, 3));
  int positive = 0;
  for (int k = 0; k < 40; ++k) {
    random_point(at.ctx, special_orthogonal{3}, stream, x);
    BOOST_TEST(std::abs(determinant_of(at.down(x)) - 1) < tolerance<double>(3));
    random_point(at.ctx, orthogonal{3}, stream, x);
    positive += determinant_of(at.down(x)) > 0 ? 1 : 0;
    for (int const wanted : {1, -1, -1}) {
      move_to_component(at.ctx, orthogonal{3}, wanted, x);
      BOOST_TEST(std::abs(determinant_of(at.down(x)) - wanted) < tolerance<double>(3));
      BOOST_TEST(frame_defect{}(at.down(x)) < tolerance<double>(3));
    }
  }
  // Five standard errors of a fair coin.
  BOOST_TEST(std::abs(positive - 20) < 5 * std::sqrt(10.0));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(steps_stay_in_their_component_and_log_says_when_points_do_not, Case,
                              plain_cases) {
  patch<Case, orthogonal> at(orthogonal{n}, n, n);
  move_to_component(at.ctx, at.m, -1, at.x);
  auto y = at.blank();
  for (double const t : {0.5, 5.0}) {
    // The step of a random tangent at the old point is tangent at the new one after a projection.
    auto step = at.times(t, at.v);
    project(at.ctx, at.m, at.x, step, step);
    exp(at.ctx, at.m, at.x, step, y);
    BOOST_TEST(std::abs(determinant_of(at.down(y)) + 1) < at.rounding());
    retract(at.ctx, at.m, at.x, step, y);
    BOOST_TEST(std::abs(determinant_of(at.down(y)) + 1) < at.rounding(1 + t * t));
  }
  auto bits = status_matrix<typename Case::backend>(at.ctx);
  move_to_component(at.ctx, at.m, 1, y);
  log(at.ctx, at.m, at.x, y, at.v, bits);
  BOOST_TEST((value(at.ctx, bits) & stiefelx::not_converged) != 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nearest_points_beat_other_points_of_their_group, Case, plain_cases) {
  place<Case> at;
  stiefelx::random_stream stream{9, 0};
  special_orthogonal const rotations{3};
  for (std::uint64_t seed = 1; seed < 7; ++seed) {
    matrix_x<double> const a = random_matrix<double>(3, 3, seed);
    auto const z = at.up(a);
    auto x = at.up(a), step = at.up(a), other = at.up(a);
    nearest_point(at.ctx, rotations, z, x);
    matrix_x<double> const found = at.down(x);
    BOOST_TEST(frame_defect{}(found) < tolerance<double>(3));
    BOOST_TEST(std::abs(determinant_of(found) - 1) < tolerance<double>(3));
    double const least = (found - a).norm();
    for (int k = 0; k < 50; ++k) {
      random_tangent(at.ctx, rotations, stream, x, step);
      scale(at.ctx, k % 2 == 0 ? 2 : 0.05, step);
      exp(at.ctx, rotations, x, step, other);
      BOOST_TEST((at.down(other) - a).norm() > least);
    }
    nearest_point(at.ctx, orthogonal{3}, z, other);
    BOOST_TEST((determinant_of(at.down(other)) > 0) == (determinant_of(a) > 0));
    if (determinant_of(a) > 0) BOOST_TEST(near(at.down(other), found, tolerance<double>(3, 100)));
  }
}

BOOST_AUTO_TEST_CASE(a_plane_turned_by_an_angle_has_root_two_times_its_length) {
  place<test_case<host_backend, double>> at;
  special_orthogonal const m{2};
  matrix_x<double> const x = matrix_x<double>::Identity(2, 2);
  matrix_x<double> v(2, 2), y(2, 2), s(1, 1);
  v << 0, -3, 3, 0;
  exp(at.ctx, m, x, v, y);
  matrix_x<double> expected(2, 2);
  expected << std::cos(3.0), -std::sin(3.0), std::sin(3.0), std::cos(3.0);
  BOOST_TEST(near(y, expected, tolerance<double>(2)));
  distance(at.ctx, m, x, y, s);
  BOOST_TEST(std::abs(s(0, 0) - 3 * std::numbers::sqrt2) < tolerance<double>(2, 20));
  BOOST_TEST(s(0, 0) < injectivity_radius(m));
  BOOST_TEST(injectivity_radius(m) == std::numbers::sqrt2 * std::numbers::pi);
  BOOST_TEST(injectivity_radius(unitary{2}) == std::numbers::pi);
}

BOOST_AUTO_TEST_CASE(misuse_is_named) {
  patch<test_case<host_backend, double>, orthogonal> at(orthogonal{n}, n, n);
  auto wide = at.blank(n, n + 1);
  BOOST_TEST(message_of([&] { project(at.ctx, at.m, at.x, wide, at.v); }) ==
             "project: z is 4x5, expected 4x4");
  BOOST_TEST(message_of([&] { exp(at.ctx, special_orthogonal{-1}, at.x, at.u, at.v); }) ==
             "exp: the manifold is special_orthogonal{-1}, expected n >= 0");
  BOOST_TEST(message_of([&] { log(at.ctx, at.m, at.x, at.u, at.u); }) ==
             "log: v overlaps y, expected separate memory");
  BOOST_TEST(message_of([&] { move_to_component(at.ctx, at.m, 0, at.x); }) ==
             "move_to_component: determinant is 0, expected 1 or -1");
}

BOOST_AUTO_TEST_SUITE_END()
