// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <tuple>

#include <Eigen/QR>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <support/backends.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

// Stacks of long columns, which the host takes by a kernel of its own where that can decide, and by
// team text elsewhere.

namespace {

using stiefelx::index_t;
using stiefelx::stack;
using support::matrix_x;
using scalars = std::tuple<float, double>;

// Kinds of matrices in a mixed stack, one after the other.
enum kind { ordinary, deficient, with_nan, huge, ill_conditioned, zero_column, kinds };

template <class S>
matrix_x<S> mixed_stack(index_t d, index_t k, index_t count) {
  std::mt19937 generator(11);
  std::normal_distribution<double> normal;
  matrix_x<S> a = matrix_x<S>::NullaryExpr(d, k * count, [&] { return S(normal(generator)); });
  S const delta = std::sqrt(std::numeric_limits<S>::epsilon());
  for (index_t item = 0; item < count; ++item) {
    auto own = a.middleCols(item * k, k);
    auto last = own.col(k - 1);
    switch (item % kinds) {
      case deficient:
        last = own.col(0) * S(3);
        break;
      case with_nan:
        last(d / 2) = std::numeric_limits<S>::quiet_NaN();
        break;
      case huge:
        own *= std::numeric_limits<S>::max() / S(64);
        break;
      case ill_conditioned:
        last = own.col(0) + delta * last;
        break;
      case zero_column:
        last.setZero();
        break;
      default:
        break;
    }
  }
  return a;
}

int expected_status(index_t item) {
  switch (item % kinds) {
    case deficient:
    case zero_column:
      return stiefelx::rank_deficient;
    case with_nan:
      return stiefelx::not_finite;
    default:
      return 0;
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(gram_schmidt_stack)

BOOST_AUTO_TEST_CASE_TEMPLATE(each_matrix_of_a_mixed_stack_gets_its_own_result, S, scalars) {
  for (index_t k : {2, 4, 8, 12})
    for (index_t d : {33, 129}) {
      BOOST_TEST_CONTEXT("k " << k << ", d " << d) {
        index_t const count = 3 * kinds + 1;
        stiefelx::host::context ctx;
        matrix_x<S> const a = mixed_stack<S>(d, k, count);
        matrix_x<S> q(d, k * count), r(k, k * count);
        matrix_x<int> status = matrix_x<int>::Zero(1, count);
        stiefelx::gram_schmidt(ctx, stack{count}, a, q, r, status);
        for (index_t item = 0; item < count; ++item) {
          BOOST_TEST_INFO_SCOPE("matrix " << item);
          BOOST_TEST(status(0, item) == expected_status(item));
          index_t const whole = expected_status(item) == 0 ? k : k - 1;
          matrix_x<S> const own = q.middleCols(item * k, whole);
          BOOST_TEST(support::near(own.transpose() * own, matrix_x<S>::Identity(whole, whole),
                                   support::tolerance<S>(d)));
          if (item % kinds == with_nan) continue;
          double const unit = item % kinds == huge ? std::ldexp(1.0, -100) : 1;
          matrix_x<double> const back = q.middleCols(item * k, k).template cast<double>() *
                                        (r.middleCols(item * k, k).template cast<double>() * unit);
          BOOST_TEST(support::near(back, a.middleCols(item * k, k).template cast<double>() * unit,
                                   support::tolerance<S>(d)));
          if (whole < k) BOOST_TEST(q.col(item * k + k - 1).norm() == S(0));
        }
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(columns_agree_with_householder_reflections, S, scalars) {
  for (index_t k = 1; k <= 16; ++k) {
    index_t const d = 61 + k, count = 5;
    stiefelx::host::context ctx;
    std::mt19937 generator(3);
    std::normal_distribution<double> normal;
    matrix_x<S> const a =
        matrix_x<S>::NullaryExpr(d, k * count, [&] { return S(normal(generator)); });
    matrix_x<S> q(d, k * count), r(k, k * count);
    stiefelx::gram_schmidt(ctx, stack{count}, a, q, r);
    for (index_t item = 0; item < count; ++item) {
      Eigen::HouseholderQR<matrix_x<double>> const qr(
          a.middleCols(item * k, k).template cast<double>());
      matrix_x<double> expected = qr.householderQ() * matrix_x<double>::Identity(d, k);
      for (index_t j = 0; j < k; ++j)
        if (qr.matrixQR()(j, j) < 0) expected.col(j) = -expected.col(j);
      BOOST_TEST(support::near(q.middleCols(item * k, k).template cast<double>(), expected,
                               support::tolerance<S>(d, 4)));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(orthogonality_holds_for_every_condition_number, S, scalars) {
  index_t const d = 150, k = 5, count = 17;
  stiefelx::host::context ctx;
  std::mt19937 generator(5);
  std::normal_distribution<double> normal;
  matrix_x<S> a = matrix_x<S>::NullaryExpr(d, k * count, [&] { return S(normal(generator)); });
  for (index_t item = 0; item < count; ++item)
    for (index_t j = 1; j < k; ++j)
      a.col(item * k + j) = a.col(item * k) + S(std::pow(10.0, -item)) * a.col(item * k + j);
  matrix_x<S> q(d, k * count), r(k, k * count);
  matrix_x<int> status = matrix_x<int>::Zero(1, count);
  stiefelx::gram_schmidt(ctx, stack{count}, a, q, r, status);
  for (index_t item = 0; item < count; ++item) {
    BOOST_TEST_INFO_SCOPE("condition number of order 1e" << item);
    matrix_x<S> gram = q.middleCols(item * k, k).transpose() * q.middleCols(item * k, k);
    for (index_t j = 0; j < k; ++j)
      if (r(j, item * k + j) == S(0)) gram(j, j) += S(1);
    BOOST_TEST(support::near(gram, matrix_x<S>::Identity(k, k), support::tolerance<S>(d)));
    // Distances below rank_tolerance() are dependence, those well above are not.
    double const distance = std::pow(10.0, -item);
    double const limit = static_cast<double>(stiefelx::rank_tolerance<S>(d));
    if (distance > 30 * limit) BOOST_TEST(status(0, item) == 0);
    if (distance < limit / 30) BOOST_TEST(status(0, item) == stiefelx::rank_deficient);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(in_place_and_strided_give_the_same_bits, S, scalars) {
  index_t const d = 77, k = 4, count = 13;
  stiefelx::host::context ctx;
  matrix_x<S> const a = mixed_stack<S>(d, k, count);
  matrix_x<S> q(d, k * count), r(k, k * count), r2(k, k * count);
  stiefelx::gram_schmidt(ctx, stack{count}, a, q, r);
  matrix_x<S> own = a;
  stiefelx::gram_schmidt(ctx, stack{count}, own, own, r2);
  BOOST_TEST(support::same(own, q));
  BOOST_TEST(support::same(r2, r));
  matrix_x<S> wide = matrix_x<S>::Constant(d + 9, k * count, S(7));
  wide.middleRows(5, d) = a;
  matrix_x<S> target = matrix_x<S>::Constant(d + 3, k * count, S(8));
  stiefelx::gram_schmidt(ctx, stack{count}, wide.middleRows(5, d), target.middleRows(2, d), r2);
  BOOST_TEST(support::same(target.middleRows(2, d), q));
  BOOST_TEST((target.topRows(2).array() == S(8)).all());
  BOOST_TEST((target.bottomRows(1).array() == S(8)).all());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(threads_change_no_bit, S, scalars) {
  // Large enough that results are written past the caches.
  index_t const d = 8 * 1024, k = 2, count = 9 * 64 * 1024 / d * 2;
  stiefelx::host::context one, three({.threads = 3});
  matrix_x<S> const a = mixed_stack<S>(d, k, count);
  matrix_x<S> q(d, k * count), r(k, k * count), q3(d, k * count), r3(k, k * count);
  stiefelx::gram_schmidt(one, stack{count}, a, q, r);
  stiefelx::gram_schmidt(three, stack{count}, a, q3, r3);
  BOOST_TEST(support::same(q3, q));
  BOOST_TEST(support::same(r3, r));
}

BOOST_AUTO_TEST_SUITE_END()
