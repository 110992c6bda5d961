// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace example {

namespace detail {

template <class... Format>
std::string digits(std::floating_point auto value, Format... format) {
  // Large enough for the 309 digits before the point of the largest double, and 17 after it.
  std::array<char, 336> buffer;
  auto const end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format...).ptr;
  return {buffer.data(), end};
}

// Length of the well-formed UTF-8 sequence that `text` starts with, 0 if there is none.
inline std::size_t utf8_length(std::string_view text) {
  auto const byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i]));
  };
  std::uint32_t const lead = byte(0);
  if (lead < 0x80) return 1;
  std::size_t const length = lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (length == 0 || lead > 0xF4 || text.size() < length) return 0;
  std::uint32_t point = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0u) != 0x80u) return 0;
    point = (point << 6) | (byte(i) & 0x3Fu);
  }
  // The shortest form is the only form, and surrogates are no characters.
  std::array<std::uint32_t, 5> constexpr least{0, 0, 0x80, 0x800, 0x10000};
  bool const surrogate = point >= 0xD800 && point <= 0xDFFF;
  return point < least[length] || point > 0x10FFFF || surrogate ? 0 : length;
}

}  // namespace detail

/// \brief Writes a number with the fewest digits that give the same bits back, in any locale.
/// \param[in] value  float or double
template <std::floating_point T>
std::string to_shortest(T value) {
  return detail::digits(value);
}

/// \brief Writes a number with a fixed number of decimals, in any locale; never "-0.00".
/// \param[in] value     the number
/// \param[in] decimals  digits after the point, 0 to 17
inline std::string to_fixed(double value, int decimals) {
  auto text = detail::digits(value, std::chars_format::fixed, decimals);
  bool const zero = text.find_first_not_of("-0.") == std::string::npos;
  return zero && text.front() == '-' ? text.substr(1) : text;
}

/// \brief Writes a number as `1.2e-03`, in any locale.
/// \param[in] value     the number
/// \param[in] decimals  digits after the point, 0 to 17
inline std::string to_scientific(double value, int decimals) {
  return detail::digits(value, std::chars_format::scientific, decimals);
}

/// \brief Writes a number with at most so many significant digits, in any locale.
/// \param[in] value   the number
/// \param[in] digits  significant digits, 1 to 17
inline std::string to_significant(double value, int digits) {
  return detail::digits(value, std::chars_format::general, digits);
}

/// \brief Replaces every byte that is not part of well-formed UTF-8 by U+FFFD.
/// \param[in] text  any bytes
inline std::string valid_utf8(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    std::size_t const length = detail::utf8_length(text);
    result.append(length == 0 ? "\xEF\xBF\xBD" : text.substr(0, length));
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

}  // namespace example
