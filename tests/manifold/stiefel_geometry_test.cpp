// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Projection, gradient, metric and transport of the Stiefel manifold, by their laws.

#include <cmath>
#include <complex>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/testing/check_gradient.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::random_stream;
using stiefelx::stiefel;
using stiefelx::wide_t;

std::vector<stiefel> const manifolds{{0, 0}, {3, 0}, {1, 1}, {4, 1}, {5, 5}, {12, 5}, {40, 17}};

/// A context and what the tests do on it.
template <class Case>
struct ground {
  using S = typename Case::scalar;
  using backend = typename Case::backend;
  typename Case::context ctx;

  template <class A>
  auto up(A const& a) {
    return backend::upload(ctx, a);
  }

  matrix_x<S> project(stiefel m, matrix_x<S> const& x, matrix_x<S> const& z) {
    auto const point = up(x), ambient = up(z);
    auto v = up(x);
    stiefelx::project(ctx, m, point, ambient, v);
    return backend::download(ctx, v);
  }

  matrix_x<S> transport(stiefel m, matrix_x<S> const& x, matrix_x<S> const& y,
                        matrix_x<S> const& v) {
    auto const from = up(x), to = up(y), vector = up(v);
    auto w = up(x);
    stiefelx::transport(ctx, m, from, to, vector, w);
    return backend::download(ctx, w);
  }

  double inner(stiefel m, matrix_x<S> const& x, matrix_x<S> const& u, matrix_x<S> const& v) {
    auto const point = up(x), first = up(u), second = up(v);
    auto s = single<backend, typename Case::real>(ctx);
    stiefelx::inner(ctx, m, point, first, second, s);
    return static_cast<double>(value(ctx, s));
  }

  double length(stiefel m, matrix_x<S> const& x, matrix_x<S> const& v) {
    auto const point = up(x), vector = up(v);
    auto s = single<backend, typename Case::real>(ctx);
    stiefelx::norm(ctx, m, point, vector, s);
    return static_cast<double>(value(ctx, s));
  }
};

/// ||x^H v + v^H x||_F, summed in the wide scalar.
template <class S>
double tangency_error(matrix_x<S> const& x, matrix_x<S> const& v) {
  using wide = wide_t<S>;
  matrix_x<wide> const a = loop_product(loop_adjoint(loop_cast<wide>(x)), loop_cast<wide>(v));
  return static_cast<double>(frobenius(table(a + loop_adjoint(a))));
}

/// Re tr(u^H v), by loops in the wide scalar.
template <class S>
double loop_inner(matrix_x<S> const& u, matrix_x<S> const& v) {
  double sum = 0;
  for (index_t j = 0; j < u.cols(); ++j)
    for (index_t i = 0; i < u.rows(); ++i)
      sum += static_cast<double>(std::real(Eigen::numext::conj(static_cast<wide_t<S>>(u(i, j))) *
                                           static_cast<wide_t<S>>(v(i, j))));
  return sum;
}

template <class A>
double size_of(A const& a) {
  return static_cast<double>(frobenius(table(a)));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stiefel_geometry)

BOOST_AUTO_TEST_CASE_TEMPLATE(project_gives_the_tangent_part_and_leaves_tangents, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (stiefel const m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const z = random_matrix<S>(m.n, m.p, 2);
      matrix_x<S> const v = at.project(m, x, z);
      double const allowed = tolerance<S>(m.n) * size_of(z);
      BOOST_TEST(tangency_error(x, v) <= allowed);
      BOOST_TEST(near(at.project(m, x, v), v, tolerance<S>(m.n), size_of(z)));
      // What is taken away is normal: x times a Hermitian matrix.
      matrix_x<S> const normal = z - v;
      matrix_x<S> const h = loop_product(loop_adjoint(x), normal);
      BOOST_TEST(near(h, loop_adjoint(h), tolerance<S>(m.n), size_of(z)));
      BOOST_TEST(near(loop_product(x, h), normal, tolerance<S>(m.n), size_of(z)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(project_is_self_adjoint_and_linear, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (stiefel const m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const a = random_matrix<S>(m.n, m.p, 2), b = random_matrix<S>(m.n, m.p, 3);
      matrix_x<S> const pa = at.project(m, x, a), pb = at.project(m, x, b);
      double const allowed = tolerance<S>(m.n * m.p) * size_of(a) * size_of(b);
      BOOST_TEST(std::abs(loop_inner(pa, b) - loop_inner(a, pb)) <= allowed);
      matrix_x<S> const sum = a - typename Case::real(3) * b;
      BOOST_TEST(near(at.project(m, x, sum), pa - typename Case::real(3) * pb, tolerance<S>(m.n),
                      size_of(a) + 3 * size_of(b)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(project_of_the_point_itself_is_zero, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  matrix_x<S> const x = orthonormal_frame<S>(9, 4, 1);
  BOOST_TEST(near(at.project({9, 4}, x, x), matrix_x<S>::Zero(9, 4), tolerance<S>(9), 2));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(inner_and_norm_are_those_of_the_space_around, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (stiefel const m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const u = tangent_vector(x, 2), v = tangent_vector(x, 3);
      double const allowed = tolerance<S>(m.n * m.p) * size_of(u) * size_of(v);
      BOOST_TEST(std::abs(at.inner(m, x, u, v) - loop_inner(u, v)) <= allowed);
      BOOST_TEST(std::abs(at.length(m, x, v) - size_of(v)) <= tolerance<S>(m.n * m.p) * size_of(v));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(riemannian_gradient_matches_differences_of_the_cost, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (stiefel const m : {stiefel{1, 1}, stiefel{5, 5}, stiefel{9, 4}}) {
    // On St(1, 1) of the reals there is no direction to check.
    if (m.n == 1 && std::is_same_v<S, typename Case::real>) continue;
    matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
    auto const point = at.up(x);
    auto const v = at.up(tangent_vector(x, 2));
    auto const a = at.up(positive_matrix<S>(m.n, 5, 3));
    auto const b = at.up(random_matrix<S>(m.n, m.p, 4));
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
    auto const found = stiefelx::check_gradient(at.ctx, m, point, v, cost, gradient);
    BOOST_TEST_CONTEXT(m.n << "x" << m.p << ": " << found) BOOST_TEST(found.passed);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(riemannian_gradient_is_the_projection, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  matrix_x<S> const x = orthonormal_frame<S>(9, 4, 1), g = random_matrix<S>(9, 4, 2);
  auto const point = at.up(x), gradient = at.up(g);
  auto v = at.up(x);
  stiefelx::riemannian_gradient(at.ctx, stiefel{9, 4}, point, gradient, v);
  BOOST_TEST(same(Case::backend::download(at.ctx, v), at.project({9, 4}, x, g)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(transport_is_tangent_linear_and_the_identity_at_one_point, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (stiefel const m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const y = orthonormal_frame<S>(m.n, m.p, 5);
      matrix_x<S> const u = tangent_vector(x, 2), v = tangent_vector(x, 3);
      matrix_x<S> const w = at.transport(m, x, y, v);
      BOOST_TEST(tangency_error(y, w) <= tolerance<S>(m.n) * size_of(v));
      matrix_x<S> const sum = at.transport(m, x, y, u + typename Case::real(2) * v);
      matrix_x<S> const parts = at.transport(m, x, y, u) + typename Case::real(2) * w;
      BOOST_TEST(near(sum, parts, tolerance<S>(m.n), size_of(u) + 2 * size_of(v)));
      BOOST_TEST(near(at.transport(m, x, x, v), v, tolerance<S>(m.n), size_of(x)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(random_tangent_is_tangent_and_of_norm_one, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  random_stream stream{7, 0};
  for (stiefel const m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      auto const point = at.up(x);
      auto v = at.up(x);
      auto const before = stream.offset;
      stiefelx::random_tangent(at.ctx, m, stream, point, v);
      BOOST_TEST(stream.offset == before + 1);
      matrix_x<S> const found = Case::backend::download(at.ctx, v);
      BOOST_TEST(tangency_error(x, found) <= tolerance<S>(m.n));
      bool const is_real = std::is_same_v<S, typename Case::real>;
      if ((is_real ? dimension(m) : complex_dimension(m)) > 0) {
        BOOST_TEST(std::abs(size_of(found) - 1) <= tolerance<S>(m.n * m.p));
      } else {
        BOOST_TEST(size_of(found) <= tolerance<S>(m.n));
      }
    }
}

BOOST_AUTO_TEST_CASE(dimension_counts_the_independent_directions) {
  static_assert(stiefelx::dimension(stiefel{5, 1}) == 4);
  static_assert(stiefelx::dimension(stiefel{3, 3}) == 3);
  static_assert(stiefelx::complex_dimension(stiefel{1, 1}) == 1);
  static_assert(stiefelx::complex_dimension(stiefel{4, 2}) == 12);
  // The rank of the projection is its trace.
  ground<test_case<host_backend, double>> real;
  ground<test_case<host_backend, std::complex<double>>> complex;
  for (stiefel const m : {stiefel{1, 1}, stiefel{4, 1}, stiefel{4, 4}, stiefel{6, 3}}) {
    matrix_x<double> const x = orthonormal_frame<double>(m.n, m.p, 1);
    using complex_matrix = matrix_x<std::complex<double>>;
    complex_matrix const xc = orthonormal_frame<std::complex<double>>(m.n, m.p, 1);
    double trace = 0, complex_trace = 0;
    for (index_t j = 0; j < m.p; ++j)
      for (index_t i = 0; i < m.n; ++i) {
        matrix_x<double> unit = matrix_x<double>::Zero(m.n, m.p);
        unit(i, j) = 1;
        trace += real.project(m, x, unit)(i, j);
        for (std::complex<double> const one : {std::complex<double>(1, 0), {0, 1}}) {
          complex_matrix z = complex_matrix::Zero(m.n, m.p);
          z(i, j) = one;
          complex_trace += std::real(std::conj(one) * complex.project(m, xc, z)(i, j));
        }
      }
    BOOST_TEST(std::abs(trace - static_cast<double>(dimension(m))) < tolerance<double>(100));
    BOOST_TEST(std::abs(complex_trace - static_cast<double>(complex_dimension(m))) <
               tolerance<double>(100));
  }
}

BOOST_AUTO_TEST_SUITE_END()
