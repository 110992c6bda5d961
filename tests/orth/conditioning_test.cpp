// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loss of orthogonality against the condition number: what each method's page promises.

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace {

using namespace support;

constexpr index_t rows = 40, cols = 12;

template <class S>
constexpr double eps = std::numeric_limits<stiefelx::real_of_t<S>>::epsilon();

/// ||I - q^H q||_F after a method on a matrix of a condition number.
template <class Case>
double loss(qr_method method, double condition, std::uint64_t seed = 1) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  matrix_x<S> const a = conditioned_matrix<S>(rows, cols, condition, seed);
  matrix_x<wide> const q = loop_cast<wide>(factor<Case>(method, a).q);
  matrix_x<wide> defect = loop_product(loop_adjoint(q), q);
  for (index_t j = 0; j < cols; ++j) defect(j, j) -= wide(1);
  return static_cast<double>(frobenius(table(defect)));
}

/// Whether the loss is rounding for condition numbers 1, 10, ... up to a last one.
template <class Case>
void expect_flat(qr_method method, double last) {
  for (double condition = 1; condition <= last; condition *= 10)
    BOOST_TEST_CONTEXT(name(method) << ", condition " << condition)
  BOOST_TEST(loss<Case>(method, condition) < tolerance<typename Case::scalar>(rows));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(conditioning)

BOOST_AUTO_TEST_CASE_TEMPLATE(one_cholesky_pass_loses_the_square_of_the_condition_number, Case,
                              real_cases) {
  using S = typename Case::scalar;
  // Means over seeds of log loss, at condition numbers between 10 and eps^-1/2 / 10.
  double const first = 10, last = 0.1 / std::sqrt(eps<S>);
  auto const mean_log = [](double condition) {
    double sum = 0;
    constexpr std::uint64_t seeds = 5;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed)
      sum += std::log(loss<Case>(qr_method::cholesky_one_pass, condition, seed));
    return sum / static_cast<double>(seeds);
  };
  double const slope = (mean_log(last) - mean_log(first)) / std::log(last / first);
  // In float the range is short and its lower end not far from rounding.
  BOOST_TEST(slope > 1.5);
  BOOST_TEST(slope < 2.5);
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

BOOST_AUTO_TEST_CASE_TEMPLATE(general_methods_are_flat_up_to_one_over_eps, Case, real_cases) {
  for (auto const method : general_methods)
    expect_flat<Case>(method, 0.1 / eps<typename Case::scalar>);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_fixed_methods_say_when_a_pivot_is_not_positive, Case,
                              real_cases) {
  using S = typename Case::scalar;
  matrix_x<S> a = random_matrix<S>(rows, cols, 3);
  a.col(5).setZero();
  for (auto const method : {qr_method::cholesky_one_pass, qr_method::cholesky_two_passes}) {
    BOOST_TEST_CONTEXT(name(method))
    BOOST_TEST((factor<Case>(method, a).status & stiefelx::rank_deficient) != 0);
  }
}

BOOST_AUTO_TEST_SUITE_END()
