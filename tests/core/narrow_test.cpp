// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include <boost/mpl/list.hpp>
#include <boost/test/unit_test.hpp>

#include <stiefelx/core/narrow.hpp>

namespace {

using stiefelx::bfloat16;
using stiefelx::float16;

/// The layout of a storage type in the words of IEEE 754: what the oracle below is built from.
template <class Narrow>
struct layout;
template <>
struct layout<bfloat16> {
  static constexpr int fraction_bits = 7, bias = 127;
};
template <>
struct layout<float16> {
  static constexpr int fraction_bits = 10, bias = 15;
};

/// The value of a pattern without sign, by the definition; infinity counts as the number that
/// would come next.
template <class Narrow>
long double value_of(int pattern) {
  constexpr int f = layout<Narrow>::fraction_bits;
  int const exponent = pattern >> f;
  int const fraction = pattern & ((1 << f) - 1);
  if (exponent == 0) return std::ldexp((long double)fraction, 1 - layout<Narrow>::bias - f);
  return std::ldexp((long double)(fraction + (1 << f)), exponent - layout<Narrow>::bias - f);
}

template <class Narrow>
constexpr int infinity =
    ((1 << (15 - layout<Narrow>::fraction_bits)) - 1) << layout<Narrow>::fraction_bits;

/// Patterns of all numbers without sign, zero to infinity, by value.
template <class Narrow>
std::vector<long double> const& table() {
  static auto const values = [] {
    std::vector<long double> v;
    for (int p = 0; p <= infinity<Narrow>; ++p) v.push_back(value_of<Narrow>(p));
    return v;
  }();
  return values;
}

/// The nearest pattern by search in the table, ties to the even pattern.
template <class Narrow>
std::uint16_t nearest(double x) {
  int const sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isinf(x)) return static_cast<std::uint16_t>(sign | infinity<Narrow>);
  auto const& v = table<Narrow>();
  long double const a = std::fabs((long double)x);
  auto const above = std::lower_bound(v.begin(), v.end(), a);
  if (above == v.end()) return static_cast<std::uint16_t>(sign | infinity<Narrow>);
  auto p = static_cast<int>(above - v.begin());
  if (p > 0) {
    long double const down = a - v[std::size_t(p) - 1], up = *above - a;
    if (down < up || (down == up && p % 2 == 1)) --p;
  }
  return static_cast<std::uint16_t>(sign | p);
}

template <class Narrow>
void expect_nearest(double x) {
  std::uint16_t const expected = nearest<Narrow>(x);
  if (Narrow(x).bits != expected) {
    BOOST_ERROR("double " << x << " rounds to " << Narrow(x).bits << ", expected " << expected);
  }
  auto const single = static_cast<float>(x);
  if (Narrow(single).bits != nearest<Narrow>(single)) {
    BOOST_ERROR("float " << single << " rounds to " << Narrow(single).bits << ", expected "
                         << nearest<Narrow>(single));
  }
}

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

using narrow_types = boost::mpl::list<bfloat16, float16>;

}  // namespace

BOOST_AUTO_TEST_SUITE(narrow)

BOOST_AUTO_TEST_CASE_TEMPLATE(every_pattern_has_the_value_of_its_definition, Narrow, narrow_types) {
  int wrong = 0;
  for (int p = 0; p < infinity<Narrow>; ++p) {
    auto const up = Narrow::from_bits(static_cast<std::uint16_t>(p));
    auto const down = Narrow::from_bits(static_cast<std::uint16_t>(p | 0x8000));
    if ((long double)float(up) != value_of<Narrow>(p)) ++wrong;
    if (float(down) != -float(up) || !std::signbit(float(down))) ++wrong;
  }
  BOOST_TEST(wrong == 0);
  BOOST_TEST(std::isinf(float(Narrow::from_bits(static_cast<std::uint16_t>(infinity<Narrow>)))));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_pattern_comes_back, Narrow, narrow_types) {
  constexpr int quiet = 1 << (layout<Narrow>::fraction_bits - 1);
  int wrong = 0, nans = 0;
  for (int p = 0; p < 0x10000; ++p) {
    auto const narrow = Narrow::from_bits(static_cast<std::uint16_t>(p));
    bool const nan = (p & 0x7FFF) > infinity<Narrow>;
    // Sign and payload stay; a signaling NaN becomes quiet.
    int const expected = nan ? p | quiet : p;
    if (Narrow(float(narrow)).bits != expected) ++wrong;
    if (Narrow(double(float(narrow))).bits != expected) ++wrong;
    if (nan != std::isnan(float(narrow))) ++wrong;
    if (nan && (bits_of(narrow) & 0x400000U) == 0) ++wrong;
    nans += nan;
  }
  BOOST_TEST(wrong == 0);
  BOOST_TEST(nans == 2 * (0x7FFF - infinity<Narrow>));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(midpoints_go_to_even_and_their_neighbours_to_the_nearest, Narrow,
                              narrow_types) {
  for (int p = 0; p < infinity<Narrow>; ++p) {
    long double const middle = (value_of<Narrow>(p) + value_of<Narrow>(p + 1)) / 2;
    auto const exact = static_cast<double>(middle);
    BOOST_REQUIRE((long double)exact == middle);
    for (double const x : {exact, std::nextafter(exact, 0.0), std::nextafter(exact, 1e300),
                           double(std::nextafter(float(exact), 0.0F)),
                           double(std::nextafter(float(exact), 1e38F))}) {
      expect_nearest<Narrow>(x);
      expect_nearest<Narrow>(-x);
    }
    int const even = p % 2 == 0 ? p : p + 1;
    if (Narrow(exact).bits != even) BOOST_ERROR("tie above " << p << " goes to the odd side");
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(random_numbers_go_to_the_nearest, Narrow, narrow_types) {
  std::mt19937_64 draw(7);
  for (int i = 0; i < 60000; ++i) {
    auto const word = draw();
    float single = 0;
    auto const pattern = static_cast<std::uint32_t>(word);
    std::memcpy(&single, &pattern, sizeof single);
    if (std::isfinite(single)) expect_nearest<Narrow>(single);
    // Exponents from far below the smallest number to far above the largest.
    double const fraction = 1 + static_cast<double>(word >> 12) * 0x1p-52;
    expect_nearest<Narrow>(std::ldexp(fraction, static_cast<int>(word % 300) - 160));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rounding_is_monotone, Narrow, narrow_types) {
  float last = 0;
  int falls = 0;
  for (std::uint32_t pattern = 0; pattern < 0x7F800000U; pattern += 4099) {
    float single = 0;
    std::memcpy(&single, &pattern, sizeof single);
    float const rounded = Narrow(single);
    if (!(rounded >= last)) ++falls;
    last = rounded;
  }
  BOOST_TEST(falls == 0);
}

BOOST_AUTO_TEST_CASE(a_double_is_rounded_once) {
  // Just above the tie between 1 and its successor: the nearest float is the tie itself.
  double const above = 1 + 0x1p-8 + 0x1p-40;
  BOOST_TEST(float(bfloat16(above)) == 1 + 0x1p-7);
  BOOST_TEST(float(bfloat16(static_cast<float>(above))) == 1);
  BOOST_TEST(float(float16(1 + 0x1p-11 + 0x1p-40)) == 1 + 0x1p-10);
  BOOST_TEST(float(float16(-1 - 0x1p-11 - 0x1p-40)) == -1 - 0x1p-10);
}

BOOST_AUTO_TEST_CASE(the_ends_of_the_range_are_those_of_the_formats) {
  BOOST_TEST(float(float16(65504.0F)) == 65504.0F);
  BOOST_TEST(float(float16(std::nextafter(65520.0F, 0.0F))) == 65504.0F);
  BOOST_TEST(std::isinf(float(float16(65520.0F))));
  BOOST_TEST(float(float16(0x1p-24F)) == 0x1p-24F);
  BOOST_TEST(float16(0x1p-25F).bits == 0);
  BOOST_TEST(float16(-0x1p-25F).bits == 0x8000);
  BOOST_TEST(float16(std::nextafter(0x1p-25F, 1.0F)).bits == 1);
  BOOST_TEST(std::isinf(float(bfloat16(std::numeric_limits<float>::max()))));
  BOOST_TEST(std::isinf(float(bfloat16(std::numeric_limits<double>::max()))));
  BOOST_TEST(float(bfloat16(std::numeric_limits<float>::denorm_min() * 0x1p16F)) == 0x1p-133F);
}

BOOST_AUTO_TEST_CASE(conversions_are_constant_expressions) {
  static_assert(float(bfloat16(1.5F)) == 1.5F && bfloat16(1.0).bits == 0x3F80);
  static_assert(float(float16(-2.25F)) == -2.25F && float16(1.0).bits == 0x3C00);
  static_assert(float16(0x1p-24).bits == 1 && float16(1e9F).bits == 0x7C00);
  BOOST_TEST(!(std::is_convertible_v<float, bfloat16>));
  BOOST_TEST((std::is_convertible_v<float16, float>));
}

BOOST_AUTO_TEST_SUITE_END()
