// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

#include <stiefelx/core/host_device.hpp>

namespace stiefelx {

/// \brief Why a file was refused, or could not be read or written.
/// \ingroup io
enum class format_fault {
  cannot_open,     ///< there is no such file, it is no regular file, or it may not be read
  cannot_read,     ///< reading failed, or the file became shorter while it was open
  cannot_write,    ///< writing failed; the old file is whole
  truncated,       ///< the file ends before what it announces
  header_length,   ///< the header is longer than the file or the limit, or too short to be one
  magic,           ///< the file does not start as its format does
  version,         ///< a version of the format that is not known
  not_utf8,        ///< text that is not well-formed UTF-8
  syntax,          ///< text that is not of the format's grammar
  too_deep,        ///< more levels of brackets than allowed
  number,          ///< a number without a value in the type that it needs
  duplicate_name,  ///< a name that occurs twice
  member,          ///< a member that is missing, unknown, or of another type
  name,            ///< a name that the format reserves
  dtype,           ///< an element type that is unknown, or not allowed here
  rank,            ///< more dimensions than allowed
  overflow,        ///< a size that does not fit its type
  offsets,         ///< offsets that are reversed or lie outside of the file
  size,            ///< offsets that do not fit shape and element type, or a file that is too large
  gap,             ///< bytes that belong to no tensor
  overlap,         ///< bytes that belong to two tensors
  missing_tensor,  ///< no tensor of this name
  shape,           ///< a tensor of another shape than the memory it is to fill
  inexact,         ///< a conversion that can change values and was not asked for
  alignment,       ///< bytes that cannot be viewed as numbers where they lie
};

namespace detail {

// Text from a file is shown with at most 80 bytes, and no character is cut in two.
inline std::string shown(std::string_view text) {
  std::size_t longest = 80;
  if (text.size() <= longest) return std::string(text);
  while (longest > 0 && (static_cast<unsigned char>(text[longest]) & 0xC0) == 0x80) --longest;
  return std::string(text.substr(0, longest)) + "...";
}

inline std::string in_quotes(std::string_view text) { return "'" + shown(text) + "'"; }

}  // namespace detail

/// \brief A file that is not what its format asks for, or cannot be read or written.
/// \ingroup io
///
/// The text names the file, what was found and what was expected:
/// `adapter.safetensors: the header has 90 bytes, expected at most 40`.
class format_error : public std::runtime_error {
 public:
  /// \brief Makes the text `ORIGIN: FOUND, expected EXPECTED`.
  /// \param[in] fault     the reason
  /// \param[in] origin    path of the file, or what else the bytes are called
  /// \param[in] found     what was found
  /// \param[in] expected  what was expected
  format_error(format_fault fault, std::string_view origin, std::string_view found,
               std::string_view expected)
      : std::runtime_error(line(origin, found, expected)), fault_(fault) {}

  /// The reason.
  /// \returns one of the list
  format_fault fault() const noexcept { return fault_; }

 private:
  static std::string line(std::string_view origin, std::string_view found,
                          std::string_view expected) {
    std::string text(origin);
    text.append(": ").append(found).append(", expected ").append(expected);
    // What a file holds must not move a terminal's cursor.
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
    }
    return text;
  }

  format_fault fault_;
};

namespace detail {

[[noreturn]] STIEFELX_COLD inline void throw_format(format_fault fault, std::string_view origin,
                                                    std::string_view found,
                                                    std::string_view expected) {
  throw format_error(fault, origin, found, expected);
}

}  // namespace detail

}  // namespace stiefelx
