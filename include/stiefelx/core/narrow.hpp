// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>

/// \file
/// \brief Storage types of two bytes: weights are kept in them, arithmetic runs in float.
/// \ingroup core

namespace stiefelx {

namespace detail {

STIEFELX_HD constexpr std::uint32_t bits_of(float value) {
  return __builtin_bit_cast(std::uint32_t, value);
}
STIEFELX_HD constexpr float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

// Rounds to float such that rounding the result to at most 22 bits gives what one rounding of the
// double gives: what is cut off survives as an odd last bit (rounding to odd).
STIEFELX_HD constexpr float sticky_float(double value) {
  auto const nearest = static_cast<float>(value);
  auto const back = static_cast<double>(nearest);
  if (back == value || value != value) return nearest;
  bool const away = value < 0 ? back < value : back > value;
  return float_of((bits_of(nearest) - (away ? 1U : 0U)) | 1U);
}

STIEFELX_HD constexpr std::uint16_t bfloat16_bits(float value) {
  std::uint32_t const u = bits_of(value);
  // A carry out of the fraction moves to the next exponent, and beyond the largest to infinity.
  std::uint32_t const rounded = (u + 0x7FFFU + ((u >> 16) & 1U)) >> 16;
  // The payload's upper bits stay; the quiet bit keeps a NaN from becoming an infinity.
  std::uint32_t const nan = (u >> 16) | 0x40U;
  return static_cast<std::uint16_t>((u & 0x7FFFFFFFU) > 0x7F800000U ? nan : rounded);
}

STIEFELX_HD constexpr std::uint16_t float16_bits(float value) {
  std::uint32_t const u = bits_of(value);
  std::uint32_t const sign = (u >> 16) & 0x8000U;
  std::uint32_t const a = u & 0x7FFFFFFFU;
  std::uint32_t magnitude = 0;
  if (a >= 0x7F800000U) {
    magnitude = a > 0x7F800000U ? 0x7E00U | ((a >> 13) & 0x3FFU) : 0x7C00U;
  } else if (a >= 0x477FF000U) {  // 65520, half a step above the largest
    magnitude = 0x7C00U;
  } else if (a >= 0x38800000U) {  // 2^-14, the smallest normal one
    magnitude = (a - (112U << 23) + 0xFFFU + ((a >> 13) & 1U)) >> 13;
  } else if (a > 0x33000000U) {  // 2^-25, half of the smallest; itself a tie to even zero
    std::uint32_t const fraction = (a & 0x7FFFFFU) | 0x800000U;
    std::uint32_t const shift = 126U - (a >> 23);  // a step of the result is 2^-24
    std::uint32_t const rest = fraction & ((1U << shift) - 1U);
    std::uint32_t const half = 1U << (shift - 1U);
    magnitude = fraction >> shift;
    if (rest > half || (rest == half && (magnitude & 1U) != 0)) ++magnitude;
  }
  return static_cast<std::uint16_t>(sign | magnitude);
}

STIEFELX_HD constexpr float float16_value(std::uint16_t bits) {
  std::uint32_t const sign = (bits & 0x8000U) << 16;
  std::uint32_t const exponent = (bits >> 10) & 0x1FU;
  std::uint32_t const fraction = bits & 0x3FFU;
  if (exponent ==
      0) {  // subnormal: an exact product, so a mode that flushes subnormals is harmless
    return float_of(sign | bits_of(static_cast<float>(fraction) * 0x1p-24F));
  }
  if (exponent == 31) {
    std::uint32_t const quiet = fraction != 0 ? 0x400000U : 0U;
    return float_of(sign | 0x7F800000U | quiet | (fraction << 13));
  }
  return float_of(sign | ((exponent + 112U) << 23) | (fraction << 13));
}

STIEFELX_HD constexpr float bfloat16_value(std::uint16_t bits) {
  bool const nan = (bits & 0x7FFFU) > 0x7F80U;
  return float_of((static_cast<std::uint32_t>(bits) << 16) | (nan ? 0x400000U : 0U));
}

}  // namespace detail

/// \brief A number of two bytes with the range of float and 8 significant bits.
/// \ingroup core
///
/// Every value is a float, so reading is implicit and exact. Writing rounds once, to nearest with
/// ties to even, from float and from double; subnormal numbers are kept; what is beyond the largest
/// by half a step or more becomes infinite. A NaN keeps its sign and the upper bits of its payload,
/// and is quiet.
struct bfloat16 {
  std::uint16_t bits;  ///< the upper half of a float's bits

  /// Leaves the bits uninitialised, as float does.
  bfloat16() = default;
  /// \brief Rounds a float.
  /// \param[in] value  any number
  STIEFELX_HD explicit constexpr bfloat16(float value) : bits(detail::bfloat16_bits(value)) {}
  /// \brief Rounds a double once, not by way of the nearest float.
  /// \param[in] value  any number
  STIEFELX_HD explicit constexpr bfloat16(double value)
      : bits(detail::bfloat16_bits(detail::sticky_float(value))) {}
  /// \brief Rounds an integer once.
  /// \param[in] value  any number
  STIEFELX_HD explicit constexpr bfloat16(int value) : bfloat16(static_cast<double>(value)) {}

  /// \brief The number of given bits.
  /// \param[in] pattern  any pattern
  /// \returns the number
  STIEFELX_HD static constexpr bfloat16 from_bits(std::uint16_t pattern) {
    bfloat16 value{0.0F};
    value.bits = pattern;
    return value;
  }

  /// \brief The value.
  /// \returns the same number as a float
  STIEFELX_HD constexpr operator float() const { return detail::bfloat16_value(bits); }
};

/// \brief IEEE 754's number of two bytes: 11 significant bits, at most 65504.
/// \ingroup core
///
/// It reads and rounds as bfloat16 does. 65520 and beyond become infinite, 2^-25 and below zero.
struct float16 {
  std::uint16_t bits;  ///< sign, five bits of exponent, ten of fraction

  /// Leaves the bits uninitialised, as float does.
  float16() = default;
  /// \brief Rounds a float.
  /// \param[in] value  any number
  STIEFELX_HD explicit constexpr float16(float value) : bits(detail::float16_bits(value)) {}
  /// \brief Rounds a double once, not by way of the nearest float.
  /// \param[in] value  any number
  STIEFELX_HD explicit constexpr float16(double value)
      : bits(detail::float16_bits(detail::sticky_float(value))) {}
  /// \brief Rounds an integer once.
  /// \param[in] value  any number
  STIEFELX_HD explicit constexpr float16(int value) : float16(static_cast<double>(value)) {}

  /// \brief The number of given bits.
  /// \param[in] pattern  any pattern
  /// \returns the number
  STIEFELX_HD static constexpr float16 from_bits(std::uint16_t pattern) {
    float16 value{0.0F};
    value.bits = pattern;
    return value;
  }

  /// \brief The value.
  /// \returns the same number as a float
  STIEFELX_HD constexpr operator float() const { return detail::float16_value(bits); }
};

static_assert(sizeof(bfloat16) == 2 && std::is_trivial_v<bfloat16>);
static_assert(sizeof(float16) == 2 && std::is_trivial_v<float16>);

}  // namespace stiefelx
