// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/testing/check_hessian.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/thrown.hpp>
#include <testing/faulty_sphere.hpp>
#include <testing/quadratic.hpp>

namespace {

using namespace support;
using faulty::has;
using faulty::sphere;
using faulty::text;

template <class Case, class Manifold>
stiefelx::hessian_report check(Manifold m, double wrong = 0) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  auto f = quadratic<Case>::make(ctx, m.n, m.p);
  f.wrong_hessian = wrong;
  matrix_x<S> point = random_matrix<S>(m.n, m.p, 1);
  point /= point.norm();
  auto const direction = [&](std::uint64_t seed) {
    matrix_x<S> v = random_matrix<S>(m.n, m.p, seed);
    v -= point * Eigen::numext::real((point.adjoint() * v).trace());
    return v;
  };
  auto const x = Case::backend::upload(ctx, point);
  auto const v = Case::backend::upload(ctx, direction(2));
  auto const u = Case::backend::upload(ctx, direction(3));
  return stiefelx::check_hessian(
      ctx, m, x, v, u, [&](auto& where, auto const& at) { return f.cost(where, at); },
      [&](auto& where, auto const& at, auto& g) { f.gradient(where, at, g); },
      [&](auto& where, auto const& at, auto const& along, auto& h) {
        f.hessian(where, at, along, h);
      });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(check_hessian)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_right_hessian_passes, Case, complex_cases) {
  auto const curved = check<Case>(sphere{7, 2});
  BOOST_TEST_CONTEXT(text(curved)) {
    BOOST_TEST(curved.passed);
    BOOST_TEST(curved.steps.slope > 2.85);
    BOOST_TEST(curved.curvature != 0);
  }
  // The expansion of a quadratic on a flat space is exact.
  auto const flat = check<Case>(stiefelx::euclidean{7, 2});
  BOOST_TEST_CONTEXT(text(flat)) {
    BOOST_TEST(flat.passed);
    BOOST_TEST(flat.steps.exact);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_wrong_hessian_fails_at_slope_two, Case, double_cases) {
  for (auto const& found :
       {check<Case>(sphere{.n = 7, .p = 2, .curvature = 0.01}), check<Case>(sphere{7, 2}, 0.01),
        check<Case>(stiefelx::euclidean{7, 2}, 0.01)}) {
    BOOST_TEST_CONTEXT(text(found)) {
      BOOST_TEST(!found.passed);
      BOOST_TEST(found.steps.slope < 2.3);
      BOOST_TEST(stiefelx::all_passed(found.laws));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_retraction_of_first_order_fails_at_slope_two, Case, double_cases) {
  auto const found = check<Case>(sphere{.n = 7, .p = 2, .order = 0.3});
  BOOST_TEST_CONTEXT(text(found)) {
    BOOST_TEST(!found.passed);
    BOOST_TEST(found.steps.slope < 2.2);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_hessian_that_is_not_symmetric_is_named, Case, double_cases) {
  auto const found = check<Case>(sphere{.n = 7, .p = 2, .skewed = true});
  BOOST_TEST_CONTEXT(text(found)) {
    BOOST_TEST(!found.passed);
    BOOST_TEST(has(text(found), "<Hess f[u], v> = <u, Hess f[v]>: FAILED"));
  }
}

BOOST_AUTO_TEST_SUITE_END()
