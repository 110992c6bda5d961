// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstddef>
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

}  // namespace support
