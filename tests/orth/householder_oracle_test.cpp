// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Factors against Eigen's own Householder QR, whose diagonal is made positive.

#include <utility>

#include <Eigen/QR>
#include <boost/test/unit_test.hpp>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace {

using namespace support;

/// The thin factors with a positive diagonal of r.
std::pair<Eigen::MatrixXd, Eigen::MatrixXd> oracle(Eigen::MatrixXd const& a) {
  Eigen::HouseholderQR<Eigen::MatrixXd> const qr(a);
  index_t const p = a.cols();
  Eigen::MatrixXd r = qr.matrixQR().topRows(p).triangularView<Eigen::Upper>();
  Eigen::MatrixXd q = qr.householderQ() * Eigen::MatrixXd::Identity(a.rows(), p);
  for (index_t j = 0; j < p; ++j) {
    if (r(j, j) > 0) continue;
    r.row(j) *= -1;
    q.col(j) *= -1;
  }
  return {q, r};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(householder_oracle)

BOOST_AUTO_TEST_CASE_TEMPLATE(factors_agree_with_another_implementation, Case, real_cases) {
  using S = typename Case::scalar;
  for (auto const& [n, p] : {std::pair<index_t, index_t>{1, 1}, {6, 6}, {50, 7}, {64, 33}})
    for (auto const method : general_methods)
      BOOST_TEST_CONTEXT(name(method) << ", " << n << "x" << p) {
        double const condition = 20;
        matrix_x<S> const a = conditioned_matrix<S>(n, p, condition, 3);
        auto const [q, r] = oracle(loop_cast<double>(a));
        auto const found = factor<Case>(method, a);
        // A relative change of a moves q by the condition number times as much.
        BOOST_TEST(near(found.q, q, tolerance<S>(n, condition)));
        BOOST_TEST(near(found.r, r, tolerance<S>(n, condition)));
      }
}

BOOST_AUTO_TEST_SUITE_END()
