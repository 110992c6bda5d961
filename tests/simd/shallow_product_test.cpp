// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <vector>

#include <simd/product_check.hpp>
#include <stiefelx/simd/shallow_product.hpp>
#include <stiefelx/simd/tall_product.hpp>
#include <support/guarded.hpp>

namespace {

using stiefelx::simd::native_width;
using stiefelx::simd::shallow_factor_size;
using stiefelx::simd::shallow_product_columns;
using support::fill_random;
using support::guarded;
using scalars = std::tuple<float, double>;

// The left factor in the order of the kernel, at a multiple of a register's size.
template <class T>
struct aligned_factor {
  std::vector<T> memory;
  T* data;

  explicit aligned_factor(guarded<T>& a)
      : memory(std::size_t(shallow_factor_size<T>(a.rows, a.cols) + native_width<T>), T(7)),
        data(stiefelx::simd::align_to_register(memory.data())) {
    stiefelx::simd::copy_shallow_factor<T>(a.rows, a.cols, a.data(), a.stride, data);
    BOOST_TEST(std::all_of(data + shallow_factor_size<T>(a.rows, a.cols),
                           memory.data() + memory.size(), [](T entry) { return entry == T(7); }));
  }
};

// Runs shallow_product() on a right factor that is given as it is, or as its transpose.
template <class T>
void run_product(T s, guarded<T>& a, guarded<T>& b, bool transposed, bool add, guarded<T>& c,
                 std::ptrdiff_t) {
  aligned_factor<T> const factor(a);
  stiefelx::simd::shallow_product<T>(c.rows, a.cols, c.cols, s, factor.data, b.data(),
                                     transposed ? b.stride : 1, transposed ? 1 : b.stride, add,
                                     c.data(), c.stride);
}

template <class T>
void check_product(std::ptrdiff_t n, std::ptrdiff_t k, std::ptrdiff_t p, bool transposed, bool add,
                   std::ptrdiff_t gap, std::ptrdiff_t shift) {
  support::check_product<T>(run_product<T>, n, k, p, transposed, add, gap, shift);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(shallow_product)

BOOST_AUTO_TEST_CASE_TEMPLATE(shallow_product_agrees_with_long_double_sums, T, scalars) {
  constexpr std::ptrdiff_t w = native_width<T>;
  // Every number of columns in a tile, alone and behind whole ones.
  for (std::ptrdiff_t p = 0; p <= 2 * shallow_product_columns + 1; ++p)
    for (std::ptrdiff_t n :
         {std::ptrdiff_t{0}, std::ptrdiff_t{1}, w - 1, 4 * w - 1, 4 * w, 4 * w + 1, 9 * w + 3})
      for (std::ptrdiff_t k : {0, 1, 2, 15}) {
        bool const even = (n + k + p) % 2 == 0;
        check_product<T>(n, k, p, even, !even, p % 3, p % 2);
        check_product<T>(n, k, p, !even, !even, (p + 1) % 3, 0);
      }
}

// Entries are the same sums whatever kernel makes them, so that tasks may be cut anywhere and sizes
// decide nothing but time.
BOOST_AUTO_TEST_CASE_TEMPLATE(shallow_product_has_the_bits_of_tall_product_however_columns_are_cut,
                              T, scalars) {
  std::ptrdiff_t const n = 9 * native_width<T> + 5, k = 13, p = 23;
  guarded<T> a(n, k, 0, 0), b(k, p, 0, 0);
  fill_random(a);
  fill_random(b);
  std::vector<T> tall(std::size_t(stiefelx::simd::right_factor_size<T>(k, p)));
  std::vector<T> room(std::size_t(stiefelx::simd::tall_product_workspace<T>(k)));
  stiefelx::simd::copy_right_factor<T>(k, p, b.data(), 1, b.stride, tall.data());
  aligned_factor<T> const factor(a);
  for (bool const add : {false, true})
    for (std::ptrdiff_t const cut : {1, 4, 23}) {
      guarded<T> expected(n, p, 0, 0), parts(n, p, 1, 1);
      fill_random(expected);
      fill_random(parts);
      stiefelx::simd::tall_product(n, k, p, T(0.7), a.data(), a.stride, tall.data(), add,
                                   expected.data(), expected.stride, room.data());
      for (std::ptrdiff_t first = 0; first < p; first += cut)
        stiefelx::simd::shallow_product<T>(n, k, std::min(cut, p - first), T(0.7), factor.data,
                                           b.data() + first * b.stride, 1, b.stride, add,
                                           parts.data() + first * parts.stride, parts.stride);
      BOOST_TEST(support::different_bits(expected, parts) == 0);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(shallow_product_spreads_not_finite_values_only_along_rows_and_columns,
                              T, scalars) {
  std::ptrdiff_t const n = 4 * native_width<T> + 3;
  for (std::ptrdiff_t row : {std::ptrdiff_t{0}, 4 * native_width<T> - 1, n - 1})
    support::check_spread_of_not_finite<T>(run_product<T>, n, 5, 8, row);
}

BOOST_AUTO_TEST_SUITE_END()
