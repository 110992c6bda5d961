// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The logarithm and the distance of the Stiefel manifold.

#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_logarithm.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "steps.hpp"

namespace {

using namespace support;
using stiefelx::logarithm_report;
using stiefelx::not_converged;
using stiefelx::stiefel;

using cases = std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
                         test_case<host_backend, std::complex<double>>>;

constexpr double pi = std::numbers::pi;
double const not_a_number = std::numeric_limits<double>::quiet_NaN();

/// The default tolerance of the small logarithm, or rounding where that is larger, times a
/// condition: near the cut locus a defect counts more than once.
template <class S>
double allowed(stiefel m, double condition = 10) {
  return condition * std::max(1e-11, tolerance<S>(m.n));
}

/// One call of log(), and what it gave.
template <class Case>
struct called : place<Case> {
  using S = typename Case::scalar;
  using place<Case>::ctx;

  called(stiefel m, matrix_x<S> const& x, matrix_x<S> const& y,
         stiefelx::logarithm_options options = {}) {
    auto const from = this->up(x), to = this->up(y);
    auto out = this->up(x);
    auto bits = status_matrix<typename Case::backend>(ctx);
    report = stiefelx::log(ctx, m, from, to, out, bits, options);
    status = status_value(ctx, bits);
    v = this->down(out);
  }

  logarithm_report report;
  int status = 0;
  matrix_x<S> v;
};

template <class Case>
matrix_x<typename Case::scalar> end_of(stiefel m, matrix_x<typename Case::scalar> const& x,
                                       matrix_x<typename Case::scalar> const& v) {
  place<Case> at;
  auto const from = at.up(x), along = at.up(v);
  auto y = at.up(x);
  stiefelx::exp(at.ctx, m, from, along, y);
  return at.down(y);
}

/// A tangent vector of a length in the metric of m.
template <class Case>
matrix_x<typename Case::scalar> tangent(stiefel m, matrix_x<typename Case::scalar> const& x,
                                        double length, std::uint64_t seed) {
  place<Case> at;
  matrix_x<typename Case::scalar> const v = tangent_vector(x, seed);
  auto const point = at.up(x), along = at.up(v);
  auto s = at.number(0.0);
  stiefelx::norm(at.ctx, m, point, along, s);
  return v * static_cast<typename Case::real>(length / value(at.ctx, s));
}

/// log(exp(v)) = v.
template <class Case>
logarithm_report round_trip(stiefel m, double length, std::uint64_t seed, double condition = 10) {
  using S = typename Case::scalar;
  matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, seed);
  matrix_x<S> const v = tangent<Case>(m, x, length, seed + 1);
  called<Case> const found(m, x, end_of<Case>(m, x, v));
  BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", alpha " << m.alpha << ", length " << length / pi
                         << " pi, seed " << seed) {
    BOOST_TEST(found.report.converged);
    BOOST_TEST(found.status == 0);
    BOOST_TEST(near(found.v, v, allowed<S>(m, condition), 1 + length));
  }
  return found.report;
}

template <class Case>
double distance_of(stiefel m, matrix_x<typename Case::scalar> const& x,
                   matrix_x<typename Case::scalar> const& y) {
  place<Case> at;
  auto const from = at.up(x), to = at.up(y);
  auto s = at.number(0.0);
  stiefelx::distance(at.ctx, m, from, to, s);
  return value(at.ctx, s);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(logarithm)

BOOST_AUTO_TEST_CASE(log_of_the_canonical_metric_takes_no_more_iterations_than_published) {
  using Case = test_case<host_backend, double>;
  // Counts to 1e-11 of Zimmermann's algorithm with the Sylvester step.
  for (std::uint64_t seed = 1; seed < 3; ++seed) {
    BOOST_TEST(round_trip<Case>({90, 30, 0}, 0.8 * pi, seed, 1).iterations <= 4);
    BOOST_TEST(round_trip<Case>({90, 30, 0}, 0.5 * pi, seed, 1).iterations <= 3);
    BOOST_TEST(round_trip<Case>({200, 10, 0}, 0.5 * pi, seed, 1).iterations <= 4);
    BOOST_TEST(round_trip<Case>({200, 10, 0}, 0.9 * pi, seed, 1).iterations <= 6);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(log_takes_exp_back_for_every_metric, Case, cases) {
  // The cases of Manifolds.jl, of norm one, and larger ones.
  for (double const alpha : {-0.75, -0.5, -0.25, 0.0, 0.5}) {
    for (auto const& [n, p] : {std::pair{3, 3}, {4, 3}, {4, 2}, {4, 1}, {12, 5}})
      round_trip<Case>({n, p, alpha}, 1, 1);
    round_trip<Case>({12, 5, alpha}, 0.5 * pi, 3);
    round_trip<Case>({5, 3, alpha}, 0.5 * pi, 5);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(log_of_the_euclidean_metric_reaches_beyond_its_own_matrices, Case,
                              cases) {
  // Skew parts that turn by more than pi in the small logarithm, which shooting takes over.
  for (auto const& [n, p] : {std::pair{4, 3}, {4, 2}, {3, 2}, {12, 5}})
    round_trip<Case>({n, p}, 0.8 * pi, 1, 100);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(log_leads_to_points_on_the_other_side_of_the_subspace, Case, cases) {
  using S = typename Case::scalar;
  // One column turns by 0.8 pi out of the subspace, so det(x^H y) is negative, or by pi / 2, so
  // that x^H y is singular.
  matrix_x<S> const frame = orthonormal_frame<S>(6, 4, 1);
  matrix_x<S> const x = frame.leftCols(2);
  for (double const angle : {0.5 * pi, 0.8 * pi})
    for (double const alpha : {-0.5, 0.0, 0.5}) {
      matrix_x<S> v = matrix_x<S>::Zero(6, 2), y = x;
      v.col(1) = frame.col(3) * static_cast<typename Case::real>(angle);
      y.col(1) = x.col(1) * static_cast<typename Case::real>(std::cos(angle)) +
                 frame.col(3) * static_cast<typename Case::real>(std::sin(angle));
      called<Case> const found({6, 2, alpha}, x, y);
      BOOST_TEST_CONTEXT("angle " << angle << ", alpha " << alpha) {
        BOOST_TEST(found.status == 0);
        BOOST_TEST(near(found.v, v, allowed<S>({6, 2}, 100), angle));
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_takes_log_back_between_any_two_near_points, Case, cases) {
  using S = typename Case::scalar;
  for (double const alpha : {-0.5, 0.0, 0.5}) {
    stiefel const m{7, 3, alpha};
    matrix_x<S> const x = orthonormal_frame<S>(7, 3, 1);
    // A step by another metric, so that y is no end of a geodesic that this one made.
    matrix_x<S> const y = end_of<Case>({7, 3, -0.3}, x, tangent_of_length(x, 1.2, 2));
    called<Case> const found(m, x, y);
    matrix_x<S> const along = loop_product(loop_adjoint(x), found.v);
    matrix_x<S> const minus = -loop_adjoint(along);
    BOOST_TEST(near(end_of<Case>(m, x, found.v), y, allowed<S>(m)));
    BOOST_TEST(near(along, minus, tolerance<S>(7), 1));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(log_of_a_point_to_itself_is_zero, Case, cases) {
  using S = typename Case::scalar;
  for (stiefel const m : {stiefel{5, 2, 0}, stiefel{4, 4}, stiefel{4, 3}, stiefel{3, 0}}) {
    matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
    called<Case> const found(m, x, x);
    BOOST_TEST(found.status == 0);
    BOOST_TEST(static_cast<double>(frobenius(table(found.v))) <= tolerance<S>(m.n));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(log_says_when_it_finds_no_geodesic, Case, double_cases) {
  matrix_x<double> const x = orthonormal_frame<double>(4, 4, 1);
  matrix_x<double> y = x;
  y.col(2) *= -1;
  // The two sheets of O(4); antipodes of a sphere; too few iterations; a NaN.
  called<Case> const sheets({4, 4}, x, y);
  BOOST_TEST(sheets.status == not_converged);
  BOOST_TEST(same(sheets.v, matrix_x<double>::Constant(4, 4, not_a_number)));
  matrix_x<double> const one = x.leftCols(1), other = -one;
  BOOST_TEST(called<Case>({4, 1}, one, other).status == not_converged);
  matrix_x<double> const thin = x.leftCols(2);
  matrix_x<double> const far = end_of<Case>({4, 2, 0}, thin, tangent_of_length(thin, 1, 3));
  called<Case> const hasty({4, 2, 0}, thin, far, {.iterations = 1});
  BOOST_TEST(hasty.status == not_converged);
  BOOST_TEST(!hasty.report.converged);
  for (index_t const p : {2, 4}) {
    matrix_x<double> broken = x.leftCols(p);
    broken(0, 0) = not_a_number;
    called<Case> const found({4, p}, x.leftCols(p), broken);
    BOOST_TEST(found.status == (not_converged | stiefelx::not_finite));
    BOOST_TEST(found.v.hasNaN());
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(distance_is_a_left_invariant_metric, Case, cases) {
  using S = typename Case::scalar;
  for (double const alpha : {-0.5, 0.0, 0.5}) {
    stiefel const m{8, 3, alpha};
    matrix_x<S> const x = orthonormal_frame<S>(8, 3, 1);
    matrix_x<S> const v = tangent<Case>(m, x, 0.9, 2), w = tangent<Case>(m, x, 1.1, 3);
    matrix_x<S> const y = end_of<Case>(m, x, v), z = end_of<Case>(m, x, w);
    double const xy = distance_of<Case>(m, x, y), xz = distance_of<Case>(m, x, z);
    double const yz = distance_of<Case>(m, y, z), error = allowed<S>(m);
    matrix_x<S> const turn = orthonormal_frame<S>(8, 8, 4);
    BOOST_TEST_CONTEXT("alpha " << alpha) {
      BOOST_TEST(std::abs(xy - 0.9) < error);
      BOOST_TEST(std::abs(xz - 1.1) < error);
      BOOST_TEST(std::abs(distance_of<Case>(m, y, x) - xy) < error);
      BOOST_TEST(yz < xy + xz);
      BOOST_TEST(xz < xy + yz);
      BOOST_TEST(xy < xz + yz);
      BOOST_TEST(std::abs(distance_of<Case>(m, loop_product(turn, y), loop_product(turn, z)) - yz) <
                 error);
      // Halfway along the geodesic is halfway to its end.
      matrix_x<S> const half = end_of<Case>(m, x, v / typename Case::real(2));
      BOOST_TEST(std::abs(distance_of<Case>(m, half, y) - 0.45) < error);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(distance_on_a_sphere_is_the_angle, Case, double_cases) {
  matrix_x<double> const frame = orthonormal_frame<double>(5, 2, 1);
  for (double const angle : {1e-8, 0.3, 1.0, 3.0})
    for (double const alpha : {-0.5, 0.0}) {
      matrix_x<double> const x = frame.leftCols(1);
      matrix_x<double> const y = std::cos(angle) * x + std::sin(angle) * frame.rightCols(1);
      double const condition = 1 / std::cos(angle / 2);
      BOOST_TEST(std::abs(distance_of<Case>({5, 1, alpha}, x, y) - angle) <
                 tolerance<double>(5, condition));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(log_in_place_and_inverse_retract_have_the_same_bits, Case,
                              double_cases) {
  for (stiefel const m : {stiefel{6, 2, 0}, stiefel{3, 3}}) {
    matrix_x<double> const x = orthonormal_frame<double>(m.n, m.p, 1);
    matrix_x<double> const y = end_of<Case>(m, x, tangent_of_length(x, 1, 2));
    matrix_x<double> const v = called<Case>(m, x, y).v;
    place<Case> at;
    auto from = at.up(x), to = at.up(y);
    stiefelx::log(at.ctx, m, from, to, to);
    BOOST_TEST(same(at.down(to), v));
    to = at.up(y);
    stiefelx::log(at.ctx, m, from, to, from);
    BOOST_TEST(same(at.down(from), v));
    from = at.up(x);
    auto other = at.up(x);
    stiefelx::inverse_retract(at.ctx, m, from, to, other, stiefelx::exponential_retraction{});
    BOOST_TEST(same(at.down(other), v));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(log_and_distance_refuse_wrong_arguments, Case, double_cases) {
  place<Case> at;
  auto x = at.up(matrix_x<double>::Identity(5, 2)), wide = at.up(matrix_x<double>::Zero(5, 3));
  auto v = at.up(matrix_x<double>::Zero(5, 2)), s = at.number(0.0);
  stiefel const m{5, 2};
  stiefelx::no_status const none;
  BOOST_CHECK_THROW(stiefelx::log(at.ctx, m, wide, x, v), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::log(at.ctx, m, x, wide, v), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::log(at.ctx, m, x, x, wide), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::log(at.ctx, m, x, x, v, none, {.tolerance = 0}),
                    stiefelx::option_error);
  BOOST_CHECK_THROW(stiefelx::log(at.ctx, m, x, x, v, none, {.iterations = 0}),
                    stiefelx::option_error);
  BOOST_CHECK_THROW(stiefelx::log(at.ctx, m, wide.middleCols(0, 2), x, wide.middleCols(1, 2)),
                    stiefelx::alias_error);
  BOOST_CHECK_THROW(stiefelx::distance(at.ctx, m, x, wide, s), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::distance(at.ctx, m, x, x, v), stiefelx::shape_error);
}

BOOST_AUTO_TEST_SUITE_END()
