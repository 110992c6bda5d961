// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "examples/support/text.hpp"

namespace example {

/// \brief Writes JSON piece by piece: one member a line, arrays of plain values on one line.
///
/// Numbers have the fewest digits that give the same bits back; a number that is not finite is
/// null, because JSON has no other word for it. Text that is not UTF-8 is repaired.
class json_writer {
 public:
  /// Opens an object, as a value.
  json_writer& begin_object() { return open('{'); }
  /// Closes the innermost object. \throws std::logic_error  if it is no object or lacks a value
  json_writer& end_object() { return close('{', '}'); }
  /// Opens an array, as a value.
  json_writer& begin_array() { return open('['); }
  /// Closes the innermost array. \throws std::logic_error  if it is no array
  json_writer& end_array() { return close('[', ']'); }

  /// \brief Names the next value.
  /// \param[in] name  any text
  /// \throws std::logic_error  outside an object, or if the last name still lacks its value
  json_writer& key(std::string_view name) {
    if (levels_.empty() || levels_.back().bracket != '{' || named_) {
      throw std::logic_error("json_writer: a key is only allowed in an object, before a value");
    }
    separate(true);
    quote(name);
    text_ += ": ";
    named_ = true;
    return *this;
  }

  /// Writes a text.
  json_writer& value(std::string_view text) {
    start(false);
    quote(text);
    return *this;
  }
  /// Writes null.
  json_writer& null() { return plain("null"); }
  /// Writes a truth value, a whole number or a finite number; null for any other number.
  template <class T>
    requires std::is_arithmetic_v<T>
  json_writer& value(T number) {
    if constexpr (std::same_as<T, bool>) {
      return plain(number ? "true" : "false");
    } else if constexpr (std::integral<T>) {
      return plain(std::to_string(number));
    } else {
      return plain(std::isfinite(number) ? to_shortest(number) : "null");
    }
  }
  /// Writes the value, or null if there is none.
  template <class T>
  json_writer& value(std::optional<T> const& maybe) {
    return maybe ? value(*maybe) : null();
  }
  /// Writes an array of values.
  template <class T>
  json_writer& value(std::vector<T> const& values) {
    begin_array();
    for (auto const& element : values) value(element);
    return end_array();
  }

  /// Writes a name and its value.
  template <class T>
  json_writer& member(std::string_view name, T const& content) {
    return key(name).value(content);
  }

  /// \brief Returns the text, with a line end.
  /// \throws std::logic_error  if nothing was written or something is still open
  std::string text() const {
    if (!levels_.empty() || text_.empty()) throw std::logic_error("json_writer: not complete");
    return text_ + "\n";
  }

 private:
  struct level {
    char bracket;
    bool empty = true;
    bool nested = false;
  };

  json_writer& plain(std::string_view text) {
    start(false);
    text_ += text;
    return *this;
  }

  json_writer& open(char bracket) {
    start(true);
    text_ += bracket;
    levels_.push_back({bracket});
    return *this;
  }

  json_writer& close(char bracket, char end) {
    if (levels_.empty() || levels_.back().bracket != bracket || named_) {
      throw std::logic_error("json_writer: nothing to close here");
    }
    auto const last = levels_.back();
    levels_.pop_back();
    if (last.nested) new_line();
    text_ += end;
    return *this;
  }

  // Before a value: what separates it from the one before.
  void start(bool container) {
    if (levels_.empty() ? !text_.empty() : levels_.back().bracket == '{' && !named_) {
      throw std::logic_error("json_writer: no value is allowed here");
    }
    if (!levels_.empty() && !named_) separate(container);
    named_ = false;
  }

  void separate(bool own_line) {
    auto& now = levels_.back();
    if (!now.empty) text_ += own_line ? "," : ", ";
    if (own_line) new_line();
    now.empty = false;
    now.nested = now.nested || own_line;
  }

  void new_line() { text_.append("\n").append(2 * levels_.size(), ' '); }

  void quote(std::string_view raw) {
    text_ += '"';
    for (char const c : valid_utf8(raw)) {
      auto const code = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        text_.append({'\\', c});
      } else if (code < 0x20) {
        text_.append("\\u00").append(
            {"0123456789abcdef"[code >> 4], "0123456789abcdef"[code & 15]});
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
  std::vector<level> levels_;
  bool named_ = false;
};

}  // namespace example
