// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <locale>
#include <random>
#include <string>
#include <string_view>

#include <boost/test/unit_test.hpp>

#include <stiefelx/io/json.hpp>
#include <stiefelx/io/json_writer.hpp>

#include "files.hpp"
#include "json_samples.hpp"

namespace {

using namespace io_test;
using stiefelx::json_kind;
using stiefelx::json_member;
using stiefelx::json_value;
using stiefelx::read_json;
using stiefelx::write_json;

/// Groups digits and has a decimal comma, as many languages do.
struct grouping : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(json)

BOOST_AUTO_TEST_CASE(values_are_those_of_the_text) {
  auto const v = read_json(
      "{\"r\": 16, \"alpha\": 1.5, \"bias\": \"none\", \"on\": true, \"off\": false, \"no\": null, "
      "\"list\": [1, \"two\", [], {}]}");
  BOOST_TEST(v.at("r").integer() == 16);
  BOOST_TEST(v.at("r").number() == 16.0);
  BOOST_TEST(v.at("alpha").number() == 1.5);
  BOOST_TEST(v.at("bias").text() == "none");
  BOOST_TEST(v.at("on").boolean());
  BOOST_TEST(!v.at("off").boolean());
  BOOST_TEST(v.at("no").is_null());
  BOOST_TEST(v.at("list").elements().size() == 4U);
  BOOST_TEST(v.at("list").elements()[1].text() == "two");
  BOOST_TEST(v.find("other") == nullptr);
  expect_fault(format_fault::member, "other", [&] { v.at("other"); });
  expect_fault(format_fault::member, "a whole number", [&] { v.at("alpha").integer(); });
  expect_fault(format_fault::member, "an object", [&] { v.at("r").find("x"); });
}

BOOST_AUTO_TEST_CASE(members_keep_the_order_of_the_document) {
  auto const v = read_json("{\"z\":1,\"a\":2,\"m\":3}");
  std::string order;
  for (json_member const& m : v.members()) order += m.name;
  BOOST_TEST(order == "zam");
}

BOOST_AUTO_TEST_CASE(escapes_and_surrogates_become_characters) {
  BOOST_TEST(read_json("\"\\u0041\\u00e9\\u20AC\\ud83d\\uDE00\"").text() ==
             "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  BOOST_TEST(read_json("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"").text() == "\"\\/\b\f\n\r\t");
  BOOST_TEST(read_json("\"\\u0000\"").text() == std::string(1, '\0'));
  BOOST_TEST(read_json("\"\\udbff\\udfff\"").text() == "\xF4\x8F\xBF\xBF");
}

BOOST_AUTO_TEST_CASE(whole_numbers_are_exact_up_to_2_to_53) {
  BOOST_TEST(read_json("9007199254740992").integer() == std::int64_t{1} << 53);
  BOOST_TEST(read_json("9007199254740991").integer() == (std::int64_t{1} << 53) - 1);
  BOOST_TEST(read_json("-9007199254740992").integer() == -(std::int64_t{1} << 53));
  BOOST_TEST((read_json("-0").kind() == json_kind::number));
  BOOST_TEST(std::signbit(read_json("-0").number()));
  BOOST_TEST((read_json("1.0").kind() == json_kind::number));
  BOOST_TEST((read_json("1e0").kind() == json_kind::number));
}

BOOST_AUTO_TEST_CASE(doubles_come_back_to_the_bit) {
  std::mt19937_64 draw(3);
  for (int i = 0; i < 20000; ++i) {
    std::uint64_t const bits = draw();
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    double const back = read_json(write_json(value)).number();
    if (std::memcmp(&back, &value, sizeof value) != 0)
      BOOST_ERROR(value << " comes back as " << back);
  }
  using limits = std::numeric_limits<double>;
  for (double const value :
       {0.0, -0.0, 1.0, 1e22, limits::max(), limits::min(), limits::denorm_min()}) {
    auto const back = read_json(write_json(value));
    BOOST_TEST((back.kind() == json_kind::number));
    BOOST_TEST(back.number() == value);
    BOOST_TEST(std::signbit(back.number()) == std::signbit(value));
  }
}

BOOST_AUTO_TEST_CASE(the_locale_changes_nothing) {
  json_value const v = json_value::array{1234567, 1234567.5, std::int64_t{1} << 53};
  std::string const expected = "[1234567,1234567.5,9007199254740992]";
  auto const before = std::locale::global(std::locale(std::locale(), new grouping));
  std::string const text = write_json(v);
  bool const equal = read_json(text) == v;
  std::locale::global(before);
  BOOST_TEST(text == expected);
  BOOST_TEST(equal);
}

BOOST_AUTO_TEST_CASE(what_is_written_is_read_again) {
  for (sample const& s : sound_json()) {
    BOOST_TEST_CONTEXT(s.bytes) {
      auto const v = read_json(s.bytes);
      BOOST_TEST((read_json(write_json(v)) == v));
      BOOST_TEST((read_json(write_json(v, 2)) == v));
    }
  }
  json_value const v =
      json_value::object{{"a", json_value::array{1, "x"}}, {"b", json_value::array{}}};
  BOOST_TEST(write_json(v) == "{\"a\":[1,\"x\"],\"b\":[]}");
  BOOST_TEST(write_json(v, 2) == "{\n  \"a\": [\n    1,\n    \"x\"\n  ],\n  \"b\": []\n}");
  BOOST_TEST(write_json("\"\\\n\x01\x7F\xC3\xA9") == "\"\\\"\\\\\\n\\u0001\\u007f\xC3\xA9\"");
}

BOOST_AUTO_TEST_CASE(what_json_cannot_hold_is_not_written) {
  expect_fault(format_fault::number, "finite", [] { write_json(INFINITY); });
  expect_fault(format_fault::number, "finite", [] { write_json(json_value::array{NAN}); });
  expect_fault(format_fault::number, "2^53", [] { write_json((std::int64_t{1} << 53) + 1); });
  expect_fault(format_fault::not_utf8, "UTF-8", [] { write_json("\xFF"); });
  expect_fault(format_fault::duplicate_name, "'a'",
               [] { write_json(json_value::object{{"a", 1}, {"b", 2}, {"a", 3}}); });
}

BOOST_AUTO_TEST_CASE(every_text_that_is_not_json_is_refused) {
  for (sample const& s : hostile_json()) {
    BOOST_TEST_CONTEXT(s.name) {
      expect_fault(s.fault, "JSON", [&] { read_json(s.bytes); });
    }
  }
}

BOOST_AUTO_TEST_CASE(every_beginning_of_a_text_is_refused) {
  std::string const text = named(sound_json(), "sound_18").bytes;
  for (std::size_t k = 0; k < text.size(); ++k) {
    BOOST_TEST_CONTEXT(k) {
      BOOST_CHECK_THROW(read_json(std::string_view(text).substr(0, k)), stiefelx::format_error);
    }
  }
}

BOOST_AUTO_TEST_CASE(depth_is_what_the_caller_allows) {
  std::string const deep = std::string(64, '[') + std::string(64, ']');
  BOOST_CHECK_NO_THROW(read_json(deep));
  BOOST_CHECK_NO_THROW(read_json("1", "JSON", 0));
  expect_fault(format_fault::too_deep, "at most 0", [] { read_json("[]", "JSON", 0); });
  expect_fault(format_fault::too_deep, "at most 4", [] { read_json("[[],[[[[]]]]]", "JSON", 4); });
  BOOST_CHECK_NO_THROW(read_json("[[],[[[]]],[]]", "JSON", 4));
  BOOST_CHECK_THROW(read_json("1", "JSON", 1001), stiefelx::option_error);
}

BOOST_AUTO_TEST_CASE(errors_name_the_file_and_the_byte) {
  expect_fault(format_fault::syntax, "adapter_config.json: '}' at byte 5, expected a value",
               [] { read_json("{\"a\":}", "adapter_config.json"); });
  auto const v = read_json("{\"r\":\"16\"}");
  expect_fault(format_fault::member, "a.json, r: a text, expected a whole number",
               [&] { v.at("r").integer("a.json, r"); });
  expect_fault(format_fault::member, "a.json: no member 'x', expected that member",
               [&] { v.at("x", "a.json"); });
  expect_fault(format_fault::member, "a.json: a text, expected an object",
               [&] { v.at("r").find("x", "a.json"); });
}

BOOST_AUTO_TEST_SUITE_END()
