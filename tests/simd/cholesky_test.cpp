// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>

#include <stiefelx/simd/cholesky.hpp>
#include <support/guarded.hpp>

namespace {

using support::fill_random;
using support::guarded;
using scalars = std::tuple<float, double>;

// Runs cholesky() with a workspace of exactly the promised size between guards.
template <class T>
int run_cholesky(guarded<T>& g, std::ptrdiff_t shift) {
  guarded<T> workspace(stiefelx::simd::cholesky_workspace<T>(g.rows), 1, 0, shift);
  int const bits = stiefelx::simd::cholesky(g.rows, g.data(), g.stride, workspace.data());
  BOOST_TEST(workspace.is_intact());
  return bits;
}

// A diagonally dominant matrix with NaN below the diagonal, which must not be read.
template <class T>
void fill_positive(guarded<T>& g) {
  fill_random(g);
  for (std::ptrdiff_t j = 0; j < g.cols; ++j)
    for (std::ptrdiff_t i = j; i < g.rows; ++i)
      g(i, j) = i == j ? T(g.cols) + 1 : std::numeric_limits<T>::quiet_NaN();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cholesky)

BOOST_AUTO_TEST_CASE_TEMPLATE(factor_times_its_transpose_is_the_matrix, T, scalars) {
  for (std::ptrdiff_t p : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 70, 130})
    for (std::ptrdiff_t gap : {0, 3}) {
      BOOST_TEST_CONTEXT(p << " x " << p << ", gap " << gap) {
        guarded<T> g(p, p, gap, gap);
        fill_positive(g);
        guarded<T> r = g;
        BOOST_TEST(run_cholesky(r, gap) == 0);
        BOOST_TEST(r.is_intact());
        std::ptrdiff_t wrong = 0;
        for (std::ptrdiff_t j = 0; j < p; ++j) {
          for (std::ptrdiff_t i = 0; i <= j; ++i) {
            long double residual = g(i, j), magnitude = 0;
            for (std::ptrdiff_t k = 0; k <= i; ++k) {
              long double const term = static_cast<long double>(r(k, i)) * r(k, j);
              residual -= term;
              magnitude += std::abs(term);
            }
            // Sums of at most p + 1 terms, and two roundings of a pivot.
            long double const bound =
                static_cast<long double>(p + 3) * std::numeric_limits<T>::epsilon() * magnitude;
            if (!(std::abs(residual) <= bound)) ++wrong;
          }
          if (!(r(j, j) > 0)) ++wrong;
          for (std::ptrdiff_t i = j + 1; i < p; ++i)
            if (r(i, j) != 0) ++wrong;
        }
        BOOST_TEST(wrong == 0);
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(factor_of_powers_of_two_is_exact, T, scalars) {
  std::ptrdiff_t const p = 11;
  guarded<T> g(p, p, 0, 0);
  auto const entry = [](std::ptrdiff_t i, std::ptrdiff_t j) {
    return i > j ? T{0} : i == j ? std::ldexp(T{1}, static_cast<int>(i % 3)) : T((i + j) % 3 - 1);
  };
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < p; ++i) {
      g(i, j) = 0;
      for (std::ptrdiff_t k = 0; k < p; ++k) g(i, j) += entry(k, i) * entry(k, j);
    }
  BOOST_TEST(run_cholesky(g, 0) == 0);
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < p; ++i) BOOST_TEST(g(i, j) == entry(i, j));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_pivot_that_is_not_positive_is_reported, T, scalars) {
  for (std::ptrdiff_t p : {1, 4, 6, 19})
    for (std::ptrdiff_t bad = 0; bad < p; ++bad)
      for (T const value : {T{0}, T{-1}}) {
        guarded<T> g(p, p, 0, 0);
        fill_positive(g);
        g(bad, bad) = value;
        BOOST_TEST(run_cholesky(g, 0) == stiefelx::rank_deficient);
        bool finite = true;
        for (std::ptrdiff_t j = 0; j < p; ++j) finite = finite && std::isfinite(g(j, j));
        BOOST_TEST(finite);
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_nan_is_reported, T, scalars) {
  for (std::ptrdiff_t p : {1, 5, 18})
    for (std::ptrdiff_t bad = 0; bad < p; ++bad) {
      guarded<T> g(p, p, 0, 0);
      fill_positive(g);
      g(0, bad) = std::numeric_limits<T>::quiet_NaN();
      BOOST_TEST((run_cholesky(g, 0) & stiefelx::not_finite) != 0);
    }
}

BOOST_AUTO_TEST_SUITE_END()
