// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <cmath>
#include <limits>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/testing/check_inverse_retraction.hpp>
#include <stiefelx/testing/check_manifold.hpp>
#include <stiefelx/testing/check_second_order_retraction.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/thrown.hpp>
#include <testing/faulty_sphere.hpp>

namespace {

using namespace support;
using faulty::has;
using faulty::sphere;
using faulty::text;

/// A point of the sphere: the first column of a frame.
template <class Case>
matrix_x<typename Case::scalar> unit(index_t n, index_t p) {
  using S = typename Case::scalar;
  matrix_x<S> x = random_matrix<S>(n, p, 1);
  return x / x.norm();
}

template <class Case>
stiefelx::manifold_report check(sphere m) {
  typename Case::context ctx;
  auto const x = Case::backend::upload(ctx, unit<Case>(m.n, m.p));
  stiefelx::random_stream stream{7, 0};
  return stiefelx::check_manifold(ctx, m, x, stream);
}

/// A unit tangent vector.
template <class Case>
matrix_x<typename Case::scalar> tangent(matrix_x<typename Case::scalar> const& x) {
  using S = typename Case::scalar;
  matrix_x<S> v = random_matrix<S>(x.rows(), x.cols(), 2);
  v -= x * Eigen::numext::real((x.adjoint() * v).trace());
  return v / v.norm();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(check_manifold)

BOOST_AUTO_TEST_CASE_TEMPLATE(right_manifolds_pass, Case, complex_cases) {
  using S = typename Case::scalar;
  auto const found = check<Case>({6, 2});
  BOOST_TEST_CONTEXT(text(found)) {
    BOOST_TEST(found.passed);
    BOOST_TEST(has(text(found), "P P z = P z: passed"));
  }
  typename Case::context ctx;
  stiefelx::random_stream stream{7, 0};
  auto const frame = Case::backend::upload(ctx, orthonormal_frame<S>(7, 3, 1));
  auto const frames = stiefelx::check_manifold(ctx, stiefelx::stiefel{7, 3}, frame, stream);
  BOOST_TEST_CONTEXT(text(frames)) { BOOST_TEST(frames.passed); }
  auto const flat = stiefelx::check_manifold(ctx, stiefelx::euclidean{7, 3}, frame, stream);
  BOOST_TEST_CONTEXT(text(flat)) { BOOST_TEST(flat.passed); }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(each_fault_is_named, Case, double_cases) {
  struct fault {
    sphere m;
    char const* says;
  };
  fault const faults[] = {{{.n = 6, .p = 2, .projection = 1e-6}, "P P z = P z: FAILED"},
                          {{.n = 6, .p = 2, .shrink = 0.5}, "P P z = P z: FAILED"},
                          {{.n = 6, .p = 2, .clobbers = true}, "project in place: FAILED"},
                          {{.n = 6, .p = 2, .clobbers = true}, "retract in place: FAILED"},
                          {{.n = 6, .p = 2, .bend = 1e-6}, "P (2 y - 3 z) = 2 P y - 3 P z: FAILED"},
                          {{.n = 6, .p = 2, .metric = 1e-6}, "<u, d> = <d, u>: FAILED"},
                          {{.n = 6, .p = 2, .weight = 1e-6}, "<grad f, u> = Re tr(g^H u): FAILED"},
                          {{.n = 6, .p = 2, .weight = -2}, "<u, u> >= 0: FAILED"}};
  for (fault const& each : faults) {
    auto const found = check<Case>(each.m);
    BOOST_TEST_CONTEXT(text(found)) {
      BOOST_TEST(!found.passed);
      BOOST_TEST(has(text(found), each.says));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_nan_fails, Case, double_cases) {
  typename Case::context ctx;
  matrix_x<double> point = unit<Case>(6, 1);
  point(2, 0) = std::numeric_limits<double>::quiet_NaN();
  auto const x = Case::backend::upload(ctx, point);
  stiefelx::random_stream stream{7, 0};
  BOOST_TEST(!stiefelx::check_manifold(ctx, sphere{6, 1}, x, stream).passed);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_space_of_one_point_passes, Case, double_cases) {
  typename Case::context ctx;
  auto const x = Case::backend::upload(ctx, orthonormal_frame<double>(1, 1, 1));
  stiefelx::random_stream stream{7, 0};
  BOOST_TEST(stiefelx::check_manifold(ctx, stiefelx::stiefel{1, 1}, x, stream).passed);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retractions_of_first_and_second_order_are_told_apart, Case,
                              real_cases) {
  typename Case::context ctx;
  auto const point = unit<Case>(6, 2);
  auto const x = Case::backend::upload(ctx, point);
  auto const v = Case::backend::upload(ctx, tangent<Case>(point));
  auto const good = stiefelx::check_second_order_retraction(ctx, sphere{6, 2}, x, v);
  BOOST_TEST_CONTEXT(text(good)) { BOOST_TEST(good.passed); }
  auto const bad =
      stiefelx::check_second_order_retraction(ctx, sphere{.n = 6, .p = 2, .order = 0.3}, x, v);
  BOOST_TEST_CONTEXT(text(bad)) {
    BOOST_TEST(!bad.passed);
    BOOST_TEST(bad.steps.slope < 2.2);
    // It is a retraction all the same.
    BOOST_TEST(stiefelx::check_retraction(ctx, sphere{.n = 6, .p = 2, .order = 0.3}, x, v).passed);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(inverses_are_exact_approximate_or_wrong, Case, real_cases) {
  typename Case::context ctx;
  auto const point = unit<Case>(6, 2);
  auto const x = Case::backend::upload(ctx, point);
  auto const v = Case::backend::upload(ctx, tangent<Case>(point));
  auto const exact = stiefelx::check_inverse_retraction(ctx, sphere{6, 2}, x, v);
  BOOST_TEST_CONTEXT(text(exact)) {
    BOOST_TEST(exact.passed);
    BOOST_TEST(exact.exact);
  }
  // The inverse of the right retraction is that of this one to first order.
  sphere const nearly{.n = 6, .p = 2, .order = 0.3};
  auto const approximate = stiefelx::check_inverse_retraction(ctx, nearly, x, v);
  BOOST_TEST_CONTEXT(text(approximate)) {
    BOOST_TEST(approximate.passed);
    BOOST_TEST(!approximate.exact);
  }
  sphere const wrong{.n = 6, .p = 2, .inverse = 0.05};
  auto const bad = stiefelx::check_inverse_retraction(ctx, wrong, x, v);
  BOOST_TEST_CONTEXT(text(bad)) {
    BOOST_TEST(!bad.passed);
    BOOST_TEST(bad.steps.slope < 1.5);
    BOOST_TEST(has(text(bad), "FAILED"));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  typename Case::context ctx;
  auto const x = Case::backend::upload(ctx, unit<Case>(6, 2));
  auto const zero = zeros_like(ctx, x);
  sphere const m{6, 2};
  BOOST_TEST(has(
      message_of([&] { stiefelx::check_second_order_retraction(ctx, m, x, x.middleCols(0, 1)); }),
      "check_second_order_retraction: v is 6x1, expected 6x2"));
  BOOST_TEST(has(message_of([&] { stiefelx::check_inverse_retraction(ctx, m, x, zero); }),
                 "check_inverse_retraction: the norm of v is 0"));
}

BOOST_AUTO_TEST_SUITE_END()
