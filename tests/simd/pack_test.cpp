// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include <stiefelx/simd/pack.hpp>

namespace {

using stiefelx::simd::native_width;

// A whole register of each scalar, and half of one.
using packs = std::tuple<stiefelx::simd::pack<float>, stiefelx::simd::pack<double>,
                         stiefelx::simd::pack<float, native_width<float> / 2>>;

template <class Pack>
struct traits;

template <class T, std::ptrdiff_t W>
struct traits<stiefelx::simd::pack<T, W>> {
  using scalar = T;
  static constexpr std::ptrdiff_t width = W;
};

template <class Pack>
typename traits<Pack>::scalar lane(Pack a, std::ptrdiff_t i) {
  return a.lanes[i];
}

// Lanes 1, 2, 4, 8, ...: every sum of some of them is exact and tells which ones it holds.
template <class Pack>
Pack powers_of_two() {
  using scalar = typename traits<Pack>::scalar;
  scalar values[traits<Pack>::width];
  scalar power = 1;
  for (scalar& v : values) {
    v = power;
    power *= 2;
  }
  return Pack::load(values);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(pack)

BOOST_AUTO_TEST_CASE(native_pack_fills_one_register) {
  BOOST_TEST(sizeof(stiefelx::simd::pack<float>) == std::size_t{stiefelx::simd::register_bytes});
  BOOST_TEST(sizeof(stiefelx::simd::pack<double>) == std::size_t{stiefelx::simd::register_bytes});
  BOOST_TEST(native_width<float> == 2 * native_width<double>);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(load_and_store_need_no_alignment, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  constexpr std::ptrdiff_t w = traits<Pack>::width;
  std::vector<scalar> from(3 * w), to(3 * w, scalar{-1});
  for (std::ptrdiff_t i = 0; i < 3 * w; ++i) from[std::size_t(i)] = scalar(i);
  for (std::ptrdiff_t offset = 0; offset < w; ++offset) {
    Pack::load(from.data() + offset).store(to.data() + w);
    for (std::ptrdiff_t i = 0; i < 3 * w; ++i) {
      bool const written = w <= i && i < 2 * w;
      BOOST_TEST(to[std::size_t(i)] == (written ? scalar(offset + i - w) : scalar{-1}));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(arithmetic_is_done_lane_by_lane, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  Pack const a = powers_of_two<Pack>();
  Pack const b = Pack::broadcast(scalar{3});
  scalar power = 1;
  for (std::ptrdiff_t i = 0; i < traits<Pack>::width; ++i, power *= 2) {
    BOOST_TEST(lane(a + b, i) == power + 3);
    BOOST_TEST(lane(a - b, i) == power - 3);
    BOOST_TEST(lane(a * b, i) == power * 3);
    BOOST_TEST(lane(b / a, i) == 3 / power);
    BOOST_TEST(lane(multiply_add(a, b, a), i) == 4 * power);
    BOOST_TEST(lane(subtract_product(a, b, a), i) == -2 * power);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(broadcast_keeps_signed_zero_and_infinity, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  constexpr scalar infinity = std::numeric_limits<scalar>::infinity();
  for (std::ptrdiff_t i = 0; i < traits<Pack>::width; ++i) {
    BOOST_TEST(1 / lane(Pack::broadcast(scalar{-0.0}), i) == -infinity);
    BOOST_TEST(lane(Pack::broadcast(infinity), i) == infinity);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(comparisons_and_select_decide_lane_by_lane, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  constexpr std::ptrdiff_t w = traits<Pack>::width;
  constexpr scalar nan = std::numeric_limits<scalar>::quiet_NaN();
  constexpr scalar infinity = std::numeric_limits<scalar>::infinity();
  std::vector<scalar> const special{0, scalar(-0.0), 1, -1, infinity, -infinity, nan};
  for (scalar const x : special)
    for (scalar const y : special) {
      BOOST_TEST_INFO_SCOPE(x << " and " << y);
      // x and y in all lanes but the last one, where 2 and 3 are.
      scalar left[std::size_t{w}], right[std::size_t{w}];
      for (std::ptrdiff_t i = 0; i < w; ++i) {
        left[i] = i + 1 < w ? x : 2;
        right[i] = i + 1 < w ? y : 3;
      }
      Pack const a = Pack::load(left), b = Pack::load(right);
      Pack const yes = Pack::broadcast(1), no = Pack::broadcast(0);
      for (std::ptrdiff_t i = 0; i < w; ++i) {
        scalar const l = left[i], r = right[i];
        BOOST_TEST(lane(select(a < b, yes, no), i) == scalar(l < r));
        BOOST_TEST(lane(select(a <= b, yes, no), i) == scalar(l <= r));
        BOOST_TEST(lane(select(a > b, yes, no), i) == scalar(l > r));
        BOOST_TEST(lane(select(a >= b, yes, no), i) == scalar(l >= r));
        BOOST_TEST(lane(select(a == b, yes, no), i) == scalar(l == r));
        BOOST_TEST(lane(select(a != b, yes, no), i) == scalar(l != r));
        BOOST_TEST(lane(select((a < b) & (b < a), yes, no), i) == scalar(l < r && r < l));
        BOOST_TEST(lane(select((a < b) | (b < a), yes, no), i) == scalar(l < r || r < l));
        scalar const smaller = l < r ? l : r, larger = l > r ? l : r;
        BOOST_TEST((lane(min(a, b), i) == smaller || smaller != smaller));
        BOOST_TEST((lane(max(a, b), i) == larger || larger != larger));
        BOOST_TEST(std::isnan(lane(min(a, b), i)) == std::isnan(smaller));
        BOOST_TEST(std::isnan(lane(max(a, b), i)) == std::isnan(larger));
        BOOST_TEST((lane(modulus(a), i) == std::abs(l) || l != l));
        BOOST_TEST(std::isnan(lane(modulus(a), i)) == std::isnan(l));
      }
      BOOST_TEST(any(a > b) == (x > y));
      BOOST_TEST(all(a < b) == (x < y));
      BOOST_TEST(all(a == a) == (x == x));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(any_and_all_see_every_lane, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  constexpr std::ptrdiff_t w = traits<Pack>::width;
  Pack const zero = Pack::broadcast(0);
  BOOST_TEST(!any(zero < zero));
  BOOST_TEST(all(zero == zero));
  for (std::ptrdiff_t i = 0; i < w; ++i) {
    scalar values[std::size_t{w}] = {};
    values[i] = 1;
    Pack const a = Pack::load(values);
    BOOST_TEST(any(zero < a));
    BOOST_TEST(!all(zero == a));
    BOOST_TEST(all(zero <= a));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(sqrt_rounds_as_the_standard_one, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  using limits = std::numeric_limits<scalar>;
  constexpr std::ptrdiff_t w = traits<Pack>::width;
  std::vector<scalar> values{
      0,  limits::min(),      limits::denorm_min(), limits::max(), limits::infinity(),
      -1, limits::quiet_NaN()};
  for (int k = 1; k < 200; ++k) values.push_back(scalar(k * k * k) / scalar(7));
  for (std::size_t k = 0; k + std::size_t{w} <= values.size(); ++k) {
    Pack const root = sqrt(Pack::load(values.data() + k));
    for (std::ptrdiff_t i = 0; i < w; ++i) {
      scalar const expected = std::sqrt(values[k + std::size_t(i)]);
      BOOST_TEST(
          (lane(root, i) == expected || (std::isnan(lane(root, i)) && std::isnan(expected))));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(reciprocal_sqrt_is_good_to_two_units_in_the_last_place, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  using limits = std::numeric_limits<scalar>;
  for (scalar x = limits::min(); x < limits::max() / 2; x *= scalar(1.37)) {
    scalar const found = lane(reciprocal_sqrt(Pack::broadcast(x)), traits<Pack>::width - 1);
    long double const exact = 1 / std::sqrt(static_cast<long double>(x));
    BOOST_TEST(std::abs(found / exact - 1) <= 2 * limits::epsilon());
  }
  BOOST_TEST(std::isnan(lane(reciprocal_sqrt(Pack::broadcast(limits::quiet_NaN())), 0)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(sum_each_puts_the_sum_of_pack_i_into_lane_i, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  constexpr std::ptrdiff_t w = traits<Pack>::width;
  Pack v[std::size_t{w}];
  for (std::ptrdiff_t i = 0; i < w; ++i) v[i] = powers_of_two<Pack>() + Pack::broadcast(scalar(i));
  Pack const sums = sum_each(v);
  scalar const all = scalar((std::int64_t{1} << w) - 1);
  for (std::ptrdiff_t i = 0; i < w; ++i) BOOST_TEST(lane(sums, i) == all + scalar(i * w));
}

BOOST_AUTO_TEST_CASE(unroll_passes_each_index_once_and_in_order) {
  std::vector<std::ptrdiff_t> seen;
  stiefelx::simd::unroll<3>([&](auto i) {
    static_assert(decltype(i)::value < 3);
    seen.push_back(i);
  });
  stiefelx::simd::unroll<0>([&](auto) { seen.push_back(-1); });
  std::vector<std::ptrdiff_t> const expected{0, 1, 2};
  BOOST_TEST(seen == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(align_to_register_finds_the_first_aligned_element) {
  std::vector<float> memory(4 * std::size_t{native_width<float>});
  for (std::ptrdiff_t i = 0; i < 2 * native_width<float>; ++i) {
    float* const p = memory.data() + i;
    float* const aligned = stiefelx::simd::align_to_register(p);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(aligned) % stiefelx::simd::register_bytes == 0u);
    BOOST_TEST(aligned - p >= 0);
    BOOST_TEST(aligned - p < native_width<float>);
  }
}

BOOST_AUTO_TEST_SUITE_END()
