// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The laws of a QR factorization over a zoo of matrices, as LAPACK's own tests state them.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/cholesky_qr.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace support {

template <class Case>
qr_factors<typename Case::scalar> factor(qr_method method, matrix_x<typename Case::scalar> const& a,
                                         bool in_place) {
  using backend = typename Case::backend;
  using S = typename Case::scalar;
  typename Case::context ctx;
  auto q = backend::upload(ctx, a);
  auto r = zeros<S>(ctx, a.cols(), a.cols());
  auto status = status_matrix<backend>(ctx);
  if (in_place) {
    factor_into(method, ctx, q, q, r, status);
  } else {
    auto const input = backend::upload(ctx, a);
    fill(ctx, 7, q);
    fill(ctx, 7, r);
    factor_into(method, ctx, input, q, r, status);
  }
  return {backend::download(ctx, q), backend::download(ctx, r), status_value(ctx, status)};
}

#define STIEFELX_INSTANTIATE(Backend, S) \
  template qr_factors<S> factor<test_case<Backend, S>>(qr_method, matrix_x<S> const&, bool);
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
using stiefelx::not_finite;
using stiefelx::rank_deficient;
using stiefelx::real_of_t;
using stiefelx::refined;

/// Test ratios below this are LAPACK's definition of passed.
constexpr double threshold = 30;

struct extent {
  index_t rows, cols;
};

/// Empty, single, square, tall, wider than one Householder panel, and past the host's blocks.
std::vector<extent> const extents{{0, 0}, {4, 0},   {1, 1},   {3, 1},   {2, 2},  {6, 6},
                                  {9, 4}, {17, 17}, {40, 16}, {45, 19}, {70, 50}};

template <class S>
double epsilon() {
  return static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon());
}

/// ||I - q^H q||_F / (m eps); with dropped, zero columns of q have a zero in place of the one.
template <class S>
double orthogonality_ratio(matrix_x<S> const& q, bool dropped = false) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const x = loop_cast<wide>(q);
  matrix_x<wide> defect = loop_product(loop_adjoint(x), x);
  for (index_t j = 0; j < q.cols(); ++j)
    if (!(dropped && q.col(j).isZero(0))) defect(j, j) -= wide(1);
  double const rows = static_cast<double>(std::max<index_t>(q.rows(), 1));
  return static_cast<double>(frobenius(table(defect))) / (rows * epsilon<S>());
}

/// ||a - q r||_F / (m (||a||_F eps + smallest normal number)).
template <class S>
double residual_ratio(matrix_x<S> const& a, matrix_x<S> const& q, matrix_x<S> const& r) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const defect =
      loop_cast<wide>(a) - loop_product(loop_cast<wide>(q), loop_cast<wide>(r));
  long double const smallest = std::numeric_limits<real_of_t<S>>::min();
  long double const size = frobenius(table(a)) * static_cast<long double>(epsilon<S>()) + smallest;
  auto const rows = static_cast<long double>(std::max<index_t>(a.rows(), 1));
  return static_cast<double>(frobenius(table(defect)) / (rows * size));
}

template <class S>
double largest(double power_of_two) {
  return static_cast<double>(std::numeric_limits<real_of_t<S>>::max()) * power_of_two;
}

/// What the shared zoo lacks: graded rows, sizes mixed within and between columns, numbers near
/// the largest one, and columns whose small pivots are hidden from a test of one pivot at a time.
template <class S>
std::vector<specimen<S>> wild(index_t rows, index_t cols) {
  using real = real_of_t<S>;
  constexpr bool narrow = std::is_same_v<real, float>;
  real const large = narrow ? real(1e18F) : real(1e150);
  std::vector<specimen<S>> all;
  matrix_x<S> const random = random_matrix<S>(rows, cols, 11);

  specimen<S> graded{"graded rows", random, rank::borderline};
  for (index_t i = 0; i < rows; ++i)
    graded.matrix.row(i) *= static_cast<real>(std::pow(2.0, -static_cast<double>(i)));
  all.push_back(graded);

  specimen<S> mixed{"columns large and small in turn", random, rank::full};
  for (index_t j = 0; j < cols; ++j) mixed.matrix.col(j) *= j % 2 == 0 ? large : real(1) / large;
  all.push_back(mixed);

  specimen<S> rowwise{"rows large and small in turn", random, rank::borderline};
  for (index_t i = 0; i < rows; ++i) rowwise.matrix.row(i) *= i % 2 == 0 ? real(1) / large : large;
  all.push_back(rowwise);

  // The norm of a column is a number on r's diagonal, so it must be one of the scalar's.
  double const top = largest<S>(0x1p-4) / static_cast<double>(4 * rows + 1);
  all.push_back({"near overflow", random * static_cast<real>(top), rank::full});

  if (cols > 0) {
    specimen<S> denormal{"one denormal column", random, rank::borderline};
    denormal.matrix.col(cols - 1) *= std::numeric_limits<real>::min() / 16;
    all.push_back(denormal);
    specimen<S> unit{"one entry a column", matrix_x<S>::Zero(rows, cols), rank::full};
    for (index_t j = 0; j < cols; ++j) unit.matrix(rows - 1 - j, j) = S(real(j % 2 == 0 ? -3 : 5));
    all.push_back(unit);
  }
  if (cols > 1) {
    // Every pivot is sqrt(1/2) of its column, and the condition number grows as exp(2 sqrt(p)).
    matrix_x<S> triangle = matrix_x<S>::Zero(cols, cols);
    for (index_t j = 0; j < cols; ++j) {
      double const share = j > 0 ? -std::sqrt(0.49 / static_cast<double>(j)) : 0;
      for (index_t i = 0; i < j; ++i) triangle(i, j) = S(static_cast<real>(share));
      triangle(j, j) = S(static_cast<real>(std::sqrt(0.51)));
    }
    all.push_back({"small pivots in disguise",
                   loop_product(orthonormal_frame<S>(rows, cols, 12), triangle), rank::borderline});
  }
  return all;
}

template <class S>
std::vector<specimen<S>> whole_zoo(extent size) {
  auto all = zoo<S>(size.rows, size.cols);
  for (auto& each : wild<S>(size.rows, size.cols)) all.push_back(std::move(each));
  return all;
}

template <class S>
bool is_upper_with_positive_diagonal(matrix_x<S> const& r, bool zeros_allowed) {
  for (index_t j = 0; j < r.cols(); ++j) {
    double const pivot = static_cast<double>(std::real(r(j, j)));
    bool const sign = zeros_allowed ? pivot >= 0 : pivot > 0;
    if (!sign || std::imag(r(j, j)) != 0) return false;
    for (index_t i = j + 1; i < r.rows(); ++i)
      if (r(i, j) != S(0)) return false;
  }
  return true;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(qr_laws)

BOOST_AUTO_TEST_CASE_TEMPLATE(factors_meet_the_lapack_ratios_over_the_zoo, Case, complex_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents)
    for (auto const& animal : whole_zoo<S>(size))
      for (auto const method : general_methods)
        BOOST_TEST_CONTEXT(name(method)
                           << ", " << animal.name << ", " << size.rows << "x" << size.cols) {
          auto const found = factor<Case>(method, animal.matrix);
          bool const deficient = (found.status & rank_deficient) != 0;
          BOOST_TEST((found.status & not_finite) == 0);
          if (animal.columns == rank::full) BOOST_TEST(!deficient);
          if (animal.columns == rank::deficient) BOOST_TEST(deficient);
          BOOST_TEST(residual_ratio(animal.matrix, found.q, found.r) < threshold);
          bool const may_drop = method == qr_method::gram_schmidt && deficient;
          BOOST_TEST(orthogonality_ratio(found.q, may_drop) < threshold);
          BOOST_TEST(is_upper_with_positive_diagonal(found.r, deficient));
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_factorization_in_place_has_the_same_bits, Case, complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const a = random_matrix<S>(23, 18, 5);
  for (auto const method : all_methods) BOOST_TEST_CONTEXT(name(method)) {
      auto const apart = factor<Case>(method, a);
      auto const in_place = factor<Case>(method, a, true);
      BOOST_TEST(same(in_place.q, apart.q));
      BOOST_TEST(same(in_place.r, apart.r));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(two_runs_have_the_same_bits, Case, complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const a = conditioned_matrix<S>(40, 21, 50, 5);
  for (auto const method : all_methods) BOOST_TEST_CONTEXT(name(method)) {
      auto const first = factor<Case>(method, a);
      auto const second = factor<Case>(method, a);
      BOOST_TEST(same(first.q, second.q));
      BOOST_TEST(same(first.r, second.r));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_dependent_column_becomes_zero_or_stays_orthonormal, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> a = random_matrix<S>(12, 5, 6);
  a.col(2) = a.col(0) - a.col(1);
  auto const dropped = factor<Case>(qr_method::gram_schmidt, a);
  BOOST_TEST(dropped.status == rank_deficient);
  BOOST_TEST(dropped.q.col(2).isZero(0));
  BOOST_TEST(dropped.r(2, 2) == S(0));
  BOOST_TEST(!dropped.q.col(4).isZero(0));
  for (auto const method : {qr_method::householder, qr_method::cholesky_automatic}) {
    auto const kept = factor<Case>(method, a);
    BOOST_TEST((kept.status & rank_deficient) != 0);
    BOOST_TEST(orthogonality_ratio(kept.q) < threshold);
    BOOST_TEST(std::abs(kept.r(2, 2)) < tolerance<S>(12));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_factor_of_known_factors_is_theirs, Case, complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const q = orthonormal_frame<S>(30, 9, 7);
  matrix_x<S> r = random_matrix<S>(9, 9, 8) / static_cast<typename Case::real>(9);
  for (index_t j = 0; j < 9; ++j) {
    r.col(j).tail(8 - j).setZero();
    r(j, j) = S(1);
  }
  matrix_x<S> const a = loop_product(q, r);
  for (auto const method : all_methods) BOOST_TEST_CONTEXT(name(method)) {
      auto const found = factor<Case>(method, a);
      // One pass loses the square of the condition number, about ten.
      BOOST_TEST(near(found.q, q, tolerance<S>(30, 100), 3));
      BOOST_TEST(near(found.r, r, tolerance<S>(30, 100)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_second_pass_is_reported_and_an_easy_matrix_needs_none, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  auto const status_of = [](matrix_x<S> const& a) {
    return factor<Case>(qr_method::cholesky_automatic, a).status;
  };
  BOOST_TEST(status_of(orthonormal_frame<S>(60, 6, 9)) == 0);
  BOOST_TEST(status_of(conditioned_matrix<S>(60, 6, 30, 9)) == refined);
  double const hard = 0.1 / epsilon<S>();
  BOOST_TEST((status_of(conditioned_matrix<S>(60, 6, hard, 9)) & refined) != 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(numbers_that_are_not_finite_are_reported_and_spread, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  for (real const bad :
       {std::numeric_limits<real>::quiet_NaN(), std::numeric_limits<real>::infinity(),
        -std::numeric_limits<real>::infinity()})
    for (auto const method : all_methods) BOOST_TEST_CONTEXT(name(method) << ", " << bad) {
        matrix_x<S> a = random_matrix<S>(11, 4, 10);
        a(7, 1) = S(bad);
        auto const found = factor<Case>(method, a);
        BOOST_TEST((found.status & not_finite) != 0);
        BOOST_TEST(!found.q.col(1).allFinite());
        BOOST_TEST(!found.r.col(1).allFinite());
        BOOST_TEST(!found.q.col(3).allFinite());
      }
}

BOOST_AUTO_TEST_SUITE_END()
