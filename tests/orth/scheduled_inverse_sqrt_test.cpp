// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <complex>
#include <limits>
#include <random>
#include <tuple>
#include <type_traits>

#include <stiefelx/orth/scheduled_inverse_sqrt.hpp>
#include <support/backends.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using stiefelx::index_t;
using stiefelx::make_polar_schedule;
using stiefelx::polar_degree;
using stiefelx::real_of_t;
using support::matrix_x;

using cases = std::tuple<support::test_case<support::host_backend, float>,
                         support::test_case<support::host_backend, std::complex<double>>,
                         support::test_case<support::archetype_backend, double>>;

// u diag(f(lambda)) u^H with eigenvalues from one to `largest` and a reflection u.
template <class S, class F>
matrix_x<S> positive(index_t p, double largest, F const& f) {
  std::mt19937 generator(9);
  std::normal_distribution<double> normal;
  matrix_x<S> w(p, 1);
  for (index_t i = 0; i < p; ++i) {
    w(i, 0) = S(static_cast<real_of_t<S>>(normal(generator)));
    if constexpr (!std::is_floating_point_v<S>) w(i, 0) += S(0, normal(generator));
  }
  w /= w.norm();
  matrix_x<S> const u = matrix_x<S>::Identity(p, p) - S(2) * w * w.adjoint();
  matrix_x<S> scaled = u;
  for (index_t j = 0; j < p; ++j) {
    double const part = p == 1 ? 0 : static_cast<double>(j) / static_cast<double>(p - 1);
    scaled.col(j) *= S(static_cast<real_of_t<S>>(f(std::pow(largest, part))));
  }
  matrix_x<S> const g = scaled * u.adjoint();
  return S(real_of_t<S>(0.5)) * (g + g.adjoint());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(scheduled_inverse_sqrt)

BOOST_AUTO_TEST_CASE_TEMPLATE(root_of_known_eigenvalues_is_found, Case, cases) {
  using S = typename Case::scalar;
  support::place<Case> at;
  for (auto const degree : {polar_degree::cubic, polar_degree::quintic})
    for (index_t p : {1, 2, 7, 20})
      for (double largest : {1.0, 2.0, 50.0}) {
        BOOST_TEST_CONTEXT("p " << p << ", largest eigenvalue " << largest) {
          // No sum of a column's moduli exceeds sqrt(p) times the largest eigenvalue.
          double const lower = 1 / std::sqrt(largest * std::sqrt(static_cast<double>(p)) * 1.01);
          auto const schedule = make_polar_schedule(degree, lower, 0, 1e-17);
          auto const g = at.up(positive<S>(p, largest, [](double x) { return x; }));
          auto z = at.up(matrix_x<S>::Zero(p, p));
          inverse_sqrt(at.ctx, g, schedule, z);
          BOOST_TEST(support::near(
              at.down(z), positive<S>(p, largest, [](double x) { return 1 / std::sqrt(x); }),
              support::tolerance<S>(p, largest)));
        }
      }
}

BOOST_AUTO_TEST_CASE(correction_in_double_takes_rounding_and_half_the_digits_away) {
  stiefelx::host::context ctx;
  auto const check = [&](index_t p, double largest, int steps) {
    matrix_x<float> const g = positive<float>(p, largest, [](double x) { return x; });
    matrix_x<float> z(p, p);
    double const lower = 1 / std::sqrt(largest * std::sqrt(static_cast<double>(p)));
    inverse_sqrt(ctx, g, make_polar_schedule(polar_degree::quintic, lower, steps, 1e-4), z);
    matrix_x<double> const wide = z.cast<double>();
    matrix_x<double> const found = wide * g.cast<double>() * wide;
    // One rounding of z, which g's largest eigenvalue enlarges by its root from each side.
    double const allowed = 4 * std::sqrt(largest) * std::numeric_limits<float>::epsilon();
    BOOST_TEST(support::near(found, matrix_x<double>::Identity(p, p), allowed));
  };
  check(24, 400, 0);
  // Two steps alone would leave an error near 1e-4.
  check(6, 2, 2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused, Case, support::double_cases) {
  support::place<Case> at;
  auto const schedule = make_polar_schedule(polar_degree::quintic, 0.5, 0, 1e-9);
  auto g = at.up(matrix_x<double>::Identity(3, 3));
  auto z = at.up(matrix_x<double>::Zero(3, 2));
  BOOST_CHECK_THROW(inverse_sqrt(at.ctx, g, schedule, z), stiefelx::shape_error);
  BOOST_CHECK_THROW(inverse_sqrt(at.ctx, g, schedule, g), stiefelx::alias_error);
}

BOOST_AUTO_TEST_SUITE_END()
