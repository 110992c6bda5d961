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

#include <stiefelx/simd/gram.hpp>
#include <support/guarded.hpp>

namespace {

using stiefelx::simd::native_width;
using support::fill_random;
using support::guard;
using support::guarded;
using scalars = std::tuple<float, double>;

// Runs gram() with a workspace of exactly the promised size between guards.
template <class T>
void run_gram(guarded<T>& y, guarded<T>& g, std::ptrdiff_t workspace_shift) {
  guarded<T> workspace(stiefelx::simd::gram_workspace<T>(y.rows, y.cols), 1, 0, workspace_shift);
  stiefelx::simd::gram(y.rows, y.cols, y.data(), y.stride, g.data(), g.stride, workspace.data());
  BOOST_TEST(workspace.is_intact());
}

template <class T>
void check_gram(std::ptrdiff_t n, std::ptrdiff_t p, std::ptrdiff_t gap, std::ptrdiff_t shift) {
  BOOST_TEST_CONTEXT(n << " x " << p << ", gap " << gap << ", shift " << shift) {
    guarded<T> y(n, p, gap, shift), g(p, p, gap, shift);
    fill_random(y);
    run_gram(y, g, shift);
    BOOST_TEST(y.is_intact());
    BOOST_TEST(g.is_intact());
    std::ptrdiff_t wrong = 0, asymmetric = 0;
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i <= j; ++i) {
        long double sum = 0, magnitude = 0;
        for (std::ptrdiff_t k = 0; k < n; ++k) {
          long double const term = static_cast<long double>(y(k, i)) * y(k, j);
          sum += term;
          magnitude += std::abs(term);
        }
        // The standard bound for a sum of n products, in any order.
        long double const bound =
            static_cast<long double>(n) * std::numeric_limits<T>::epsilon() * magnitude;
        if (!(std::abs(g(i, j) - sum) <= bound)) ++wrong;
        if (std::memcmp(&g(i, j), &g(j, i), sizeof(T)) != 0) ++asymmetric;
      }
    BOOST_TEST(wrong == 0);
    BOOST_TEST(asymmetric == 0);
  }
}

template <class T>
bool is_special(T a) {
  return !std::isfinite(a);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(gram)

BOOST_AUTO_TEST_CASE_TEMPLATE(gram_agrees_with_long_double_sums, T, scalars) {
  constexpr std::ptrdiff_t w = native_width<T>;
  constexpr std::ptrdiff_t block = 64 * w;
  for (std::ptrdiff_t n :
       {std::ptrdiff_t{0}, std::ptrdiff_t{1}, std::ptrdiff_t{3}, w - 1, w, w + 1})
    for (std::ptrdiff_t p = 0; p <= 17; ++p) {
      check_gram<T>(n, p, 0, 0);
      check_gram<T>(n, p, 3, 1);
    }
  for (std::ptrdiff_t n : {block - 1, block, block + 1, 2 * block + w + 3})
    for (std::ptrdiff_t p : {1, 5, 8, 17}) check_gram<T>(n, p, 5, 3);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gram_is_right_across_groups_of_panels, T, scalars) {
  for (std::ptrdiff_t p : {63, 64, 65, 130}) {
    check_gram<T>(70, p, 0, 0);
    check_gram<T>(64 * native_width<T> + 5, p, 2, 1);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gram_of_integers_is_exact, T, scalars) {
  std::ptrdiff_t const n = 2 * 64 * native_width<T> + 7, p = 6;
  guarded<T> y(n, p, 0, 0), g(p, p, 0, 0);
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < n; ++i) y(i, j) = T(i % (j + 2));
  run_gram(y, g, 0);
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < p; ++i) {
      std::ptrdiff_t sum = 0;
      for (std::ptrdiff_t k = 0; k < n; ++k) sum += (k % (i + 2)) * (k % (j + 2));
      BOOST_TEST(g(i, j) == T(sum));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gram_has_the_same_bits_at_every_address, T, scalars) {
  std::ptrdiff_t const n = 64 * native_width<T> + 9, p = 11;
  guarded<T> y(n, p, 0, 0), g(p, p, 0, 0);
  fill_random(y);
  run_gram(y, g, 0);
  for (std::ptrdiff_t shift = 0; shift <= native_width<T>; ++shift) {
    guarded<T> moved(n, p, shift, shift), again(p, p, shift, shift);
    fill_random(moved);
    run_gram(moved, again, shift);
    std::ptrdiff_t different = 0;
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < p; ++i)
        if (std::memcmp(&g(i, j), &again(i, j), sizeof(T)) != 0) ++different;
    BOOST_TEST(different == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gram_spreads_not_finite_values_only_along_their_column, T, scalars) {
  T const values[] = {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                      -std::numeric_limits<T>::infinity()};
  for (T const value : values)
    for (std::ptrdiff_t n : {std::ptrdiff_t{5}, 64 * native_width<T> + 2})
      for (std::ptrdiff_t p : {1, 5, 6, 7, 8})
        for (std::ptrdiff_t bad = 0; bad < p; ++bad) {
          guarded<T> y(n, p, 0, 0), g(p, p, 0, 0);
          fill_random(y);
          y(n - 1, bad) = value;
          run_gram(y, g, 0);
          std::ptrdiff_t wrong = 0;
          for (std::ptrdiff_t j = 0; j < p; ++j)
            for (std::ptrdiff_t i = 0; i < p; ++i) {
              if (is_special(g(i, j)) != (i == bad || j == bad)) ++wrong;
              if (std::memcmp(&g(i, j), &g(j, i), sizeof(T)) != 0) ++wrong;
            }
          if (std::isinf(value) && !(std::isinf(g(bad, bad)) && g(bad, bad) > 0)) ++wrong;
          BOOST_TEST(wrong == 0);
        }
}

BOOST_AUTO_TEST_SUITE_END()
