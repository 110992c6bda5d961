// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions of a stack: each matrix and its status as by the function of one matrix.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/inverse_sqrt.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace {

using namespace support;
using stiefelx::no_status;
using stiefelx::not_converged;
using stiefelx::not_finite;
using stiefelx::rank_deficient;
using stiefelx::stack;

using cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, std::complex<double>>>;

constexpr index_t rows = 13, cols = 4;

/// Matrices that take different paths: easy, hard, deficient, zero, scaled, not finite.
template <class S>
std::vector<matrix_x<S>> members() {
  using real = stiefelx::real_of_t<S>;
  real const large = std::is_same_v<real, float> ? real(1e30F) : real(1e200);
  matrix_x<S> repeated = random_matrix<S>(rows, cols, 2);
  repeated.col(2) = repeated.col(0);
  matrix_x<S> broken = random_matrix<S>(rows, cols, 3);
  broken(5, 1) = S(std::numeric_limits<real>::quiet_NaN());
  return {random_matrix<S>(rows, cols, 1),
          conditioned_matrix<S>(rows, cols, 100, 4),
          repeated,
          conditioned_matrix<S>(rows, cols, 0.01 / std::numeric_limits<real>::epsilon(), 5),
          matrix_x<S>::Zero(rows, cols),
          random_matrix<S>(rows, cols, 6) * large,
          broken,
          random_matrix<S>(rows, cols, 7) / large};
}

template <class S>
matrix_x<S> side_by_side(std::vector<matrix_x<S>> const& all) {
  matrix_x<S> wide(all.front().rows(), 0);
  for (auto const& each : all) {
    matrix_x<S> next(wide.rows(), wide.cols() + each.cols());
    next << wide, each;
    wide = next;
  }
  return wide;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stacks)

BOOST_AUTO_TEST_CASE_TEMPLATE(each_matrix_is_factored_as_alone, Case, cases) {
  using S = typename Case::scalar;
  auto const all = members<S>();
  auto const count = static_cast<index_t>(all.size());
  stack const matrices{count};
  for (auto const method : all_methods)
    for (bool const in_place : {false, true}) {
      place<Case> at;
      auto q = at.up(side_by_side(all));
      auto r = at.up(matrix_x<S>::Constant(cols, cols * count, S(7)));
      auto status = at.up(matrix_x<int>::Zero(1, count));
      if (in_place) {
        factor_with(method, q, q, r, status, at.ctx, matrices);
      } else {
        auto const a = at.up(side_by_side(all));
        fill(at.ctx, 7, q);
        factor_with(method, a, q, r, status, at.ctx, matrices);
      }
      auto const found_q = at.down(q), found_r = at.down(r);
      auto const bits = at.down(status);
      for (index_t k = 0; k < count; ++k)
        BOOST_TEST_CONTEXT(name(method) << ", matrix " << k << ", in place " << in_place) {
          auto const& a = all[static_cast<std::size_t>(k)];
          auto const alone = factor<Case>(method, a);
          matrix_x<S> const mine = found_q.middleCols(k * cols, cols);
          matrix_x<S> const upper = found_r.middleCols(k * cols, cols);
          // Where both say that the result is good it is, and they say so of the same matrices.
          int const trouble = rank_deficient | not_finite | not_converged;
          bool const clear = (alone.status & trouble) == 0;
          BOOST_TEST(((bits(0, k) & trouble) == 0) == clear);
          if (!a.allFinite()) BOOST_TEST((bits(0, k) & not_finite) != 0);
          if (clear) {
            double const hard = k == 1 ? 1e4 : k == 3 ? 1 / tolerance<S>(rows) : 10;
            auto const size = static_cast<double>(frobenius(table(a)));
            if (k != 3) BOOST_TEST(near(mine, alone.q, tolerance<S>(rows, hard), 2));
            BOOST_TEST(near(upper, alone.r, tolerance<S>(rows, k == 3 ? 1 : hard), size));
            for (index_t j = 0; j < cols; ++j) {
              BOOST_TEST(std::real(upper(j, j)) > 0);
              BOOST_TEST(std::imag(upper(j, j)) == 0);
              for (index_t i = j + 1; i < cols; ++i) BOOST_TEST(upper(i, j) == S(0));
            }
          }
          if ((bits(0, k) & (not_finite | not_converged)) == 0 && mine.allFinite()) {
            // a = q r, whether or not a column was dropped; in units of a's largest entry.
            auto const unit = static_cast<typename Case::real>(
                std::max(a.cwiseAbs().maxCoeff(), std::numeric_limits<typename Case::real>::min()));
            bool const fixed =
                method == qr_method::cholesky_one_pass || method == qr_method::cholesky_two_passes;
            if (!(fixed && !clear))
              BOOST_TEST(
                  near(loop_product<S>(mine, upper / unit), a / unit, tolerance<S>(rows), 8));
          }
        }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(each_polar_factor_and_decomposition_is_that_of_its_matrix, Case,
                              cases) {
  using S = typename Case::scalar;
  auto const all = members<S>();
  auto const count = static_cast<index_t>(all.size());
  place<Case> at;
  auto const a = at.up(side_by_side(all));
  auto q = at.up(side_by_side(all));
  for (auto const method : polar_methods) {
    auto status = at.up(matrix_x<int>::Zero(1, count));
    stiefelx::polar(at.ctx, stack{count}, a, q, status, {.method = method});
    auto const found = at.down(q);
    auto const bits = at.down(status);
    for (index_t k = 0; k < count; ++k) BOOST_TEST_CONTEXT(name(method) << ", matrix " << k) {
        auto const alone = polar_of<Case>(all[static_cast<std::size_t>(k)], {.method = method});
        BOOST_TEST(bits(0, k) == alone.status);
        double const hard = k == 3 ? 0.1 / tolerance<S>(rows) : 100;
        if (alone.status == 0)
          BOOST_TEST(near(found.middleCols(k * cols, cols), alone.q, tolerance<S>(rows, hard), 2));
      }
  }

  auto w = zeros<typename Case::real>(at.ctx, 1, cols * count);
  auto v = at.up(matrix_x<S>::Zero(cols, cols * count));
  auto status = at.up(matrix_x<int>::Zero(1, count));
  copy(at.ctx, a, q);
  stiefelx::svd(at.ctx, stack{count}, q, q, w, v, status);
  auto const u = at.down(q), right = at.down(v);
  auto const values = at.down(w);
  auto const bits = at.down(status);
  for (index_t k = 0; k < count; ++k) BOOST_TEST_CONTEXT("svd, matrix " << k) {
      auto const& each = all[static_cast<std::size_t>(k)];
      auto const alone = svd_of<Case>(each);
      BOOST_TEST(bits(0, k) == alone.status);
      matrix_x<typename Case::real> const mine = values.middleCols(k * cols, cols);
      if ((alone.status & not_finite) != 0) {
        BOOST_TEST(!mine.allFinite());
        continue;
      }
      BOOST_TEST(near(mine, alone.w, tolerance<S>(rows)));
      BOOST_TEST(orthonormality_defect<S>(u.middleCols(k * cols, cols)) < tolerance<S>(rows));
      BOOST_TEST(orthonormality_defect<S>(right.middleCols(k * cols, cols)) < tolerance<S>(rows));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(each_inverse_root_is_that_of_its_matrix, Case, cases) {
  using S = typename Case::scalar;
  std::vector<matrix_x<S>> const all{positive_matrix<S>(5, 10, 1), matrix_x<S>::Zero(5, 5),
                                     positive_matrix<S>(5, 100, 2) * typename Case::real(40)};
  place<Case> at;
  auto const g = at.up(side_by_side(all));
  auto z = at.up(matrix_x<S>::Zero(5, 15));
  auto status = at.up(matrix_x<int>::Zero(1, 3));
  stiefelx::inverse_sqrt(at.ctx, stack{3}, g, 0, 30, z, status);
  auto const found = at.down(z);
  auto const bits = at.down(status);
  for (index_t k : {0, 1, 2}) {
    auto const alone = inverse_root<Case>(all[static_cast<std::size_t>(k)], 0, 30);
    BOOST_TEST(bits(0, k) == alone.status);
    matrix_x<S> const mine = found.middleCols(5 * k, 5);
    if (k != 1) BOOST_TEST(near(mine, alone.q, tolerance<S>(5, 100)));
    if (k != 1) BOOST_TEST(same(mine, loop_adjoint(mine)));
  }
  BOOST_TEST(bits(0, 1) == not_converged);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(empty_stacks_and_no_status_are_fine, Case, cases) {
  using S = typename Case::scalar;
  place<Case> at;
  auto a = at.up(random_matrix<S>(6, 4, 1));
  auto r = at.up(matrix_x<S>::Zero(2, 4));
  auto w = zeros<typename Case::real>(at.ctx, 1, 4);
  stack const none{0}, two{2};
  auto none_of_a = a.middleCols(0, 0);
  auto none_of_r = r.middleCols(0, 0).middleRows(0, 0);
  for (auto const method : all_methods) {
    factor_with(method, none_of_a, none_of_a, none_of_r, no_status{}, at.ctx, none);
    factor_with(method, a, a, r, no_status{}, at.ctx, two);
  }
  for (auto const method : polar_methods) {
    stiefelx::polar(at.ctx, none, none_of_a, none_of_a, no_status{}, {.method = method});
    stiefelx::polar(at.ctx, two, a, a, no_status{}, {.method = method});
  }
  stiefelx::svd(at.ctx, two, a, a, w, r);
  for (index_t k : {0, 1})
    BOOST_TEST(orthonormality_defect<S>(at.down(a).middleCols(2 * k, 2)) < tolerance<S>(6));
}

BOOST_AUTO_TEST_CASE(wrong_stacks_are_refused_by_name) {
  stiefelx::host::context ctx;
  matrix_x<double> a = random_matrix<double>(5, 6, 1), q = a, r(3, 6);
  matrix_x<int> status = matrix_x<int>::Zero(1, 2);
  auto const says = [&](index_t count, auto const& in, auto& out, auto& upper, auto& bits) {
    return message_of([&] { stiefelx::householder_qr(ctx, stack{count}, in, out, upper, bits); });
  };
  BOOST_TEST(says(4, a, q, r, status) ==
             "householder_qr: a has 6 columns, expected a multiple of the 4 matrices of the stack");
  BOOST_TEST(says(1, a, q, r, status) ==
             "householder_qr: a is 5x6, expected at least as many rows as the 6 columns of each "
             "matrix");
  BOOST_TEST(says(3, a, q, r, status) == "householder_qr: r is 3x6, expected 2x6");
  matrix_x<int> short_status = matrix_x<int>::Zero(1, 1);
  BOOST_TEST(says(2, a, q, r, short_status) == "householder_qr: status is 1x1, expected 1x2");
  BOOST_TEST(message_of([&] { stiefelx::gram_schmidt(ctx, stack{2}, a, q, a); }) ==
             "gram_schmidt: r is 5x6, expected 3x6");
  matrix_x<double> narrow(5, 4);
  BOOST_TEST(message_of([&] { stiefelx::polar(ctx, stack{2}, a, narrow); }) ==
             "polar: q is 5x4, expected 5x6");
  BOOST_TEST(message_of([&] { stiefelx::inverse_sqrt(ctx, stack{2}, a, 0, 5, q); }) ==
             "inverse_sqrt: g is 5x6, expected 3x6");
}

BOOST_AUTO_TEST_CASE(wrong_arguments_of_stacked_factors_are_refused_by_name) {
  stiefelx::host::context ctx;
  matrix_x<double> a = random_matrix<double>(5, 4, 1), u = a, w(1, 4), v(2, 4), all(9, 4);
  stack const two{2};
  auto const decompose = [&](auto&& left, auto&& values, auto&& right) {
    return message_of([&] { stiefelx::svd(ctx, two, a, left, values, right); });
  };
  BOOST_TEST(decompose(u.middleRows(0, 4), w, v) == "svd: u is 4x4, expected 5x4");
  BOOST_TEST(decompose(u, u, v) == "svd: w is 5x4, expected 1x4");
  BOOST_TEST(decompose(u, w, w) == "svd: v is 1x4, expected 2x4");
  BOOST_TEST(decompose(u, a.middleRows(2, 1), v) == "svd: w overlaps a, expected separate memory");
  BOOST_TEST(decompose(u, w, u.middleRows(1, 2)) == "svd: v overlaps u, expected separate memory");
  auto const part = all.middleRows(0, 5);
  BOOST_TEST(message_of([&] { stiefelx::polar(ctx, two, part, all.middleRows(1, 5)); }) ==
             "polar: q overlaps a, expected the same matrix or separate memory");
  auto const with = [&](stiefelx::polar_options options) {
    return message_of([&] { stiefelx::polar(ctx, two, a, u, no_status{}, options); });
  };
  BOOST_TEST(with({.iterations = -2}) ==
             "polar: iterations is -2, expected a number of at least 0");
  BOOST_TEST(with({.smallest = 0.5, .largest = 0.25}) ==
             "polar: smallest is 0.500000, expected a number from 0 to the largest singular value");
  BOOST_TEST(with({.largest = -1}) ==
             "polar: largest is -1.000000, expected a finite number of at least 0");
  BOOST_TEST(with({.smallest = 2}) ==
             "polar: smallest is 2.000000, expected a number from 0 to the largest singular value");
}

BOOST_AUTO_TEST_SUITE_END()
