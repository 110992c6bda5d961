// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/random.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/testing/check_gradient.hpp>
#include <stiefelx/testing/check_hessian.hpp>
#include <stiefelx/testing/check_inverse_retraction.hpp>
#include <stiefelx/testing/check_manifold.hpp>
#include <stiefelx/testing/check_second_order_retraction.hpp>
#include <stiefelx/testing/check_transport.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

/// Laws that every manifold's tests ask for, each with its own point and directions.
namespace support {

/// Laws are run with these: both backends, real and complex.
using law_cases =
    std::tuple<test_case<host_backend, double>, test_case<archetype_backend, std::complex<double>>>;

/// Accuracy is measured in float as well.
using accuracy_cases = std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
                                  test_case<archetype_backend, std::complex<double>>>;

/// Both backends and precisions, for manifolds that have real points only.
using real_law_cases =
    std::tuple<test_case<host_backend, double>, test_case<archetype_backend, float>>;

/// For known values and for what is refused: nothing in them depends on backend or scalar.
using plain_cases = std::tuple<test_case<host_backend, double>>;

/// A manifold, a point of it, and two tangent vectors of norm one.
template <class Case, class M>
struct patch : place<Case> {
  using S = typename Case::scalar;
  using matrix = typename Case::matrix;
  using place<Case>::ctx;

  patch(M manifold, index_t rows, index_t cols, std::uint64_t seed = 1)
      : m(manifold),
        stream{seed, 0},
        x(blank(rows, cols)),
        u(blank(rows, cols)),
        v(blank(rows, cols)) {
    random_point(ctx, m, stream, x);
    random_tangent(ctx, m, stream, x, u);
    random_tangent(ctx, m, stream, x, v);
  }

  matrix blank(index_t rows, index_t cols) { return this->up(matrix_x<S>::Zero(rows, cols)); }
  matrix blank() { return blank(x.rows(), x.cols()); }

  /// t times a matrix, as a matrix of its own.
  template <class A>
  matrix times(double t, A const& a) {
    return this->up(matrix_x<S>(this->down(a) * static_cast<typename Case::real>(t)));
  }

  /// The metric at the point of two matrices.
  template <class A, class B>
  double metric(A const& a, B const& b) {
    auto s = single<typename Case::backend, typename Case::real>(ctx);
    inner(ctx, m, x, a, b, s);
    return static_cast<double>(value(ctx, s));
  }

  double distance_to(matrix const& from, matrix const& to) {
    auto s = single<typename Case::backend, double>(ctx);
    distance(ctx, m, from, to, s);
    return value(ctx, s);
  }

  double rounding(double factor = 1) const { return tolerance<S>(x.rows() * x.cols(), factor); }

  M m;
  stiefelx::random_stream stream;
  matrix x, u, v;
};

/// The minimum interface and what is deduced from it; norm and projection agree with the metric.
template <class P>
void obeys_the_minimum(P& at) {
  auto const found = check_manifold(at.ctx, at.m, at.x, at.stream);
  BOOST_TEST_CONTEXT(found) BOOST_TEST(found.passed);

  auto s = at.number(0.0);
  auto const twice = at.times(2, at.v);
  norm(at.ctx, at.m, at.x, twice, s);
  BOOST_TEST(std::abs(value(at.ctx, s) - 2) < at.rounding(2));
  BOOST_TEST(std::abs(at.metric(at.u, at.u) - 1) < at.rounding());

  auto a = at.blank(), b = at.blank(), pa = at.blank(), pb = at.blank();
  fill_normal(at.ctx, at.stream, 1, a);
  fill_normal(at.ctx, at.stream, 1, b);
  project(at.ctx, at.m, at.x, a, pa);
  project(at.ctx, at.m, at.x, b, pb);
  double const size = std::sqrt(at.metric(a, a) * at.metric(b, b));
  BOOST_TEST(std::abs(at.metric(pa, b) - at.metric(a, pb)) < at.rounding(size));
  BOOST_TEST(std::abs(at.metric(pa, pb)) > at.rounding(size));
}

/// The trace of a projection is its rank: the number of independent directions.
template <class P>
void has_dimension(P& at, index_t expected) {
  using S = typename P::S;
  std::vector<S> units{S(1)};
  if constexpr (!std::is_floating_point_v<S>) units.push_back(S(0, 1));
  auto out = at.blank();
  double trace = 0;
  for (index_t j = 0; j < at.x.cols(); ++j)
    for (index_t i = 0; i < at.x.rows(); ++i)
      for (S const unit : units) {
        matrix_x<S> z = matrix_x<S>::Zero(at.x.rows(), at.x.cols());
        z(i, j) = unit;
        auto const in = at.up(z);
        project(at.ctx, at.m, at.x, in, out);
        matrix_x<S> const found = at.down(out);
        trace += static_cast<double>(std::real(Eigen::numext::conj(unit) * found(i, j)));
      }
  BOOST_TEST(std::abs(trace - static_cast<double>(expected)) <
             at.rounding(static_cast<double>(at.x.rows() * at.x.cols())));
}

/// dimension(m) for real scalars, complex_dimension(m) for complex ones where there are both.
template <class P>
void has_the_dimension_of_its_type(P& at) {
  if constexpr (!std::is_floating_point_v<typename P::S> && requires { complex_dimension(at.m); })
    has_dimension(at, complex_dimension(at.m));
  else
    has_dimension(at, dimension(at.m));
}

/// Slope two, a point at the end (defect(y) measures how far y is from one), also of long steps.
template <class P, class Defect, class... How>
void has_retraction(P& at, Defect const& defect, How const&... how) {
  auto const found = check_retraction(at.ctx, at.m, at.x, at.v, how...);
  BOOST_TEST_CONTEXT(found) {
    BOOST_TEST(found.passed);
    BOOST_TEST(!found.steps.exact);
  }
  for (double const t : {1.0, 10.0}) {
    auto const step = at.times(t, at.v);
    auto y = at.blank();
    retract(at.ctx, at.m, at.x, step, y, how...);
    BOOST_TEST(defect(at.down(y)) < at.rounding(t * t));
  }
}

/// Follows geodesics, by exp() or by the acceleration.
template <class P, class... How>
void is_second_order(P& at, How const&... how) {
  // Float has too few digits between a third-order error and rounding.
  if constexpr (sizeof(typename P::S) > sizeof(float)) {
    auto const found = check_second_order_retraction(at.ctx, at.m, at.x, at.v, how...);
    BOOST_TEST_CONTEXT(found) BOOST_TEST(found.passed);
  }
}

/// inverse_retract() gives back the step.
template <class P, class... How>
void has_inverse_retraction(P& at, How const&... how) {
  auto const found = check_inverse_retraction(at.ctx, at.m, at.x, at.v, how...);
  BOOST_TEST_CONTEXT(found) {
    BOOST_TEST(found.passed);
    BOOST_TEST(found.exact);
  }
}

/// \brief exp() ends on the manifold, log() and distance() give back direction and length.
/// \param defect   how far a matrix is from being a point
/// \param lengths  of the steps, below the injectivity radius
template <class P, class Defect>
void has_exp_and_log(P& at, Defect const& defect, std::vector<double> const& lengths) {
  auto y = at.blank(), middle = at.blank(), back = at.blank();
  auto bits = status_matrix<typename P::backend>(at.ctx);
  for (double const t : lengths) BOOST_TEST_CONTEXT("length " << t) {
      auto const step = at.times(t, at.v), half = at.times(t / 2, at.v);
      exp(at.ctx, at.m, at.x, step, y);
      BOOST_TEST(defect(at.down(y)) < at.rounding());
      log(at.ctx, at.m, at.x, y, back, bits);
      BOOST_TEST(near(at.down(back), at.down(step), at.rounding(), 1 + t));
      BOOST_TEST(std::abs(at.distance_to(at.x, y) - t) < at.rounding(1 + t));
      // Half of the way is half of the distance, from either end.
      exp(at.ctx, at.m, at.x, half, middle);
      BOOST_TEST(std::abs(at.distance_to(middle, y) - t / 2) < at.rounding(1 + t));
    }
  BOOST_TEST(value(at.ctx, bits) == 0);
}

/// Parallel transport along a step: an isometric transport that carries the velocity to itself.
template <class P, class... How>
void has_parallel_transport(P& at, double length, How const&... how) {
  auto const step = at.times(length, at.v);
  auto const found = check_transport(
      at.ctx, at.m, at.x, step, at.u, at.v,
      [&](auto& ctx, auto const& d, auto& y) { exp(ctx, at.m, at.x, d, y); },
      [&](auto& ctx, auto const& d, auto const& y, auto const& from, auto& to) {
        transport_along(ctx, at.m, at.x, d, y, from, to, how...);
      },
      {.isometric = true});
  BOOST_TEST_CONTEXT(found) BOOST_TEST(found.passed);

  auto y = at.blank(), moved = at.blank(), ahead = at.blank(), opposite = at.blank();
  exp(at.ctx, at.m, at.x, step, y);
  transport_along(at.ctx, at.m, at.x, step, y, step, moved, how...);
  log(at.ctx, at.m, y, at.x, opposite);
  BOOST_TEST(near(at.down(moved), -at.down(opposite), at.rounding(), 1 + length));

  // The derivative of a parallel field along the curve is normal.
  double const t = std::is_same_v<typename P::S, float> ? 1e-2 : 1e-4;
  auto const little = at.times(t, at.v), back = at.times(-t, at.v);
  exp(at.ctx, at.m, at.x, little, y);
  transport_along(at.ctx, at.m, at.x, little, y, at.u, ahead, how...);
  exp(at.ctx, at.m, at.x, back, y);
  transport_along(at.ctx, at.m, at.x, back, y, at.u, moved, how...);
  axpy(at.ctx, -1, moved, ahead);
  scale(at.ctx, 1 / (2 * t), ahead);
  project(at.ctx, at.m, at.x, ahead, moved);
  BOOST_TEST(static_cast<double>(at.down(moved).norm()) < 10 * t * t + at.rounding(1 / t));
}

/// A cost with a Gram part and a linear part, its gradient and its Hessian.
template <class P>
struct quadratic {
  using matrix = typename P::matrix;

  /// \param at      the patch
  /// \param linear  factor of the linear part
  quadratic(P& at, double linear)
      : a(at.up(positive_matrix<typename P::S>(at.x.rows(), 5, 3))),
        b(at.times(linear, at.up(random_matrix<typename P::S>(at.x.rows(), at.x.cols(), 4)))) {}

  template <class Ctx, class Y>
  double operator()(Ctx& ctx, Y const& y) const {
    auto s = scratch<double>(ctx, 1, 1);
    auto const ay = product(ctx, a, y);
    inner(ctx, y, ay, s);
    double const square = value(ctx, s);
    inner(ctx, b, y, s);
    return square / 2 + value(ctx, s);
  }
  template <class Ctx, class Y, class G>
  void gradient(Ctx& ctx, Y const& y, G& g) const {
    multiply(ctx, a, y, g);
    axpy(ctx, 1, b, g);
  }
  template <class Ctx, class V, class H>
  void hessian(Ctx& ctx, V const& v, H& h) const {
    multiply(ctx, a, v, h);
  }

  matrix a, b;
};

/// \brief Gradient and Hessian against values of a cost.
/// \param linear  0 for a cost that does not change under x -> x q
/// \param how     options of a retraction of second order, where there is no exp()
template <class P, class... How>
void has_gradient_and_hessian(P& at, double linear, How const&... how) {
  quadratic<P> const cost(at, linear);
  auto const gradient = [&](auto& ctx, auto const& y, auto& g) { cost.gradient(ctx, y, g); };
  auto const slope = check_gradient(at.ctx, at.m, at.x, at.v, cost, gradient);
  BOOST_TEST_CONTEXT(slope) BOOST_TEST(slope.passed);
  if constexpr (sizeof(typename P::S) > sizeof(float)) {
    auto const found = check_hessian(
        at.ctx, at.m, at.x, at.v, at.u, cost, gradient,
        [&](auto& ctx, auto const&, auto const& v, auto& h) { cost.hessian(ctx, v, h); }, how...);
    BOOST_TEST_CONTEXT(found) BOOST_TEST(found.passed);
  }
}

}  // namespace support
