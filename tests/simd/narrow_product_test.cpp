// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <vector>

#include <simd/product_check.hpp>
#include <stiefelx/simd/narrow_product.hpp>
#include <stiefelx/simd/tall_product.hpp>
#include <support/guarded.hpp>

namespace {

using stiefelx::simd::narrow_product_columns;
using stiefelx::simd::narrow_product_rows;
using stiefelx::simd::native_width;
using support::fill_random;
using support::guarded;
using scalars = std::tuple<float, double>;

// Runs narrow_product() with memory of exactly the promised sizes between guards. A right factor
// that is given as its transpose is read by rows.
template <class T>
void run_product(T s, guarded<T>& a, guarded<T>& b, bool transposed, bool add, guarded<T>& c,
                 std::ptrdiff_t shift) {
  std::ptrdiff_t const n = a.rows, k = a.cols, p = c.cols;
  guarded<T> factor(stiefelx::simd::narrow_factor_size(k, p), 1, 0, shift);
  guarded<T> workspace(stiefelx::simd::narrow_product_workspace<T>(n, k, p), 1, 0, shift);
  stiefelx::simd::copy_narrow_factor(k, p, b.data(), transposed ? b.stride : 1,
                                     transposed ? 1 : b.stride, factor.data());
  stiefelx::simd::narrow_product(n, k, p, s, a.data(), a.stride, factor.data(), add, c.data(),
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

BOOST_AUTO_TEST_SUITE(narrow_product)

BOOST_AUTO_TEST_CASE_TEMPLATE(narrow_product_agrees_with_long_double_sums, T, scalars) {
  constexpr std::ptrdiff_t w = native_width<T>, height = narrow_product_rows<T>;
  // Every width of a group, alone and beside another.
  for (std::ptrdiff_t p = 0; p <= narrow_product_columns + 1; ++p)
    for (std::ptrdiff_t n : {std::ptrdiff_t{0}, std::ptrdiff_t{1}, w - 1, height / 2 + 1, height,
                             height + w + 1, 2 * height + height / 2})
      for (std::ptrdiff_t k : {0, 1, 9}) {
        bool const even = (n + k + p) % 2 == 0;
        check_product<T>(n, k, p, even, !even, p % 3, p % 2);
      }
}

// Panels of columns and blocks of rows keep their sums between them.
BOOST_AUTO_TEST_CASE_TEMPLATE(narrow_product_agrees_over_many_panels_and_blocks, T, scalars) {
  constexpr std::ptrdiff_t w = native_width<T>;
  for (std::ptrdiff_t k : {128, 129, 300}) {
    check_product<T>(1, k, 3, false, true, 0, 0);
    check_product<T>(5 * w + 3, k, 5, true, false, 1, 1);
    check_product<T>(9 * w, k, 10, false, true, 0, 0);
  }
  check_product<T>(1024 + 2 * w + 1, 131, 14, false, true, 3, 1);
}

// Entries are the same sums whatever kernel makes them, so that tasks may be cut anywhere and sizes
// decide nothing but time.
BOOST_AUTO_TEST_CASE_TEMPLATE(narrow_product_has_the_bits_of_tall_product_however_rows_are_cut, T,
                              scalars) {
  std::ptrdiff_t const n = 2 * narrow_product_rows<T> + 3 * native_width<T> + 1, k = 135, p = 7;
  guarded<T> a(n, k, 0, 0), b(k, p, 0, 0);
  fill_random(a);
  fill_random(b);
  std::vector<T> tall(std::size_t(stiefelx::simd::right_factor_size<T>(k, p)));
  std::vector<T> narrow(std::size_t(stiefelx::simd::narrow_factor_size(k, p)));
  stiefelx::simd::copy_right_factor<T>(k, p, b.data(), 1, b.stride, tall.data());
  stiefelx::simd::copy_narrow_factor<T>(k, p, b.data(), 1, b.stride, narrow.data());
  std::vector<T> room(std::size_t(std::max(stiefelx::simd::tall_product_workspace<T>(k),
                                           stiefelx::simd::narrow_product_workspace<T>(n, k, p))));
  for (bool const add : {false, true}) {
    guarded<T> expected(n, p, 0, 0), parts(n, p, 1, 1);
    fill_random(expected);
    fill_random(parts);
    stiefelx::simd::tall_product(n, k, p, T(0.7), a.data(), a.stride, tall.data(), add,
                                 expected.data(), expected.stride, room.data());
    std::ptrdiff_t const cut = native_width<T> + 2;
    for (std::ptrdiff_t first = 0; first < n; first += cut)
      stiefelx::simd::narrow_product(std::min(cut, n - first), k, p, T(0.7), a.data() + first,
                                     a.stride, narrow.data(), add, parts.data() + first,
                                     parts.stride, room.data());
    BOOST_TEST(support::different_bits(expected, parts) == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(narrow_product_spreads_not_finite_values_only_along_rows_and_columns,
                              T, scalars) {
  std::ptrdiff_t const n = narrow_product_rows<T> + native_width<T> + 2;
  for (std::ptrdiff_t row : {std::ptrdiff_t{0}, narrow_product_rows<T> - 1, n - 1})
    support::check_spread_of_not_finite<T>(run_product<T>, n, 130, 5, row);
}

BOOST_AUTO_TEST_SUITE_END()
