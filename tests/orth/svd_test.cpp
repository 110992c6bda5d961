// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The singular value decomposition: laws over the zoo, known factors, accuracy of small values.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/svd.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace support {

template <class Case>
singular_triple<typename Case::scalar> svd_of(matrix_x<typename Case::scalar> const& a,
                                              bool in_place) {
  using S = typename Case::scalar;
  place<Case> at;
  auto const input = at.up(a);
  auto u = at.up(a);
  auto w = zeros<typename Case::real>(at.ctx, 1, a.cols());
  auto v = zeros<S>(at.ctx, a.cols(), a.cols());
  auto status = status_matrix<typename Case::backend>(at.ctx);
  if (in_place) {
    stiefelx::svd(at.ctx, u, u, w, v, status);
  } else {
    fill(at.ctx, 7, u);
    stiefelx::svd(at.ctx, input, u, w, v, status);
  }
  return {at.down(u), at.down(w), at.down(v), status_value(at.ctx, status)};
}

#define STIEFELX_INSTANTIATE(Backend, S) \
  template singular_triple<S> svd_of<test_case<Backend, S>>(matrix_x<S> const&, bool);
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
using stiefelx::rank_deficient;

/// u diag(w) v^H, with w in units of a power of two that keeps the products in range.
template <class S>
matrix_x<S> composed(singular_triple<S> const& found, typename stiefelx::real_of_t<S> unit) {
  matrix_x<S> left = found.u;
  for (index_t j = 0; j < left.cols(); ++j) left.col(j) *= found.w(0, j) / unit;
  return loop_product(left, loop_adjoint(found.v));
}

struct extent {
  index_t rows, cols;
};

std::vector<extent> const extents{{0, 0}, {4, 0}, {1, 1},   {3, 1},
                                  {2, 2}, {9, 4}, {17, 17}, {40, 21}};

}  // namespace

BOOST_AUTO_TEST_SUITE(svd)

BOOST_AUTO_TEST_CASE_TEMPLATE(factors_compose_and_are_orthonormal_over_the_zoo, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  for (auto const size : extents)
    for (auto const& animal : zoo<S>(size.rows, size.cols))
      BOOST_TEST_CONTEXT(animal.name << ", " << size.rows << "x" << size.cols) {
        auto const found = svd_of<Case>(animal.matrix);
        BOOST_TEST((found.status & ~rank_deficient) == 0);
        if (animal.columns == rank::full) BOOST_TEST(found.status == 0);
        if (animal.columns == rank::deficient) BOOST_TEST(found.status == rank_deficient);
        double const allowed = tolerance<S>(size.rows);
        BOOST_TEST(orthonormality_defect(found.u) < allowed);
        BOOST_TEST(orthonormality_defect(found.v) < allowed);
        // Denormal singular values have the absolute error of the least number.
        real const least = std::numeric_limits<real>::denorm_min();
        matrix_x<S> const defect = composed(found, real(1)) - animal.matrix;
        auto const norm = static_cast<double>(frobenius(table(animal.matrix)));
        BOOST_TEST(static_cast<double>(frobenius(table(defect))) <=
                   allowed * norm + static_cast<double>(least * real(4 * size.rows + 4)));
        for (index_t j = 0; j < size.cols; ++j) {
          BOOST_TEST(found.w(0, j) >= 0);
          if (j > 0) BOOST_TEST(found.w(0, j) <= found.w(0, j - 1));
        }
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(values_and_subspaces_are_those_that_the_matrix_was_made_of, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  constexpr index_t rows = 30, cols = 8;
  constexpr double condition = 50;
  auto const found = svd_of<Case>(conditioned_matrix<S>(rows, cols, condition, 3));
  for (index_t j = 0; j < cols; ++j) {
    double const exact = std::pow(condition, -static_cast<double>(j) / (cols - 1));
    BOOST_TEST(std::abs(static_cast<double>(found.w(0, j)) - exact) < tolerance<S>(rows));
  }
  // The projection on the leading vectors is free of phases.
  auto const project = [](matrix_x<wide> const& frame) {
    matrix_x<wide> const leading = frame.leftCols(3);
    return loop_product(leading, loop_adjoint(leading));
  };
  BOOST_TEST(near(project(loop_cast<wide>(found.u)),
                  project(orthonormal_frame<wide>(rows, cols, 3)), tolerance<S>(rows, 10)));
  BOOST_TEST(near(project(loop_cast<wide>(found.v)),
                  project(orthonormal_frame<wide>(cols, cols, 4)), tolerance<S>(rows, 10)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(known_values_are_found, Case, real_cases) {
  using S = typename Case::scalar;
  // [[3, 0], [4, 5]] has the singular values 3 sqrt(5) and sqrt(5).
  matrix_x<S> a(2, 2);
  a << S(3), S(0), S(4), S(5);
  auto const found = svd_of<Case>(a);
  matrix_x<S> expected(1, 2);
  expected << S(3 * std::sqrt(5.0)), S(std::sqrt(5.0));
  BOOST_TEST(near(found.w, expected, tolerance<S>(2)));
  // A matrix of ones has one value, and its vectors are completed.
  auto const ones = svd_of<Case>(matrix_x<S>::Ones(9, 4));
  BOOST_TEST(std::abs(static_cast<double>(ones.w(0, 0)) - 6) < 6 * tolerance<S>(9));
  BOOST_TEST(ones.status == rank_deficient);
  BOOST_TEST(orthonormality_defect(ones.u) < tolerance<S>(9));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_decomposition_in_place_has_the_same_bits, Case, complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const a = random_matrix<S>(13, 6, 5);
  auto const apart = svd_of<Case>(a);
  auto const in_place = svd_of<Case>(a, true);
  BOOST_TEST(same(in_place.u, apart.u));
  BOOST_TEST(same(in_place.w, apart.w));
  BOOST_TEST(same(in_place.v, apart.v));
}

// a = b d with a well conditioned b and a diagonal d: each singular value of a has the relative
// accuracy that b allows, though the smallest are far below the rounding of the largest.
BOOST_AUTO_TEST_CASE_TEMPLATE(graded_columns_keep_the_relative_accuracy_of_every_value, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  constexpr index_t rows = 20, cols = 7;
  constexpr double digits = std::is_same_v<real, float> ? 5 : 14;
  matrix_x<S> const b = conditioned_matrix<S>(rows, cols, 10, 6);
  matrix_x<S> up(rows, cols), down(rows, cols);
  for (index_t j = 0; j < cols; ++j) {
    // Powers of two: the grading itself is exact, and its reverse has the columns in turn.
    real const weight = std::ldexp(real(1), -static_cast<int>(digits * static_cast<double>(j)));
    up.col(j) = b.col(j) * weight;
    down.col(cols - 1 - j) = up.col(j);
  }
  auto const first = svd_of<Case>(up), second = svd_of<Case>(down);
  // The order of columns does not matter to the values.
  double determinant_defect = 0;
  for (index_t j = 0; j < cols; ++j) {
    auto const w = static_cast<double>(first.w(0, j)), z = static_cast<double>(second.w(0, j));
    BOOST_TEST(std::abs(w - z) <= tolerance<S>(rows, 10) * w);
    determinant_defect += std::log2(w) + digits * static_cast<double>(j);
  }
  // Their product is that of b's, 10^(-(0 + ... + 1)), times the weights.
  determinant_defect += std::log2(10.0) * static_cast<double>(cols) / 2;
  BOOST_TEST(std::abs(determinant_defect) < static_cast<double>(cols) * tolerance<S>(rows, 10));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_positive_matrix_has_its_eigenvectors, Case, complex_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const g = positive_matrix<S>(8, 100, 7);
  auto const found = svd_of<Case>(g);
  matrix_x<S> scaled = found.v;
  for (index_t j = 0; j < 8; ++j) scaled.col(j) *= found.w(0, j);
  BOOST_TEST(near(loop_product(g, found.v), scaled, tolerance<S>(8)));
}

BOOST_AUTO_TEST_SUITE_END()
