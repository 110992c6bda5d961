// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Subspaces: the laws, what must not depend on the basis, and angles small, equal and right.

#include <cmath>
#include <complex>
#include <numbers>

#include <boost/test/unit_test.hpp>

#include <manifold/laws.hpp>
#include <stiefelx/manifold/grassmann.hpp>
#include <stiefelx/manifold/grassmann_geodesic.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using subspaces = stiefelx::grassmann;
using stiefelx::polar_retraction;
using stiefelx::qr_retraction;

constexpr index_t n = 7, p = 3;

struct frame_defect {
  template <class A>
  double operator()(A const& y) const {
    matrix_x<typename A::Scalar> const g = y.adjoint() * y;
    return static_cast<double>(
        (g - matrix_x<typename A::Scalar>::Identity(g.rows(), g.cols())).norm());
  }
};

/// Distance of the projectors onto two spans, divided by the root of two.
template <class A>
double span_distance(A const& x, A const& y) {
  return static_cast<double>((x * x.adjoint() - y * y.adjoint()).norm()) / std::numbers::sqrt2;
}

/// Two subspaces with given angles, in bases that hide them.
template <class S>
struct angled_pair {
  angled_pair(matrix_x<double> const& angles, std::uint64_t seed) {
    index_t const k = angles.cols();
    matrix_x<S> const frame = orthonormal_frame<S>(2 * k + 1, 2 * k, seed);
    matrix_x<S> const a = orthonormal_frame<S>(k, k, seed + 1);
    matrix_x<S> const b = orthonormal_frame<S>(k, k, seed + 2);
    matrix_x<S> turned(2 * k + 1, k);
    for (index_t j = 0; j < k; ++j)
      turned.col(j) =
          S(std::cos(angles(0, j))) * frame.col(j) + S(std::sin(angles(0, j))) * frame.col(k + j);
    x = frame.leftCols(k) * a;
    y = turned * b;
  }
  matrix_x<S> x, y;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(grassmann)

BOOST_AUTO_TEST_CASE_TEMPLATE(grassmann_obeys_the_laws_of_a_manifold, Case, law_cases) {
  patch<Case, subspaces> at(subspaces{n, p}, n, p);
  obeys_the_minimum(at);
  has_the_dimension_of_its_type(at);
  has_retraction(at, frame_defect{});
  has_retraction(at, frame_defect{}, polar_retraction{});
  is_second_order(at, polar_retraction{});
  has_inverse_retraction(at);
  has_inverse_retraction(at, polar_retraction{});
  has_gradient_and_hessian(at, 0);
  has_parallel_transport(at, 1.2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_and_log_follow_geodesics, Case, accuracy_cases) {
  patch<Case, subspaces> at(subspaces{n, p}, n, p);
  has_exp_and_log(at, frame_defect{}, {1e-3, 0.5, 1.5});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(results_do_not_depend_on_the_basis, Case, law_cases) {
  using S = typename Case::scalar;
  patch<Case, subspaces> at(subspaces{n, p}, n, p);
  matrix_x<S> const q = orthonormal_frame<S>(p, p, 8), r = orthonormal_frame<S>(p, p, 9);
  matrix_x<S> const x = at.down(at.x), v = at.down(at.v), u = at.down(at.u);
  auto const xq = at.up(x * q), vq = at.up(v * q), uq = at.up(u * q);
  auto y = at.blank(), yq = at.blank(), w = at.blank(), wq = at.blank();

  exp(at.ctx, at.m, at.x, at.v, y);
  exp(at.ctx, at.m, xq, vq, yq);
  BOOST_TEST(near(at.down(yq), at.down(y) * q, at.rounding(), 2));
  transport_along(at.ctx, at.m, at.x, at.v, y, at.u, w);
  transport_along(at.ctx, at.m, xq, vq, yq, uq, wq);
  BOOST_TEST(near(at.down(wq), at.down(w) * q, at.rounding(), 2));
  retract(at.ctx, at.m, at.x, at.v, w);
  retract(at.ctx, at.m, xq, vq, wq);
  BOOST_TEST(span_distance(at.down(w), at.down(wq)) < at.rounding());
  retract(at.ctx, at.m, xq, vq, wq, polar_retraction{});
  BOOST_TEST(span_distance(at.down(w), at.down(wq)) < at.rounding());
  // log() and the inverse retraction see the span of y alone.
  auto const other = at.up(at.down(y) * r);
  log(at.ctx, at.m, xq, other, w);
  BOOST_TEST(near(at.down(w), v * q, at.rounding(), 2));
  inverse_retract(at.ctx, at.m, at.x, y, w);
  inverse_retract(at.ctx, at.m, xq, other, wq);
  BOOST_TEST(near(at.down(wq), at.down(w) * q, at.rounding(), 2));
  BOOST_TEST(std::abs(at.distance_to(xq, other) - at.distance_to(at.x, y)) < at.rounding());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(principal_angles_are_those_that_were_built_in, Case, accuracy_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  matrix_x<double> hard(1, 4), right(1, 4);
  // Angles far below the root of the rounding, equal ones, and one near a right angle.
  hard << 1e-9, 1e-4, 0.7, 1.57;
  right << 0.3, 0.3, 0.3, std::numbers::pi / 2;
  for (auto const& angles : {hard, right}) {
    angled_pair<S> const pair(angles, 5);
    auto const x = at.up(pair.x), y = at.up(pair.y);
    auto w = at.up(matrix_x<double>::Zero(1, 4));
    subspaces const m{9, 4};
    principal_angles(at.ctx, m, x, y, w);
    BOOST_TEST(near(at.down(w), angles, tolerance<S>(9), 2));
    auto s = at.number(0.0);
    distance(at.ctx, m, x, y, s);
    BOOST_TEST(std::abs(value(at.ctx, s) - angles.norm()) < tolerance<S>(9, 2));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(small_angles_keep_their_digits_up_to_rounding, Case, plain_cases) {
  place<Case> at;
  matrix_x<double> angles(1, 3);
  for (double const t : {1e-7, 1e-10, 0.0}) BOOST_TEST_CONTEXT("angle " << t) {
      angles.setConstant(t);
      angled_pair<double> const pair(angles, 3);
      auto const x = at.up(pair.x), y = at.up(pair.y);
      auto v = at.up(pair.x);
      auto s = at.number(0.0);
      subspaces const m{7, 3};
      distance(at.ctx, m, x, y, s);
      // An arc cosine would be off by 1e-8.
      BOOST_TEST(std::abs(value(at.ctx, s) - angles.norm()) < tolerance<double>(7));
      log(at.ctx, m, x, y, v);
      BOOST_TEST(std::abs(at.down(v).norm() - angles.norm()) < tolerance<double>(7));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_right_angle_and_nan_are_reported, Case, plain_cases) {
  place<Case> at;
  matrix_x<double> angles(1, 2);
  angles << 0.2, std::numbers::pi / 2;
  angled_pair<double> const pair(angles, 3);
  auto const x = at.up(pair.x), y = at.up(pair.y);
  matrix_x<double> broken = pair.y;
  broken(1, 1) = std::nan("");
  auto const nan = at.up(broken);
  auto v = at.up(pair.x);
  auto s = at.number(0.0);
  subspaces const m{5, 2};
  auto const status_of = [&](auto const& call) {
    auto bits = status_matrix<typename Case::backend>(at.ctx);
    call(bits);
    return value(at.ctx, bits);
  };
  using namespace stiefelx;
  BOOST_TEST(status_of([&](auto& bits) { log(at.ctx, m, x, y, v, bits); }) == not_converged);
  // Still a vector that leads there.
  auto end = at.up(pair.x);
  exp(at.ctx, m, x, v, end);
  BOOST_TEST(span_distance(at.down(end), at.down(y)) < tolerance<double>(5));
  BOOST_TEST((status_of([&](auto& bits) { log(at.ctx, m, x, nan, v, bits); }) & not_finite) != 0);
  BOOST_TEST(status_of([&](auto& bits) { distance(at.ctx, m, x, nan, s, bits); }) == not_finite);
  BOOST_TEST(injectivity_radius(m) == std::numbers::pi / 2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_named, Case, plain_cases) {
  patch<Case, subspaces> at(subspaces{n, p}, n, p);
  auto small = at.blank(n, 2);
  BOOST_TEST(message_of([&] { exp(at.ctx, at.m, at.x, small, at.v); }) ==
             "exp: v is 7x2, expected 7x3");
  BOOST_TEST(message_of([&] { log(at.ctx, at.m, at.x, at.v, at.x); }) ==
             "log: v overlaps x, expected separate memory");
  BOOST_TEST(message_of([&] { project(at.ctx, subspaces{2, 3}, at.x, at.v, at.u); }) ==
             "project: the manifold is grassmann{2, 3}, expected 0 <= p <= n");
}

BOOST_AUTO_TEST_SUITE_END()
