// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <stiefelx/core/shape.hpp>
#include <stiefelx/io/byte_source.hpp>
#include <stiefelx/io/checked.hpp>
#include <stiefelx/io/dtype.hpp>
#include <stiefelx/io/format_error.hpp>
#include <stiefelx/io/json_cursor.hpp>
#include <stiefelx/io/tensor_shape.hpp>

namespace stiefelx {

/// \brief A tensor of a file: its name, type, shape and place.
/// \ingroup io
struct stored_tensor {
  std::string name;         ///< any text but the reserved __metadata__
  dtype type = dtype::f32;  ///< type of its entries
  tensor_shape shape;       ///< sizes; the last dimension is contiguous
  std::uint64_t begin = 0;  ///< first byte, counted from the end of the header
  std::uint64_t end = 0;    ///< one past the last byte

  /// The number of entries.
  /// \returns the product of the sizes
  std::uint64_t count() const { return (end - begin) / size_of(type); }

  /// Whether two descriptions are equal.
  /// \param[in] other  the second
  /// \returns true if name, type, shape and place are
  bool operator==(stored_tensor const& other) const = default;
};

/// \brief What a reader of safetensors files accepts.
/// \ingroup io
struct safetensors_limits {
  /// Largest header in bytes, at most largest_header; memory for it is about four times that.
  std::uint64_t header = 16'000'000;

  /// What the format allows.
  static constexpr std::uint64_t largest_header = 100'000'000;
};

/// \brief A checked header.
/// \ingroup io
struct safetensors_header {
  std::vector<stored_tensor> tensors;                         ///< in the order of their bytes
  std::vector<std::pair<std::string, std::string>> metadata;  ///< in the order of the file
  std::uint64_t entries_begin = 0;                            ///< where the tensors' bytes begin
};

namespace detail {

// The bytes before the header: its length.
inline constexpr std::uint64_t safetensors_prefix = 8;
inline constexpr std::string_view safetensors_metadata = "__metadata__";

class safetensors_parser {
 public:
  safetensors_parser(std::string_view text, std::string_view origin)
      : origin_(origin), from_(text, origin, 4) {}

  safetensors_header parse(std::uint64_t byte_count) {
    from_.begin_object();
    bool has_metadata = false;
    std::string name;
    while (from_.next_member(name)) {
      if (name == safetensors_metadata) {
        if (std::exchange(has_metadata, true)) fail_twice(name);
        read_metadata();
      } else {
        read_tensor(name);
      }
    }
    expect_distinct_names();
    expect_tiling(byte_count);
    return std::move(header_);
  }

  // Where the closing brace is behind.
  std::size_t place() const { return from_.place(); }

 private:
  [[noreturn]] STIEFELX_COLD void fail_twice(std::string_view name) const {
    throw_format(format_fault::duplicate_name, origin_, "the name " + in_quotes(name) + " twice",
                 "every name once");
  }
  [[noreturn]] STIEFELX_COLD void fail(format_fault fault, stored_tensor const& t,
                                       std::string const& found, std::string_view expected) const {
    throw_format(fault, origin_, in_quotes(t.name) + " with " + found, expected);
  }
  static std::string offsets_of(stored_tensor const& t) {
    return "offsets [" + std::to_string(t.begin) + ", " + std::to_string(t.end) + "]";
  }

  void read_metadata() {
    from_.begin_object();
    std::string name, value;
    while (from_.next_member(name)) {
      from_.text(value);
      header_.metadata.emplace_back(name, value);
    }
    std::vector<std::string_view> names;
    for (auto const& pair : header_.metadata) names.push_back(pair.first);
    std::sort(names.begin(), names.end());
    auto const twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) fail_twice(*twice);
  }

  void read_tensor(std::string const& name) {
    constexpr std::array<std::string_view, 3> members{"dtype", "shape", "data_offsets"};
    std::array<bool, 3> seen{};
    stored_tensor t;
    t.name = name;
    from_.begin_object();
    std::string member;
    while (from_.next_member(member)) {
      auto const known = std::find(members.begin(), members.end(), member) - members.begin();
      if (known == 3)
        fail(format_fault::member, t, "a member " + in_quotes(member),
             "dtype, shape, data_offsets");
      if (std::exchange(seen[static_cast<std::size_t>(known)], true)) fail_twice(member);
      if (known == 0) read_dtype(t);
      if (known == 1) read_shape(t);
      if (known == 2) read_offsets(t);
    }
    for (std::size_t k = 0; k < 3; ++k) {
      if (!seen[k]) fail(format_fault::member, t, "no " + std::string(members[k]), "it");
    }
    auto const count = t.shape.count();
    auto const size = count ? checked_product(*count, size_of(t.type)) : std::nullopt;
    if (!size) fail(format_fault::overflow, t, "shape " + t.shape.text(), "a size that fits");
    if (t.begin > t.end) fail(format_fault::offsets, t, offsets_of(t), "the smaller one first");
    if (t.end - t.begin != *size)
      fail(format_fault::size, t, offsets_of(t),
           std::to_string(*size) + " bytes for " + std::string(safetensors_name(t.type)) + " " +
               t.shape.text());
    header_.tensors.push_back(std::move(t));
  }

  void read_dtype(stored_tensor& t) {
    std::string name;
    from_.text(name);
    for (std::size_t k = 0; k < dtype_count; ++k) {
      t.type = static_cast<dtype>(k);
      if (!name.empty() && safetensors_name(t.type) == name) return;
    }
    fail(format_fault::dtype, t, "dtype " + in_quotes(name),
         "BOOL, I8, U8, I16, U16, F16, BF16, I32, U32, F32, I64, U64 or F64");
  }

  void read_shape(stored_tensor& t) {
    from_.begin_array();
    while (from_.next_element()) {
      if (!t.shape.append(from_.count()))
        fail(format_fault::rank, t, "more than 8 dimensions", "at most 8");
    }
  }

  void read_offsets(stored_tensor& t) {
    std::array<std::uint64_t, 2> offsets{};
    std::size_t count = 0;
    from_.begin_array();
    while (from_.next_element()) {
      std::uint64_t const offset = from_.count();
      if (count == 2) fail(format_fault::offsets, t, "more than two offsets", "two");
      offsets[count++] = offset;
    }
    if (count != 2) fail(format_fault::offsets, t, "fewer than two offsets", "two");
    t.begin = offsets[0];
    t.end = offsets[1];
  }

  void expect_distinct_names() const {
    std::vector<std::string_view> names;
    names.reserve(header_.tensors.size());
    for (stored_tensor const& t : header_.tensors) names.push_back(t.name);
    std::sort(names.begin(), names.end());
    auto const twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) fail_twice(*twice);
  }

  // Each tensor, empty ones too, begins where the one before ends, and the last ends with the file.
  void expect_tiling(std::uint64_t byte_count) {
    auto& tensors = header_.tensors;
    // Empty tensors may share a place; their names then give the order.
    std::sort(tensors.begin(), tensors.end(), [](auto const& a, auto const& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    std::uint64_t last = 0;
    for (stored_tensor const& t : tensors) {
      std::string const expected = "to begin at " + std::to_string(last);
      if (t.end > byte_count)
        fail(format_fault::offsets, t, offsets_of(t),
             "to end by " + std::to_string(byte_count) + ", where the file ends");
      if (t.begin > last) fail(format_fault::gap, t, offsets_of(t), expected);
      if (t.begin < last) fail(format_fault::overlap, t, offsets_of(t), expected);
      last = t.end;
    }
    if (last != byte_count)
      throw_format(format_fault::gap, origin_,
                   std::to_string(byte_count - last) + " bytes after the last tensor", "none");
  }

  std::string_view origin_;
  json_cursor from_;
  safetensors_header header_;
};

}  // namespace detail

/// \brief Reads the header of a safetensors file and checks all of it.
/// \ingroup io
///
/// Nothing in the file is believed: the header's length is compared with the file's size and the
/// limit before memory is allocated; names are unique, with members dtype, shape and data_offsets once
/// each and no other; at most 8 dimensions; sizes are multiplied with care for overflow and agree with
/// the offsets; in the order of their offsets tensors cover the rest of the file without gap or
/// overlap. The format's own rules on text hold too: it begins with a brace and ends with blanks.
///
/// \param[in] from    the file or memory
/// \param[in] limits  what is accepted
/// \returns the header
/// \throws format_error  if the file is anything else
/// \throws option_error  if the limit is above what the format allows
inline safetensors_header read_safetensors_header(byte_source const& from,
                                                  safetensors_limits limits = {}) {
  expect_option(limits.header <= safetensors_limits::largest_header, "read_safetensors_header",
                "limits.header", limits.header, "at most 100000000");
  std::string const& origin = from.origin();
  if (from.size() < detail::safetensors_prefix)
    detail::throw_format(format_fault::truncated, origin, std::to_string(from.size()) + " bytes",
                         "at least 8, the length of the header");
  std::uint64_t length = 0;
  from.read(0, std::as_writable_bytes(std::span(&length, 1)));
  std::uint64_t const rest = from.size() - detail::safetensors_prefix;
  std::string const found = "a header of " + std::to_string(length) + " bytes";
  if (length > limits.header)
    detail::throw_format(format_fault::header_length, origin, found,
                         "at most " + std::to_string(limits.header));
  if (length > rest)
    detail::throw_format(format_fault::truncated, origin,
                         found + " in a file of " + std::to_string(from.size()), "one that fits");
  if (length < 2) detail::throw_format(format_fault::header_length, origin, found, "at least {}");

  std::string text(static_cast<std::size_t>(length), '\0');
  from.read(detail::safetensors_prefix, std::as_writable_bytes(std::span(text)));
  if (text[0] != '{')
    detail::throw_format(format_fault::magic, origin, "a header that does not begin with a brace",
                         "a safetensors file");
  detail::safetensors_parser parser(text, origin);
  auto header = parser.parse(rest - length);
  auto const end = text.find_first_not_of(' ', parser.place());
  if (end != text.npos)
    detail::throw_format(format_fault::syntax, origin,
                         "something at byte " + std::to_string(end) + " of the header",
                         "nothing but blanks after the last brace");
  header.entries_begin = detail::safetensors_prefix + length;
  return header;
}

}  // namespace stiefelx
