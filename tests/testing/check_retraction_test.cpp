// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <limits>
#include <sstream>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/testing/check_retraction.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

/// A user's manifolds: the unit sphere in its ambient space, with retractions that are right,
/// wrong in their derivative, and wrong at zero.
namespace sphere_world {

using stiefelx::index_t;

struct sphere {
  index_t n;
};

/// How far a broken retraction is from the right one.
struct broken {
  double derivative = 0;  ///< relative error of the derivative at zero
  double at_zero = 0;     ///< shift along x
};

template <class Ctx, class X, class Y>
void normalize(Ctx& ctx, X const&, Y&& y) {
  auto length = stiefelx::matrix_t<Ctx, stiefelx::real_t<X>>(zeros<stiefelx::real_t<X>>(ctx, 1, 1));
  auto inverse = clone(ctx, length);
  norm(ctx, y, length);
  transform(ctx, stiefelx::reciprocal_element{}, stiefelx::outputs(inverse),
            stiefelx::inputs(length));
  scale(ctx, inverse, y);
}

template <class Ctx, class X, class V, class Y>
void retract(Ctx& ctx, sphere, X const& x, V const& v, Y&& y, broken how = {}) {
  copy(ctx, x, y);
  axpy(ctx, 1 + how.derivative, v, y);
  normalize(ctx, x, y);
  axpy(ctx, how.at_zero, x, y);
}

template <class Ctx, class X, class Z, class V>
void project(Ctx& ctx, sphere, X const& x, Z const& z, V&& v) {
  copy(ctx, z, v);
  auto const along = product(ctx, x.adjoint(), v);
  multiply_add(ctx, -1, x, along, v);
}

template <class Ctx, class X, class U, class V, class S>
void inner(Ctx& ctx, sphere, X const&, U const& u, V const& v, S&& s) {
  inner(ctx, u, v, s);
}

}  // namespace sphere_world

namespace {

using namespace support;
using sphere_world::broken;
using sphere_world::sphere;
using stiefelx::retraction_report;

/// The sphere's check on a backend.
template <class Case>
retraction_report check_sphere(broken how, double length = 1) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  matrix_x<S> const frame = orthonormal_frame<S>(9, 2, 1);
  auto const x = Case::backend::upload(ctx, frame.leftCols(1));
  auto const v =
      Case::backend::upload(ctx, frame.rightCols(1) * static_cast<typename Case::real>(length));
  return stiefelx::check_retraction(ctx, sphere{9}, x, v, how);
}

template <class Report>
std::string text(Report const& found) {
  std::ostringstream out;
  out << found;
  return out.str();
}

bool has(std::string const& all, char const* part) { return all.find(part) != std::string::npos; }

}  // namespace

BOOST_AUTO_TEST_SUITE(check_retraction)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_right_retraction_passes_at_slope_two, Case, real_cases) {
  for (double const length : {1e-4, 1.0, 1e4}) {
    auto const found = check_sphere<Case>({}, length);
    BOOST_TEST_CONTEXT(text(found)) {
      BOOST_TEST(found.passed);
      BOOST_TEST(found.steps.slope > 1.95);
      BOOST_TEST(found.steps.slope < 2.05);
      BOOST_TEST(!found.steps.exact);
      BOOST_TEST(found.steps.count == 8U);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_wrong_derivative_fails_at_slope_one, Case, real_cases) {
  for (double const wrong : {0.5, 0.1}) {
    auto const found = check_sphere<Case>({.derivative = wrong});
    BOOST_TEST_CONTEXT(text(found)) {
      BOOST_TEST(!found.passed);
      BOOST_TEST(found.at_zero <= found.at_zero_allowed);
      BOOST_TEST(found.steps.slope < 1.5);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_derivative_wrong_by_little_fails_in_double, Case, double_cases) {
  auto const found = check_sphere<Case>({.derivative = 1e-5});
  BOOST_TEST_CONTEXT(text(found)) { BOOST_TEST(!found.passed); }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_shift_at_zero_fails, Case, real_cases) {
  auto const found = check_sphere<Case>({.at_zero = 1e-3});
  BOOST_TEST(!found.passed);
  BOOST_TEST(found.at_zero > found.at_zero_allowed);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_flat_space_passes_as_exact, Case, real_cases) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  auto const x = Case::backend::upload(ctx, random_matrix<S>(6, 3, 1));
  auto const v = Case::backend::upload(ctx, random_matrix<S>(6, 3, 2));
  auto const found = stiefelx::check_retraction(ctx, stiefelx::euclidean{6, 3}, x, v);
  BOOST_TEST(found.passed);
  BOOST_TEST(found.steps.exact);
  BOOST_TEST(has(text(found), "passed: exact"));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_direction_that_is_not_tangent_fails, Case, double_cases) {
  typename Case::context ctx;
  auto const x = Case::backend::upload(ctx, orthonormal_frame<double>(6, 3, 1));
  auto const v = Case::backend::upload(ctx, random_matrix<double>(6, 3, 2));
  auto const found = stiefelx::check_retraction(ctx, stiefelx::stiefel{6, 3}, x, v);
  BOOST_TEST(!found.passed);
  BOOST_TEST(found.steps.slope < 1.1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_nan_fails, Case, double_cases) {
  typename Case::context ctx;
  matrix_x<double> point = orthonormal_frame<double>(6, 1, 1);
  auto const v = Case::backend::upload(ctx, tangent_vector<double>(point, 2));
  point(3, 0) = std::numeric_limits<double>::quiet_NaN();
  auto const x = Case::backend::upload(ctx, point);
  auto const found = stiefelx::check_retraction(ctx, sphere{6}, x, v);
  BOOST_TEST(!found.passed);
  BOOST_TEST(has(text(found), "not a number"));
}

BOOST_AUTO_TEST_CASE(the_report_says_what_was_found) {
  using host_case = test_case<host_backend, double>;
  std::string const good = text(check_sphere<host_case>({}));
  BOOST_TEST(has(good, "|R_x(0) - x|: passed"));
  BOOST_TEST(has(good, "|R_x(tv) - (x + tv)|: passed: slope "));
  BOOST_TEST(has(good, "  * t = "));
  std::string const bad = text(check_sphere<host_case>({.derivative = 0.5, .at_zero = 1e-3}));
  BOOST_TEST(has(bad, "|R_x(0) - x|: FAILED"));
  BOOST_TEST(!has(bad, "passed"));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  typename Case::context ctx;
  auto const x = Case::backend::upload(ctx, orthonormal_frame<double>(6, 3, 1));
  auto const zero = zeros_like(ctx, x);
  auto const says = [](char const* expected) {
    return [expected](std::invalid_argument const& error) { return has(error.what(), expected); };
  };
  stiefelx::stiefel const m{6, 3};
  BOOST_CHECK_EXCEPTION(stiefelx::check_retraction(ctx, m, x, x.middleCols(0, 2)),
                        stiefelx::shape_error, says("check_retraction: v is 6x2, expected 6x3"));
  BOOST_CHECK_EXCEPTION(stiefelx::check_retraction(ctx, m, x, zero), stiefelx::option_error,
                        says("check_retraction: the norm of v is 0"));
}

BOOST_AUTO_TEST_SUITE_END()
