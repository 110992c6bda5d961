// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <tuple>
#include <type_traits>
#include <vector>

#include <stiefelx/simd/triangular_solve.hpp>
#include <support/guarded.hpp>

namespace {

using stiefelx::simd::native_width;
using support::fill_random;
using support::guard;
using support::guarded;
using scalars = std::tuple<float, double>;

// An upper triangular factor with NaN below the diagonal, which must not be read. Entries above it
// are small enough that rows of the solution do not grow with p.
template <class T>
void fill_factor(guarded<T>& r, T scaling) {
  fill_random(r);
  for (std::ptrdiff_t j = 0; j < r.cols; ++j)
    for (std::ptrdiff_t i = 0; i < r.rows; ++i) {
      if (i > j) r(i, j) = std::numeric_limits<T>::quiet_NaN();
      if (i < j) r(i, j) *= scaling * 2 / T(r.cols);
      if (i == j) r(i, j) = scaling * (r(i, j) < 0 ? r(i, j) - 1 : r(i, j) + 1);
    }
}

// Runs solve_right() with a workspace of exactly the promised size between guards.
template <class T>
void run_solve(guarded<T>& r, guarded<T>& y, std::ptrdiff_t workspace_shift) {
  guarded<T> workspace(stiefelx::simd::solve_right_workspace<T>(y.cols), 1, 0, workspace_shift);
  stiefelx::simd::solve_right(y.rows, y.cols, r.data(), r.stride, y.data(), y.stride,
                              workspace.data());
  BOOST_TEST(workspace.is_intact());
}

template <class T>
void check_solve(std::ptrdiff_t n, std::ptrdiff_t p, std::ptrdiff_t gap, std::ptrdiff_t shift,
                 T scaling = 1) {
  BOOST_TEST_CONTEXT(n << " x " << p << ", gap " << gap << ", shift " << shift) {
    guarded<T> y(n, p, gap, shift), r(p, p, gap, shift);
    fill_random(y);
    fill_factor(r, scaling);
    guarded<T> x = y;
    run_solve(r, x, shift);
    BOOST_TEST(x.is_intact());
    BOOST_TEST(r.is_intact());
    std::ptrdiff_t wrong = 0;
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        long double residual = y(i, j), magnitude = 0;
        for (std::ptrdiff_t k = 0; k <= j; ++k) {
          long double const term = static_cast<long double>(x(i, k)) * r(k, j);
          residual -= term;
          magnitude += std::abs(term);
        }
        // Substitution of at most p terms: each entry of r is perturbed by at most p + 1 roundings.
        long double const bound =
            static_cast<long double>(p + 1) * std::numeric_limits<T>::epsilon() * magnitude;
        if (!(std::abs(residual) <= bound)) ++wrong;
      }
    BOOST_TEST(wrong == 0);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(triangular_solve)

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_leaves_a_residual_of_rounding_size, T, scalars) {
  constexpr std::ptrdiff_t w = native_width<T>;
  for (std::ptrdiff_t n : {std::ptrdiff_t{0}, std::ptrdiff_t{1}, std::ptrdiff_t{3}, w - 1, w, w + 1,
                           4 * w - 1, 4 * w, 8 * w + 3})
    for (std::ptrdiff_t p = 0; p <= 17; ++p) {
      check_solve<T>(n, p, 0, 0);
      check_solve<T>(n, p, 3, 1);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_is_right_for_many_columns, T, scalars) {
  for (std::ptrdiff_t p : {63, 64, 65, 130}) {
    check_solve<T>(4 * native_width<T>, p, 0, 0);
    check_solve<T>(8 * native_width<T> + 5, p, 2, 1);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_divides_when_a_reciprocal_is_not_normal, T, scalars) {
  // The reciprocal of the first overflows, that of the second is subnormal.
  T const tiny = std::numeric_limits<T>::min() / 64;
  T const huge = std::numeric_limits<T>::max() / 2;
  for (T const pivot : {tiny, huge}) {
    std::ptrdiff_t const n = 4 * native_width<T> + 1, p = 5;
    guarded<T> y(n, p, 0, 0), r(p, p, 0, 0);
    for (std::ptrdiff_t j = 0; j < p; ++j) {
      for (std::ptrdiff_t i = 0; i < p; ++i) r(i, j) = i == j ? pivot : T{0};
      for (std::ptrdiff_t i = 0; i < n; ++i) y(i, j) = pivot / T(i % 7 + 3);
    }
    guarded<T> x = y;
    run_solve(r, x, 0);
    std::ptrdiff_t wrong = 0;
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i)
        if (x(i, j) != y(i, j) / pivot) ++wrong;
    BOOST_TEST(wrong == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_bounds_the_residual_near_the_ends_of_the_range, T,
                              scalars) {
  check_solve<T>(4 * native_width<T> + 3, 9, 0, 0, std::ldexp(T{1}, 40));
  check_solve<T>(4 * native_width<T> + 3, 9, 0, 0, std::ldexp(T{1}, -40));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_with_a_factor_of_powers_of_two_is_exact, T, scalars) {
  std::ptrdiff_t const n = 4 * native_width<T> + 2, p = 6;
  guarded<T> x(n, p, 0, 0), y(n, p, 0, 0), r(p, p, 0, 0);
  for (std::ptrdiff_t j = 0; j < p; ++j) {
    for (std::ptrdiff_t i = 0; i < p; ++i) r(i, j) = T(i == j ? 1 << j : i < j ? 1 << (j - i) : 0);
    for (std::ptrdiff_t i = 0; i < n; ++i) x(i, j) = T(i % 5 - j);
  }
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      y(i, j) = 0;
      for (std::ptrdiff_t k = 0; k <= j; ++k) y(i, j) += x(i, k) * r(k, j);
    }
  run_solve(r, y, 0);
  std::ptrdiff_t wrong = 0;
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < n; ++i)
      if (y(i, j) != x(i, j)) ++wrong;
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_has_the_same_bits_at_every_address, T, scalars) {
  std::ptrdiff_t const n = 8 * native_width<T> + 9, p = 11;
  guarded<T> y(n, p, 0, 0), r(p, p, 0, 0);
  fill_random(y);
  fill_factor(r, T{1});
  run_solve(r, y, 0);
  for (std::ptrdiff_t shift = 0; shift <= native_width<T>; ++shift) {
    guarded<T> moved(n, p, shift, shift), factor(p, p, shift, shift);
    fill_random(moved);
    fill_factor(factor, T{1});
    run_solve(factor, moved, shift);
    std::ptrdiff_t different = 0;
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i)
        if (std::memcmp(&y(i, j), &moved(i, j), sizeof(T)) != 0) ++different;
    BOOST_TEST(different == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_right_keeps_not_finite_values_in_their_row, T, scalars) {
  T const values[] = {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()};
  for (T const value : values)
    for (std::ptrdiff_t p : {1, 5, 8})
      for (std::ptrdiff_t bad_col = 0; bad_col < p; ++bad_col) {
        std::ptrdiff_t const n = 4 * native_width<T> + 3;
        for (std::ptrdiff_t bad_row : {std::ptrdiff_t{2}, n - 1}) {
          guarded<T> y(n, p, 0, 0), r(p, p, 0, 0);
          fill_random(y);
          fill_factor(r, T{1});
          y(bad_row, bad_col) = value;
          run_solve(r, y, 0);
          std::ptrdiff_t wrong = 0;
          for (std::ptrdiff_t j = 0; j < p; ++j)
            for (std::ptrdiff_t i = 0; i < n; ++i)
              if (std::isfinite(y(i, j)) == (i == bad_row && j >= bad_col)) ++wrong;
          BOOST_TEST(wrong == 0);
        }
      }
}

BOOST_AUTO_TEST_SUITE_END()
