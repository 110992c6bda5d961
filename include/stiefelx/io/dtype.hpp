// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <bit>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include <stiefelx/core/narrow.hpp>

namespace stiefelx {

/// Types of the numbers in a file.
/// \ingroup io
enum class dtype : std::uint8_t {
  boolean,  ///< one byte, 0 or 1
  i8,       ///< std::int8_t
  u8,       ///< std::uint8_t
  i16,      ///< std::int16_t
  u16,      ///< std::uint16_t
  f16,      ///< float16
  bf16,     ///< bfloat16
  i32,      ///< std::int32_t
  u32,      ///< std::uint32_t
  f32,      ///< float
  i64,      ///< std::int64_t
  u64,      ///< std::uint64_t
  f64,      ///< double
  c64,      ///< std::complex<float>
  c128      ///< std::complex<double>
};

/// How many types there are.
/// \ingroup io
inline constexpr std::size_t dtype_count = 15;

static_assert(std::endian::native == std::endian::little,
              "files hold numbers as little-endian machines do");
static_assert(std::numeric_limits<float>::is_iec559 && std::numeric_limits<double>::is_iec559 &&
              sizeof(bool) == 1);

namespace detail {

template <class T>
struct dtype_of_entry;
template <dtype Value>
using dtype_constant = std::integral_constant<dtype, Value>;
template <>
struct dtype_of_entry<bool> : dtype_constant<dtype::boolean> {};
template <>
struct dtype_of_entry<std::int8_t> : dtype_constant<dtype::i8> {};
template <>
struct dtype_of_entry<std::uint8_t> : dtype_constant<dtype::u8> {};
template <>
struct dtype_of_entry<std::int16_t> : dtype_constant<dtype::i16> {};
template <>
struct dtype_of_entry<std::uint16_t> : dtype_constant<dtype::u16> {};
template <>
struct dtype_of_entry<float16> : dtype_constant<dtype::f16> {};
template <>
struct dtype_of_entry<bfloat16> : dtype_constant<dtype::bf16> {};
template <>
struct dtype_of_entry<std::int32_t> : dtype_constant<dtype::i32> {};
template <>
struct dtype_of_entry<std::uint32_t> : dtype_constant<dtype::u32> {};
template <>
struct dtype_of_entry<float> : dtype_constant<dtype::f32> {};
template <>
struct dtype_of_entry<std::int64_t> : dtype_constant<dtype::i64> {};
template <>
struct dtype_of_entry<std::uint64_t> : dtype_constant<dtype::u64> {};
template <>
struct dtype_of_entry<double> : dtype_constant<dtype::f64> {};
template <>
struct dtype_of_entry<std::complex<float>> : dtype_constant<dtype::c64> {};
template <>
struct dtype_of_entry<std::complex<double>> : dtype_constant<dtype::c128> {};

template <class S>
struct entry_tag {
  using type = S;
};

struct dtype_names {
  std::string_view safetensors;
  std::string_view npy;
  std::size_t size;
};

// In the order of dtype. The first format has no name for complex numbers, the second none for bf16.
inline constexpr dtype_names all_dtypes[dtype_count] = {
    {"BOOL", "|b1", 1}, {"I8", "|i1", 1},  {"U8", "|u1", 1},  {"I16", "<i2", 2}, {"U16", "<u2", 2},
    {"F16", "<f2", 2},  {"BF16", "", 2},   {"I32", "<i4", 4}, {"U32", "<u4", 4}, {"F32", "<f4", 4},
    {"I64", "<i8", 8},  {"U64", "<u8", 8}, {"F64", "<f8", 8}, {"", "<c8", 8},    {"", "<c16", 16}};

inline constexpr dtype_names const& names_of(dtype type) {
  return all_dtypes[static_cast<std::size_t>(type)];
}

// Calls visit(entry_tag<S>{}) with the type S of a dtype's entries.
template <class Visit>
void visit_dtype(dtype type, Visit const& visit) {
  switch (type) {
    case dtype::boolean:
      return visit(entry_tag<bool>{});
    case dtype::i8:
      return visit(entry_tag<std::int8_t>{});
    case dtype::u8:
      return visit(entry_tag<std::uint8_t>{});
    case dtype::i16:
      return visit(entry_tag<std::int16_t>{});
    case dtype::u16:
      return visit(entry_tag<std::uint16_t>{});
    case dtype::f16:
      return visit(entry_tag<float16>{});
    case dtype::bf16:
      return visit(entry_tag<bfloat16>{});
    case dtype::i32:
      return visit(entry_tag<std::int32_t>{});
    case dtype::u32:
      return visit(entry_tag<std::uint32_t>{});
    case dtype::f32:
      return visit(entry_tag<float>{});
    case dtype::i64:
      return visit(entry_tag<std::int64_t>{});
    case dtype::u64:
      return visit(entry_tag<std::uint64_t>{});
    case dtype::f64:
      return visit(entry_tag<double>{});
    case dtype::c64:
      return visit(entry_tag<std::complex<float>>{});
    case dtype::c128:
      return visit(entry_tag<std::complex<double>>{});
  }
}

}  // namespace detail

/// A type whose values files hold: bool, the fixed-width integers, float16, bfloat16, float, double
/// and complex numbers of the last two.
/// \ingroup io
template <class T>
concept FileEntry = requires { detail::dtype_of_entry<T>::value; };

/// \brief The element type of a file that holds values of T as they are.
/// \ingroup io
template <FileEntry T>
inline constexpr dtype dtype_of = detail::dtype_of_entry<T>::value;

/// \brief Bytes of an entry.
/// \ingroup io
/// \param[in] type  any
/// \returns 1 to 16
constexpr std::size_t size_of(dtype type) { return detail::names_of(type).size; }

/// \brief What safetensors files call a type.
/// \ingroup io
/// \param[in] type  any
/// \returns for example F32; empty for complex numbers, which the format does not have
constexpr std::string_view safetensors_name(dtype type) {
  return detail::names_of(type).safetensors;
}

/// \brief What NPY files call a type.
/// \ingroup io
/// \param[in] type  any
/// \returns for example <f4; empty for bfloat16, which the format does not have
constexpr std::string_view npy_name(dtype type) { return detail::names_of(type).npy; }

}  // namespace stiefelx
