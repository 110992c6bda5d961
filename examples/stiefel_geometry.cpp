// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The geometry of the Stiefel manifold: geodesics and distances in two metrics, retractions and
// their order, transports, drift, and many small points in one call.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include <Eigen/Core>

#include <stiefelx/stiefelx.hpp>
#include <stiefelx/testing/check_inverse_retraction.hpp>
#include <stiefelx/testing/check_second_order_retraction.hpp>

using namespace stiefelx;

namespace {

char const* say(bool yes) { return yes ? "yes" : "no"; }

}  // namespace

int main() {
  host::context ctx;
  random_stream stream{.seed = 5};
  Eigen::MatrixXd x(40, 4), y(40, 4), v(40, 4), w(40, 4), s(1, 1);

  //! [metrics]
  stiefel const embedded{.n = 40, .p = 4};  // the metric of the space around
  stiefel const canonical{.n = 40, .p = 4, .alpha = canonical_metric};
  random_point(ctx, canonical, stream, x);
  random_tangent(ctx, canonical, stream, x, v);  // of length one in its metric
  //! [metrics]

  //! [geodesic]
  exp(ctx, canonical, x, v, y);
  logarithm_report const found = log(ctx, canonical, x, y, w);
  distance(ctx, canonical, x, y, s);
  std::printf("log(exp(v)) = v: %s, in %d logarithms\n", say((w - v).norm() < 1e-10),
              found.iterations);
  std::printf("distance: %.6f, below the injectivity radius of %.4f\n", s(0, 0),
              injectivity_radius(canonical));
  //! [geodesic]

  //! [order]
  auto const is_second_order = [&](stiefel m, auto how) {
    return say(check_second_order_retraction(ctx, m, x, v, how).passed);
  };
  std::printf("second order      Euclidean  canonical\n");
  std::printf("  qr              %-9s  %s\n", is_second_order(embedded, qr_retraction{}),
              is_second_order(canonical, qr_retraction{}));
  std::printf("  polar           %-9s  %s\n", is_second_order(embedded, polar_retraction{}),
              is_second_order(canonical, polar_retraction{}));
  std::printf("  cayley          %-9s  %s\n", is_second_order(embedded, cayley_retraction{}),
              is_second_order(canonical, cayley_retraction{}));
  //! [order]

  //! [inverse]
  retract(ctx, embedded, x, v, y, qr_retraction{});
  inverse_retract(ctx, embedded, x, y, w, qr_retraction{});
  std::printf("the inverse of the QR retraction gives v back: %s\n", say((w - v).norm() < 1e-12));
  //! [inverse]

  //! [transport]
  Eigen::MatrixXd u(40, 4), moved(40, 4), before(1, 1), after(1, 1);
  random_tangent(ctx, canonical, stream, x, u);
  exp(ctx, canonical, x, v, y);
  transport_along(ctx, canonical, x, v, y, u, moved, parallel_transport{});
  transport_along(ctx, canonical, x, v, y, v, w, parallel_transport{});
  inner(ctx, canonical, x, u, v, before);
  inner(ctx, canonical, y, moved, w, after);
  std::printf("parallel transport keeps inner products: %s\n",
              say(std::abs(before(0, 0) - after(0, 0)) < 1e-14));
  //! [transport]

  //! [nearest]
  Eigen::MatrixXd const noisy = x + 0.01 * Eigen::MatrixXd::Ones(40, 4);
  nearest_point(ctx, embedded, noisy, y);
  orthonormality_error(ctx, y, s);
  std::printf("the nearest point is orthonormal: %s\n", say(s(0, 0) < 1e-14));
  //! [nearest]

  //! [stack]
  // A thousand points of St(16, 8) side by side, with a gradient each: one call for all of them.
  power<fixed_stiefel<16, 8>> const many{{}, 1000};
  Eigen::MatrixXf points(16, 8 * 1000), steps(16, 8 * 1000);
  random_point(ctx, many, stream, points);
  fill_normal(ctx, stream, 0.1, steps);
  project(ctx, many, points, steps, steps);
  retract(ctx, many, points, steps, points, qr_retraction{});
  float worst = 0;
  for (int k = 0; k < many.count; ++k) {
    auto const point = points.middleCols(8 * k, 8);
    Eigen::MatrixXf const gram = point.transpose() * point;
    worst = std::max(worst, (gram - Eigen::MatrixXf::Identity(8, 8)).norm());
  }
  std::printf("all 1000 small points are orthonormal: %s\n", say(worst < 1e-5f));
  //! [stack]

  //! [drift]
  // The exponential turns the frame, errors and all; a policy cleans it now and then.
  Eigen::MatrixXf z(40, 4), step(40, 4), error(1, 1);
  random_point(ctx, embedded, stream, z);
  restabilizer guard;
  for (int k = 0; k < 2000; ++k) {
    random_tangent(ctx, embedded, stream, z, step);
    retract(ctx, embedded, z, 0.1f * step, z, exponential_retraction{});
    guard.step(ctx, embedded, z, exponential_retraction{});
  }
  drift(ctx, embedded, z, error);
  std::printf("after 2000 steps in float the drift is below 2e-6: %s\n", say(error(0, 0) < 2e-6f));
  //! [drift]
}
