// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Manifolds of users, outside of the library's namespace, in the three styles that Eigen's users
// write functions in. Each is the unit sphere in a minimum of 25 lines, and has to go through the
// checks, the deduced functions, the optimizers and a power.

#include <cmath>
#include <type_traits>

#include <Eigen/Core>
#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/testing/check_gradient.hpp>
#include <stiefelx/testing/check_manifold.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace by_ref {

using in = Eigen::Ref<Eigen::MatrixXd const> const&;
using out = Eigen::Ref<Eigen::MatrixXd>;
using stiefelx::host::context;

struct sphere {};

void project(context&, sphere, in x, in z, out v) { v = z - x.cwiseProduct(z).sum() * x; }

void retract(context&, sphere, in x, in v, out y) {
  y = x + v;
  y /= y.norm();
}

void inner(context&, sphere, in, in u, in v, out s) { s(0, 0) = u.cwiseProduct(v).sum(); }

}  // namespace by_ref

// The same in float, with a number in float for the inner product.
namespace by_ref_in_float {

using in = Eigen::Ref<Eigen::MatrixXf const> const&;
using out = Eigen::Ref<Eigen::MatrixXf>;
using stiefelx::host::context;

struct sphere {};

void project(context&, sphere, in x, in z, out v) { v = z - x.cwiseProduct(z).sum() * x; }

void retract(context&, sphere, in x, in v, out y) {
  y = x + v;
  y /= y.norm();
}

void inner(context&, sphere, in, in u, in v, out s) { s(0, 0) = u.cwiseProduct(v).sum(); }

}  // namespace by_ref_in_float

namespace by_base {

using Eigen::MatrixBase;
using stiefelx::host::context;

struct sphere {};

template <class X, class Z, class V>
void project(context&, sphere, MatrixBase<X> const& x, MatrixBase<Z> const& z,
             MatrixBase<V> const& v) {
  v.const_cast_derived() = z - x.cwiseProduct(z).sum() * x;
}

template <class X, class V, class Y>
void retract(context&, sphere, MatrixBase<X> const& x, MatrixBase<V> const& v,
             MatrixBase<Y> const& y) {
  y.const_cast_derived() = (x + v).normalized();
}

template <class X, class U, class V, class S>
void inner(context&, sphere, MatrixBase<X> const&, MatrixBase<U> const& u, MatrixBase<V> const& v,
           MatrixBase<S> const& s) {
  s.const_cast_derived()(0, 0) = u.cwiseProduct(v).sum();
}

}  // namespace by_base

namespace by_auto {

struct sphere {};

void project(auto&, sphere, auto const& x, auto const& z, auto&& v) {
  v = z - x.cwiseProduct(z).sum() * x;
}

void retract(auto&, sphere, auto const& x, auto const& v, auto&& y) { y = (x + v).normalized(); }

void inner(auto&, sphere, auto const&, auto const& u, auto const& v, auto&& s) {
  s(0, 0) = u.cwiseProduct(v).sum();
}

}  // namespace by_auto

namespace by_verbs {

struct sphere {};

void project(auto& ctx, sphere, auto const& x, auto const& z, auto&& v) {
  auto s = scratch<double>(ctx, 1, 1);
  inner(ctx, x, z, s);
  scale(ctx, -1, s);
  copy(ctx, z, v);
  axpy(ctx, s, x, v);
}

void retract(auto& ctx, sphere, auto const& x, auto const& v, auto&& y) {
  auto s = scratch<double>(ctx, 1, 1);
  copy(ctx, x, y);
  axpy(ctx, 1, v, y);
  norm(ctx, y, s);
  transform(ctx, stiefelx::reciprocal_element{}, stiefelx::outputs(s), stiefelx::inputs(s));
  scale(ctx, s, y);
}

void inner(auto& ctx, sphere, auto const&, auto const& u, auto const& v, auto&& s) {
  inner(ctx, u, v, s);
}

}  // namespace by_verbs

namespace {

using namespace support;
using stiefelx::check_gradient;
using stiefelx::distance_or_chord;
using stiefelx::gradient_or_project;
using stiefelx::ManifoldOn;
using stiefelx::norm_or_inner;
using stiefelx::retract_and_transport;
using stiefelx::transport_along_or_project;
using stiefelx::host::context;

constexpr index_t n = 6;

using styles = std::tuple<by_ref::sphere, by_base::sphere, by_auto::sphere, by_verbs::sphere>;

static_assert(ManifoldOn<by_ref::sphere, context, Eigen::MatrixXd>);
static_assert(ManifoldOn<by_base::sphere, context, Eigen::MatrixXd>);
static_assert(ManifoldOn<by_auto::sphere, context, Eigen::MatrixXd>);
static_assert(ManifoldOn<by_verbs::sphere, context, Eigen::MatrixXd>);
static_assert(ManifoldOn<by_verbs::sphere, archetype::context, archetype::matrix<double>>);
static_assert(!ManifoldOn<int, context, Eigen::MatrixXd>);

/// The largest entry is where the least eigenvector points.
Eigen::MatrixXd const spectrum = Eigen::VectorXd::LinSpaced(n, 1, n).asDiagonal();

double cost(context&, Eigen::MatrixXd const& y) { return 0.5 * y.cwiseProduct(spectrum * y).sum(); }
void gradient(context&, Eigen::MatrixXd const& y, Eigen::MatrixXd& g) { g = spectrum * y; }

Eigen::MatrixXd start() { return random_matrix<double>(n, 1, 3).normalized(); }

}  // namespace

BOOST_AUTO_TEST_SUITE(user_manifold)

BOOST_AUTO_TEST_CASE_TEMPLATE(three_functions_pass_the_checks_in_every_style, M, styles) {
  context ctx;
  M const m;
  Eigen::MatrixXd const x = start();
  stiefelx::random_stream stream{1, 0};
  auto const found = check_manifold(ctx, m, x, stream);
  BOOST_TEST_CONTEXT(found) BOOST_TEST(found.passed);
  Eigen::MatrixXd v(n, 1);
  random_tangent_or_project(ctx, m, stream, x, v);
  auto const slope = check_gradient(ctx, m, x, v, cost, gradient);
  BOOST_TEST_CONTEXT(slope) BOOST_TEST(slope.passed);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(three_functions_are_enough_for_the_optimizers_in_every_style, M,
                              styles) {
  context ctx;
  M const m;
  Eigen::MatrixXd x = start();
  stiefelx::riemannian_momentum momentum(ctx, m, x, {.learning_rate = 0.1, .momentum = 0.5});
  for (int step = 0; step < 300; ++step) momentum.step(ctx, x, spectrum * x);
  BOOST_TEST(std::abs(2 * cost(ctx, x) - 1) < tolerance<double>(n));
  x = start();
  stiefelx::riemannian_adam adam(ctx, m, x, {.learning_rate = 0.02});
  for (int step = 0; step < 1000; ++step) adam.step(ctx, x, spectrum * x);
  BOOST_TEST(std::abs(2 * cost(ctx, x) - 1) < 1e-6);
}

BOOST_AUTO_TEST_CASE(functions_that_take_float_alone_are_enough_for_adam) {
  context ctx;
  Eigen::MatrixXf x = start().cast<float>();
  stiefelx::riemannian_adam adam(ctx, by_ref_in_float::sphere{}, x, {.learning_rate = 0.02});
  for (int step = 0; step < 1000; ++step) adam.step(ctx, x, spectrum.cast<float>() * x);
  BOOST_TEST(std::abs(2 * cost(ctx, x.cast<double>()) - 1) < tolerance<float>(n));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(deduced_functions_are_those_of_the_library_in_every_style, M,
                              styles) {
  context ctx;
  M const m;
  stiefelx::sphere const ours{n, 1};
  Eigen::MatrixXd const x = start();
  stiefelx::random_stream stream{5, 0}, same_stream{5, 0};
  Eigen::MatrixXd v(n, 1), w(n, 1), y(n, 1), z(n, 1), expected(n, 1), s(1, 1), t(1, 1);

  random_tangent_or_project(ctx, m, stream, x, v);
  random_tangent(ctx, ours, same_stream, x, w);
  BOOST_TEST(near(v, w, tolerance<double>(n)));
  BOOST_TEST(stream.offset == 1U);
  v *= 3;
  norm_or_inner(ctx, m, x, v, s);
  norm(ctx, ours, x, v, t);
  BOOST_TEST(near(s, t, tolerance<double>(n)));
  retract_and_transport(ctx, m, x, v, v, y, w);
  retract(ctx, ours, x, v, expected);
  BOOST_TEST(near(y, expected, tolerance<double>(n)));
  transport(ctx, ours, x, y, v, expected);
  BOOST_TEST(near(w, expected, tolerance<double>(n), 3));
  transport_along_or_project(ctx, m, x, v, y, v, w);
  BOOST_TEST(near(w, expected, tolerance<double>(n), 3));
  gradient_or_project(ctx, m, x, spectrum * x, w);
  riemannian_gradient(ctx, ours, x, spectrum * x, expected);
  BOOST_TEST(near(w, expected, tolerance<double>(n), 6));
  distance_or_chord(ctx, m, x, y, s);
  BOOST_TEST(std::abs(s(0, 0) - (x - y).norm()) < tolerance<double>(n));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_power_of_a_users_manifold_needs_no_more, M, styles) {
  context ctx;
  stiefelx::power<M> const m{{}, 3};
  Eigen::MatrixXd x(n, 3);
  for (index_t j = 0; j < 3; ++j)
    x.col(j) = random_matrix<double>(n, 1, 10 + static_cast<std::uint64_t>(j)).normalized();
  stiefelx::random_stream stream{1, 0};
  auto const found = check_manifold(ctx, m, x, stream);
  BOOST_TEST_CONTEXT(found) BOOST_TEST(found.passed);
  stiefelx::riemannian_momentum momentum(ctx, m, x, {.learning_rate = 0.1, .momentum = 0.5});
  for (int step = 0; step < 300; ++step) momentum.step(ctx, x, spectrum * x);
  BOOST_TEST(std::abs(2 * cost(ctx, x) - 3) < tolerance<double>(n, 3));
}

BOOST_AUTO_TEST_CASE(a_manifolds_own_functions_are_preferred) {
  context ctx;
  stiefelx::sphere const m{n, 1};
  Eigen::MatrixXd const x = start();
  Eigen::MatrixXd d(n, 1), y(n, 1), v(n, 1), own(n, 1), deduced(n, 1), s(1, 1), t(1, 1);
  stiefelx::random_stream stream{2, 0};
  random_tangent(ctx, m, stream, x, d);
  random_tangent(ctx, m, stream, x, v);
  exp(ctx, m, x, d, y);
  transport_along(ctx, m, x, d, y, v, own);
  transport_along_or_project(ctx, m, x, d, y, v, deduced);
  BOOST_TEST(same(deduced, own));
  distance(ctx, m, x, y, s);
  distance_or_chord(ctx, m, x, y, t);
  BOOST_TEST(same(s, t));
}

BOOST_AUTO_TEST_SUITE_END()
