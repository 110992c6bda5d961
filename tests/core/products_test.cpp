// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products, Gram matrices, factors and solves against naive loops and their laws, on both backends.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/context.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::no_status;

struct extent {
  index_t rows, depth, cols;
};

/// Empty, single, thin, and past every size at which the host changes its method.
std::vector<extent> const extents{{0, 3, 2},    {3, 0, 2},   {2, 3, 0},   {1, 1, 1},
                                  {1, 9, 5},    {7, 9, 1},   {5, 4, 3},   {33, 31, 3},
                                  {29, 31, 27}, {64, 40, 7}, {203, 2, 18}};

/// Around the block of 48 in which the host factors.
std::vector<index_t> const orders{0, 1, 2, 7, 47, 48, 49, 101};

template <class A>
double size_of(A const& a) {
  return static_cast<double>(a.norm());
}

template <class S>
S not_a_number() {
  return S(std::numeric_limits<stiefelx::real_of_t<S>>::quiet_NaN());
}

/// g with NaN below its diagonal.
template <class S>
matrix_x<S> upper_half(matrix_x<S> g) {
  for (index_t j = 0; j < g.cols(); ++j)
    for (index_t i = j + 1; i < g.rows(); ++i) g(i, j) = not_a_number<S>();
  return g;
}

template <class S>
bool is_upper_factor(matrix_x<S> const& r) {
  using real = stiefelx::real_of_t<S>;
  for (index_t j = 0; j < r.cols(); ++j) {
    if (!(std::real(r(j, j)) > real(0)) || std::imag(r(j, j)) != real(0)) return false;
    for (index_t i = j + 1; i < r.rows(); ++i)
      if (r(i, j) != S(0)) return false;
  }
  return true;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(products)

// --- products ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(product_agrees_with_loops, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (auto const& e : extents) {
    BOOST_TEST_CONTEXT(e.rows << "x" << e.depth << " times " << e.depth << "x" << e.cols) {
      matrix_x<S> const a = random_matrix<S>(e.rows, e.depth, 1);
      matrix_x<S> const b = random_matrix<S>(e.depth, e.cols, 2);
      matrix_x<S> const c = loop_product(a, b);
      double const reference = size_of(a) * size_of(b);
      double const bound = tolerance<S>(e.depth);
      auto const x = p.up(a);
      auto const y = p.up(b);
      auto const xh = p.up(loop_adjoint(a));
      auto const yh = p.up(loop_adjoint(b));
      BOOST_TEST(near(p.down(product(p.ctx, x, y)), c, bound, reference));
      BOOST_TEST(near(p.down(product(p.ctx, xh.adjoint(), y)), c, bound, reference));
      BOOST_TEST(near(p.down(product(p.ctx, x, yh.adjoint())), c, bound, reference));
      BOOST_TEST(near(p.down(product(p.ctx, xh.adjoint(), yh.adjoint())), c, bound, reference));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(multiply_forgets_what_its_output_held, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (auto const& e : extents) {
    matrix_x<S> const a = random_matrix<S>(e.rows, e.depth, 1);
    matrix_x<S> const b = random_matrix<S>(e.depth, e.cols, 2);
    auto c = p.up(matrix_x<S>::Constant(e.rows, e.cols, not_a_number<S>()));
    multiply(p.ctx, p.up(a), p.up(b), c);
    BOOST_TEST(near(p.down(c), loop_product(a, b), tolerance<S>(e.depth), size_of(a) * size_of(b)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(multiply_add_adds_a_multiple, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = typename Case::real;
  for (auto const& e : extents) {
    matrix_x<S> const a = random_matrix<S>(e.rows, e.depth, 1);
    matrix_x<S> const b = random_matrix<S>(e.depth, e.cols, 2);
    matrix_x<S> const c = random_matrix<S>(e.rows, e.cols, 3);
    matrix_x<S> const expected = c - R(0.75) * loop_product(a, b);
    double const reference = size_of(c) + size_of(a) * size_of(b);
    auto x = p.up(c);
    multiply_add(p.ctx, -0.75, p.up(a), p.up(b), x);
    BOOST_TEST(near(p.down(x), expected, tolerance<S>(e.depth), reference));
    auto y = p.up(c);
    auto const s = p.number(R(-0.75));
    multiply_add(p.ctx, s, p.up(a), p.up(b), y);
    BOOST_TEST(near(p.down(y), expected, tolerance<S>(e.depth), reference));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(multiply_reads_and_writes_strips, Case, double_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  matrix_x<S> all = random_matrix<S>(70, 70, 1);
  auto x = p.up(all);
  multiply(p.ctx, x.middleRows(0, 30).middleCols(0, 33), x.middleRows(30, 33).middleCols(0, 28),
           x.middleRows(35, 30).middleCols(40, 28));
  matrix_x<S> const expected = loop_product<S>(all.block(0, 0, 30, 33), all.block(30, 0, 33, 28));
  all.block(35, 40, 30, 28) = expected;
  BOOST_TEST(near(p.down(x), all, tolerance<S>(33)));
  multiply_add(p.ctx, 1, x.middleRows(0, 2).middleCols(0, 3),
               x.middleRows(5, 60).middleCols(0, 3).adjoint(),
               x.middleRows(3, 2).middleCols(3, 60));
  all.block(3, 3, 2, 60) +=
      loop_product<S>(all.block(0, 0, 2, 3), all.block(5, 0, 60, 3).adjoint());
  BOOST_TEST(near(p.down(x), all, tolerance<S>(33)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gram_is_hermitian_to_the_bit, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (auto const& e : extents) {
    BOOST_TEST_CONTEXT(e.rows << "x" << e.cols) {
      matrix_x<S> const a = random_matrix<S>(e.rows, e.cols, 1);
      auto const x = p.up(a);
      matrix_x<S> const g = p.down(gram(p.ctx, x));
      BOOST_TEST(same(g, loop_adjoint(g)));
      double const size = size_of(a) * size_of(a);
      BOOST_TEST(near(g, loop_product(loop_adjoint(a), a), tolerance<S>(e.rows), size));
      matrix_x<S> const other = p.down(gram(p.ctx, x.adjoint()));
      BOOST_TEST(same(other, loop_adjoint(other)));
      BOOST_TEST(near(other, loop_product(a, loop_adjoint(a)), tolerance<S>(e.cols), size));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(symmetrize_gives_the_hermitian_part, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = typename Case::real;
  for (index_t n : orders) {
    matrix_x<S> const a = random_matrix<S>(n, n, 1);
    auto x = p.up(a);
    symmetrize(p.ctx, x);
    matrix_x<S> const s = p.down(x);
    BOOST_TEST(same(s, loop_adjoint(s)));
    BOOST_TEST(near(s, R(0.5) * (a + loop_adjoint(a)), tolerance<S>(1), size_of(a)));
  }
}

// --- Cholesky ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(cholesky_factor_squares_to_its_matrix, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (index_t n : orders) {
    BOOST_TEST_CONTEXT("order " << n) {
      matrix_x<S> const g = positive_matrix<S>(n, 100, 1);
      auto status = status_matrix<typename Case::backend>(p.ctx);
      auto x = p.up(upper_half(g));
      cholesky(p.ctx, x, status);
      matrix_x<S> const r = p.down(x);
      BOOST_TEST(status_value(p.ctx, status) == 0);
      BOOST_TEST(is_upper_factor(r));
      BOOST_TEST(near(loop_product(loop_adjoint(r), r), g, tolerance<S>(n)));
      auto y = p.up(g);
      cholesky(p.ctx, y, no_status{});
      BOOST_TEST(same(p.down(y), r));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cholesky_reports_a_pivot_that_is_not_positive, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (index_t n : {1, 2, 7, 49, 101}) {
    for (index_t bad : {index_t(0), n / 2, n - 1}) {
      for (double const pivot : {0.0, -1.0}) {
        BOOST_TEST_CONTEXT("order " << n << ", pivot " << bad << " is " << pivot) {
          matrix_x<S> g = matrix_x<S>::Identity(n, n);
          g(bad, bad) = S(static_cast<typename Case::real>(pivot));
          auto status = status_matrix<typename Case::backend>(p.ctx);
          raise(p.ctx, status, stiefelx::refined);
          auto x = p.up(g);
          cholesky(p.ctx, x, status);
          BOOST_TEST(status_value(p.ctx, status) == (stiefelx::rank_deficient | stiefelx::refined));
          auto y = p.up(g);
          cholesky(p.ctx, y, no_status{});
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cholesky_reports_a_nan, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (index_t n : {1, 2, 49, 101}) {
    matrix_x<S> const whole = positive_matrix<S>(n, 10, 1);
    for (auto const& [i, j] : {std::pair(index_t(0), index_t(0)), std::pair(index_t(0), n - 1),
                               std::pair(n / 2, n - 1), std::pair(n - 1, n - 1)}) {
      matrix_x<S> g = whole;
      g(i, j) = not_a_number<S>();
      auto status = status_matrix<typename Case::backend>(p.ctx);
      auto x = p.up(g);
      cholesky(p.ctx, x, status);
      BOOST_TEST((status_value(p.ctx, status) & stiefelx::not_finite) != 0,
                 "NaN at " << i << ", " << j << " of order " << n);
    }
  }
}

// --- solves --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_undoes_a_product, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (index_t n : orders) {
    for (index_t rows : {index_t(0), index_t(1), n + 3, index_t(203)}) {
      BOOST_TEST_CONTEXT(rows << "x" << n) {
        matrix_x<S> r = random_matrix<S>(n, n, 1) / S(static_cast<float>(n + 1));
        r.diagonal().array() += S(2);
        for (index_t j = 0; j < n; ++j) r.col(j).tail(n - 1 - j).setZero();
        matrix_x<S> const b = random_matrix<S>(rows, n, 2);
        auto y = p.up(b);
        solve_right(p.ctx, p.up(upper_half(r)), y);
        matrix_x<S> const x = p.down(y);
        BOOST_TEST(near(loop_product(x, r), b, tolerance<S>(n), size_of(x) * size_of(r)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_stays_in_its_strip, Case, double_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (index_t rows : {4, 131}) {
    matrix_x<S> all = random_matrix<S>(rows + 5, 9, 3);
    auto x = p.up(all);
    matrix_x<S> const twice = S(2) * matrix_x<S>::Identity(6, 6);
    solve_right(p.ctx, p.up(twice), x.middleRows(2, rows).middleCols(1, 6));
    all.block(2, 1, rows, 6) /= S(2);
    BOOST_TEST(same(p.down(x), all));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gram_reads_its_strip, Case, double_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (index_t rows : {5, 203}) {
    matrix_x<S> const all = random_matrix<S>(rows + 5, 21, 3);
    matrix_x<S> const strip = all.block(2, 1, rows, 18);
    auto const x = p.up(all);
    BOOST_TEST(near(p.down(gram(p.ctx, x.middleRows(2, rows).middleCols(1, 18))),
                    loop_product(loop_adjoint(strip), strip), tolerance<S>(rows)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_leaves_a_small_residual, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (index_t n : orders) {
    for (index_t cols : {0, 1, 5}) {
      BOOST_TEST_CONTEXT("order " << n << ", " << cols << " right-hand sides") {
        matrix_x<S> a = random_matrix<S>(n, n, 1);
        // Without an exchange of rows the first pivot is zero.
        if (n > 1) a(0, 0) = S(0);
        matrix_x<S> const b = random_matrix<S>(n, cols, 2);
        auto status = status_matrix<typename Case::backend>(p.ctx);
        auto x = p.up(a);
        auto y = p.up(b);
        solve(p.ctx, x, y, status);
        BOOST_TEST(status_value(p.ctx, status) == 0);
        matrix_x<S> const found = p.down(y);
        // Growth of the factors under partial pivoting is near n^(2/3) for random matrices.
        double const growth = std::pow(static_cast<double>(std::max<index_t>(n, 1)), 2.0 / 3);
        BOOST_TEST(
            near(loop_product(a, found), b, tolerance<S>(n, growth), size_of(a) * size_of(found)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_reports_a_singular_matrix, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (index_t n : {1, 2, 49, 101}) {
    for (index_t bad : {index_t(0), n / 2, n - 1}) {
      matrix_x<S> a = matrix_x<S>::Identity(n, n).rowwise().reverse();
      a.col(bad).setZero();
      auto status = status_matrix<typename Case::backend>(p.ctx);
      auto x = p.up(a);
      auto y = p.up(random_matrix<S>(n, 2, 1));
      solve(p.ctx, x, y, status);
      BOOST_TEST(status_value(p.ctx, status) == stiefelx::rank_deficient,
                 "column " << bad << " of order " << n);
      auto again = p.up(a);
      solve(p.ctx, again, y, no_status{});
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_reports_a_matrix_that_is_not_finite, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = stiefelx::real_of_t<S>;
  R const nan = std::numeric_limits<R>::quiet_NaN(), infinity = std::numeric_limits<R>::infinity();
  auto const status_of = [&](matrix_x<S> const& a) {
    auto status = status_matrix<typename Case::backend>(p.ctx);
    auto x = p.up(a), y = p.up(random_matrix<S>(a.rows(), 2, 1));
    solve(p.ctx, x, y, status);
    return status_value(p.ctx, status);
  };
  for (index_t n : {1, 2, 49, 101})
    for (R bad : {nan, infinity})
      for (index_t i : {index_t(0), n / 2, n - 1})
        for (index_t j : {index_t(0), n - 1}) {
          BOOST_TEST_INFO_SCOPE(bad << " at (" << i << ", " << j << ") of order " << n);
          matrix_x<S> a = random_matrix<S>(n, n, 1);
          a(i, j) = bad;
          BOOST_TEST(status_of(a) == stiefelx::not_finite);
          // Beside zeros alone a comparison does not find it.
          a.setIdentity();
          a.col(j).setZero();
          a(i, j) = bad;
          BOOST_TEST(status_of(a) == stiefelx::not_finite);
        }
}

BOOST_AUTO_TEST_SUITE_END()
