// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The Riemannian Hessian of every metric and the Weingarten map: against the formula with n x n
// matrices, against second derivatives along geodesics, and by their laws.

#include <cmath>
#include <complex>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/testing/slope.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "loop_geodesic.hpp"

namespace {

using namespace support;
using stiefelx::alias_error;
using stiefelx::option_error;
using stiefelx::stiefel;

std::vector<double> const alphas{-0.75, -0.5, -0.25, 0, 0.5};
std::vector<stiefel> const manifolds{{3, 0}, {1, 1}, {4, 1}, {5, 5}, {12, 5}};

template <class A>
double size_of(A const& a) {
  return static_cast<double>(frobenius(table(a)));
}

template <class S>
double loop_inner(matrix_x<S> const& u, matrix_x<S> const& v) {
  S sum(0);
  for (index_t j = 0; j < u.cols(); ++j)
    for (index_t i = 0; i < u.rows(); ++i) sum += Eigen::numext::conj(u(i, j)) * v(i, j);
  return static_cast<double>(std::real(sum));
}

template <class S>
matrix_x<S> hermitian_part(matrix_x<S> const& a) {
  return (a + loop_adjoint(a)) / S(2);
}

/// The metric, with its n x n matrix.
template <class S>
double metric(double alpha, matrix_x<S> const& x, matrix_x<S> const& u, matrix_x<S> const& v) {
  double const c = (2 * alpha + 1) / (2 * (alpha + 1));
  matrix_x<S> const inside = loop_product(x, loop_product(loop_adjoint(x), v));
  return loop_inner<S>(u, v - S(c) * inside);
}

template <class Case>
struct ground : place<Case> {
  using S = typename Case::scalar;

  matrix_x<S> hessian(stiefel m, matrix_x<S> const& x, matrix_x<S> const& g, matrix_x<S> const& h,
                      matrix_x<S> const& v) {
    auto const point = this->up(x), gradient = this->up(g), direction = this->up(v);
    auto w = this->up(h);
    stiefelx::riemannian_hessian(this->ctx, m, point, gradient, w, direction, w);
    return this->down(w);
  }

  matrix_x<S> weingarten(stiefel m, matrix_x<S> const& x, matrix_x<S> const& v,
                         matrix_x<S> const& z) {
    auto const point = this->up(x), direction = this->up(v), normal = this->up(z);
    auto w = this->up(x);
    stiefelx::weingarten(this->ctx, m, point, direction, normal, w);
    return this->down(w);
  }

  matrix_x<S> project(stiefel m, matrix_x<S> const& x, matrix_x<S> const& z) {
    auto const point = this->up(x);
    auto v = this->up(z);
    stiefelx::project(this->ctx, m, point, v, v);
    return this->down(v);
  }
};

/// f(x) = Re tr(x^H a x d) / 2 + Re tr(b^H x) with Hermitian a and a real diagonal d.
template <class S>
struct quadratic {
  quadratic(index_t n, index_t p)
      : a(positive_matrix<S>(n, 5, 3)), b(random_matrix<S>(n, p, 4)), d(matrix_x<S>::Zero(p, p)) {
    for (index_t j = 0; j < p; ++j) d(j, j) = S(static_cast<stiefelx::real_of_t<S>>(j + 1));
  }

  matrix_x<S> along(matrix_x<S> const& v) const { return loop_product(loop_product(a, v), d); }
  matrix_x<S> gradient(matrix_x<S> const& x) const { return along(x) + b; }
  double operator()(matrix_x<S> const& x) const {
    return loop_inner<S>(x, along(x)) / 2 + loop_inner(b, x);
  }

  matrix_x<S> a, b, d;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(stiefel_hessian)

BOOST_AUTO_TEST_CASE_TEMPLATE(hessian_is_the_formula_with_large_matrices, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  ground<Case> at;
  for (double const alpha : alphas)
    for (stiefel m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", " << alpha) {
        m.alpha = alpha;
        matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1), v = tangent_vector(x, 2);
        matrix_x<S> const g = random_matrix<S>(m.n, m.p, 3), h = random_matrix<S>(m.n, m.p, 4);
        matrix_x<S> const xh = loop_adjoint(x), inside = loop_product(x, xh);
        matrix_x<S> const outside = matrix_x<S>::Identity(m.n, m.n) - inside;
        matrix_x<S> const rank = loop_product(loop_product(outside, g), xh);
        S const c(static_cast<real>((2 * alpha + 1) / (alpha + 1)));
        matrix_x<S> const full = h - loop_product(v, hermitian_part(loop_product(xh, g))) -
                                 c * loop_product(hermitian_part(rank), v);
        matrix_x<S> const form = full - loop_product(x, hermitian_part(loop_product(xh, full)));
        matrix_x<S> const expected =
            loop_product(outside, form) +
            S(static_cast<real>(2 * (alpha + 1))) * loop_product(inside, form);
        matrix_x<S> const w = at.hessian(m, x, g, h, v);
        double const size = size_of(h) + size_of(g) * (1 + size_of(v));
        BOOST_TEST(near(w, expected, tolerance<S>(m.n, 4), size));
        // The form h' is the same second derivative in the metric of the space around.
        matrix_x<S> const u = tangent_vector(x, 5);
        BOOST_TEST(std::abs(metric(alpha, x, w, u) - loop_inner(form, u)) <=
                   tolerance<S>(m.n * m.p, 8) * size * (1 + size_of(u)));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(hessian_is_symmetric_in_the_metric_linear_and_tangent, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (double const alpha : alphas)
    for (stiefel m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", " << alpha) {
        m.alpha = alpha;
        matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
        matrix_x<S> const u = tangent_vector(x, 2), v = tangent_vector(x, 7);
        quadratic<S> const f(m.n, m.p);
        matrix_x<S> const g = f.gradient(x);
        matrix_x<S> const hu = at.hessian(m, x, g, f.along(u), u);
        matrix_x<S> const hv = at.hessian(m, x, g, f.along(v), v);
        double const size = 4 * (size_of(f.d) + size_of(g)) * (1 + size_of(u) + size_of(v));
        matrix_x<S> const a = loop_product(loop_adjoint(x), hu);
        BOOST_TEST(size_of(a + loop_adjoint(a)) <= tolerance<S>(m.n) * size);
        BOOST_TEST(std::abs(metric(alpha, x, hu, v) - metric(alpha, x, u, hv)) <=
                   tolerance<S>(m.n * m.p, 4) * size * (1 + size_of(u) + size_of(v)));
        matrix_x<S> const sum = u - S(3) * v;
        BOOST_TEST(near(at.hessian(m, x, g, f.along(sum), sum), hu - S(3) * hv, tolerance<S>(m.n),
                        4 * size));
      }
}

using scalars = std::tuple<double, std::complex<double>>;

BOOST_AUTO_TEST_CASE_TEMPLATE(hessian_is_the_second_derivative_along_geodesics, S, scalars) {
  ground<test_case<host_backend, S>> at;
  for (double const alpha : alphas)
    for (stiefel const m : {stiefel{7, 3, alpha}, stiefel{3, 3, alpha}, stiefel{5, 1, alpha}}) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> v = tangent_vector(x, 2);
      v /= S(size_of(v));
      quadratic<S> const f(m.n, m.p);
      matrix_x<S> const w = at.hessian(m, x, f.gradient(x), f.along(v), v);
      double const start = f(x), slope = loop_inner(f.gradient(x), v),
                   bend = metric(alpha, x, w, v);
      auto const error = [&](double t) {
        matrix_x<S> const y = loop_geodesic<S>(alpha, x, S(t) * v);
        return std::abs(f(y) - start - t * slope - t * t / 2 * bend);
      };
      auto const found = stiefelx::measure_slope(error, 0.5, tolerance<S>(m.n),
                                                 std::abs(start) + std::abs(slope), 3);
      BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", " << alpha << ": " << found) {
        BOOST_TEST(found.passed);
        BOOST_TEST(!found.exact);
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(weingarten_bends_the_projected_hessian, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (stiefel const m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const u = tangent_vector(x, 5), v = tangent_vector(x, 2);
      matrix_x<S> const g = random_matrix<S>(m.n, m.p, 3), h = random_matrix<S>(m.n, m.p, 4);
      matrix_x<S> const normal = g - at.project(m, x, g);
      matrix_x<S> const w = at.weingarten(m, x, v, normal);
      double const size = (1 + size_of(u)) * (1 + size_of(v)) * (1 + size_of(g)) + size_of(h);
      matrix_x<S> const bent = at.project(m, x, h) + w;
      BOOST_TEST(near(at.hessian(m, x, g, h, v), bent, tolerance<S>(m.n, 2), size));
      matrix_x<S> const a = loop_product(loop_adjoint(x), w);
      BOOST_TEST(size_of(a + loop_adjoint(a)) <= tolerance<S>(m.n, 2) * size);
      // Self-adjoint: it is the second fundamental form, seen from one of its arguments.
      matrix_x<S> const other = at.weingarten(m, x, u, normal);
      BOOST_TEST(std::abs(loop_inner(w, u) - loop_inner(v, other)) <=
                 tolerance<S>(m.n * m.p, 2) * size);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(weingarten_has_the_value_of_a_known_example, Case, double_cases) {
  // St(3, 2) at the first two unit vectors: the example of the tests of Manifolds.jl.
  ground<Case> at;
  matrix_x<double> const x = matrix_x<double>::Identity(3, 2);
  matrix_x<double> v(3, 2), z(3, 2), expected(3, 2);
  v << 0, 0, 0, 0, -0.1, 0.2;
  z << 1, 1, 0, 0, 0, 0;
  expected << 0, 0, 0, 0, 0.1, 0.1;
  BOOST_TEST(near(at.weingarten({3, 2}, x, v, z), expected, tolerance<double>(3)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_named, Case, double_cases) {
  place<Case> at;
  auto& ctx = at.ctx;
  stiefel const m{5, 2};
  matrix_x<double> const frame = orthonormal_frame<double>(5, 2, 1);
  auto x = at.up(frame), g = at.up(frame), h = at.up(frame), v = at.up(frame), w = at.up(frame);
  std::string const apart = ", expected separate memory";
  auto const hessian = [&](auto& out) { riemannian_hessian(ctx, m, x, g, h, v, out); };
  BOOST_TEST(message_of([&] { hessian(x); }) == "riemannian_hessian: w overlaps x" + apart);
  BOOST_TEST(message_of([&] { hessian(g); }) == "riemannian_hessian: w overlaps g" + apart);
  BOOST_TEST(message_of([&] { hessian(v); }) == "riemannian_hessian: w overlaps v" + apart);
  auto const bend = [&](auto& out) { weingarten(ctx, m, x, v, g, out); };
  BOOST_TEST(message_of([&] { bend(x); }) == "weingarten: w overlaps x" + apart);
  BOOST_TEST(message_of([&] { bend(v); }) == "weingarten: w overlaps v" + apart);
  BOOST_TEST(message_of([&] { bend(g); }) == "weingarten: w overlaps z" + apart);
  auto const thin = v.middleCols(0, 1);
  std::string const shape = " is 5x1, expected 5x2";
  BOOST_TEST(message_of([&] { riemannian_hessian(ctx, m, x, thin, h, v, w); }) ==
             "riemannian_hessian: g" + shape);
  BOOST_TEST(message_of([&] { riemannian_hessian(ctx, m, x, g, thin, v, w); }) ==
             "riemannian_hessian: h" + shape);
  BOOST_TEST(message_of([&] { riemannian_hessian(ctx, m, x, g, h, thin, w); }) ==
             "riemannian_hessian: v" + shape);
  BOOST_TEST(message_of([&] { weingarten(ctx, m, x, thin, g, w); }) == "weingarten: v" + shape);
  BOOST_TEST(message_of([&] { weingarten(ctx, m, x, v, thin, w); }) == "weingarten: z" + shape);
  BOOST_TEST(message_of([&] { weingarten(ctx, stiefel{5, 2, 0}, x, v, g, w); }) ==
             "weingarten: stiefel::alpha is 0.000000, expected euclidean_metric");
}

BOOST_AUTO_TEST_SUITE_END()
