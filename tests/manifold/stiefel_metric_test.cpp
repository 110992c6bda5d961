// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The metrics of the Stiefel manifold: inner products, lengths, gradients, random tangents and the
// injectivity radius, each by its laws.

#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_nearest.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/testing/check_gradient.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "loop_geodesic.hpp"

namespace {

using namespace support;
using stiefelx::option_error;
using stiefelx::random_stream;
using stiefelx::stiefel;

std::vector<double> const alphas{-0.75, -0.5, -0.25, 0, 0.5};
std::vector<stiefel> const manifolds{{0, 0}, {3, 0}, {1, 1}, {4, 1}, {5, 5}, {12, 5}};

template <class A>
double size_of(A const& a) {
  return static_cast<double>(frobenius(table(a)));
}

/// Re tr(u^H v), by loops.
template <class S>
double loop_inner(matrix_x<S> const& u, matrix_x<S> const& v) {
  using wide = stiefelx::wide_t<S>;
  wide sum(0);
  for (index_t j = 0; j < u.cols(); ++j)
    for (index_t i = 0; i < u.rows(); ++i)
      sum += Eigen::numext::conj(static_cast<wide>(u(i, j))) * static_cast<wide>(v(i, j));
  return static_cast<double>(std::real(sum));
}

template <class Case>
struct ground : place<Case> {
  using S = typename Case::scalar;
  using real = typename Case::real;

  double inner(stiefel m, matrix_x<S> const& x, matrix_x<S> const& u, matrix_x<S> const& v) {
    auto const point = this->up(x), first = this->up(u), second = this->up(v);
    auto s = this->number(real(0));
    stiefelx::inner(this->ctx, m, point, first, second, s);
    return static_cast<double>(value(this->ctx, s));
  }

  double length(stiefel m, matrix_x<S> const& x, matrix_x<S> const& v) {
    auto const point = this->up(x), vector = this->up(v);
    auto s = this->number(real(0));
    stiefelx::norm(this->ctx, m, point, vector, s);
    return static_cast<double>(value(this->ctx, s));
  }

  matrix_x<S> gradient(stiefel m, matrix_x<S> const& x, matrix_x<S> const& g) {
    auto const point = this->up(x);
    auto v = this->up(g);
    stiefelx::riemannian_gradient(this->ctx, m, point, v, v);
    return this->down(v);
  }

  matrix_x<S> random_tangent(stiefel m, random_stream& stream, matrix_x<S> const& x) {
    auto const point = this->up(x);
    auto v = this->up(x);
    stiefelx::random_tangent(this->ctx, m, stream, point, v);
    return this->down(v);
  }
};

/// For checks that take long to compile.
using few_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

}  // namespace

BOOST_AUTO_TEST_SUITE(stiefel_metric)

BOOST_AUTO_TEST_CASE_TEMPLATE(inner_weighs_the_two_parts_of_tangent_vectors, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (double const alpha : alphas)
    for (stiefel m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", " << alpha) {
        m.alpha = alpha;
        double const weight = 1 / (2 * (alpha + 1));
        matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
        matrix_x<S> const u = tangent_vector(x, 2), v = tangent_vector(x, 3);
        matrix_x<S> const xh = loop_adjoint(x);
        matrix_x<S> const au = loop_product(xh, u), av = loop_product(xh, v);
        matrix_x<S> const ku = u - loop_product(x, au), kv = v - loop_product(x, av);
        double const expected = weight * loop_inner(au, av) + loop_inner(ku, kv);
        double const allowed = tolerance<S>(m.n * m.p, 1 + weight) * size_of(u) * size_of(v);
        BOOST_TEST(std::abs(at.inner(m, x, u, v) - expected) <= allowed);
        BOOST_TEST(std::abs(at.inner(m, x, v, u) - expected) <= allowed);
        double const square = weight * loop_inner(av, av) + loop_inner(kv, kv);
        double const length = at.length(m, x, v);
        BOOST_TEST(std::abs(length * length - square) <=
                   tolerance<S>(m.n * m.p, 1 + weight) * size_of(v) * size_of(v));
        if (size_of(v) > 0.1) BOOST_TEST(length > 0);
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_canonical_metric_counts_a_rotation_within_the_frame_half, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  stiefel const canonical{9, 4, stiefelx::canonical_metric};
  matrix_x<S> const x = orthonormal_frame<S>(9, 4, 1), z = random_matrix<S>(4, 4, 2);
  matrix_x<S> const skew = z - loop_adjoint(z);
  matrix_x<S> const v = loop_product(x, skew);
  double const square = size_of(skew) * size_of(skew);
  BOOST_TEST(std::abs(at.inner(canonical, x, v, v) - square / 2) <= tolerance<S>(36) * square);
  BOOST_TEST(std::abs(at.inner(stiefel{9, 4}, x, v, v) - square) <= tolerance<S>(36) * square);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(norm_of_large_and_small_vectors_is_in_range, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  ground<Case> at;
  stiefel const m{9, 4, 0.5};
  matrix_x<S> const x = orthonormal_frame<S>(9, 4, 1), v = tangent_vector(x, 2);
  double const length = at.length(m, x, v);
  double const big = std::ldexp(1.0, std::numeric_limits<real>::max_exponent / 2 - 8);
  for (double const factor : {big, 1 / big}) {
    matrix_x<S> const scaled = static_cast<real>(factor) * v;
    BOOST_TEST(std::abs(at.length(m, x, scaled) / factor - length) <= tolerance<S>(36) * length);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradient_represents_the_derivative_in_the_metric, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (double const alpha : alphas)
    for (stiefel m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", " << alpha) {
        m.alpha = alpha;
        matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
        matrix_x<S> const g = random_matrix<S>(m.n, m.p, 2), v = tangent_vector(x, 3);
        matrix_x<S> const grad = at.gradient(m, x, g);
        // v is tangent to its own rounding, not better.
        double const allowed = tolerance<S>(m.n * m.p, 4) * size_of(g);
        matrix_x<S> const a = loop_product(loop_adjoint(x), grad);
        BOOST_TEST(size_of(a + loop_adjoint(a)) <= allowed);
        BOOST_TEST(std::abs(at.inner(m, x, grad, v) - loop_inner(g, v)) <=
                   allowed * (1 + size_of(v)));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradient_matches_differences_of_the_cost_for_every_metric, Case,
                              few_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  index_t const n = 9, p = 4;
  matrix_x<S> const x = orthonormal_frame<S>(n, p, 1);
  auto const point = at.up(x);
  auto const v = at.up(tangent_vector(x, 2));
  auto const a = at.up(positive_matrix<S>(n, 5, 3));
  auto const b = at.up(random_matrix<S>(n, p, 4));
  auto const cost = [&](auto& ctx, auto const& y) {
    auto s = single<typename Case::backend, typename Case::real>(ctx);
    auto const ay = product(ctx, a, y);
    inner(ctx, y, ay, s);
    double const square = static_cast<double>(value(ctx, s));
    inner(ctx, b, y, s);
    return square / 2 + static_cast<double>(value(ctx, s));
  };
  auto const gradient = [&](auto& ctx, auto const& y, auto& g) {
    multiply(ctx, a, y, g);
    axpy(ctx, 1, b, g);
  };
  for (double const alpha : alphas) {
    auto const found =
        stiefelx::check_gradient(at.ctx, stiefel{n, p, alpha}, point, v, cost, gradient);
    BOOST_TEST_CONTEXT(alpha << ": " << found) BOOST_TEST(found.passed);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(random_tangents_have_length_one_in_the_metric, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  random_stream stream{7, 0};
  for (double const alpha : alphas)
    for (stiefel m : {stiefel{4, 1}, stiefel{5, 5}, stiefel{12, 5}}) {
      m.alpha = alpha;
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const v = at.random_tangent(m, stream, x);
      matrix_x<S> const a = loop_product(loop_adjoint(x), v);
      BOOST_TEST(size_of(a + loop_adjoint(a)) <= tolerance<S>(m.n, 1 + size_of(v)));
      BOOST_TEST(std::abs(at.length(m, x, v) - 1) <= tolerance<S>(m.n * m.p, 2));
    }
}

BOOST_AUTO_TEST_CASE(random_tangents_prefer_no_direction_of_their_metric) {
  // On St(4, 2) one of five directions turns the frame within its plane. Its share of the squared
  // length of a uniform unit vector has mean 1/5 and variance 2 (5 - 1) / (25 (5 + 2)).
  ground<test_case<host_backend, double>> at;
  random_stream stream{11, 0};
  matrix_x<double> const x = orthonormal_frame<double>(4, 2, 1);
  int const count = 4000;
  for (double const alpha : {-0.75, -0.5, 0.0, 3.0}) {
    stiefel const m{4, 2, alpha};
    double mean = 0;
    for (int k = 0; k < count; ++k) {
      matrix_x<double> const v = at.random_tangent(m, stream, x);
      double const skew = size_of(loop_product(loop_adjoint(x), v));
      mean += skew * skew / (2 * (alpha + 1)) / count;
    }
    double const deviation = std::sqrt(8 / 175.0 / count);
    BOOST_TEST_CONTEXT(alpha << ": " << mean) BOOST_TEST(std::abs(mean - 0.2) <= 5 * deviation);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nearest_point_is_the_polar_factor, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (stiefel const m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      matrix_x<S> const z = conditioned_matrix<S>(m.n, m.p, 20, 1);
      auto const ambient = at.up(z);
      auto x = at.up(z);
      auto status = status_matrix<typename Case::backend>(at.ctx);
      stiefelx::nearest_point(at.ctx, m, ambient, x, status);
      BOOST_TEST(status_value(at.ctx, status) == 0);
      matrix_x<S> const found = at.down(x);
      double const allowed = tolerance<S>(m.n, 4);
      BOOST_TEST(
          near(loop_product(loop_adjoint(found), found), matrix_x<S>::Identity(m.p, m.p), allowed));
      // z - x is normal: x^H z is Hermitian, and positive as z = x (x^H z) has singular values
      // between 1/20 and 1.
      matrix_x<S> const h = loop_product(loop_adjoint(found), z);
      BOOST_TEST(near(h, loop_adjoint(h), allowed, 1 + size_of(h)));
      BOOST_TEST(near(loop_product(found, h), z, allowed, 1 + size_of(z)));
      for (index_t j = 0; j < m.p; ++j) BOOST_TEST(std::real(h(j, j)) > 0);
      // No other point is nearer, and a point is its own.
      for (std::uint64_t seed = 2; seed < 12; ++seed) {
        matrix_x<S> const other = orthonormal_frame<S>(m.n, m.p, seed);
        BOOST_TEST(size_of(z - found) <= size_of(z - other) + allowed);
      }
      stiefelx::nearest_point(at.ctx, m, x, x);
      BOOST_TEST(near(at.down(x), found, allowed));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nearest_point_reports_a_matrix_without_full_rank, Case,
                              double_cases) {
  place<Case> at;
  matrix_x<double> z = random_matrix<double>(6, 3, 1);
  z.col(2).setZero();
  auto x = at.up(z);
  auto status = status_matrix<typename Case::backend>(at.ctx);
  stiefelx::nearest_point(at.ctx, stiefel{6, 3}, x, x, status);
  BOOST_TEST(status_value(at.ctx, status) != 0);
  auto const wide = at.up(matrix_x<double>::Zero(3, 6));
  BOOST_TEST(message_of([&] { nearest_point(at.ctx, stiefel{6, 3}, wide, x); }) ==
             "nearest_point: z is 3x6, expected 6x3; points with orthonormal rows are those of "
             "row_orthonormal{stiefel{6, 3}}");
  BOOST_TEST(message_of([&] { nearest_point(at.ctx, stiefel{6, 3}, x, x.middleCols(0, 2)); }) ==
             "nearest_point: x is 6x2, expected 6x3");
}

BOOST_AUTO_TEST_CASE(a_metric_parameter_out_of_range_is_refused) {
  stiefelx::host::context ctx;
  matrix_x<double> const x = orthonormal_frame<double>(4, 2, 1);
  matrix_x<double> v(4, 2);
  for (double const alpha : {-1.0, -3.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    stiefel const m{4, 2, alpha};
    BOOST_CHECK_THROW(project(ctx, m, x, x, v), option_error);
    BOOST_CHECK_THROW(riemannian_gradient(ctx, m, x, x, v), option_error);
    BOOST_CHECK_THROW(retract(ctx, m, x, x, v), option_error);
  }
  BOOST_TEST(message_of([&] { project(ctx, stiefel{4, 2, -1}, x, x, v); }) ==
             "project: stiefel::alpha is -1.000000, expected a number above -1");
}

BOOST_AUTO_TEST_CASE(injectivity_radius_has_the_proven_values) {
  using stiefelx::injectivity_radius;
  constexpr double pi = std::numbers::pi;
  BOOST_TEST(injectivity_radius({7, 3}) == pi);
  BOOST_TEST(injectivity_radius({7, 3, -0.3}) == pi);
  double const canonical = injectivity_radius({7, 3, stiefelx::canonical_metric});
  double const root = canonical / std::numbers::sqrt2;
  BOOST_TEST(std::abs(std::sin(root) / root + std::cos(root)) < 1e-15);
  // It is the smallest root: the function is positive up to it.
  for (double t = 0.01; t < root - 0.01; t += 0.01) BOOST_TEST(std::sin(t) / t + std::cos(t) > 0);
  BOOST_TEST(std::abs(canonical / pi - 0.9132618916) < 1e-10);
  BOOST_TEST(canonical > std::sqrt(0.8) * pi);
  BOOST_TEST(std::abs(injectivity_radius({7, 3, 1}) - pi / std::numbers::sqrt2) < 1e-15);
  // Spheres, groups, the canonical metric of SO(n), sets of points.
  for (double const alpha : alphas) {
    BOOST_TEST(injectivity_radius({7, 1, alpha}) == pi);
    BOOST_TEST(std::abs(injectivity_radius({4, 4, alpha}) - pi / std::sqrt(alpha + 1)) < 1e-15);
    BOOST_TEST(std::isinf(injectivity_radius({1, 1, alpha})));
    BOOST_TEST(std::isinf(injectivity_radius({4, 0, alpha})));
  }
  BOOST_TEST(injectivity_radius({4, 3, stiefelx::canonical_metric}) == pi);
  BOOST_TEST(message_of([] { (void)injectivity_radius({7, 3, 0.25}); }) ==
             "injectivity_radius: stiefel::alpha is 0.250000, expected -0.5 to -0.25, 0, or at "
             "least 0.5");
  BOOST_CHECK_THROW((void)injectivity_radius({7, 3, -0.75}), option_error);
}

BOOST_AUTO_TEST_CASE(the_shortest_loops_close_after_twice_the_radius) {
  // v turns two columns into each other, or one column out of the frame: whichever is shorter.
  ground<test_case<host_backend, double>> at;
  for (stiefel const m :
       {stiefel{4, 2, 0.5}, {4, 2, 2}, {4, 2}, {4, 2, -0.25}, {3, 3}, {3, 3, 0}}) {
    matrix_x<double> const x = matrix_x<double>::Identity(m.n, m.p);
    matrix_x<double> v = matrix_x<double>::Zero(m.n, m.p);
    bool const turns = m.n == m.p || m.alpha >= 0.5;
    v(turns ? 1 : m.n - 1, 0) = 1;
    if (turns) v(0, 1) = -1;
    double const length = at.length(m, x, v), radius = stiefelx::injectivity_radius(m);
    matrix_x<double> const half = loop_geodesic<double>(m.alpha, x, v * (radius / length));
    matrix_x<double> const loop = loop_geodesic<double>(m.alpha, x, v * (2 * radius / length));
    BOOST_TEST(near(loop, x, tolerance<double>(m.n, 100)));
    BOOST_TEST((half - x).norm() > 1);
  }
}

BOOST_AUTO_TEST_SUITE_END()
