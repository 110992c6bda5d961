// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The polar factor, the inverse square root and the orthonormality error: laws, and Eigen's SVD.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <utility>
#include <vector>

#include <Eigen/SVD>
#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/inverse_sqrt.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/orth/residual.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace support {

template <class Case>
one_factor<typename Case::scalar> polar_of(matrix_x<typename Case::scalar> const& a,
                                           stiefelx::polar_options options, bool in_place) {
  using backend = typename Case::backend;
  typename Case::context ctx;
  auto const input = backend::upload(ctx, a);
  auto q = backend::upload(ctx, a);
  auto status = status_matrix<backend>(ctx);
  if (in_place) {
    stiefelx::polar(ctx, q, q, status, options);
  } else {
    stiefelx::polar(ctx, input, q, status, options);
  }
  return {backend::download(ctx, q), status_value(ctx, status)};
}

template <class Case>
one_factor<typename Case::scalar> inverse_root(matrix_x<typename Case::scalar> const& g,
                                               double smallest, int iterations) {
  typename Case::context ctx;
  auto const input = Case::backend::upload(ctx, g);
  auto z = zeros_like(ctx, input);
  auto status = status_matrix<typename Case::backend>(ctx);
  stiefelx::inverse_sqrt(ctx, input, smallest, iterations, z, status);
  return {Case::backend::download(ctx, z), status_value(ctx, status)};
}

#define STIEFELX_INSTANTIATE(Backend, S)                                                 \
  template one_factor<S> polar_of<test_case<Backend, S>>(matrix_x<S> const&,             \
                                                         stiefelx::polar_options, bool); \
  template one_factor<S> inverse_root<test_case<Backend, S>>(matrix_x<S> const&, double, int);
STIEFELX_INSTANTIATE(host_backend, float)
STIEFELX_INSTANTIATE(host_backend, double)
STIEFELX_INSTANTIATE(host_backend, std::complex<double>)
STIEFELX_INSTANTIATE(archetype_backend, float)
STIEFELX_INSTANTIATE(archetype_backend, double)
STIEFELX_INSTANTIATE(archetype_backend, std::complex<double>)
#undef STIEFELX_INSTANTIATE

}  // namespace support

namespace {

using namespace support;
using stiefelx::not_converged;
using stiefelx::not_finite;
using stiefelx::polar_method;
using stiefelx::polar_options;
using stiefelx::rank_deficient;
using stiefelx::wide_t;

template <class S>
matrix_x<S> identity(index_t n) {
  matrix_x<S> one = matrix_x<S>::Zero(n, n);
  for (index_t j = 0; j < n; ++j) one(j, j) = S(1);
  return one;
}

/// u v^H of a = u s v^H.
Eigen::MatrixXd oracle(Eigen::MatrixXd const& a) {
  Eigen::JacobiSVD<Eigen::MatrixXd> const svd(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
  return svd.matrixU() * svd.matrixV().transpose();
}

struct extent {
  index_t rows, cols;
};

std::vector<extent> const extents{{1, 1}, {4, 1}, {5, 5}, {33, 8}, {40, 20}};

/// The condition number to which the page promises convergence.
template <class S>
double promised(polar_method method) {
  bool const is_float = std::is_same_v<stiefelx::real_of_t<S>, float>;
  if (method == polar_method::newton_schulz) return is_float ? 1e3 : 1e7;
  return is_float ? 1e6 : 1e14;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(polar_factor)

BOOST_AUTO_TEST_CASE_TEMPLATE(the_factor_is_that_of_a_singular_value_decomposition, Case,
                              real_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents)
    for (auto const method : polar_methods) {
      BOOST_TEST_CONTEXT(size.rows << "x" << size.cols << ", " << name(method)) {
        double const condition = 30;
        matrix_x<S> const a = conditioned_matrix<S>(size.rows, size.cols, condition, 3) * S(0.01);
        auto const found = polar_of<Case>(a, {.method = method});
        BOOST_TEST(found.status == 0);
        BOOST_TEST(near(found.q, oracle(loop_cast<double>(a)), tolerance<S>(size.rows, condition)));
      }
    }
}

/// q has orthonormal columns, and q^H a is Hermitian with the sum of singular values as its trace,
/// which makes it positive.
template <class S>
void expect_polar_factor(matrix_x<S> const& a, one_factor<S> const& found, double condition) {
  using wide = wide_t<S>;
  index_t const rows = a.rows(), cols = a.cols();
  BOOST_TEST(found.status == 0);
  matrix_x<wide> const q = loop_cast<wide>(found.q);
  BOOST_TEST(near(loop_product(loop_adjoint(q), q), identity<wide>(cols), tolerance<S>(rows)));
  matrix_x<wide> const h = loop_product(loop_adjoint(q), loop_cast<wide>(a));
  BOOST_TEST(near(h, loop_adjoint(h), tolerance<S>(rows), h.norm()));
  double sum = 0;
  for (index_t j = 0; j < cols; ++j) {
    double const share = cols > 1 ? static_cast<double>(j) / static_cast<double>(cols - 1) : 0;
    sum += std::pow(condition, -share);
  }
  BOOST_TEST(std::abs(std::real(h.trace()) - sum) < tolerance<S>(rows) * sum);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(columns_are_orthonormal_and_what_is_left_is_positive, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents)
    for (auto const method : polar_methods)
      for (double condition = 1; condition <= promised<S>(method); condition *= 100)
        BOOST_TEST_CONTEXT(name(method) << ", " << size.rows << "x" << size.cols << ", condition "
                                        << condition) {
          matrix_x<S> const a = conditioned_matrix<S>(size.rows, size.cols, condition, 4);
          expect_polar_factor(a, polar_of<Case>(a, {.method = method}), condition);
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(known_bounds_give_the_factor_without_a_factorization, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  for (auto const method : {polar_method::polar_express, polar_method::newton_schulz})
    for (double const condition : {1.0, 10.0, 1e4})
      BOOST_TEST_CONTEXT(name(method) << ", condition " << condition) {
        matrix_x<S> const a = conditioned_matrix<S>(40, 20, condition, 4);
        double const least = 0.9 / condition;
        polar_options bounds{.method = method, .smallest = least, .largest = 1.1};
        expect_polar_factor(a, polar_of<Case>(a, bounds), condition);
        // Relative to the Frobenius norm, which is at most sqrt(20).
        bounds.smallest = least / std::sqrt(20.0);
        bounds.largest = 0;
        expect_polar_factor(a, polar_of<Case>(a, bounds), condition);
        // A lower bound that is too high stops too early, and so does a step too few.
        if (condition < 1e4) continue;
        bounds.smallest = 0.5;
        BOOST_TEST(polar_of<Case>(a, bounds).status == not_converged);
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(no_orthonormal_matrix_is_nearer, Case, complex_cases) {
  using S = typename Case::scalar;
  using wide = wide_t<S>;
  matrix_x<S> const a = random_matrix<S>(12, 5, 5);
  auto const distance = [&](matrix_x<S> const& q) {
    return static_cast<double>(frobenius(table(loop_cast<wide>(a) - loop_cast<wide>(q))));
  };
  double const found = distance(polar_of<Case>(a).q);
  for (std::uint64_t seed = 1; seed <= 20; ++seed)
    BOOST_TEST(found < distance(orthonormal_frame<S>(12, 5, seed)));
  // Also against points close to the factor itself.
  matrix_x<S> const q = polar_of<Case>(a).q;
  for (std::uint64_t seed = 21; seed <= 40; ++seed) {
    matrix_x<S> const moved =
        polar_of<Case>(q + typename Case::real(0.05) * random_matrix<S>(12, 5, seed)).q;
    BOOST_TEST(found < distance(moved) * (1 - 1e-6));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_orthonormal_matrix_stays_and_scale_does_not_matter, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  real const large = std::is_same_v<real, float> ? real(1e30F) : real(1e150);
  matrix_x<S> const q = orthonormal_frame<S>(20, 6, 6);
  for (real const size : {real(1), large, real(1) / large, std::numeric_limits<real>::min()}) {
    auto const found = polar_of<Case>(q * size);
    BOOST_TEST(found.status == 0);
    // The smallest scale leaves entries with an absolute error of the least denormal number.
    BOOST_TEST(near(found.q, q, tolerance<S>(20, 4)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_factor_in_place_has_the_same_bits, Case, complex_cases) {
  matrix_x<typename Case::scalar> const a = random_matrix<typename Case::scalar>(14, 6, 7);
  for (auto const method : polar_methods) {
    polar_options const how{.method = method};
    BOOST_TEST(same(polar_of<Case>(a, how, true).q, polar_of<Case>(a, how).q));
    BOOST_TEST(same(polar_of<Case>(a, how).q, polar_of<Case>(a, how).q));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(what_does_not_converge_says_so, Case, complex_cases) {
  using S = typename Case::scalar;
  polar_options const plain{.method = polar_method::newton_schulz};
  double const beyond = std::is_same_v<typename Case::real, float> ? 1e6 : 1e13;
  BOOST_TEST(polar_of<Case>(conditioned_matrix<S>(20, 6, beyond, 8), plain).status ==
             not_converged);
  matrix_x<S> a = random_matrix<S>(20, 6, 9);
  a.col(3) = a.col(1);
  BOOST_TEST(polar_of<Case>(a, plain).status == (not_converged | rank_deficient));
  BOOST_TEST((polar_of<Case>(a).status & rank_deficient) != 0);
  a.setZero();
  BOOST_TEST(polar_of<Case>(a).status == (not_converged | rank_deficient));
  for (auto const bad : {std::numeric_limits<typename Case::real>::quiet_NaN(),
                         std::numeric_limits<typename Case::real>::infinity()}) {
    a = random_matrix<S>(20, 6, 9);
    a(4, 2) = S(bad);
    auto const found = polar_of<Case>(a);
    BOOST_TEST(found.status == (not_converged | not_finite));
    BOOST_TEST(!found.q.allFinite());
    BOOST_TEST(polar_of<Case>(a, {.smallest = 0.1, .largest = 10}).status ==
               (not_converged | not_finite));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(singular_values_give_a_nearest_frame_of_a_deficient_matrix, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  using wide = wide_t<S>;
  matrix_x<S> a = random_matrix<S>(9, 4, 9);
  a.col(2) = a.col(0);
  auto const found = polar_of<Case>(a, {.method = polar_method::singular_values});
  BOOST_TEST(found.status == rank_deficient);
  matrix_x<wide> const q = loop_cast<wide>(found.q);
  BOOST_TEST(near(loop_product(loop_adjoint(q), q), identity<wide>(4), tolerance<S>(9)));
  auto const zero =
      polar_of<Case>(matrix_x<S>::Zero(9, 4), {.method = polar_method::singular_values});
  BOOST_TEST(zero.status == rank_deficient);
  matrix_x<wide> const any = loop_cast<wide>(zero.q);
  BOOST_TEST(near(loop_product(loop_adjoint(any), any), identity<wide>(4), tolerance<S>(9)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(empty_matrices_are_fine, Case, real_cases) {
  using S = typename Case::scalar;
  BOOST_TEST(polar_of<Case>(matrix_x<S>::Zero(4, 0)).status == 0);
  BOOST_TEST(polar_of<Case>(matrix_x<S>::Zero(0, 0)).status == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(few_iterations_do_not_converge, Case, double_cases) {
  using backend = typename Case::backend;
  typename Case::context ctx;
  auto const a = backend::upload(ctx, conditioned_matrix<double>(20, 6, 1e3, 8));
  auto q = zeros_like(ctx, a);
  auto status = status_matrix<backend>(ctx);
  stiefelx::polar(ctx, a, q, status, {.iterations = 3});
  BOOST_TEST(status_value(ctx, status) == not_converged);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_inverse_root_squares_to_the_inverse, Case, complex_cases) {
  using S = typename Case::scalar;
  using wide = wide_t<S>;
  for (index_t const n : {index_t(0), index_t(1), index_t(2), index_t(9), index_t(24)})
    for (double const condition : {1.0, 10.0, 100.0})
      BOOST_TEST_CONTEXT(n << "x" << n << ", condition " << condition) {
        matrix_x<S> const g = positive_matrix<S>(n, condition, 10) * typename Case::real(3);
        for (double const smallest : {0.0, 3 / condition}) {
          matrix_x<S> const root = inverse_root<Case>(g, smallest, 30).q;
          BOOST_TEST(same(root, loop_adjoint(root)));
          matrix_x<wide> const z = loop_cast<wide>(root);
          BOOST_TEST(near(loop_product(loop_product(z, loop_cast<wide>(g)), z), identity<wide>(n),
                          tolerance<S>(n, condition)));
          BOOST_TEST(std::real(z.trace()) >= 0);
        }
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_inverse_root_that_has_not_come_to_rest_says_so, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> g = positive_matrix<S>(9, 100, 10);
  BOOST_TEST(inverse_root<Case>(g, 0, 30).status == 0);
  BOOST_TEST(inverse_root<Case>(g, 0, 4).status == not_converged);
  BOOST_TEST(inverse_root<Case>(matrix_x<S>::Zero(5, 5), 0, 30).status == not_converged);
  g(2, 2) = S(std::numeric_limits<typename Case::real>::quiet_NaN());
  BOOST_TEST(inverse_root<Case>(g, 0, 30).status == (not_converged | not_finite));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_inverse_root_of_a_diagonal_is_known, Case, real_cases) {
  using S = typename Case::scalar;
  matrix_x<S> g = matrix_x<S>::Zero(3, 3);
  matrix_x<S> expected = g;
  for (index_t j = 0; j < 3; ++j) {
    g(j, j) = S(std::pow(4.0, static_cast<double>(j)));
    expected(j, j) = S(std::pow(0.5, static_cast<double>(j)));
  }
  BOOST_TEST(near(inverse_root<Case>(g, 1, 20).q, expected, tolerance<S>(3, 16)));
  BOOST_TEST(!near(inverse_root<Case>(g, 1, 2).q, expected, tolerance<S>(3, 16)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_orthonormality_error_is_the_norm_of_the_defect, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  using backend = typename Case::backend;
  typename Case::context ctx;
  auto s = single<backend, typename Case::real>(ctx);
  auto const error = [&](matrix_x<S> const& x) {
    auto const input = backend::upload(ctx, x);
    stiefelx::orthonormality_error(ctx, input, s);
    return static_cast<double>(value(ctx, s));
  };
  matrix_x<S> const x = orthonormal_frame<S>(15, 4, 11);
  BOOST_TEST(error(x) < tolerance<S>(15));
  // (2x)^H (2x) - I = 3 I.
  BOOST_TEST(std::abs(error(x * typename Case::real(2)) - 6) < 6 * tolerance<S>(15));
  BOOST_TEST(error(matrix_x<S>::Zero(5, 3)) ==
             static_cast<double>(std::sqrt(typename Case::real(3))));
  BOOST_TEST(error(matrix_x<S>::Zero(5, 0)) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
