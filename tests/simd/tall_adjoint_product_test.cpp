// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <tuple>

#include <stiefelx/simd/tall_adjoint_product.hpp>
#include <support/guarded.hpp>

namespace {

using stiefelx::simd::native_width;
using support::fill_random;
using support::guarded;
using scalars = std::tuple<float, double>;

template <class T>
inline constexpr std::ptrdiff_t block_rows = 48 * native_width<T>;

// Runs tall_adjoint_product() with a workspace of exactly the promised size between guards.
template <class T>
void run_adjoint_product(T s, guarded<T>& a, guarded<T>& b, bool add, guarded<T>& c,
                         std::ptrdiff_t shift) {
  std::ptrdiff_t const room =
      stiefelx::simd::tall_adjoint_product_workspace<T>(a.rows, a.cols, b.cols);
  guarded<T> workspace(room, 1, 0, shift);
  stiefelx::simd::tall_adjoint_product(a.rows, a.cols, b.cols, s, a.data(), a.stride, b.data(),
                                       b.stride, add, c.data(), c.stride, workspace.data());
  BOOST_TEST(workspace.is_intact());
}

template <class T>
void check_adjoint_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, bool add,
                           std::ptrdiff_t gap, std::ptrdiff_t shift) {
  BOOST_TEST_CONTEXT(n << " x " << k << " adjoint by " << n << " x " << p << ", add " << add
                       << ", gap " << gap << ", shift " << shift) {
    guarded<T> a(n, k, gap, shift), b(n, p, gap + 1, shift), c(k, p, gap, shift);
    guarded<T> before(k, p, gap, shift);
    fill_random(a);
    fill_random(b);
    // Where c is not added to, the signaling NaNs in it must not be read either.
    if (add) {
      fill_random(c);
      fill_random(before);
    }
    T const s = T(-1.5);
    run_adjoint_product(s, a, b, add, c, shift);
    BOOST_TEST(a.is_intact());
    BOOST_TEST(b.is_intact());
    BOOST_TEST(c.is_intact());
    std::ptrdiff_t wrong = 0;
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < k; ++i) {
        long double sum = add ? before(i, j) : T{0}, magnitude = std::abs(sum);
        for (std::ptrdiff_t l = 0; l < n; ++l) {
          long double const term = static_cast<long double>(s) * a(l, i) * b(l, j);
          sum += term;
          magnitude += std::abs(term);
        }
        // n products and sums in any order, one more product, one more sum.
        long double const bound =
            static_cast<long double>(n + 2) * std::numeric_limits<T>::epsilon() * magnitude;
        if (!(std::abs(c(i, j) - sum) <= bound)) ++wrong;
      }
    BOOST_TEST(wrong == 0);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tall_adjoint_product)

BOOST_AUTO_TEST_CASE_TEMPLATE(tall_adjoint_product_agrees_with_long_double_sums, T, scalars) {
  constexpr std::ptrdiff_t w = native_width<T>, block = block_rows<T>;
  for (std::ptrdiff_t n : {std::ptrdiff_t{0}, std::ptrdiff_t{1}, w - 1, w, w + 1, 5 * w, 5 * w + 3})
    for (std::ptrdiff_t k : {0, 1, 3, 4, 5, 8, 13})
      for (std::ptrdiff_t p : {0, 1, 2, 4, 7, 12}) {
        check_adjoint_product<T>(n, k, p, false, 0, 0);
        check_adjoint_product<T>(n, k, p, true, 3, 1);
      }
  for (std::ptrdiff_t n : {block - 1, block, block + 1, 2 * block, 2 * block + w + 3}) {
    check_adjoint_product<T>(n, 8, 12, false, 0, 0);
    check_adjoint_product<T>(n, 5, 9, true, 5, 3);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(tall_adjoint_product_of_integers_is_exact, T, scalars) {
  std::ptrdiff_t const n = 2 * block_rows<T> + 7, k = 6, p = 9;
  guarded<T> a(n, k, 0, 0), b(n, p, 0, 0), c(k, p, 0, 0);
  for (std::ptrdiff_t l = 0; l < n; ++l) {
    for (std::ptrdiff_t i = 0; i < k; ++i) a(l, i) = T(l % (i + 2));
    for (std::ptrdiff_t j = 0; j < p; ++j) b(l, j) = T((l + j) % 5 - 2);
  }
  run_adjoint_product(T(-1), a, b, false, c, 0);
  std::ptrdiff_t wrong = 0;
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < k; ++i) {
      std::ptrdiff_t sum = 0;
      for (std::ptrdiff_t l = 0; l < n; ++l) sum -= l % (i + 2) * ((l + j) % 5 - 2);
      if (c(i, j) != T(sum)) ++wrong;
    }
  BOOST_TEST(wrong == 0);
}

// Tasks are cut between columns, and memory may lie anywhere: neither changes a bit.
BOOST_AUTO_TEST_CASE_TEMPLATE(tall_adjoint_product_has_the_same_bits_in_every_cut_and_place, T,
                              scalars) {
  for (std::ptrdiff_t n : {block_rows<T> + 9, block_rows<T> + native_width<T>}) {
    std::ptrdiff_t const k = 7, p = 11;
    guarded<T> a(n, k, 0, 0), b(n, p, 0, 0), c(k, p, 0, 0);
    fill_random(a);
    fill_random(b);
    run_adjoint_product(T(0.7), a, b, false, c, 0);
    for (std::ptrdiff_t shift = 0; shift <= native_width<T>; ++shift) {
      guarded<T> moved(n, k, shift, shift);
      fill_random(moved);
      std::ptrdiff_t different = 0;
      for (std::ptrdiff_t first = 0; first < p; first += shift + 1) {
        std::ptrdiff_t const cols = first + shift + 1 < p ? shift + 1 : p - first;
        guarded<T> part(n, cols, shift, shift), again(k, cols, shift, shift);
        for (std::ptrdiff_t j = 0; j < cols; ++j)
          for (std::ptrdiff_t i = 0; i < n; ++i) part(i, j) = b(i, first + j);
        run_adjoint_product(T(0.7), moved, part, false, again, shift);
        for (std::ptrdiff_t j = 0; j < cols; ++j)
          for (std::ptrdiff_t i = 0; i < k; ++i)
            if (std::memcmp(&c(i, first + j), &again(i, j), sizeof(T)) != 0) ++different;
      }
      BOOST_TEST(different == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(
    tall_adjoint_product_spreads_not_finite_values_only_along_rows_and_columns, T, scalars) {
  T const values[] = {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()};
  for (T const value : values)
    for (std::ptrdiff_t n : {std::ptrdiff_t{5}, block_rows<T>, block_rows<T> + 2})
      for (std::ptrdiff_t row = 0; row < 6; ++row)
        for (std::ptrdiff_t col = 0; col < 5; ++col) {
          guarded<T> a(n, 6, 0, 0), b(n, 5, 0, 0), c(6, 5, 0, 0);
          fill_random(a);
          fill_random(b);
          a(n - 1, row) = value;
          b(0, col) = value;
          run_adjoint_product(T(2), a, b, false, c, 0);
          std::ptrdiff_t wrong = 0;
          for (std::ptrdiff_t j = 0; j < 5; ++j)
            for (std::ptrdiff_t i = 0; i < 6; ++i)
              if (!std::isfinite(c(i, j)) != (i == row || j == col)) ++wrong;
          BOOST_TEST(wrong == 0);
        }
}

BOOST_AUTO_TEST_SUITE_END()
