// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <stiefelx/io/format_error.hpp>
#include <stiefelx/io/json.hpp>
#include <stiefelx/io/utf8.hpp>

namespace stiefelx {

/// \brief Appends a string of JSON, with quotes and the escapes that JSON asks for.
/// \ingroup io
/// \param[in]     raw   UTF-8
/// \param[in,out] text  gets the string
/// \throws format_error  if raw is not UTF-8; then text is as before
inline void append_json_text(std::string_view raw, std::string& text) {
  if (!is_utf8(raw))
    detail::throw_format(format_fault::not_utf8, "JSON", "the text " + detail::in_quotes(raw),
                         "UTF-8");
  constexpr std::string_view meant = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
  text += '"';
  for (char const c : raw) {
    auto const code = static_cast<unsigned char>(c);
    if (auto const known = meant.find(c); known != meant.npos) {
      text.append({'\\', letters[known]});
    } else if (code < 0x20 || code == 0x7F) {
      constexpr std::string_view digits = "0123456789abcdef";
      text.append("\\u00").append({digits[code >> 4], digits[code & 15]});
    } else {
      text += c;
    }
  }
  text += '"';
}

namespace detail {

inline void append_json_number(double value, std::string& text) {
  if (!std::isfinite(value))
    throw_format(format_fault::number, "JSON", "a number that is not finite", "a finite one");
  char digits[32];
  char const* const end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  std::string_view const word(digits, static_cast<std::size_t>(end - digits));
  text += word;
  // So that it is read as what it is: 2.0 is no whole number.
  if (word.find_first_of(".e") == word.npos) text += ".0";
}

// A value and what it holds; indent < 0 means one line.
class json_text {
 public:
  explicit json_text(int indent) : indent_(indent) {}

  void append(json_value const& value) {
    switch (value.kind()) {
      case json_kind::null:
        text_ += "null";
        break;
      case json_kind::boolean:
        text_ += value.boolean() ? "true" : "false";
        break;
      case json_kind::integer:
        append_integer(value.integer());
        break;
      case json_kind::number:
        append_json_number(value.number(), text_);
        break;
      case json_kind::text:
        append_json_text(value.text(), text_);
        break;
      case json_kind::array:
        append_items('[', value.elements(), ']', [&](json_value const& v) { append(v); });
        break;
      case json_kind::object:
        if (std::string const* const twice = repeated_name(value.members()); twice != nullptr)
          throw_format(format_fault::duplicate_name, "JSON",
                       "the name " + in_quotes(*twice) + " twice", "every name once");
        append_items('{', value.members(), '}', [&](json_member const& m) {
          append_json_text(m.name, text_);
          text_ += indent_ < 0 ? ":" : ": ";
          append(m.value);
        });
        break;
    }
  }

  std::string const& text() const { return text_; }

 private:
  void append_integer(std::int64_t value) {
    constexpr std::int64_t largest = std::int64_t{1} << 53;
    if (value > largest || value < -largest)
      throw_format(format_fault::number, "JSON", std::to_string(value), "a number up to 2^53");
    text_ += std::to_string(value);
  }

  template <class Items, class Append>
  void append_items(char open, Items const& items, char close, Append const& append_item) {
    text_ += open;
    ++level_;
    bool first = true;
    for (auto const& item : items) {
      if (!first) text_ += ',';
      first = false;
      new_line();
      append_item(item);
    }
    --level_;
    if (!first) new_line();
    text_ += close;
  }

  void new_line() {
    if (indent_ < 0) return;
    text_ += '\n';
    text_.append(static_cast<std::size_t>(indent_ * level_), ' ');
  }

  int indent_;
  int level_ = 0;
  std::string text_;
};

}  // namespace detail

/// \brief Writes a JSON text.
/// \ingroup io
///
/// Doubles have the fewest digits that give the same bits back, in any locale. Reading gives an equal
/// value back if no object has a name twice and the depth is allowed.
/// \param[in] value   any value
/// \param[in] indent  blanks a level; -1 for one line without blanks
/// \returns the text, without a line end
/// \throws format_error  for a number that is not finite or a whole number beyond 2^53, text that is
///                       not UTF-8, and an object with a name twice
inline std::string write_json(json_value const& value, int indent = -1) {
  detail::json_text out(indent);
  out.append(value);
  return out.text();
}

}  // namespace stiefelx
