// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <cmath>
#include <sstream>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/testing/check_gradient.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <testing/quadratic.hpp>

namespace {

using namespace support;
using stiefelx::gradient_report;

template <class Case, class Manifold, class... How>
gradient_report check(Manifold m, double curvature, double wrong, double foreign,
                      How const&... how) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  auto f = quadratic<Case>::make(ctx, m.n, m.p);
  f.curvature = curvature;
  f.wrong = wrong;
  f.foreign = foreign;
  matrix_x<S> const frame = orthonormal_frame<S>(m.n, m.p, 1);
  auto const x = Case::backend::upload(ctx, frame);
  auto const v = Case::backend::upload(ctx, tangent_vector<S>(frame, 2));
  return stiefelx::check_gradient(
      ctx, m, x, v, [&](auto& where, auto const& at) { return f.cost(where, at); },
      [&](auto& where, auto const& at, auto& g) { f.gradient(where, at, g); }, how...);
}

std::string text(gradient_report const& found) {
  std::ostringstream out;
  out << found;
  return out.str();
}

bool has(std::string const& all, char const* part) { return all.find(part) != std::string::npos; }

stiefelx::stiefel const frames{7, 3};
stiefelx::euclidean const flat{7, 3};

}  // namespace

BOOST_AUTO_TEST_SUITE(check_gradient)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_right_gradient_passes_at_slope_two, Case, complex_cases) {
  for (auto const& found : {check<Case>(frames, 1, 0, 0), check<Case>(flat, 1, 0, 0),
                            check<Case>(frames, 1, 0, 0, stiefelx::cayley_retraction{})}) {
    BOOST_TEST_CONTEXT(text(found)) {
      BOOST_TEST(found.passed);
      BOOST_TEST(found.steps.slope > 1.9);
      BOOST_TEST(found.steps.slope < 2.1);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_of_wrong_size_or_direction_fails, Case, complex_cases) {
  for (auto const& found : {check<Case>(frames, 1, 0.1, 0), check<Case>(flat, 1, -0.1, 0),
                            check<Case>(frames, 1, 0, 0.2), check<Case>(flat, 1, 0, 0.2)}) {
    BOOST_TEST_CONTEXT(text(found)) {
      BOOST_TEST(!found.passed);
      BOOST_TEST(found.steps.slope < 1.8);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_wrong_by_little_fails_in_double, Case, double_cases) {
  auto const found = check<Case>(frames, 1, 1e-5, 0);
  BOOST_TEST_CONTEXT(text(found)) { BOOST_TEST(!found.passed); }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_linear_cost_on_flat_space_passes_as_exact, Case, real_cases) {
  auto const found = check<Case>(flat, 0, 0, 0);
  BOOST_TEST_CONTEXT(text(found)) {
    BOOST_TEST(found.passed);
    BOOST_TEST(found.steps.exact);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_linear_cost_with_a_wrong_gradient_fails, Case, real_cases) {
  auto const found = check<Case>(flat, 0, 1e-2, 0);
  BOOST_TEST_CONTEXT(text(found)) {
    BOOST_TEST(!found.passed);
    BOOST_TEST(!found.steps.exact);
  }
}

BOOST_AUTO_TEST_CASE(the_report_says_what_was_found) {
  using host_case = test_case<host_backend, double>;
  std::string const good = text(check<host_case>(frames, 1, 0, 0));
  BOOST_TEST(has(good, "f(x) = "));
  BOOST_TEST(has(good, "passed: slope "));
  BOOST_TEST(has(text(check<host_case>(frames, 1, 0.1, 0)), "FAILED: slope "));
}

BOOST_AUTO_TEST_CASE(too_few_points_are_a_failure_that_says_so) {
  auto const found =
      stiefelx::measure_slope([](double t) { return t > 0.4 ? t * t : 0.0; }, 1, 1e-16, 1);
  std::ostringstream out;
  out << found;
  BOOST_TEST(!found.passed);
  BOOST_TEST(!found.exact);
  BOOST_TEST(has(out.str(), "FAILED: 3 errors are well above rounding"));
}

BOOST_AUTO_TEST_CASE(a_first_order_part_shows_although_it_cancels_the_second_on_one_side) {
  auto const error = [](double t) { return std::abs(t * t - 1e-3 * t); };
  auto const found = stiefelx::measure_slope(error, 1, 1e-16, 1);
  BOOST_TEST(!found.passed);
  BOOST_TEST(found.slope < 1.1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  typename Case::context ctx;
  auto const x = Case::backend::upload(ctx, orthonormal_frame<double>(7, 3, 1));
  auto const zero = zeros_like(ctx, x);
  auto const f = [](auto&, auto const&) { return 0.0; };
  auto const g = [](auto& where, auto const&, auto& out) { fill(where, 0, out); };
  auto const says = [](char const* expected) {
    return [expected](std::invalid_argument const& error) { return has(error.what(), expected); };
  };
  BOOST_CHECK_EXCEPTION(stiefelx::check_gradient(ctx, frames, x, x.middleRows(0, 6), f, g),
                        stiefelx::shape_error, says("check_gradient: v is 6x3, expected 7x3"));
  BOOST_CHECK_EXCEPTION(stiefelx::check_gradient(ctx, frames, x, zero, f, g),
                        stiefelx::option_error, says("check_gradient: the norm of v is 0"));
}

BOOST_AUTO_TEST_SUITE_END()
