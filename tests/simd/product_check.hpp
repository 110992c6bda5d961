// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include <boost/test/unit_test.hpp>

#include <support/guarded.hpp>

namespace support {

/// Checks c = s a b, or c += s a b, against long double sums, with guards around every array.
/// \param run  called as run(s, a, b, transposed, add, c, shift); b is given as its transpose where
///             transposed says so
template <class T, class Run>
void check_product(Run const& run, std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p,
                   bool transposed, bool add, std::ptrdiff_t gap, std::ptrdiff_t shift) {
  BOOST_TEST_CONTEXT(n << " x " << k << " by " << k << " x " << p << ", transposed " << transposed
                       << ", add " << add << ", gap " << gap << ", shift " << shift) {
    guarded<T> a(n, k, gap, shift), c(n, p, gap, shift), before(n, p, gap, shift);
    guarded<T> b(transposed ? p : k, transposed ? k : p, gap, shift);
    fill_random(a);
    fill_random(b);
    T const s = T(-1.5);
    // Where c is not added to, the signaling NaNs in it must not be read either.
    if (add) {
      fill_random(c);
      fill_random(before);
    }
    run(s, a, b, transposed, add, c, shift);
    BOOST_TEST(a.is_intact());
    BOOST_TEST(b.is_intact());
    BOOST_TEST(c.is_intact());
    std::ptrdiff_t wrong = 0;
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        long double sum = add ? before(i, j) : T{0}, magnitude = std::abs(sum);
        for (std::ptrdiff_t l = 0; l < k; ++l) {
          long double const term =
              static_cast<long double>(s) * a(i, l) * (transposed ? b(j, l) : b(l, j));
          sum += term;
          magnitude += std::abs(term);
        }
        // k products and sums, one more product, one more sum: each rounds once at most.
        long double const bound =
            static_cast<long double>(k + 2) * std::numeric_limits<T>::epsilon() * magnitude;
        if (!(std::abs(c(i, j) - sum) <= bound)) ++wrong;
      }
    BOOST_TEST(wrong == 0);
  }
}

/// Checks that a value that is not finite reaches only its own row of c = 2 a b, or its own column.
/// \param run  as of check_product()
/// \param row  the row of a that has one
template <class T, class Run>
void check_spread_of_not_finite(Run const& run, std::ptrdiff_t n, std::ptrdiff_t k,
                                std::ptrdiff_t p, std::ptrdiff_t row) {
  for (T const value : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()})
    for (std::ptrdiff_t col = 0; col < p; ++col)
      for (bool const add : {false, true}) {
        guarded<T> a(n, k, 0, 0), b(k, p, 0, 0), c(n, p, 0, 0);
        fill_random(a);
        fill_random(b);
        fill_random(c);
        a(row, 1) = value;
        b(k - 1, col) = value;
        run(T(2), a, b, false, add, c, 0);
        std::ptrdiff_t wrong = 0;
        for (std::ptrdiff_t j = 0; j < p; ++j)
          for (std::ptrdiff_t i = 0; i < n; ++i) {
            // Two infinities of opposite sign give NaN, which is not finite either.
            if (!std::isfinite(c(i, j)) != (i == row || j == col)) ++wrong;
          }
        BOOST_TEST(wrong == 0);
      }
}

/// Entries whose bits differ.
template <class T>
std::ptrdiff_t different_bits(guarded<T>& a, guarded<T>& b) {
  std::ptrdiff_t different = 0;
  for (std::ptrdiff_t j = 0; j < a.cols; ++j)
    for (std::ptrdiff_t i = 0; i < a.rows; ++i)
      if (std::memcmp(&a(i, j), &b(i, j), sizeof(T)) != 0) ++different;
  return different;
}

}  // namespace support
