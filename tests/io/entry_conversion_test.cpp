// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <bit>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/narrow.hpp>
#include <stiefelx/io/npy.hpp>
#include <stiefelx/io/safetensors.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

#include "files.hpp"

namespace {

using namespace io_test;
using stiefelx::bfloat16;
using stiefelx::conversion;
using stiefelx::dtype;
using stiefelx::dtype_of;
using stiefelx::float16;
using stiefelx::format_fault;
using stiefelx::safetensors_file;
using stiefelx::safetensors_writer;

template <class T>
std::vector<std::byte> file_of(std::vector<T> const& values, dtype as = dtype_of<T>) {
  safetensors_writer out;
  out.add_entries("w", {values.size()}, std::span<T const>(values), as);
  return out.bytes();
}

template <class To, class From>
std::vector<To> read_as(std::vector<From> const& values, conversion how = conversion::exact) {
  auto const bytes = file_of(values);
  return safetensors_file(std::span<std::byte const>(bytes)).entries<To>("w", how);
}

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// All values of a type of at most two bytes, as bit patterns.
template <class T>
std::vector<T> all_values() {
  std::vector<T> values(std::size_t{1} << (8 * sizeof(T)));
  for (std::size_t k = 0; k < values.size(); ++k) std::memcpy(&values[k], &k, sizeof(T));
  return values;
}

/// Every value of From arrives in To as the same number.
template <class From, class To>
void expect_exact() {
  auto const values = all_values<From>();
  auto const read = read_as<To>(values);
  int wrong = 0;
  for (std::size_t k = 0; k < values.size(); ++k) {
    auto const a = static_cast<double>(values[k]), b = static_cast<double>(read[k]);
    if (std::isnan(a) ? !std::isnan(b) : a != b || std::signbit(a) != std::signbit(b)) ++wrong;
  }
  BOOST_TEST(wrong == 0);
}

/// Refused, whether rounding is asked for or not.
template <class From, class To>
void expect_none() {
  expect_fault(format_fault::inexact, "'w' from ",
               [] { read_as<To>(std::vector<From>(3), conversion::rounded); });
}

/// Refused unless rounding is asked for.
template <class From, class To>
void expect_rounding() {
  expect_fault(format_fault::inexact, "rounding", [] { read_as<To>(std::vector<From>(3)); });
  BOOST_CHECK_NO_THROW(read_as<To>(std::vector<From>(3), conversion::rounded));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(entry_conversion)

BOOST_AUTO_TEST_CASE(small_types_are_floats_and_doubles_exactly) {
  expect_exact<float16, float>();
  expect_exact<float16, double>();
  expect_exact<bfloat16, float>();
  expect_exact<bfloat16, double>();
  expect_exact<std::int8_t, float>();
  expect_exact<std::uint8_t, double>();
  expect_exact<std::int16_t, float>();
  expect_exact<std::uint16_t, float>();
  expect_exact<std::int8_t, float16>();
  expect_exact<std::uint8_t, bfloat16>();
  expect_exact<std::uint8_t, std::int16_t>();
  expect_exact<std::uint16_t, std::int64_t>();
}

BOOST_AUTO_TEST_CASE(rounding_has_to_be_asked_for) {
  expect_rounding<double, float>();
  expect_rounding<float, bfloat16>();
  expect_rounding<float, float16>();
  expect_rounding<bfloat16, float16>();
  expect_rounding<float16, bfloat16>();
  expect_rounding<std::int32_t, float>();
  expect_rounding<std::uint32_t, float>();
  expect_rounding<std::int64_t, double>();
  expect_rounding<std::uint64_t, double>();
  expect_rounding<std::uint16_t, float16>();
  expect_rounding<std::int16_t, bfloat16>();
  BOOST_CHECK_NO_THROW((read_as<double>(std::vector<std::uint32_t>{4294967295U})));
}

BOOST_AUTO_TEST_CASE(no_number_becomes_another_kind_that_lacks_it) {
  expect_none<float, std::int64_t>();
  expect_none<float16, std::uint8_t>();
  expect_none<std::int8_t, std::uint8_t>();
  expect_none<std::uint8_t, std::int8_t>();
  expect_none<std::int64_t, std::int32_t>();
  expect_none<std::int16_t, std::uint64_t>();
}

BOOST_AUTO_TEST_CASE(asked_for_it_is_the_nearest_number) {
  std::vector<double> const values{0.1, -1e300, 1e-300, 16777217, INFINITY};
  auto const read = read_as<float>(values, conversion::rounded);
  for (std::size_t k = 0; k < values.size(); ++k) BOOST_TEST(read[k] == float(values[k]));
  BOOST_TEST(float(read_as<bfloat16>(std::vector<float>{1 + 0x1.8p-8F}, conversion::rounded)[0]) ==
             1 + 0x1p-7F);
  // Just above a tie by a bit that double has no place for.
  constexpr std::int64_t tie = (std::int64_t{1} << 62) + (std::int64_t{1} << 54);
  std::vector<std::int64_t> const whole{tie, tie + 1, -tie - 1, tie - 1};
  auto const narrow = read_as<bfloat16>(whole, conversion::rounded);
  BOOST_TEST(float(narrow[0]) == 0x1p62F);
  BOOST_TEST(float(narrow[1]) == 0x1.02p62F);
  BOOST_TEST(float(narrow[2]) == -0x1.02p62F);
  BOOST_TEST(float(narrow[3]) == 0x1p62F);
  std::vector<std::uint64_t> const large{~std::uint64_t{0}};
  BOOST_TEST(float(read_as<bfloat16>(large, conversion::rounded)[0]) == 0x1p64F);
}

BOOST_AUTO_TEST_CASE(the_same_type_keeps_every_bit) {
  auto const halves = all_values<float16>();
  BOOST_TEST(same_bits(read_as<float16>(halves), halves));
  auto const brains = all_values<bfloat16>();
  BOOST_TEST(same_bits(read_as<bfloat16>(brains), brains));
  // A signaling NaN with a payload, and negative zero.
  std::vector<double> const odd{std::bit_cast<double>(0x7FF0000000000123U), -0.0};
  BOOST_TEST(same_bits(read_as<double>(odd), odd));
  std::vector<std::uint64_t> const words{0, ~std::uint64_t{0}};
  BOOST_TEST(same_bits(read_as<std::uint64_t>(words), words));
}

BOOST_AUTO_TEST_CASE(a_byte_that_is_not_zero_is_true) {
  bool const values[2] = {false, true};
  safetensors_writer out;
  out.add_entries("w", {2}, std::span<bool const>(values));
  auto bytes = out.bytes();
  bytes.back() = std::byte{200};
  safetensors_file const file{std::span<std::byte const>(bytes)};
  bool read[2] = {true, false};
  file.read_entries("w", std::span<bool>(read));
  BOOST_TEST((!read[0] && read[1]));
  BOOST_TEST((file.entries<std::uint8_t>("w") == std::vector<std::uint8_t>{0, 1}));
  BOOST_TEST((file.entries<float>("w") == std::vector<float>{0, 1}));
  BOOST_CHECK_THROW(safetensors_file(std::span<std::byte const>(file_of(std::vector<float>{1})))
                        .read_entries("w", std::span<bool>(read, 1)),
                    stiefelx::format_error);
}

BOOST_AUTO_TEST_CASE(the_writer_rounds_to_the_type_it_is_given) {
  std::vector<float> const values{1.0F, 1 + 0x1.8p-8F, 65520.0F, -0x1p-25F, NAN};
  auto const bytes = file_of(values, dtype::bf16);
  auto const brains = safetensors_file(std::span<std::byte const>(bytes)).entries<bfloat16>("w");
  auto const more = file_of(values, dtype::f16);
  auto const halves = safetensors_file(std::span<std::byte const>(more)).entries<float16>("w");
  for (std::size_t k = 0; k < values.size(); ++k) {
    BOOST_TEST(brains[k].bits == bfloat16(values[k]).bits);
    BOOST_TEST(halves[k].bits == float16(values[k]).bits);
  }
  auto const wide = file_of(values, dtype::f64);
  BOOST_TEST(safetensors_file(std::span<std::byte const>(wide)).entries<double>("w")[1] ==
             1 + 0x1.8p-8);
}

BOOST_AUTO_TEST_CASE(conversion_goes_on_beyond_a_piece) {
  std::vector<std::int16_t> values(40000);
  for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<std::int16_t>(k * 7);
  temporary_folder const folder;
  put(folder / "w", text_of(file_of(values, dtype::f64)));
  safetensors_file const file(folder / "w");
  auto const read = file.entries<float>("w", conversion::rounded);
  int wrong = 0;
  for (std::size_t k = 0; k < values.size(); ++k) wrong += read[k] != values[k];
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE(complex_numbers_widen_and_real_ones_become_complex) {
  using stiefelx::npy_bytes;
  using stiefelx::npy_file;
  std::vector<std::complex<float>> const values{{1, 2}, {-3, 0.5F}};
  auto const bytes = npy_bytes({2}, std::span<std::complex<float> const>(values));
  npy_file const file{std::span<std::byte const>(bytes)};
  std::vector<std::complex<double>> wide(2);
  file.read_entries(std::span(wide));
  BOOST_TEST((wide[1] == std::complex<double>(-3, 0.5)));
  std::vector<double> real(2);
  expect_fault(format_fault::inexact, "<c8",
               [&] { file.read_entries(std::span(real), conversion::rounded); });
  std::vector<float> const reals{4, 5};
  auto const plain = npy_bytes({2}, std::span<float const>(reals));
  npy_file(std::span<std::byte const>(plain)).read_entries(std::span(wide));
  BOOST_TEST((wide[0] == std::complex<double>(4, 0)));
}

BOOST_AUTO_TEST_SUITE_END()
