// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The exponential of the Stiefel manifold against formulas with n x n matrices, and the laws of
// geodesics.

#include <cmath>
#include <complex>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/testing/check_retraction.hpp>
#include <stiefelx/testing/check_second_order_retraction.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "loop_geodesic.hpp"
#include "steps.hpp"

namespace {

using namespace support;
using stiefelx::exponential_retraction;
using stiefelx::stiefel;

using cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
               test_case<host_backend, std::complex<double>>, test_case<archetype_backend, double>>;

std::vector<stiefel> const shapes{{0, 0}, {3, 0}, {1, 1}, {4, 1}, {5, 5}, {5, 4}, {13, 5}};
std::vector<double> const metrics{-0.75, stiefelx::euclidean_metric, stiefelx::canonical_metric,
                                  0.5};

template <class Case>
matrix_x<typename Case::scalar> end_of(stiefel m, matrix_x<typename Case::scalar> const& x,
                                       matrix_x<typename Case::scalar> const& v) {
  place<Case> at;
  auto const from = at.up(x), along = at.up(v);
  auto y = at.up(x);
  stiefelx::exp(at.ctx, m, from, along, y);
  return at.down(y);
}

/// A relative rounding of v turns the end by its angle, and exp(a / (alpha + 1)) by a larger one.
double turning(double alpha, double length) { return 1 + length * (1 + 1 / (alpha + 1)); }

template <class S>
void compare_with_the_loops(stiefel m, matrix_x<S> const& x, matrix_x<S> const& v,
                            matrix_x<S> const& y) {
  using wide = stiefelx::wide_t<S>;
  double const length = static_cast<double>(frobenius(table(v)));
  double const allowed = tolerance<S>(m.n, turning(m.alpha, length));
  matrix_x<wide> const expected = loop_geodesic(m.alpha, loop_cast<wide>(x), loop_cast<wide>(v));
  BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", alpha " << m.alpha << ", length " << length) {
    BOOST_TEST(near(y, expected, allowed));
    BOOST_TEST(orthonormality(y) <= tolerance<S>(m.n, 4));
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(exponential)

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_is_the_geodesic_by_dense_exponentials, Case, cases) {
  using S = typename Case::scalar;
  for (stiefel m : shapes)
    for (double const alpha : metrics)
      for (double const length : {0.0, 1e-6, 1.0, 5.0}) {
        m.alpha = alpha;
        matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
        matrix_x<S> const v = tangent_of_length(x, length, 2);
        compare_with_the_loops<S>(m, x, v, end_of<Case>(m, x, v));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_takes_a_normal_part_of_any_rank, Case, cases) {
  using S = typename Case::scalar;
  // Points and directions among unit vectors, where completed columns meet those of x.
  for (index_t const n : {4, 5, 8}) {
    index_t const p = 3;
    matrix_x<S> const x = matrix_x<S>::Identity(n, p);
    for (int rank = 0; rank < 3; ++rank) {
      matrix_x<S> v = matrix_x<S>::Zero(n, p);
      v(0, 1) = S(-0.5);
      v(1, 0) = S(0.5);
      if (rank > 0) v(3, 2) = S(1);
      if (rank > 1) v(n - 1, 1) = S(2);
      for (double const alpha : metrics) {
        stiefel const m{n, p, alpha};
        compare_with_the_loops<S>(m, x, v, end_of<Case>(m, x, v));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_is_lipperts_formula_for_the_euclidean_metric, Case, cases) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  // [x v] exp [[a, -s], [I, a]] [I; 0] exp(-a) with a = x^H v and s = v^H v.
  index_t const n = 9, p = 3;
  matrix_x<S> const x = orthonormal_frame<S>(n, p, 1);
  matrix_x<S> const v = tangent_of_length(x, 1.5, 2);
  matrix_x<wide> const point = loop_cast<wide>(x), along = loop_cast<wide>(v);
  matrix_x<wide> const a = loop_product(loop_adjoint(point), along);
  matrix_x<wide> block(2 * p, 2 * p), frame(n, 2 * p);
  block << a, -loop_product(loop_adjoint(along), along), matrix_x<wide>::Identity(p, p), a;
  frame << point, along;
  matrix_x<wide> const columns = loop_exponential(block).leftCols(p), minus = -a;
  matrix_x<wide> const expected =
      loop_product(loop_product(frame, columns), loop_exponential(minus));
  BOOST_TEST(near(end_of<Case>(stiefel{n, p}, x, v), expected, tolerance<S>(n, 5)));
}

BOOST_AUTO_TEST_CASE(exp_obeys_the_geodesic_equation_at_constant_speed) {
  using S = std::complex<double>;
  using Case = test_case<host_backend, S>;
  matrix_x<S> const x = orthonormal_frame<S>(8, 3, 1);
  matrix_x<S> const v = tangent_of_length(x, 1, 2);
  for (double const alpha : metrics) {
    stiefel const m{8, 3, alpha};
    auto const point = [&](double t) { return end_of<Case>(m, x, t * v); };
    auto const length = [&](matrix_x<S> const& y, matrix_x<S> const& w) {
      return w.squaredNorm() -
             (2 * alpha + 1) / (2 * (alpha + 1)) * loop_product(loop_adjoint(y), w).squaredNorm();
    };
    // y'' + y y'^H y' + (2 alpha + 1) / (alpha + 1) (I - y y^H) y' y'^H y = 0.
    auto const errors = [&](double h) {
      matrix_x<S> const before = point(0.6 - h), y = point(0.6), after = point(0.6 + h);
      matrix_x<S> const speed = (after - before) / (2 * h);
      matrix_x<S> const bend = (after - 2 * y + before) / (h * h);
      matrix_x<S> const turn = loop_product(speed, loop_product(loop_adjoint(speed), y)) *
                               ((2 * alpha + 1) / (alpha + 1));
      matrix_x<S> const rest = bend + loop_product(y, loop_product(loop_adjoint(speed), speed)) +
                               turn - loop_product(y, loop_product(loop_adjoint(y), turn));
      return std::make_pair(rest.norm(), std::abs(length(y, speed) - length(x, v)));
    };
    // Differences are of second order; an equation that does not hold would leave a constant.
    auto const fine = errors(1e-3), coarse = errors(2e-3);
    BOOST_TEST_CONTEXT("alpha " << alpha) {
      BOOST_TEST(std::abs(std::log2(coarse.first / fine.first) - 2) < 0.05);
      BOOST_TEST(std::abs(std::log2(coarse.second / fine.second) - 2) < 0.05);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_in_place_has_the_same_bits, Case, cases) {
  using S = typename Case::scalar;
  for (stiefel const m : {stiefel{7, 3, 0.25}, stiefel{4, 4}}) {
    place<Case> at;
    matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
    matrix_x<S> const v = tangent_of_length(x, 1, 2);
    matrix_x<S> const y = end_of<Case>(m, x, v);
    auto from = at.up(x), along = at.up(v);
    stiefelx::exp(at.ctx, m, from, along, along);
    BOOST_TEST(same(at.down(along), y));
    along = at.up(v);
    stiefelx::exp(at.ctx, m, from, along, from);
    BOOST_TEST(same(at.down(from), y));
    from = at.up(x);
    stiefelx::retract(at.ctx, m, from, along, from, exponential_retraction{});
    BOOST_TEST(same(at.down(from), y));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_keeps_drift_and_ignores_what_is_not_tangent, Case, cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  stiefel const m{9, 3};
  matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
  matrix_x<S> const v = tangent_of_length(x, 0.5, 2);
  matrix_x<S> const off = x * real(1 + 1e-3);
  double const kept = orthonormality(end_of<Case>(m, off, v)), before = orthonormality(off);
  BOOST_TEST(std::abs(kept - before) < 0.3 * before);
  matrix_x<S> const z = random_matrix<S>(m.p, m.p, 3), symmetric = z + loop_adjoint(z);
  matrix_x<S> const with = v + loop_product(x, symmetric);
  BOOST_TEST(near(end_of<Case>(m, x, with), end_of<Case>(m, x, v), tolerance<S>(m.n, 20)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exponential_retraction_is_of_second_order_for_its_metric, Case,
                              cases) {
  using S = typename Case::scalar;
  for (double const alpha : metrics) {
    place<Case> at;
    matrix_x<S> const frame = orthonormal_frame<S>(8, 3, 1);
    auto const x = at.up(frame), v = at.up(tangent_vector(frame, 2));
    auto const found =
        stiefelx::check_retraction(at.ctx, stiefel{8, 3, alpha}, x, v, exponential_retraction{});
    BOOST_TEST_CONTEXT("alpha " << alpha << "\n" << found) BOOST_TEST(found.passed);
  }
  place<Case> at;
  matrix_x<S> const frame = orthonormal_frame<S>(8, 3, 1);
  auto const x = at.up(frame), v = at.up(tangent_vector(frame, 2));
  auto const found = stiefelx::check_second_order_retraction(at.ctx, stiefel{8, 3}, x, v,
                                                             exponential_retraction{});
  BOOST_TEST_CONTEXT(found) BOOST_TEST(found.passed);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_says_when_a_turn_is_out_of_range, Case, double_cases) {
  place<Case> at;
  matrix_x<double> const frame = orthonormal_frame<double>(6, 2, 1);
  auto const x = at.up(frame);
  auto y = at.up(frame);
  for (auto const& [length, expected] :
       {std::pair{40.0, 0}, {1000.0, int(stiefelx::not_converged)}}) {
    auto const v = at.up(tangent_of_length(frame, length, 2));
    auto status = status_matrix<typename Case::backend>(at.ctx);
    stiefelx::exp(at.ctx, stiefel{6, 2, 0}, x, v, y, status);
    BOOST_TEST(status_value(at.ctx, status) == expected);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(exp_refuses_wrong_arguments, Case, double_cases) {
  place<Case> at;
  auto x = at.up(matrix_x<double>::Identity(5, 2)), wide = at.up(matrix_x<double>::Zero(5, 3));
  auto v = at.up(matrix_x<double>::Zero(5, 2)), y = at.up(matrix_x<double>::Zero(5, 2));
  stiefel const m{5, 2};
  BOOST_CHECK_THROW(stiefelx::exp(at.ctx, m, wide, v, y), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::exp(at.ctx, m, x, wide, y), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::exp(at.ctx, m, x, v, wide), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::exp(at.ctx, stiefel{5, 2, -1}, x, v, y), stiefelx::option_error);
  BOOST_CHECK_THROW(stiefelx::exp(at.ctx, m, wide.middleCols(0, 2), v, wide.middleCols(1, 2)),
                    stiefelx::alias_error);
  BOOST_CHECK_THROW(stiefelx::retract(at.ctx, m, x, v, v, exponential_retraction{}),
                    stiefelx::alias_error);
}

BOOST_AUTO_TEST_SUITE_END()
