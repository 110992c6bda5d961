// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How far retractions follow geodesics, whose formulas use an n x n matrix exponential.

#include <cmath>

#include <boost/test/unit_test.hpp>
#include <unsupported/Eigen/MatrixFunctions>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_cayley_iteration.hpp>
#include <stiefelx/manifold/stiefel_pade.hpp>
#include <stiefelx/manifold/stiefel_polar_light.hpp>
#include <stiefelx/manifold/stiefel_quasi_geodesic.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using Eigen::MatrixXd;
using stiefelx::canonical_metric;
using stiefelx::cayley_iteration_retraction;
using stiefelx::cayley_retraction;
using stiefelx::euclidean_metric;
using stiefelx::pade_retraction;
using stiefelx::polar_light_retraction;
using stiefelx::polar_light_rotation;
using stiefelx::polar_retraction;
using stiefelx::qr_retraction;
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

/// The geodesic of the metric alpha: exp(x a x^T / (alpha + 1) + k x^T - x k^T) x exp(alpha / (alpha +
/// 1) a), a = x^T v and k = v - x a (Zimmermann and Hueper 2022).
struct geodesic_of {
  double alpha;

  MatrixXd operator()(MatrixXd const& x, MatrixXd const& v) const {
    MatrixXd const a = x.transpose() * v, k = v - x * a;
    MatrixXd const w = x * a * x.transpose() / (alpha + 1) + k * x.transpose() - x * k.transpose();
    MatrixXd const turn = a * (alpha / (alpha + 1));
    return w.exp() * x * turn.exp();
  }
};

/// The order at which a retraction leaves a curve: the slope of the distance over the step.
template <class Geodesic, class How>
double order(Geodesic const& geodesic, How how, double t) {
  stiefelx::host::context ctx;
  MatrixXd const x = orthonormal_frame<double>(n, p, 1);
  MatrixXd const v = tangent_vector<double>(x, 2) / 3;
  auto const distance = [&](double length) {
    MatrixXd y(n, p);
    stiefelx::retract(ctx, stiefel{n, p}, x, length * v, y, how);
    return (y - geodesic(x, length * v)).norm();
  };
  return std::log2(distance(2 * t) / distance(t));
}

/// Whether a retraction leaves the geodesics of the Euclidean, canonical and another metric at these
/// powers of t.
template <class How>
bool leaves_at(How how, double euclidean, double canonical, double other, double t = 1e-3) {
  auto const is = [&](double alpha, double expected) {
    double const found = order(geodesic_of{alpha}, how, t);
    BOOST_TEST_MESSAGE("metric " << alpha << ": " << found);
    return std::abs(found - expected) < 0.05;
  };
  return is(euclidean_metric, euclidean) && is(canonical_metric, canonical) && is(0.5, other);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(geodesic)

BOOST_AUTO_TEST_CASE(the_geodesics_of_the_oracle_stay_on_the_manifold_and_start_along_v) {
  MatrixXd const x = orthonormal_frame<double>(n, p, 1);
  MatrixXd const v = tangent_vector<double>(x, 2);
  double const t = 1e-6;
  for (double const alpha : {euclidean_metric, canonical_metric, 0.5}) {
    geodesic_of const curve{alpha};
    MatrixXd const y = curve(x, v);
    BOOST_TEST(near(y.transpose() * y, MatrixXd::Identity(p, p), tolerance<double>(n, 10)));
    MatrixXd const difference = (curve(x, t * v) - curve(x, -t * v)) / (2 * t);
    BOOST_TEST(near(difference, v, 1e-9));
  }
  BOOST_TEST(near(geodesic_of{euclidean_metric}(x, v), euclidean_geodesic(x, v),
                  tolerance<double>(n, 10)));
  BOOST_TEST(near(geodesic_of{canonical_metric}(x, v), canonical_geodesic(x, v),
                  tolerance<double>(n, 10)));
}

BOOST_AUTO_TEST_CASE(qr_and_quasi_geodesic_retractions_are_of_first_order_for_every_metric) {
  BOOST_TEST(leaves_at(stiefelx::quasi_geodesic_retraction{}, 2, 2, 2));
  BOOST_TEST(leaves_at(qr_retraction{}, 2, 2, 2));
}

BOOST_AUTO_TEST_CASE(polar_retraction_is_of_second_order_for_the_euclidean_metric) {
  BOOST_TEST(leaves_at(polar_retraction{}, 3, 2, 2));
}

BOOST_AUTO_TEST_CASE(polar_light_retraction_is_of_second_order_for_the_euclidean_metric) {
  BOOST_TEST(leaves_at(polar_light_retraction{}, 3, 2, 2));
  BOOST_TEST(leaves_at(polar_light_retraction{.rotation = polar_light_rotation::cayley}, 3, 2, 2));
}

BOOST_AUTO_TEST_CASE(cayley_retraction_is_of_second_order_for_the_canonical_metric) {
  BOOST_TEST(leaves_at(cayley_retraction{}, 2, 3, 2));
  BOOST_TEST(leaves_at(pade_retraction{.order = 1}, 2, 3, 2));
}

BOOST_AUTO_TEST_CASE(cayley_iteration_is_of_second_order_from_one_step_on) {
  for (int const steps : {0, 1}) {
    BOOST_TEST(leaves_at(cayley_iteration_retraction{.iterations = 1, .newton_schulz_steps = steps},
                         2, 3, 2));
  }
  // The straight step; cleaned up it would be the polar retraction.
  BOOST_TEST(
      leaves_at(cayley_iteration_retraction{.iterations = 0, .newton_schulz_steps = 0}, 2, 2, 2));
  BOOST_TEST(leaves_at(cayley_iteration_retraction{}, 2, 3, 2));
}

BOOST_AUTO_TEST_CASE(pade_retraction_of_order_two_follows_the_canonical_metric_to_fifth_order) {
  BOOST_TEST(leaves_at(pade_retraction{.order = 2}, 2, 5, 2, 0.01));
}

BOOST_AUTO_TEST_SUITE_END()
