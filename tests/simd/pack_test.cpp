// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

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
