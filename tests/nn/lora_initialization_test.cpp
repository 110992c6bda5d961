// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// First values of factors: their laws, and that a layer starts as the frozen one.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <boost/test/unit_test.hpp>

#include <Eigen/SVD>

#include <stiefelx/nn/lora_initialization.hpp>
#include <stiefelx/nn/spectral_initialization.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;
using stiefelx::random_stream;

constexpr double scaling = 0.5;

struct extent {
  index_t d_out, d_in;
};
extent const extents[] = {{12, 8}, {8, 12}, {9, 9}};

/// A weight with singular values 1, 1/2, 1/4, ...
matrix weight(extent n) { return graded_matrix<double>(n.d_out, n.d_in, 0.5, 3); }

struct triples {
  matrix u, v;
  Eigen::VectorXd w;
};

triples oracle(matrix const& a) {
  Eigen::JacobiSVD<matrix> const svd(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
  return {svd.matrixU(), svd.matrixV(), svd.singularValues()};
}

matrix product_of(matrix const& down, matrix const& up) {
  return up.transpose() * down.transpose();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(lora_initialization)

// The mean of n values of deviation s has deviation s / sqrt(n); that of squares needs the fourth
// moment. Five deviations; seeds are fixed.
BOOST_AUTO_TEST_CASE_TEMPLATE(draws_have_their_moments_and_bounds, Case, double_cases) {
  place<Case> p;
  random_stream stream{1, 0};
  auto down = p.up(matrix::Zero(64, 100));
  stiefelx::kaiming_lora(p.ctx, stream, down);
  matrix const a = p.down(down);
  double const bound = 1.0 / 8, n = 6400;
  BOOST_TEST(a.cwiseAbs().maxCoeff() <= bound);
  BOOST_TEST(a.cwiseAbs().maxCoeff() > 0.99 * bound);
  BOOST_TEST(std::abs(a.mean()) <= 5 * bound / std::sqrt(3 * n));
  BOOST_TEST(std::abs(a.squaredNorm() / n - bound * bound / 3) <=
             5 * bound * bound * std::sqrt(4.0 / 45 / n));
  stiefelx::gaussian_lora(p.ctx, stream, 4, down);
  matrix const b = p.down(down);
  BOOST_TEST(std::abs(b.mean()) <= 5 * 0.25 / std::sqrt(n));
  BOOST_TEST(std::abs(b.squaredNorm() / n - 1.0 / 16) <= 5.0 / 16 * std::sqrt(2 / n));
  BOOST_TEST(stream.offset == 2U);
  BOOST_TEST(message_of([&] { stiefelx::gaussian_lora(p.ctx, stream, 0, down); }) ==
             "gaussian_lora: rank is 0, expected a number of at least 1");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(orthogonal_factors_multiply_to_zero, Case, double_cases) {
  place<Case> p;
  random_stream stream{2, 0};
  auto down = p.up(matrix::Zero(40, 6)), up = p.up(matrix::Zero(6, 30));
  stiefelx::orthogonal_lora(p.ctx, stream, 0.1, down, up);
  matrix const a = p.down(down), b = p.down(up);
  BOOST_TEST(
      near(product_of(a, b), matrix::Zero(30, 40), tolerance<double>(6), a.norm() * b.norm()));
  // A has rank 3 and squared norm 0.01 times that of a 40 x 3 normal matrix.
  for (matrix const& factor : {a, matrix(b.transpose())}) {
    double const n = static_cast<double>(3 * factor.rows());
    BOOST_TEST(std::abs(factor.squaredNorm() / (0.01 * n) - 1) <= 5 * std::sqrt(2 / n));
    BOOST_TEST(oracle(factor).w(2) > 0.1 * oracle(factor).w(0));
    BOOST_TEST(oracle(factor).w(3) < tolerance<double>(40) * oracle(factor).w(0));
  }
  auto odd = p.up(matrix::Zero(40, 3)), of_odd = p.up(matrix::Zero(3, 30));
  BOOST_TEST(message_of([&] { stiefelx::orthogonal_lora(p.ctx, stream, 0.1, odd, of_odd); }) ==
             "orthogonal_lora: the rank is 3, expected an even number");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(pissa_takes_the_best_approximation_out, Case, double_cases) {
  for (extent n : extents) BOOST_TEST_CONTEXT(n.d_out << "x" << n.d_in) {
      place<Case> p;
      random_stream stream{3, 0};
      matrix const w = weight(n);
      auto frozen = p.up(w), down = p.up(matrix::Zero(n.d_in, 3)),
           up = p.up(matrix::Zero(3, n.d_out));
      stiefelx::pissa_lora(p.ctx, stream, scaling, frozen, down, up, {.iterations = 30});
      matrix const a = p.down(down), b = p.down(up), rest = p.down(frozen);
      auto const [u, v, values] = oracle(w);
      matrix const best = u.leftCols(3) * values.head(3).asDiagonal() * v.leftCols(3).transpose();
      double const bound = tolerance<double>(12);
      BOOST_TEST(near(scaling * product_of(a, b), best, bound, w.norm()));
      BOOST_TEST(near(rest + scaling * product_of(a, b), w, bound, w.norm()));
      // The root of the values is shared evenly.
      BOOST_TEST(near(a.colwise().norm(), b.rowwise().norm().transpose(), bound));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(olora_takes_the_leading_columns_of_q, Case, double_cases) {
  for (extent n : extents) BOOST_TEST_CONTEXT(n.d_out << "x" << n.d_in) {
      place<Case> p;
      matrix const w = random_matrix<double>(n.d_out, n.d_in, 4);
      auto frozen = p.up(w), down = p.up(matrix::Zero(n.d_in, 3)),
           up = p.up(matrix::Zero(3, n.d_out));
      stiefelx::olora(p.ctx, scaling, frozen, down, up);
      matrix const a = p.down(down), b = p.down(up), rest = p.down(frozen);
      double const bound = tolerance<double>(12, 10);
      BOOST_TEST(near(b * b.transpose(), matrix::Identity(3, 3), bound));
      // The first r columns of W lie in the span of B, and A's first block is R's triangle.
      BOOST_TEST(near(product_of(a, b).leftCols(3), w.leftCols(3), bound));
      BOOST_TEST(a.topRows(3).transpose().isUpperTriangular(bound));
      BOOST_TEST(near(rest + scaling * product_of(a, b), w, bound));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(goat_gives_every_expert_its_segment, Case, double_cases) {
  for (extent n : extents) BOOST_TEST_CONTEXT(n.d_out << "x" << n.d_in) {
      place<Case> p;
      random_stream stream{5, 0};
      matrix const w = weight(n);
      auto frozen = p.up(w), down = p.up(matrix::Zero(n.d_in, 6)),
           up = p.up(matrix::Zero(6, n.d_out));
      stiefelx::goat_lora(p.ctx, stream, 3, scaling, frozen, down, up, {.shrink = 4});
      matrix const a = p.down(down), b = p.down(up);
      auto const [u, v, values] = oracle(w);
      index_t const segment = std::min(n.d_out, n.d_in) / 3;
      double const bound = tolerance<double>(12);
      for (index_t e = 0; e < 3; ++e) {
        matrix const part = u.middleCols(e * segment, 2) *
                            values.segment(e * segment, 2).asDiagonal() *
                            v.middleCols(e * segment, 2).transpose();
        matrix const own = product_of(a.middleCols(2 * e, 2), b.middleRows(2 * e, 2));
        BOOST_TEST(near(own, part / (4 * scaling), bound, w.norm() / (4 * scaling)));
      }
      BOOST_TEST(near(p.down(frozen) + scaling / 3 * product_of(a, b), w, bound));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_few_iterations_find_leading_triples, Case, double_cases) {
  place<Case> p;
  random_stream stream{6, 0};
  matrix const w = graded_matrix<double>(60, 40, 0.7, 8);
  auto const [u, v, values] = oracle(w);
  // Vectors beyond the k + l that are iterated leave (w_9 / w_4)^(2 q + 1) of themselves; the random
  // start's condition, a few hundred here, multiplies it.
  for (index_t q : {0, 1, 3, 8}) BOOST_TEST_CONTEXT(q << " iterations") {
      auto left = p.up(matrix::Zero(60, 4)), right = p.up(matrix::Zero(40, 4)),
           found = p.up(matrix::Zero(1, 4));
      stiefelx::randomized_svd(p.ctx, stream, p.up(w), left, found, right,
                               {.iterations = q, .oversampling = 4});
      double const rest = 300 * std::pow(values(8) / values(3), static_cast<double>(2 * q + 1));
      double const bound = tolerance<double>(60) + rest;
      matrix const part = p.down(left) * p.down(found).asDiagonal() * p.down(right).transpose();
      matrix const best = u.leftCols(4) * values.head(4).asDiagonal() * v.leftCols(4).transpose();
      BOOST_TEST(near(part, best, bound, w.norm()));
      BOOST_TEST(near(p.down(left).transpose() * p.down(left), matrix::Identity(4, 4),
                      tolerance<double>(60)));
    }
}

BOOST_AUTO_TEST_CASE(misuse_is_named_and_changes_nothing) {
  stiefelx::host::context ctx;
  random_stream stream{1, 0};
  matrix const w = weight({6, 5});
  matrix frozen = w, down = matrix::Zero(5, 6), up = matrix::Zero(6, 6), small(2, 2);
  BOOST_TEST(message_of([&] { stiefelx::pissa_lora(ctx, stream, 1, frozen, down, up); }) ==
             "pissa_lora: the rank is 6, expected at most the smaller side of the weight");
  BOOST_TEST(message_of([&] {
               stiefelx::olora(ctx, 0, frozen, down.leftCols(2), up.topRows(2));
             }) == "olora: scaling is 0.000000, expected a finite number above 0");
  double const infinite = std::numeric_limits<double>::infinity();
  BOOST_TEST(message_of([&] {
               stiefelx::pissa_lora(ctx, stream, infinite, frozen, down.leftCols(2), up.topRows(2));
             }) == "pissa_lora: scaling is inf, expected a finite number above 0");
  BOOST_TEST(message_of([&] { stiefelx::olora(ctx, 1, frozen, small, up.topRows(2)); }) ==
             "olora: down is 2x2, expected 5x2");
  BOOST_TEST(message_of([&] {
               stiefelx::goat_lora(ctx, stream, 2, 1, frozen, down.leftCols(4), up.topRows(4),
                                   {.shrink = 0});
             }) == "goat_lora: shrink is 0.000000, expected a finite number above 0");
  BOOST_TEST(message_of([&] {
               stiefelx::goat_lora(ctx, stream, 1, 1, frozen, down.leftCols(5), up.topRows(5),
                                   {.removed = -1});
             }) == "goat_lora: removed is -1.000000, expected a finite number of at least 0");
  BOOST_TEST(message_of([&] {
               stiefelx::goat_lora(ctx, stream, 1, 1, frozen, down.leftCols(5), up.topRows(5),
                                   {.removed = infinite});
             }) == "goat_lora: removed is inf, expected a finite number of at least 0");
  BOOST_TEST((frozen == w));
  BOOST_TEST(stream.offset == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
