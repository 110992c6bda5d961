// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loss of orthogonality against the condition number, from 1 to 1e16: what each page promises.

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace {

using namespace support;
using stiefelx::not_converged;
using stiefelx::rank_deficient;

constexpr index_t rows = 40, cols = 12;

template <class S>
constexpr double eps = std::numeric_limits<stiefelx::real_of_t<S>>::epsilon();

std::vector<double> conditions() {
  std::vector<double> all;
  for (int k = 0; k <= 16; ++k) all.push_back(std::pow(10.0, k));
  return all;
}

template <class S>
matrix_x<S> matrix_of(double condition, std::uint64_t seed = 1) {
  return conditioned_matrix<S>(rows, cols, condition, seed);
}

/// ||I - q^H q||_F after a method on a matrix of a condition number.
template <class Case>
double loss(qr_method method, double condition, std::uint64_t seed = 1) {
  return orthonormality_defect(
      factor<Case>(method, matrix_of<typename Case::scalar>(condition, seed)).q);
}

/// Slope of log loss over log condition by least squares, over condition numbers 3 apart, with the
/// mean of log loss over seeds.
template <class Case>
double slope(qr_method method, double first, double last) {
  constexpr std::uint64_t seeds = 5;
  double count = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (double condition = first; condition <= last; condition *= 3) {
    double mean = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed)
      mean += std::log(loss<Case>(method, condition, seed)) / static_cast<double>(seeds);
    double const at = std::log(condition);
    count += 1;
    x += at;
    y += mean;
    xx += at * at;
    xy += at * mean;
  }
  return (count * xy - x * y) / (count * xx - x * x);
}

/// Whether the loss is rounding for condition numbers 1, 10, ... up to a last one, and the status
/// has no bit that says otherwise.
template <class Case>
void expect_flat(qr_method method, double last) {
  for (double const condition : conditions()) {
    if (condition > last) break;
    BOOST_TEST_CONTEXT(name(method) << ", condition " << condition) {
      auto const found = factor<Case>(method, matrix_of<typename Case::scalar>(condition));
      BOOST_TEST(orthonormality_defect(found.q) < tolerance<typename Case::scalar>(rows));
      BOOST_TEST((found.status & ~(rank_deficient | stiefelx::refined)) == 0);
      // Near 1 / eps either verdict on the last column is right.
      if (condition < 0.01 / eps<typename Case::scalar>)
        BOOST_TEST((found.status & rank_deficient) == 0);
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(conditioning)

BOOST_AUTO_TEST_CASE_TEMPLATE(one_cholesky_pass_loses_the_square_of_the_condition_number, Case,
                              real_cases) {
  // Between where rounding is left behind and where the pivots are lost.
  double const root = 1 / std::sqrt(eps<typename Case::scalar>);
  double const found = slope<Case>(qr_method::cholesky_one_pass, 10, 0.1 * root);
  // In float the range is short and its lower end not far from rounding.
  BOOST_TEST(found > 1.5);
  BOOST_TEST(found < 2.5);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(modified_gram_schmidt_loses_the_condition_number, Case, real_cases) {
  double const found =
      slope<Case>(qr_method::modified_gram_schmidt, 10, 0.01 / eps<typename Case::scalar>);
  BOOST_TEST(found > 0.8);
  BOOST_TEST(found < 1.2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(householder_and_repeated_gram_schmidt_are_flat_everywhere, Case,
                              real_cases) {
  // A column that is lost in rounding may become zero; before that nothing is said.
  expect_flat<Case>(qr_method::householder, 1e16);
  expect_flat<Case>(qr_method::cholesky_automatic, 1e16);
  expect_flat<Case>(qr_method::gram_schmidt, 0.1 / eps<typename Case::scalar>);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(two_cholesky_passes_are_flat_up_to_the_root_of_one_over_eps, Case,
                              real_cases) {
  double const root = 1 / std::sqrt(eps<typename Case::scalar>);
  expect_flat<Case>(qr_method::cholesky_two_passes, 0.1 * root);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(three_shifted_passes_are_flat_up_to_one_over_eps, Case, real_cases) {
  // The constant before 1 / eps falls with n p + p (p + 1), by which the shift exceeds rounding.
  double const shift = static_cast<double>(11 * (rows * cols + cols * (cols + 1)));
  double const last = 1 / (eps<typename Case::scalar> * std::sqrt(shift) * 10);
  expect_flat<Case>(qr_method::cholesky_shifted_three, last);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_fixed_method_is_accurate_or_says_that_it_is_not, Case, real_cases) {
  using S = typename Case::scalar;
  for (auto const method : {qr_method::cholesky_one_pass, qr_method::cholesky_two_passes,
                            qr_method::cholesky_shifted_three})
    for (double const condition : conditions())
      for (std::uint64_t seed = 1; seed <= 3; ++seed)
        BOOST_TEST_CONTEXT(name(method) << ", condition " << condition << ", seed " << seed) {
          auto const found = factor<Case>(method, matrix_of<S>(condition, seed));
          if (found.status != 0) continue;
          double const promised = method == qr_method::cholesky_one_pass
                                      ? tolerance<S>(rows, condition * condition)
                                      : tolerance<S>(rows);
          BOOST_TEST(orthonormality_defect(found.q) < promised);
          // No frame without a status is worse than this.
          BOOST_TEST(orthonormality_defect(found.q) < 0.5);
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(beyond_their_range_the_fixed_methods_report, Case, real_cases) {
  using S = typename Case::scalar;
  auto const bits = [](qr_method method, double condition) {
    return factor<Case>(method, matrix_of<S>(condition)).status & (rank_deficient | not_converged);
  };
  double const root = 1 / std::sqrt(eps<S>);
  for (auto const method : {qr_method::cholesky_one_pass, qr_method::cholesky_two_passes})
    for (double condition = 100 * root; condition <= 1e16; condition *= 10)
      BOOST_TEST(bits(method, condition) != 0);
  BOOST_TEST(bits(qr_method::cholesky_shifted_three, 1e16) != 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_singular_values_method_is_flat_everywhere, Case, real_cases) {
  using S = typename Case::scalar;
  for (double const condition : conditions()) BOOST_TEST_CONTEXT("condition " << condition) {
      auto const found = svd_of<Case>(matrix_of<S>(condition));
      BOOST_TEST(orthonormality_defect(found.u) < tolerance<S>(rows));
      BOOST_TEST(orthonormality_defect(found.v) < tolerance<S>(rows));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_polar_factor_is_orthonormal_or_says_that_it_is_not, Case,
                              real_cases) {
  using S = typename Case::scalar;
  using stiefelx::polar_method;
  for (auto const method : polar_methods)
    for (double const condition : conditions())
      BOOST_TEST_CONTEXT(name(method) << ", condition " << condition) {
        auto const found = polar_of<Case>(matrix_of<S>(condition), {.method = method});
        bool const converged = (found.status & not_converged) == 0;
        if (converged) BOOST_TEST(orthonormality_defect(found.q) < tolerance<S>(rows));
        bool const narrow = method == polar_method::newton_schulz;
        double const range = narrow ? 0.3 / std::sqrt(eps<S>) : 0.1 / eps<S>;
        if (condition <= range || method == polar_method::singular_values) BOOST_TEST(converged);
      }
}

BOOST_AUTO_TEST_SUITE_END()
