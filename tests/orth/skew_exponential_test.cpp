// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>

#include <boost/test/unit_test.hpp>
#include <unsupported/Eigen/MatrixFunctions>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/orth/skew_exponential.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "rotations.hpp"

namespace {

using namespace support;
using stiefelx::not_converged;
using stiefelx::not_finite;

template <class S>
struct result {
  matrix_x<S> matrix;
  int status;
};

template <class Case>
result<typename Case::scalar> exponential(matrix_x<typename Case::scalar> const& a,
                                          bool in_place = false,
                                          stiefelx::skew_exponential_options options = {}) {
  using backend = typename Case::backend;
  place<Case> at;
  auto const input = at.up(a);
  auto e = at.up(a);
  auto status = status_matrix<backend>(at.ctx);
  if (in_place)
    stiefelx::skew_exponential(at.ctx, e, e, status, options);
  else
    stiefelx::skew_exponential(at.ctx, input, e, status, options);
  return {at.down(e), status_value(at.ctx, status)};
}

template <class S>
matrix_x<S> identity(index_t n) {
  return matrix_x<S>::Identity(n, n);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(skew_exponential)

BOOST_AUTO_TEST_CASE_TEMPLATE(turns_planes_by_their_angles, Case, rotation_cases) {
  using S = typename Case::scalar;
  for (index_t const n : {0, 1, 2, 5, 8})
    for (double const angle : {0.0, 1e-9, 0.3, 3.0, 12.0, 60.0}) {
      rotation<S> const known(n, angle);
      auto const found = exponential<Case>(known.skew);
      // A rounding of the angle moves the result by as much.
      BOOST_TEST_CONTEXT("n " << n << ", angle " << angle) {
        BOOST_TEST(near(found.matrix, known.unitary, tolerance<S>(n, 1 + angle), 1 + std::sqrt(n)));
        BOOST_TEST(found.status == 0);
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(is_unitary_for_every_angle_and_says_when_it_is_out_of_range, Case,
                              rotation_cases) {
  using S = typename Case::scalar;
  for (double const angle : {2.0, 79.0, 160.0, 5000.0}) {
    auto const found = exponential<Case>(rotation<S>(6, angle).skew);
    BOOST_TEST_CONTEXT("angle " << angle) {
      matrix_x<S> const gram = loop_product(loop_adjoint(found.matrix), found.matrix);
      // Sixteen turns, each as exact as the approximant's cancellation beyond its range.
      double const condition = 16 * std::max(1.0, angle / 80);
      BOOST_TEST(near(gram, identity<S>(6), tolerance<S>(6, condition)));
      if (angle < 60) BOOST_TEST(found.status == 0);
      if (angle > 80) BOOST_TEST(found.status == not_converged);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(squarings_decide_which_angles_are_right, Case, double_cases) {
  rotation<double> const known(4, 150);
  auto const error = [&](int squarings) {
    auto const found = exponential<Case>(known.skew, false, {.squarings = squarings});
    return std::make_pair((found.matrix - known.unitary).norm(), found.status);
  };
  BOOST_TEST(error(0).first > 1e-3);
  BOOST_TEST(error(0).second == not_converged);
  BOOST_TEST(error(6).first < tolerance<double>(4, 150));
  BOOST_TEST(error(6).second == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(agrees_with_the_exponential_of_eigen, Case, double_cases) {
  matrix_x<double> const z = random_matrix<double>(9, 9, 4);
  matrix_x<double> const a = z - z.transpose();
  matrix_x<double> const expected = a.exp();
  BOOST_TEST(near(exponential<Case>(a).matrix, expected, tolerance<double>(9, a.norm())));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(only_the_skew_part_counts, Case, rotation_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const a = rotation<S>(5, 2).skew;
  matrix_x<S> const z = random_matrix<S>(5, 5, 2);
  matrix_x<S> const with = a + z + loop_adjoint(z);
  matrix_x<S> const found = exponential<Case>(with).matrix;
  BOOST_TEST(near(found, exponential<Case>(a).matrix, tolerance<S>(5, 10)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(in_place_has_the_same_bits, Case, rotation_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const a = rotation<S>(7, 9).skew;
  BOOST_TEST(same(exponential<Case>(a, true).matrix, exponential<Case>(a).matrix));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_nan_spreads_and_is_reported, Case, double_cases) {
  matrix_x<double> a = rotation<double>(3, 1).skew;
  a(0, 1) = std::numeric_limits<double>::quiet_NaN();
  auto const found = exponential<Case>(a);
  BOOST_TEST((found.status & not_finite) != 0);
  BOOST_TEST(found.matrix.hasNaN());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(refuses_wrong_arguments, Case, double_cases) {
  place<Case> at;
  auto a = at.up(identity<double>(3)), wide = at.up(matrix_x<double>::Zero(3, 4));
  auto e = at.up(identity<double>(3));
  BOOST_CHECK_THROW(stiefelx::skew_exponential(at.ctx, wide, e), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::skew_exponential(at.ctx, a, wide), stiefelx::shape_error);
  BOOST_CHECK_THROW(
      stiefelx::skew_exponential(at.ctx, a, e, stiefelx::no_status{}, {.squarings = -1}),
      stiefelx::option_error);
  BOOST_CHECK_THROW(
      stiefelx::skew_exponential(at.ctx, wide.middleCols(0, 3), wide.middleCols(1, 3)),
      stiefelx::alias_error);
}

BOOST_AUTO_TEST_SUITE_END()
