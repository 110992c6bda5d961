// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <stiefelx/io/byte_source.hpp>
#include <stiefelx/io/checked.hpp>
#include <stiefelx/io/dtype.hpp>
#include <stiefelx/io/format_error.hpp>
#include <stiefelx/io/tensor_shape.hpp>

namespace stiefelx {

/// \brief What an NPY file says of its array.
/// \ingroup io
struct npy_header {
  dtype type = dtype::f64;          ///< type of its entries
  bool fortran_order = false;       ///< whether the first dimension is contiguous, not the last
  tensor_shape shape;               ///< sizes
  std::uint64_t entries_begin = 0;  ///< where its bytes begin

  /// Whether two headers are equal.
  /// \param[in] other  the second
  /// \returns true if all of it is
  bool operator==(npy_header const& other) const = default;
};

namespace detail {

inline constexpr std::string_view npy_magic = "\x93NUMPY";
// A sound header of at most 8 dimensions has some 300 bytes.
inline constexpr std::uint64_t largest_npy_header = 65535;

// The header is the text of a Python dictionary with three keys. Of Python's grammar, this reads what
// NumPy writes: one line, blanks between words, strings without escapes, decimal sizes.
class npy_dictionary {
 public:
  npy_dictionary(std::string_view text, std::string_view origin) : text_(text), origin_(origin) {}

  npy_header parse() {
    constexpr std::array<std::string_view, 3> keys{"descr", "fortran_order", "shape"};
    std::array<bool, 3> seen{};
    take('{');
    while (!next_is('}')) {
      std::string_view const key = quoted_word();
      std::size_t k = 0;
      while (k < 3 && keys[k] != key) ++k;
      if (k == 3)
        fail(format_fault::member, "a key " + in_quotes(key), "descr, fortran_order, shape");
      if (std::exchange(seen[k], true))
        fail(format_fault::duplicate_name, "the key " + in_quotes(key) + " twice",
             "every key once");
      take(':');
      if (k == 0) read_descr();
      if (k == 1) header_.fortran_order = truth();
      if (k == 2) read_shape();
      if (!next_is('}')) take(',');
    }
    take('}');
    for (std::size_t k = 0; k < 3; ++k) {
      if (!seen[k]) fail(format_fault::member, "no key " + in_quotes(keys[k]), "it");
    }
    skip_blanks();
    if (text_.substr(place_) != "\n") fail_syntax("a line end after blanks, and nothing else");
    return header_;
  }

 private:
  [[noreturn]] STIEFELX_COLD void fail(format_fault fault, std::string const& found,
                                       std::string_view expected) const {
    throw_format(fault, origin_, found + " at byte " + std::to_string(place_) + " of the header",
                 expected);
  }
  [[noreturn]] STIEFELX_COLD void fail_syntax(std::string_view expected) const {
    bool const shows = place_ < text_.size() && text_[place_] > ' ' && text_[place_] <= '~';
    fail(format_fault::syntax,
         place_ == text_.size() ? "the end"
         : shows                ? in_quotes(text_.substr(place_, 1))
                                : "a byte out of place",
         expected);
  }

  void skip_blanks() {
    while (place_ < text_.size() && text_[place_] == ' ') ++place_;
  }
  bool next_is(char c) {
    skip_blanks();
    return place_ < text_.size() && text_[place_] == c;
  }
  void take(char c) {
    if (!next_is(c)) fail_syntax(in_quotes({&c, 1}));
    ++place_;
  }

  std::string_view quoted_word() {
    char const quote = next_is('"') ? '"' : '\'';
    take(quote);
    std::size_t const first = place_;
    while (place_ < text_.size() && text_[place_] != quote) {
      if (text_[place_] < ' ' || text_[place_] > '~' || text_[place_] == '\\')
        fail_syntax("a plain character");
      ++place_;
    }
    std::string_view const word = text_.substr(first, place_ - first);
    take(quote);
    return word;
  }

  void read_descr() {
    if (next_is('[') || next_is('('))
      fail(format_fault::dtype, "a type of several fields", "a type of numbers");
    std::string_view const name = quoted_word();
    for (std::size_t k = 0; k < dtype_count; ++k) {
      header_.type = static_cast<dtype>(k);
      if (!name.empty() && npy_name(header_.type) == name) return;
    }
    fail(format_fault::dtype, "the type " + in_quotes(name),
         "|b1, |i1, |u1, or little-endian i2, u2, i4, u4, i8, u8, f2, f4, f8, c8, c16");
  }

  bool truth() {
    skip_blanks();
    for (std::string_view const word : {"True", "False"}) {
      if (text_.substr(place_, word.size()) == word) {
        place_ += word.size();
        return word == "True";
      }
    }
    fail_syntax("True or False");
  }

  std::uint64_t size() {
    skip_blanks();
    std::string_view const rest = text_.substr(place_);
    std::uint64_t value = 0;
    auto const [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (error == std::errc::invalid_argument) fail_syntax("a size");
    auto const digits = static_cast<std::size_t>(end - rest.data());
    if (error != std::errc{})
      fail(format_fault::overflow, in_quotes(rest.substr(0, digits)), "a size that fits");
    if (digits > 1 && rest[0] == '0') fail_syntax("a size without a leading zero");
    place_ += digits;
    return value;
  }

  void read_shape() {
    take('(');
    bool comma = true;
    while (!next_is(')')) {
      if (!comma) fail_syntax("a comma or a closing parenthesis");
      if (!header_.shape.append(size()))
        fail(format_fault::rank, "more than 8 dimensions", "at most 8");
      comma = next_is(',');
      if (comma) ++place_;
    }
    // (3) is a number in Python, and (3,) a tuple.
    if (header_.shape.rank() == 1 && !comma) fail_syntax("a comma after a single size");
    take(')');
  }

  std::string_view text_;
  std::string_view origin_;
  std::size_t place_ = 0;
  npy_header header_;
};

}  // namespace detail

/// \brief Reads the header of an NPY file of version 1, 2 or 3, and checks all of it.
/// \ingroup io
///
/// Nothing in the file is believed: the header's length is compared with the file's size and a limit
/// of 65535 bytes before memory is allocated, at most 8 dimensions, sizes are multiplied with care for
/// overflow, and the array fills the rest of the file.
///
/// \param[in] from  the file or memory
/// \returns the header
/// \throws format_error  if the file is anything else, or holds big-endian numbers, objects, texts or
///                       several fields
inline npy_header read_npy_header(byte_source const& from) {
  std::string const& origin = from.origin();
  auto const expect_bytes = [&](std::uint64_t count, char const* what) {
    if (from.size() < count)
      detail::throw_format(format_fault::truncated, origin, std::to_string(from.size()) + " bytes",
                           "at least " + std::to_string(count) + ", " + what);
  };
  std::array<unsigned char, 12> prefix{};
  expect_bytes(10, "magic, version and length of the header");
  from.read(0, std::as_writable_bytes(std::span(prefix).first(10)));
  if (std::string_view(reinterpret_cast<char const*>(prefix.data()), 6) != detail::npy_magic)
    detail::throw_format(format_fault::magic, origin, "another beginning", "an NPY file");
  int const major = prefix[6], minor = prefix[7];
  if (major < 1 || major > 3 || minor != 0)
    detail::throw_format(format_fault::version, origin,
                         "version " + std::to_string(major) + "." + std::to_string(minor),
                         "1.0, 2.0 or 3.0");
  std::size_t const prefix_size = major == 1 ? 10 : 12;
  expect_bytes(prefix_size, "magic, version and length of the header");
  from.read(0, std::as_writable_bytes(std::span(prefix).first(prefix_size)));
  std::uint64_t length = 0;
  for (std::size_t k = prefix_size; k-- > 8;) length = length << 8 | prefix[k];
  if (length > detail::largest_npy_header)
    detail::throw_format(format_fault::header_length, origin,
                         "a header of " + std::to_string(length) + " bytes",
                         "at most " + std::to_string(detail::largest_npy_header));
  expect_bytes(prefix_size + length, "which the header fills");

  std::string text(static_cast<std::size_t>(length), '\0');
  from.read(prefix_size, std::as_writable_bytes(std::span(text)));
  npy_header header = detail::npy_dictionary(text, origin).parse();
  header.entries_begin = prefix_size + length;
  auto const count = header.shape.count();
  auto const size = count ? checked_product(*count, size_of(header.type)) : std::nullopt;
  auto const end = size ? checked_sum(header.entries_begin, *size) : std::nullopt;
  if (!end)
    detail::throw_format(format_fault::overflow, origin, "shape " + header.shape.text(),
                         "a size that fits");
  expect_bytes(*end, "which header and array fill");
  if (*end != from.size())
    detail::throw_format(format_fault::gap, origin,
                         std::to_string(from.size() - *end) + " bytes after the array", "none");
  return header;
}

}  // namespace stiefelx
