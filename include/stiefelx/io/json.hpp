// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <stiefelx/io/format_error.hpp>
#include <stiefelx/io/json_cursor.hpp>

namespace stiefelx {

struct json_member;

/// \brief A JSON value: null, truth value, number, text, array or object.
/// \ingroup io
///
/// Members of an object keep the order of the document. The functions that take a value out as a type
/// throw where it has another; `find` and `at` do so for what is no object.
class json_value {
 public:
  using array = std::vector<json_value>;    ///< elements, in order
  using object = std::vector<json_member>;  ///< members, in order; no name twice

  /// Makes null.
  json_value();
  /// \brief Makes a truth value.
  /// \param[in] value  which
  json_value(bool value);
  /// \brief Makes a whole number.
  /// \param[in] value  any; write_json() refuses those beyond 2^53
  json_value(std::int64_t value);
  /// \brief Makes a whole number.
  /// \param[in] value  any
  json_value(int value);
  /// \brief Makes a number.
  /// \param[in] value  any; write_json() refuses what is not finite
  json_value(double value);
  /// \brief Makes a text.
  /// \param[in] value  any; write_json() refuses what is not UTF-8
  json_value(std::string value);
  /// \brief Makes a text.
  /// \param[in] value  any
  json_value(std::string_view value);
  /// \brief Makes a text.
  /// \param[in] value  ends with a null character
  json_value(char const* value);
  /// \brief Makes an array.
  /// \param[in] value  its elements
  json_value(array value);
  /// \brief Makes an object.
  /// \param[in] value  its members
  json_value(object value);

  /// What it is.
  /// \returns the kind
  json_kind kind() const { return static_cast<json_kind>(content_.index()); }
  /// Whether it is null.
  /// \returns true if it is
  bool is_null() const { return kind() == json_kind::null; }

  /// \brief The truth value.
  /// \param[in] origin  what to call this in the text of errors, for example a file and a name
  /// \returns which
  /// \throws format_error  if it is none
  bool boolean(std::string_view origin = "JSON") const {
    return get<bool>(origin, "true or false");
  }
  /// \brief The whole number.
  /// \param[in] origin  what to call this in the text of errors
  /// \returns its value; 1.0 is none
  /// \throws format_error  if it is none
  std::int64_t integer(std::string_view origin = "JSON") const {
    return get<std::int64_t>(origin, "a whole number");
  }
  /// \brief The number, whole or not.
  /// \param[in] origin  what to call this in the text of errors
  /// \returns its value
  /// \throws format_error  if it is none
  double number(std::string_view origin = "JSON") const {
    auto const* const whole = std::get_if<std::int64_t>(&content_);
    return whole != nullptr ? static_cast<double>(*whole) : get<double>(origin, "a number");
  }
  /// \brief The text.
  /// \param[in] origin  what to call this in the text of errors
  /// \returns its characters in UTF-8
  /// \throws format_error  if it is none
  std::string const& text(std::string_view origin = "JSON") const {
    return get<std::string>(origin, "a text");
  }
  /// \brief The elements of an array.
  /// \param[in] origin  what to call this in the text of errors
  /// \returns them, in order
  /// \throws format_error  if it is none
  array const& elements(std::string_view origin = "JSON") const {
    return get<array>(origin, "an array");
  }
  /// \brief The members of an object.
  /// \param[in] origin  what to call this in the text of errors
  /// \returns them, in order
  /// \throws format_error  if it is none
  object const& members(std::string_view origin = "JSON") const {
    return get<object>(origin, "an object");
  }

  /// \brief A member of an object.
  /// \param[in] name    its name
  /// \param[in] origin  what to call this object in the text of errors
  /// \returns its value, or a null pointer if there is no such member
  /// \throws format_error  if this is no object
  json_value const* find(std::string_view name, std::string_view origin = "JSON") const;
  /// \brief A member of an object.
  /// \param[in] name    its name
  /// \param[in] origin  what to call this object in the text of errors
  /// \returns its value
  /// \throws format_error  if this is no object, or there is no such member
  json_value const& at(std::string_view name, std::string_view origin = "JSON") const;

  /// Whether two values are equal: the same kinds, values and order.
  /// \param[in] other  the second
  /// \returns true if they are
  bool operator==(json_value const& other) const;

 private:
  template <class T>
  T const& get(std::string_view origin, std::string_view expected) const {
    constexpr std::string_view kinds[] = {"null",   "a truth value", "a whole number", "a number",
                                          "a text", "an array",      "an object"};
    auto const* const value = std::get_if<T>(&content_);
    if (value == nullptr)
      detail::throw_format(format_fault::member, origin, kinds[content_.index()], expected);
    return *value;
  }

  // In the order of json_kind.
  std::variant<std::monostate, bool, std::int64_t, double, std::string, array, object> content_;
};

/// A name and its value.
/// \ingroup io
struct json_member {
  std::string name;  ///< any text
  json_value value;  ///< its value

  /// Whether two members are equal.
  /// \param[in] other  the second
  /// \returns true if name and value are
  bool operator==(json_member const& other) const = default;
};

// Defined where json_member is complete, since they can destroy members.
inline json_value::json_value() = default;
inline json_value::json_value(bool value) : content_(value) {}
inline json_value::json_value(std::int64_t value) : content_(value) {}
inline json_value::json_value(int value) : content_(std::int64_t{value}) {}
inline json_value::json_value(double value) : content_(value) {}
inline json_value::json_value(std::string value) : content_(std::move(value)) {}
inline json_value::json_value(std::string_view value) : content_(std::string(value)) {}
inline json_value::json_value(char const* value) : content_(std::string(value)) {}
inline json_value::json_value(array value) : content_(std::move(value)) {}
inline json_value::json_value(object value) : content_(std::move(value)) {}

inline bool json_value::operator==(json_value const& other) const {
  return content_ == other.content_;
}

inline json_value const* json_value::find(std::string_view name, std::string_view origin) const {
  for (json_member const& m : members(origin)) {
    if (m.name == name) return &m.value;
  }
  return nullptr;
}

inline json_value const& json_value::at(std::string_view name, std::string_view origin) const {
  json_value const* const found = find(name, origin);
  if (found == nullptr)
    detail::throw_format(format_fault::member, origin, "no member " + detail::in_quotes(name),
                         "that member");
  return *found;
}

namespace detail {

// A name that an object has more than once, or a null pointer.
inline std::string const* repeated_name(json_value::object const& members) {
  std::vector<std::string const*> names;
  names.reserve(members.size());
  for (json_member const& m : members) names.push_back(&m.name);
  std::sort(names.begin(), names.end(), [](auto const* a, auto const* b) { return *a < *b; });
  auto const twice = std::adjacent_find(names.begin(), names.end(),
                                        [](auto const* a, auto const* b) { return *a == *b; });
  return twice == names.end() ? nullptr : *twice;
}

inline json_value read_value(json_cursor& from) {
  switch (from.peek()) {
    case json_kind::null:
      from.null();
      return {};
    case json_kind::boolean:
      return from.boolean();
    case json_kind::text: {
      std::string text;
      from.text(text);
      return text;
    }
    case json_kind::array: {
      json_value::array elements;
      from.begin_array();
      while (from.next_element()) elements.push_back(read_value(from));
      return elements;
    }
    case json_kind::object: {
      json_value::object members;
      std::string name;
      from.begin_object();
      while (from.next_member(name)) members.push_back({name, read_value(from)});
      if (std::string const* const twice = repeated_name(members); twice != nullptr)
        from.fail(format_fault::duplicate_name, "the name " + in_quotes(*twice) + " twice, before",
                  "every name once");
      return members;
    }
    default:
      break;
  }
  json_number const number = from.number();
  if (number.kind == json_kind::integer) return number.integer;
  return number.real;
}

}  // namespace detail

/// \brief Reads a JSON text.
/// \ingroup io
///
/// Strict, as json_cursor; in addition no object has a name twice, at any level.
/// \param[in] text       the whole text
/// \param[in] origin     where it comes from, for the text of errors
/// \param[in] max_depth  levels of arrays and objects, at most 1000
/// \returns the value
/// \throws format_error  if the text is anything else; the text names the byte
/// \par Cost
/// Memory of at most about 60 times the text, for brackets in brackets.
inline json_value read_json(std::string_view text, std::string_view origin = "JSON",
                            int max_depth = 64) {
  json_cursor from(text, origin, max_depth);
  json_value value = detail::read_value(from);
  from.finish();
  return value;
}

}  // namespace stiefelx
