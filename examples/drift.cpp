// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   drift [STEPS]
//
// How far points of St(256, 32) in float are from orthonormal columns after many steps of length
// 0.1 (10,000 by default): each retraction alone, and under the default policy of a restabilizer.
// Exits 1 if one goes beyond 5e-6 under the policy, or says that it corrects drift and does not.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <Eigen/Core>

#include <stiefelx/stiefelx.hpp>

using namespace stiefelx;

namespace {

constexpr stiefel frames{.n = 256, .p = 32};
constexpr double limit = 5e-6;
constexpr int directions = 61;

double error_of(Eigen::MatrixXf const& x) {
  Eigen::MatrixXd const fine = x.cast<double>();
  Eigen::MatrixXd const gram = fine.transpose() * fine;
  return (gram - Eigen::MatrixXd::Identity(x.cols(), x.cols())).norm();
}

/// The largest error on the way.
template <class How>
double walk(int steps, Eigen::MatrixXf const& ambient, How const& how, drift_policy policy) {
  host::context ctx;
  random_stream stream{.seed = 7};
  Eigen::MatrixXf x(frames.n, frames.p), v(frames.n, frames.p);
  random_point(ctx, frames, stream, x);
  restabilizer guard(policy);
  double largest = 0;
  for (int k = 0; k < steps; ++k) {
    project(ctx, frames, x, ambient.middleCols(k % directions * frames.p, frames.p), v);
    v *= 0.1F / v.norm();
    retract(ctx, frames, x, v, x, how);
    guard.step(ctx, frames, x, how);
    // 17 meets every place in the period of the policy.
    if (k % 17 == 0 || k + 1 == steps) largest = std::max(largest, error_of(x));
  }
  return largest;
}

template <class How>
bool row(char const* name, int steps, Eigen::MatrixXf const& ambient, How const& how) {
  double const alone = walk(steps, ambient, how, {.every = 0});
  double const kept = walk(steps, ambient, how, {});
  bool const corrects = corrects_drift(how), good = kept < limit && (!corrects || alone < limit);
  std::printf("%-24s %-8s  %8.1e  %8.1e%s\n", name, corrects ? "yes" : "no", alone, kept,
              good ? "" : "  too far");
  return good;
}

}  // namespace

int main(int count, char** arguments) {
  int const steps = count > 1 ? std::atoi(arguments[1]) : 10000;
  if (steps < 1) {
    std::fprintf(stderr, "drift: STEPS is %s, expected a number of at least 1\n", arguments[1]);
    return 2;
  }
  host::context ctx;
  random_stream stream{.seed = 3};
  Eigen::MatrixXf ambient(frames.n, frames.p * directions);
  fill_normal(ctx, stream, 1, ambient);
  std::printf("%-24s %-8s  %8s  %8s\n", "retraction", "corrects", "alone", "policy");
  bool good = row("QR", steps, ambient, qr_retraction{});
  good &= row("polar", steps, ambient, polar_retraction{});
  good &= row("polar-light", steps, ambient, polar_light_retraction{});
  good &= row("Cayley iteration", steps, ambient, cayley_iteration_retraction{});
  good &= row("Cayley iteration, bare", steps, ambient,
              cayley_iteration_retraction{.newton_schulz_steps = 0});
  good &= row("Cayley", steps, ambient, cayley_retraction{});
  good &= row("Pade 1", steps, ambient, pade_retraction{.order = 1});
  good &= row("Pade 2", steps, ambient, pade_retraction{.order = 2});
  good &= row("quasi-geodesic", steps, ambient, quasi_geodesic_retraction{});
  good &= row("exponential", steps, ambient, exponential_retraction{});
  return good ? 0 : 1;
}
