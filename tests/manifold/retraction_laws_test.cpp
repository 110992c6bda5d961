// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The three retractions of the Stiefel manifold: laws, formulas and accuracy.

#include <cmath>
#include <complex>
#include <limits>
#include <type_traits>
#include <vector>

#include <Eigen/LU>
#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/testing/check_retraction.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "steps.hpp"

namespace {

using namespace support;
using stiefelx::cayley_retraction;
using stiefelx::polar_retraction;
using stiefelx::qr_retraction;
using stiefelx::stiefel;
using stiefelx::wide_t;

enum class how { qr, polar, cayley };

std::vector<how> const all{how::qr, how::polar, how::cayley};

char const* name(how method) {
  char const* const names[] = {"qr", "polar", "cayley"};
  return names[static_cast<int>(method)];
}

std::vector<stiefel> const manifolds{{0, 0}, {3, 0}, {1, 1}, {4, 1}, {5, 5}, {12, 5}, {40, 17}};

/// Calls f with the options of a retraction.
template <class F>
auto with(how method, F const& f) {
  if (method == how::qr) return f(qr_retraction{});
  if (method == how::polar) return f(polar_retraction{});
  return f(cayley_retraction{});
}

template <class Case>
matrix_x<typename Case::scalar> moved(how method, matrix_x<typename Case::scalar> const& x,
                                      matrix_x<typename Case::scalar> const& v,
                                      bool in_place = false) {
  using backend = typename Case::backend;
  typename Case::context ctx;
  stiefel const m{x.rows(), x.cols()};
  auto const step = backend::upload(ctx, v);
  auto const from = backend::upload(ctx, x);
  auto y = backend::upload(ctx, in_place ? x : v);
  with(method, [&](auto options) {
    if (in_place) {
      stiefelx::retract(ctx, m, y, step, y, options);
    } else {
      stiefelx::retract(ctx, m, from, step, y, options);
    }
  });
  return backend::download(ctx, y);
}

/// Error that a retraction's page allows for a tangent vector of this norm: that of qr grows with
/// the square of the spectral norm, which is at most the Frobenius norm.
template <class S>
double allowed_defect(how method, index_t n, double length) {
  return tolerance<S>(n, method == how::qr ? 1 + length * length : 1 + length);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(retraction_laws)

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_has_the_right_value_and_derivative_at_zero, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  for (stiefel const m : {stiefel{1, 1}, stiefel{4, 1}, stiefel{5, 5}, stiefel{12, 5}})
    for (how const method : all) {
      if (m.n == 1 && std::is_same_v<S, typename Case::real>) continue;
      matrix_x<S> const frame = orthonormal_frame<S>(m.n, m.p, 1);
      auto const x = Case::backend::upload(ctx, frame);
      auto const v = Case::backend::upload(ctx, tangent_vector(frame, 2));
      auto const found = with(
          method, [&](auto options) { return stiefelx::check_retraction(ctx, m, x, v, options); });
      BOOST_TEST_CONTEXT(name(method) << ", " << m.n << "x" << m.p << "\n" << found) {
        BOOST_TEST(found.passed);
        BOOST_TEST(!found.steps.exact);
        BOOST_TEST(found.steps.slope < 2.1);
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_keeps_orthonormal_columns, Case, complex_cases) {
  using S = typename Case::scalar;
  for (stiefel const m : manifolds)
    for (how const method : all)
      for (double const length : {0.0, 1e-3, 1.0, 20.0})
        BOOST_TEST_CONTEXT(name(method) << ", " << m.n << "x" << m.p << ", length " << length) {
          matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
          matrix_x<S> const y = moved<Case>(method, x, tangent_of_length(x, length, 2));
          BOOST_TEST(orthonormality(y) <= allowed_defect<S>(method, m.n, length));
          if (length == 0) BOOST_TEST(near(y, x, tolerance<S>(m.n)));
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_in_place_has_the_same_bits_and_so_have_two_runs, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const x = orthonormal_frame<S>(13, 6, 1);
  matrix_x<S> const v = tangent_of_length(x, 1, 2);
  for (how const method : all) BOOST_TEST_CONTEXT(name(method)) {
      matrix_x<S> const y = moved<Case>(method, x, v);
      BOOST_TEST(same(moved<Case>(method, x, v, true), y));
      BOOST_TEST(same(moved<Case>(method, x, v), y));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(qr_retraction_is_the_orthonormal_factor_of_the_sum, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  for (stiefel const m : manifolds) {
    matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
    matrix_x<S> const v = tangent_of_length(x, 2, 2);
    matrix_x<S> const y = moved<Case>(how::qr, x, v);
    // x + v = y r with r upper triangular and a positive diagonal.
    matrix_x<S> const sum = x + v;
    matrix_x<S> const r = loop_product(loop_adjoint(y), sum);
    double const size = static_cast<double>(frobenius(table(sum)));
    BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      BOOST_TEST(near(loop_product(y, r), sum, tolerance<S>(m.n, 5), size));
      for (index_t j = 0; j < m.p; ++j) {
        BOOST_TEST(std::real(r(j, j)) >= 1 - tolerance<S>(m.n, 5));
        BOOST_TEST(std::abs(std::imag(r(j, j))) <= tolerance<S>(m.n, 5) * size);
        for (index_t i = j + 1; i < m.p; ++i)
          BOOST_TEST(std::abs(r(i, j)) <= tolerance<S>(m.n, 5) * size);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(polar_retraction_is_the_point_nearest_to_the_sum, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  for (stiefel const m : manifolds) {
    matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
    matrix_x<S> const v = tangent_of_length(x, 2, 2);
    matrix_x<S> const y = moved<Case>(how::polar, x, v);
    // x + v = y h with h Hermitian and, as h^2 = I + v^H v, of eigenvalues of at least one.
    matrix_x<S> const sum = x + v;
    matrix_x<S> const h = loop_product(loop_adjoint(y), sum);
    matrix_x<S> square = loop_product(loop_adjoint(v), v);
    for (index_t j = 0; j < m.p; ++j) square(j, j) += S(1);
    double const size = static_cast<double>(frobenius(table(sum)));
    BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      BOOST_TEST(near(loop_product(y, h), sum, tolerance<S>(m.n, 5), size));
      BOOST_TEST(near(h, loop_adjoint(h), tolerance<S>(m.n, 5), size));
      BOOST_TEST(near(loop_product(h, h), square, tolerance<S>(m.n, 5), size * size));
      for (index_t j = 0; j < m.p; ++j) BOOST_TEST(std::real(h(j, j)) > 0.9);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cayley_retraction_is_the_dense_transform, Case, complex_cases) {
  using S = typename Case::scalar;
  using wide = wide_t<S>;
  for (stiefel const m : {stiefel{1, 1}, stiefel{4, 1}, stiefel{5, 5}, stiefel{12, 5}})
    for (double const length : {0.5, 3.0}) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const v = tangent_of_length(x, length, 2);
      // y = (I - W/2)^-1 (I + W/2) x, all n x n.
      matrix_x<wide> const point = loop_cast<wide>(x), w = dense_rotation(x, v);
      matrix_x<wide> minus = -w / wide(2), plus = w / wide(2);
      for (index_t j = 0; j < m.n; ++j) {
        minus(j, j) += wide(1);
        plus(j, j) += wide(1);
      }
      matrix_x<wide> const right = loop_product(plus, point);
      matrix_x<wide> const expected = minus.partialPivLu().solve(right);
      BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", length " << length)
      BOOST_TEST(near(moved<Case>(how::cayley, x, v), expected, tolerance<S>(m.n, 1 + length)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(qr_and_polar_repair_drift_and_cayley_keeps_it, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  matrix_x<S> const x = orthonormal_frame<S>(9, 3, 1);
  matrix_x<S> const v = tangent_of_length(x, 0.1, 2);
  double const drift = 1e-3;
  matrix_x<S> const off = x * real(1 + drift);
  BOOST_TEST(orthonormality(moved<Case>(how::qr, off, v)) < tolerance<S>(9));
  BOOST_TEST(orthonormality(moved<Case>(how::polar, off, v)) < tolerance<S>(9));
  double const kept = orthonormality(moved<Case>(how::cayley, off, v));
  double const before = orthonormality(off);
  BOOST_TEST(std::abs(kept - before) < 1e-2 * before);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(ten_thousand_steps_stay_on_the_manifold, Case, real_cases) {
  using S = typename Case::scalar;
  using backend = typename Case::backend;
  // The archetype checks every access, so it takes fewer steps.
  int const steps = std::is_same_v<backend, host_backend> ? 10000 : 500;
  stiefel const m{6, 2};
  for (how const method : all) {
    typename Case::context ctx;
    stiefelx::random_stream stream{11, 0};
    auto x = backend::upload(ctx, orthonormal_frame<S>(m.n, m.p, 1));
    auto v = backend::upload(ctx, orthonormal_frame<S>(m.n, m.p, 1));
    for (int k = 0; k < steps; ++k) {
      stiefelx::random_tangent(ctx, m, stream, x, v);
      with(method, [&](auto options) { stiefelx::retract(ctx, m, x, v, x, options); });
    }
    double const found = orthonormality(backend::download(ctx, x));
    // The Cayley transform adds one rounding a step, a random walk; the others start afresh.
    double const walk = method == how::cayley ? std::sqrt(static_cast<double>(steps)) : 2;
    BOOST_TEST_CONTEXT(name(method)) BOOST_TEST(found < tolerance<S>(m.n, walk));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(polar_iterations_decide_how_long_a_step_may_be, Case, double_cases) {
  using backend = typename Case::backend;
  typename Case::context ctx;
  matrix_x<double> const frame = orthonormal_frame<double>(12, 5, 1);
  auto const from = backend::upload(ctx, frame.leftCols(4));
  auto y = backend::upload(ctx, frame.leftCols(4));
  // One column moves, so the eigenvalues of I + v^H v are as far apart as the length permits.
  auto const defect = [&](double length, int iterations) {
    matrix_x<double> tangent = matrix_x<double>::Zero(12, 4);
    tangent.col(2) = length * frame.col(4);
    auto const v = backend::upload(ctx, tangent);
    stiefelx::retract(ctx, stiefel{12, 4}, from, v, y, polar_retraction{.iterations = iterations});
    return orthonormality<double>(backend::download(ctx, y));
  };
  BOOST_TEST(defect(0.9, 6) < tolerance<double>(12));
  BOOST_TEST(defect(20, 14) < tolerance<double>(12, 20));
  BOOST_TEST(defect(20, 6) > 1e-3);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_nan_spreads_to_the_new_point, Case, complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const x = orthonormal_frame<S>(7, 3, 1);
  matrix_x<S> v = tangent_of_length(x, 1, 2);
  v(2, 1) = S(std::numeric_limits<typename Case::real>::quiet_NaN());
  for (how const method : all)
    BOOST_TEST_CONTEXT(name(method)) BOOST_TEST(!moved<Case>(method, x, v).allFinite());
}

BOOST_AUTO_TEST_SUITE_END()
