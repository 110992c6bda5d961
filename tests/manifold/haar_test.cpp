// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// random_point against moments of the Haar measure. Bounds are five standard errors of a mean of
// that many samples, from the variance of the entry's power itself; the seed is fixed.

#include <algorithm>
#include <cmath>
#include <complex>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::random_stream;
using stiefelx::stiefel;

constexpr double errors = 5;

/// Entrywise means over samples of random points: x, |x|^2, |x|^4, and the determinant of 2 x 2.
template <class S>
struct moments {
  matrix_x<S> first;
  Eigen::MatrixXd second, fourth;
  double determinant = 0;
};

template <class Case>
moments<typename Case::scalar> sample(stiefel m, int count) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  random_stream stream{2024, 0};
  auto x = zeros<S>(ctx, m.n, m.p);
  moments<S> mean{matrix_x<S>::Zero(m.n, m.p), Eigen::MatrixXd::Zero(m.n, m.p),
                  Eigen::MatrixXd::Zero(m.n, m.p)};
  for (int k = 0; k < count; ++k) {
    stiefelx::random_point(ctx, m, stream, x);
    matrix_x<S> const now = Case::backend::download(ctx, x);
    mean.first += now;
    for (index_t j = 0; j < m.p; ++j)
      for (index_t i = 0; i < m.n; ++i) {
        double const square = static_cast<double>(std::norm(now(i, j)));
        mean.second(i, j) += square / count;
        mean.fourth(i, j) += square * square / count;
      }
    if (m.n == 2 && m.p == 2)
      mean.determinant +=
          static_cast<double>(std::real(now(0, 0) * now(1, 1) - now(0, 1) * now(1, 0))) / count;
  }
  mean.first /= static_cast<typename Case::real>(count);
  return mean;
}

/// The largest distance of an entry from a number.
double worst(Eigen::MatrixXd const& a, double expected) {
  double most = 0;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) most = std::max(most, std::abs(a(i, j) - expected));
  return most;
}

template <class S>
double worst_modulus(matrix_x<S> const& a) {
  double most = 0;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i)
      most = std::max(most, static_cast<double>(std::abs(a(i, j))));
  return most;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(haar)

BOOST_AUTO_TEST_CASE_TEMPLATE(random_points_have_orthonormal_columns, Case, complex_cases) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  random_stream stream{1, 5};
  for (stiefel const m : {stiefel{0, 0}, stiefel{3, 0}, stiefel{1, 1}, stiefel{6, 6}, {30, 9}}) {
    auto x = zeros<S>(ctx, m.n, m.p);
    auto const before = stream.offset;
    stiefelx::random_point(ctx, m, stream, x);
    BOOST_TEST(stream.offset == before + 1);
    matrix_x<S> const found = Case::backend::download(ctx, x);
    BOOST_TEST(near(found.adjoint() * found, matrix_x<S>::Identity(m.p, m.p), tolerance<S>(m.n)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stream_draws_the_same_point_again_and_another_one_next, Case,
                              real_cases) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  auto a = zeros<S>(ctx, 6, 2), b = zeros<S>(ctx, 6, 2), c = zeros<S>(ctx, 6, 2);
  random_stream first{3, 4}, second{3, 4};
  stiefelx::random_point(ctx, stiefel{6, 2}, first, a);
  stiefelx::random_point(ctx, stiefel{6, 2}, second, b);
  stiefelx::random_point(ctx, stiefel{6, 2}, second, c);
  BOOST_TEST(same(Case::backend::download(ctx, a), Case::backend::download(ctx, b)));
  BOOST_TEST(!same(Case::backend::download(ctx, a), Case::backend::download(ctx, c)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(real_points_have_the_moments_of_the_haar_measure, Case, real_cases) {
  int const count = std::is_same_v<typename Case::backend, host_backend> ? 20000 : 3000;
  for (stiefel const m : {stiefel{2, 2}, stiefel{3, 3}, stiefel{5, 2}}) {
    auto const mean = sample<Case>(m, count);
    double const n = static_cast<double>(m.n), root = std::sqrt(static_cast<double>(count));
    // Moments of a coordinate of a uniform unit vector: E x^2k = (2k - 1)!! / (n (n+2) ...).
    double const m2 = 1 / n, m4 = 3 * m2 / (n + 2), m6 = 5 * m4 / (n + 4), m8 = 7 * m6 / (n + 6);
    BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      BOOST_TEST(worst_modulus(mean.first) < errors * std::sqrt(m2) / root);
      BOOST_TEST(worst(mean.second, m2) < errors * std::sqrt(m4 - m2 * m2) / root);
      BOOST_TEST(worst(mean.fourth, m4) < errors * std::sqrt(m8 - m4 * m4) / root);
      // Half of the orthogonal group reflects: the determinant is 1 or -1 with equal chance.
      if (m.p == 2 && m.n == 2) BOOST_TEST(std::abs(mean.determinant) < errors / root);
    }
  }
}

BOOST_AUTO_TEST_CASE(complex_points_have_the_moments_of_the_haar_measure) {
  using Case = test_case<host_backend, std::complex<double>>;
  int const count = 20000;
  for (stiefel const m : {stiefel{2, 2}, stiefel{4, 2}}) {
    auto const mean = sample<Case>(m, count);
    double const n = static_cast<double>(m.n), root = std::sqrt(static_cast<double>(count));
    // |x|^2 of a coordinate of a uniform complex unit vector has moments k! / (n (n+1) ...).
    double const m2 = 1 / n, m4 = 2 * m2 / (n + 1), m6 = 3 * m4 / (n + 2), m8 = 4 * m6 / (n + 3);
    BOOST_TEST_CONTEXT(m.n << "x" << m.p) {
      BOOST_TEST(worst_modulus(mean.first) < errors * std::sqrt(m2) / root);
      BOOST_TEST(worst(mean.second, m2) < errors * std::sqrt(m4 - m2 * m2) / root);
      BOOST_TEST(worst(mean.fourth, m4) < errors * std::sqrt(m8 - m4 * m4) / root);
      if (m.n == 2) BOOST_TEST(std::abs(mean.determinant) < errors / root);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
