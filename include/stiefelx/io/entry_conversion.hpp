// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/io/dtype.hpp>
#include <stiefelx/io/format_error.hpp>

namespace stiefelx {

/// \brief What reading and writing may do to a number.
/// \ingroup io
enum class conversion {
  exact,   ///< types are combined only where every value has the same value in the other
  rounded  ///< to a floating type, the nearest value is taken, ties to even
};

namespace detail {

template <class T>
inline constexpr bool is_complex_entry = false;
template <class T>
inline constexpr bool is_complex_entry<std::complex<T>> = true;

// Significant bits and the largest exponent of a type's values.
template <class T>
inline constexpr int entry_digits = std::numeric_limits<T>::digits;
template <>
inline constexpr int entry_digits<bfloat16> = 8;
template <>
inline constexpr int entry_digits<float16> = 11;

template <class T>
inline constexpr int entry_exponent = std::numeric_limits<T>::max_exponent;
template <>
inline constexpr int entry_exponent<bfloat16> = 128;
template <>
inline constexpr int entry_exponent<float16> = 16;

template <class T>
concept FloatingEntry =
    std::floating_point<T> || std::same_as<T, bfloat16> || std::same_as<T, float16>;

enum class conversion_class { exact, rounding, none };

// What becomes of the values of From in To.
template <class From, class To>
constexpr conversion_class class_of_conversion() {
  if constexpr (std::same_as<From, To>) {
    return conversion_class::exact;
  } else if constexpr (is_complex_entry<From> || is_complex_entry<To>) {
    if constexpr (!is_complex_entry<To>) {
      return conversion_class::none;
    } else {
      return class_of_conversion<real_of_t<From>, real_of_t<To>>();
    }
  } else if constexpr (FloatingEntry<To>) {
    bool const fits = entry_digits<From> <= entry_digits<To>;
    if constexpr (FloatingEntry<From>) {
      return fits && entry_exponent<From> <= entry_exponent<To> ? conversion_class::exact
                                                                : conversion_class::rounding;
    } else {
      return fits && entry_digits<From> < entry_exponent<To> ? conversion_class::exact
                                                             : conversion_class::rounding;
    }
  } else if constexpr (std::same_as<To, bool> || FloatingEntry<From>) {
    return conversion_class::none;
  } else {
    bool const sign = std::is_signed_v<To> || !std::is_signed_v<From>;
    return sign && entry_digits<From> <= entry_digits<To> ? conversion_class::exact
                                                          : conversion_class::none;
  }
}

// An integer as a double that rounds to 8 or 11 bits as the integer itself does: bits that do not
// fit survive as an odd last bit.
template <class From>
double sticky_double(From value) {
  if constexpr (sizeof(From) < 8) {
    return static_cast<double>(value);
  } else {
    bool const negative = value < 0;
    auto const bits = static_cast<std::uint64_t>(value);
    std::uint64_t u = negative ? ~bits + 1 : bits;
    if ((u >> 53) != 0) u = (u & ~std::uint64_t{0x7FF}) | ((u & 0x7FF) != 0 ? 0x800U : 0U);
    return negative ? -static_cast<double>(u) : static_cast<double>(u);
  }
}

template <class To, class From>
To converted(From const& value) {
  if constexpr (std::same_as<From, To>) {
    return value;
  } else if constexpr (is_complex_entry<To> && is_complex_entry<From>) {
    return To(converted<real_of_t<To>>(value.real()), converted<real_of_t<To>>(value.imag()));
  } else if constexpr (is_complex_entry<To>) {
    return To(converted<real_of_t<To>>(value));
  } else if constexpr (std::same_as<To, bfloat16> || std::same_as<To, float16>) {
    if constexpr (std::floating_point<From>) {
      return To(value);
    } else if constexpr (FloatingEntry<From>) {
      return To(static_cast<float>(value));
    } else {
      return To(sticky_double(value));
    }
  } else {
    return static_cast<To>(value);
  }
}

inline std::string_view name_of(dtype type) {
  std::string_view const name = safetensors_name(type);
  return name.empty() ? npy_name(type) : name;
}

// Converts count entries that lie in bytes, in any alignment.
template <class From, class To>
void convert_entries(std::byte const* bytes, To* out, std::size_t count) {
  if constexpr (std::same_as<From, bool>) {
    // Any byte but zero is true: a bool of other bits would be no value at all.
    for (std::size_t i = 0; i < count; ++i)
      out[i] = converted<To>(static_cast<bool>(bytes[i] != std::byte{0}));
  } else if constexpr (std::same_as<From, To>) {
    if (count > 0) std::memcpy(out, bytes, count * sizeof(To));
  } else if constexpr (class_of_conversion<From, To>() != conversion_class::none) {
    for (std::size_t i = 0; i < count; ++i) {
      From value;
      std::memcpy(&value, bytes + i * sizeof(From), sizeof(From));
      out[i] = converted<To>(value);
    }
  }
}

// The reverse: count entries as bytes of another type.
template <class To, class From>
void convert_to_bytes(From const* in, std::byte* bytes, std::size_t count) {
  if constexpr (std::same_as<From, To>) {
    if (count > 0) std::memcpy(bytes, in, count * sizeof(To));
  } else if constexpr (class_of_conversion<From, To>() != conversion_class::none) {
    for (std::size_t i = 0; i < count; ++i) {
      To const value = converted<To>(in[i]);
      std::memcpy(bytes + i * sizeof(To), &value, sizeof(To));
    }
  }
}

inline conversion_class class_of_conversion(dtype from, dtype to) {
  auto found = conversion_class::none;
  visit_dtype(from, [&]<class From>(entry_tag<From>) {
    visit_dtype(to, [&]<class To>(entry_tag<To>) { found = class_of_conversion<From, To>(); });
  });
  return found;
}

// Throws unless a conversion is allowed.
inline void expect_conversion(std::string_view origin, std::string_view tensor, dtype from,
                              dtype to, conversion how) {
  conversion_class const found = class_of_conversion(from, to);
  if (found == conversion_class::exact) return;
  if (found == conversion_class::rounding && how == conversion::rounded) return;
  throw_format(
      format_fault::inexact, origin,
      in_quotes(tensor) + " from " + std::string(name_of(from)) + " to " + std::string(name_of(to)),
      found == conversion_class::rounding ? "a type for all its values, or rounding to be asked for"
                                          : "a type for all its values");
}

}  // namespace detail

}  // namespace stiefelx
