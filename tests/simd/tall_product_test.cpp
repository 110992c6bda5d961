// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstring>
#include <tuple>
#include <vector>

#include <simd/product_check.hpp>
#include <stiefelx/simd/tall_product.hpp>
#include <support/guarded.hpp>

namespace {

using stiefelx::simd::native_width;
using stiefelx::simd::tall_product_rows;
using support::fill_random;
using support::guarded;
using scalars = std::tuple<float, double>;

// Runs tall_product() with memory of exactly the promised sizes between guards. A right factor that
// is given as its transpose is read by rows.
template <class T>
void run_product(T s, guarded<T>& a, guarded<T>& b, bool transposed, bool add, guarded<T>& c,
                 std::ptrdiff_t shift) {
  std::ptrdiff_t const k = a.cols, p = c.cols;
  guarded<T> factor(stiefelx::simd::right_factor_size<T>(k, p), 1, 0, shift);
  guarded<T> workspace(stiefelx::simd::tall_product_workspace<T>(k), 1, 0, shift);
  stiefelx::simd::copy_right_factor(k, p, b.data(), transposed ? b.stride : 1,
                                    transposed ? 1 : b.stride, factor.data());
  stiefelx::simd::tall_product(a.rows, k, p, s, a.data(), a.stride, factor.data(), add, c.data(),
                               c.stride, workspace.data());
  BOOST_TEST(factor.is_intact());
  BOOST_TEST(workspace.is_intact());
}

template <class T>
void check_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, bool transposed, bool add,
                   std::ptrdiff_t gap, std::ptrdiff_t shift) {
  support::check_product<T>(run_product<T>, n, k, p, transposed, add, gap, shift);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tall_product)

BOOST_AUTO_TEST_CASE_TEMPLATE(tall_product_agrees_with_long_double_sums, T, scalars) {
  constexpr std::ptrdiff_t w = native_width<T>, height = tall_product_rows<T>;
  for (std::ptrdiff_t n : {std::ptrdiff_t{0}, std::ptrdiff_t{1}, w - 1, w, w + 1, height / 2 + 1,
                           height - 1, height, height + 1, 2 * height + height / 2 + w + 1})
    for (std::ptrdiff_t k : {0, 1, 2, 7, 16})
      for (std::ptrdiff_t p : {0, 1, 3, 4, 5, 8, 19}) {
        bool const even = (n + k + p) % 2 == 0;
        check_product<T>(n, k, p, even, false, 0, 0);
        check_product<T>(n, k, p, !even, true, 3, 1);
      }
  check_product<T>(3 * height + 5, 130, 67, false, false, 1, 1);
  check_product<T>(2 * height, 257, 12, true, true, 0, 0);
}

// The bits of an entry depend on its row of a and its column of b alone, so that tasks may be cut
// anywhere.
BOOST_AUTO_TEST_CASE_TEMPLATE(tall_product_has_the_same_bits_however_rows_are_cut, T, scalars) {
  std::ptrdiff_t const n = 2 * tall_product_rows<T> + 3 * native_width<T> + 1, k = 23, p = 6;
  guarded<T> a(n, k, 0, 0), b(k, p, 0, 0), factor(k * (p + 3), 1, 0, 0);
  fill_random(a);
  fill_random(b);
  stiefelx::simd::copy_right_factor<T>(k, p, b.data(), 1, b.stride, factor.data());
  std::vector<T> room(std::size_t(stiefelx::simd::tall_product_workspace<T>(k)));
  for (bool const add : {false, true}) {
    guarded<T> whole(n, p, 0, 0), parts(n, p, 1, 1);
    fill_random(whole);
    fill_random(parts);
    auto const run = [&](std::ptrdiff_t first, std::ptrdiff_t rows, guarded<T>& c) {
      stiefelx::simd::tall_product(rows, k, p, T(0.7), a.data() + first, a.stride, factor.data(),
                                   add, c.data() + first, c.stride, room.data());
    };
    run(0, n, whole);
    std::ptrdiff_t const cut = native_width<T> + 2;
    for (std::ptrdiff_t first = 0; first < n; first += cut)
      run(first, first + cut < n ? cut : n - first, parts);
    std::ptrdiff_t different = 0;
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i)
        if (std::memcmp(&whole(i, j), &parts(i, j), sizeof(T)) != 0) ++different;
    BOOST_TEST(different == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(tall_product_of_integers_is_exact, T, scalars) {
  std::ptrdiff_t const n = tall_product_rows<T> + 5, k = 33, p = 7;
  guarded<T> a(n, k, 0, 0), b(k, p, 0, 0), c(n, p, 0, 0);
  for (std::ptrdiff_t l = 0; l < k; ++l) {
    for (std::ptrdiff_t i = 0; i < n; ++i) a(i, l) = T((i + 2 * l) % 7 - 3);
    for (std::ptrdiff_t j = 0; j < p; ++j) b(l, j) = T((l + 3 * j) % 5 - 2);
  }
  run_product(T(-1), a, b, false, false, c, 0);
  std::ptrdiff_t wrong = 0;
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      std::ptrdiff_t sum = 0;
      for (std::ptrdiff_t l = 0; l < k; ++l) sum -= ((i + 2 * l) % 7 - 3) * ((l + 3 * j) % 5 - 2);
      if (c(i, j) != T(sum)) ++wrong;
    }
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(tall_product_spreads_not_finite_values_only_along_rows_and_columns, T,
                              scalars) {
  std::ptrdiff_t const n = tall_product_rows<T> + native_width<T> + 2;
  for (std::ptrdiff_t row : {std::ptrdiff_t{0}, tall_product_rows<T> - 1, n - 1})
    support::check_spread_of_not_finite<T>(run_product<T>, n, 5, 6, row);
}

BOOST_AUTO_TEST_SUITE_END()
