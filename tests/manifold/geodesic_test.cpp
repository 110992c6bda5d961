// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How far retractions follow geodesics, whose formulas use an n x n matrix exponential.

#include <cmath>

#include <boost/test/unit_test.hpp>
#include <unsupported/Eigen/MatrixFunctions>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using Eigen::MatrixXd;
using stiefelx::stiefel;

constexpr index_t n = 8, p = 3;

/// The geodesic of the Euclidean metric: [x v] exp [[a, -s], [I, a]] [I; 0] exp(-a), a = x^T v and
/// s = v^T v (Edelman, Arias and Smith 1998, equation 2.3.3).
MatrixXd euclidean_geodesic(MatrixXd const& x, MatrixXd const& v) {
  MatrixXd const a = x.transpose() * v, s = v.transpose() * v;
  MatrixXd block(2 * p, 2 * p), frame(n, 2 * p);
  block << a, -s, MatrixXd::Identity(p, p), a;
  frame << x, v;
  return frame * block.exp().leftCols(p) * (-a).exp();
}

/// The geodesic of the canonical metric: exp(v x^T - x v^T + x v^T x x^T) x.
MatrixXd canonical_geodesic(MatrixXd const& x, MatrixXd const& v) {
  MatrixXd const d = v - x * (x.transpose() * v) / 2;
  return (d * x.transpose() - x * d.transpose()).exp() * x;
}

/// The order at which a retraction leaves a curve: the slope of the distance over the step.
template <class Geodesic, class How>
double order(Geodesic const& geodesic, How how) {
  stiefelx::host::context ctx;
  MatrixXd const x = orthonormal_frame<double>(n, p, 1);
  MatrixXd const v = tangent_vector<double>(x, 2) / 3;
  auto const distance = [&](double t) {
    MatrixXd y(n, p);
    stiefelx::retract(ctx, stiefel{n, p}, x, t * v, y, how);
    return (y - geodesic(x, t * v)).norm();
  };
  double const t = 1e-3;
  return std::log2(distance(2 * t) / distance(t));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(geodesic)

BOOST_AUTO_TEST_CASE(the_geodesics_of_the_oracle_stay_on_the_manifold_and_start_along_v) {
  MatrixXd const x = orthonormal_frame<double>(n, p, 1);
  MatrixXd const v = tangent_vector<double>(x, 2);
  double const t = 1e-6;
  for (auto const& curve : {euclidean_geodesic, canonical_geodesic}) {
    MatrixXd const y = curve(x, v);
    BOOST_TEST(near(y.transpose() * y, MatrixXd::Identity(p, p), tolerance<double>(n, 10)));
    MatrixXd const difference = (curve(x, t * v) - curve(x, -t * v)) / (2 * t);
    BOOST_TEST(near(difference, v, 1e-9));
  }
}

BOOST_AUTO_TEST_CASE(polar_retraction_is_of_second_order_for_the_euclidean_metric) {
  BOOST_TEST(std::abs(order(euclidean_geodesic, stiefelx::polar_retraction{}) - 3) < 0.05);
}

BOOST_AUTO_TEST_CASE(cayley_retraction_is_of_second_order_for_the_canonical_metric) {
  BOOST_TEST(std::abs(order(canonical_geodesic, stiefelx::cayley_retraction{}) - 3) < 0.05);
}

BOOST_AUTO_TEST_CASE(the_other_pairs_are_of_first_order) {
  BOOST_TEST(std::abs(order(euclidean_geodesic, stiefelx::qr_retraction{}) - 2) < 0.05);
  BOOST_TEST(std::abs(order(canonical_geodesic, stiefelx::qr_retraction{}) - 2) < 0.05);
  BOOST_TEST(std::abs(order(canonical_geodesic, stiefelx::polar_retraction{}) - 2) < 0.05);
  BOOST_TEST(std::abs(order(euclidean_geodesic, stiefelx::cayley_retraction{}) - 2) < 0.05);
}

BOOST_AUTO_TEST_SUITE_END()
