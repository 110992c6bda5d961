// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

#include <stiefelx/core/shape.hpp>
#include <stiefelx/io/format_error.hpp>
#include <stiefelx/io/utf8.hpp>

namespace stiefelx {

/// Kinds of JSON values; a whole number of at most 2^53 without sign is kept apart from others.
/// \ingroup io
enum class json_kind {
  null,     ///< null
  boolean,  ///< true or false
  integer,  ///< a number without fraction and exponent
  number,   ///< a number with fraction or exponent, and -0
  text,     ///< a string
  array,    ///< values in brackets
  object    ///< members in braces
};

/// A number as it stands in a text: exact if it is whole, else the nearest double.
/// \ingroup io
struct json_number {
  json_kind kind = json_kind::integer;  ///< integer or number
  std::int64_t integer = 0;             ///< the value of an integer
  double real = 0;                      ///< the value of either
};

/// \brief Walks through a JSON text, piece by piece, and refuses what is not JSON.
/// \ingroup io
///
/// The caller says what comes next, so a text of another structure is refused where it differs, and
/// nothing is stored that was not asked for. Strict: RFC 8259 without extensions, whole numbers at
/// most 2^53 in magnitude, no number beyond double's range, text in well-formed UTF-8, no lone
/// surrogates. Uniqueness of names is the caller's matter, since names are handed out one by one.
///
/// The first violation throws; the cursor is not used after that.
class json_cursor {
 public:
  /// The deepest nesting that a caller may allow.
  static constexpr int deepest = 1000;

  /// \brief Starts at the beginning.
  /// \param[in] text       the whole text; it outlives the cursor
  /// \param[in] origin     where it comes from, for the text of errors; it outlives the cursor
  /// \param[in] max_depth  levels of arrays and objects, 0 to 1000
  /// \throws option_error  if max_depth is outside of its range
  json_cursor(std::string_view text, std::string_view origin, int max_depth)
      : text_(text), origin_(origin), max_depth_(max_depth) {
    expect_option(max_depth >= 0 && max_depth <= deepest, "json_cursor", "max_depth", max_depth,
                  "0 to 1000");
  }

  /// \brief Says what comes next, without taking it.
  /// \returns the kind; integer for any number
  /// \throws format_error  if no value starts here
  json_kind peek() {
    skip_blanks();
    char const c = at_end() ? '\0' : text_[place_];
    switch (c) {
      case '{':
        return json_kind::object;
      case '[':
        return json_kind::array;
      case '"':
        return json_kind::text;
      case 't':
      case 'f':
        return json_kind::boolean;
      case 'n':
        return json_kind::null;
      default:
        break;
    }
    if (c == '-' || is_digit(c)) return json_kind::integer;
    fail_syntax("a value");
  }

  /// Takes the opening brace of an object.
  /// \throws format_error  if something else comes, or it is too deep
  void begin_object() { open('{', json_kind::object, "an object"); }

  /// \brief Takes the next name and its colon, or the closing brace.
  /// \param[out] name  the name, without quotes and escapes
  /// \returns false if the object ends here
  /// \throws format_error  if something else comes
  bool next_member(std::string& name) {
    if (!next('}')) return false;
    if (at_end() || text_[place_] != '"') fail_syntax("a name in double quotes");
    read_text(name);
    skip_blanks();
    if (at_end() || text_[place_] != ':') fail_syntax("a colon");
    ++place_;
    return true;
  }

  /// Takes the opening bracket of an array.
  /// \throws format_error  if something else comes, or it is too deep
  void begin_array() { open('[', json_kind::array, "an array"); }

  /// \brief Goes to the next value of an array, or takes the closing bracket.
  /// \returns false if the array ends here
  /// \throws format_error  if something else comes
  bool next_element() { return next(']'); }

  /// \brief Takes a string.
  /// \param[out] value  its characters in UTF-8; it may hold a null character
  /// \throws format_error  if something else comes
  void text(std::string& value) {
    expect(json_kind::text, "a string");
    read_text(value);
  }

  /// \brief Takes a number.
  /// \returns its value
  /// \throws format_error  if something else comes
  json_number number() {
    expect(json_kind::integer, "a number");
    return read_number();
  }

  /// \brief Takes a whole number that is not negative.
  /// \returns its value, at most 2^53
  /// \throws format_error  if something else comes, also 1.0 and 1e3
  std::uint64_t count() {
    json_number const value = number();
    if (value.kind != json_kind::integer || value.integer < 0)
      fail(format_fault::number, "another number", "a whole number that is not negative");
    return static_cast<std::uint64_t>(value.integer);
  }

  /// \brief Takes true or false.
  /// \returns which
  /// \throws format_error  if something else comes
  bool boolean() {
    expect(json_kind::boolean, "true or false");
    bool const value = text_[place_] == 't';
    take_word(value ? "true" : "false");
    return value;
  }

  /// Takes null.
  /// \throws format_error  if something else comes
  void null() {
    expect(json_kind::null, "null");
    take_word("null");
  }

  /// Expects that nothing but blanks is left.
  /// \throws format_error  if something is
  void finish() {
    skip_blanks();
    if (!at_end()) fail_syntax("the end");
  }

  /// \brief Where the next piece starts.
  /// \returns bytes from the beginning
  std::size_t place() const { return place_; }

  /// \brief Refuses the text at this place.
  /// \param[in] fault     the reason
  /// \param[in] found     what was found
  /// \param[in] expected  what was expected
  /// \throws format_error  always
  [[noreturn]] STIEFELX_COLD void fail(format_fault fault, std::string_view found,
                                       std::string_view expected) const {
    detail::throw_format(fault, origin_, std::string(found) + " at byte " + std::to_string(place_),
                         expected);
  }

 private:
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  bool at_end() const { return place_ == text_.size(); }

  [[noreturn]] STIEFELX_COLD void fail_syntax(std::string_view expected) const {
    std::size_t const length = utf8_length(text_.substr(place_));
    fail(format_fault::syntax,
         at_end()      ? "the end"
         : length == 0 ? "a byte out of place"
                       : detail::in_quotes(text_.substr(place_, length)),
         expected);
  }

  void skip_blanks() {
    while (!at_end()) {
      char const c = text_[place_];
      if (c != ' ' && c != '\n' && c != '\r' && c != '\t') break;
      ++place_;
    }
  }

  void expect(json_kind kind, std::string_view expected) {
    if (peek() != kind) fail(format_fault::member, "a value of another type", expected);
  }

  void open(char bracket, json_kind kind, std::string_view expected) {
    expect(kind, expected);
    if (depth_ == max_depth_)
      fail(format_fault::too_deep, std::string("another '") + bracket + "'",
           "at most " + std::to_string(max_depth_) + " levels");
    ++depth_;
    ++place_;
    first_ = true;
  }

  // To the next item of a container, past its comma; false past the closing bracket.
  bool next(char closing) {
    bool const first = first_;
    first_ = false;
    skip_blanks();
    if (!at_end() && text_[place_] == closing) {
      ++place_;
      --depth_;
      return false;
    }
    if (first) return true;
    if (at_end() || text_[place_] != ',')
      fail_syntax(closing == '}' ? "a comma or a closing brace" : "a comma or a closing bracket");
    ++place_;
    skip_blanks();
    if (!at_end() && text_[place_] == closing) fail_syntax("an item after the comma");
    return true;
  }

  void take_word(std::string_view word) {
    if (text_.substr(place_, word.size()) != word) fail_syntax(word);
    place_ += word.size();
  }

  void read_text(std::string& value) {
    value.clear();
    ++place_;
    while (true) {
      if (at_end()) fail_syntax("a closing quote");
      auto const c = static_cast<unsigned char>(text_[place_]);
      if (c == '"') break;
      if (c == '\\') {
        read_escape(value);
        continue;
      }
      if (c < 0x20) fail_syntax("an escape for a control character");
      std::size_t const length = utf8_length(text_.substr(place_, 4));
      if (length == 0) fail(format_fault::not_utf8, "a byte out of place", "UTF-8");
      value.append(text_, place_, length);
      place_ += length;
    }
    ++place_;
  }

  void read_escape(std::string& value) {
    constexpr std::string_view letters = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
    ++place_;
    char const letter = at_end() ? '\0' : text_[place_];
    if (auto const known = letters.find(letter); known != letters.npos) {
      value += meant[known];
      ++place_;
      return;
    }
    if (letter != 'u') fail_syntax("an escape of JSON");
    std::uint32_t point = read_unit();
    if (point >= 0xDC00 && point < 0xE000)
      fail(format_fault::not_utf8, "the second half of a pair", "a character");
    if (point >= 0xD800 && point < 0xDC00) {
      if (text_.substr(place_, 2) != "\\u")
        fail(format_fault::not_utf8, "half a surrogate pair", "its second half");
      ++place_;
      std::uint32_t const low = read_unit();
      if (low < 0xDC00 || low >= 0xE000)
        fail(format_fault::not_utf8, "half a surrogate pair", "its second half");
      point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(point, value);
  }

  // The four digits after a u.
  std::uint32_t read_unit() {
    ++place_;
    std::string_view const digits = text_.substr(place_, 4);
    std::uint32_t unit = 0;
    auto const [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), unit, 16);
    if (error != std::errc{} || end != digits.data() + 4) fail_syntax("four hexadecimal digits");
    place_ += 4;
    return unit;
  }

  std::size_t digits_from(std::size_t first) const {
    std::size_t last = first;
    while (last < text_.size() && is_digit(text_[last])) ++last;
    return last - first;
  }

  json_number read_number() {
    std::size_t end = place_;
    bool const negative = text_[end] == '-';
    if (negative) ++end;
    std::size_t const whole = digits_from(end);
    bool const zero = whole > 0 && text_[end] == '0';
    end += whole;
    bool real = negative && zero;  // -0 has a sign, which no integer has
    auto const next_is = [&](std::string_view set) {
      return end < text_.size() && set.find(text_[end]) != set.npos;
    };
    bool sound = whole > 0 && !(zero && whole > 1);
    if (next_is(".")) {
      real = true;
      std::size_t const count = digits_from(++end);
      sound = sound && count > 0;
      end += count;
    }
    if (next_is("eE")) {
      real = true;
      ++end;
      if (next_is("+-")) ++end;
      std::size_t const count = digits_from(end);
      sound = sound && count > 0;
      end += count;
    }
    std::string_view const word = text_.substr(place_, end - place_);
    if (!sound) fail(format_fault::syntax, detail::in_quotes(word), "a number of JSON");

    json_number value;
    value.kind = real ? json_kind::number : json_kind::integer;
    char const* const last = word.data() + word.size();
    if (real) {
      if (std::from_chars(word.data(), last, value.real).ec != std::errc{})
        fail(format_fault::number, detail::in_quotes(word), "a number in double's range");
    } else {
      constexpr std::int64_t largest = std::int64_t{1} << 53;
      auto const error = std::from_chars(word.data(), last, value.integer).ec;
      if (error != std::errc{} || value.integer > largest || value.integer < -largest)
        fail(format_fault::number, detail::in_quotes(word), "a whole number up to 2^53");
      value.real = static_cast<double>(value.integer);
    }
    place_ = end;
    return value;
  }

  std::string_view text_;
  std::string_view origin_;
  std::size_t place_ = 0;
  int max_depth_;
  int depth_ = 0;
  // Whether the innermost container was just opened.
  bool first_ = false;
};

}  // namespace stiefelx
