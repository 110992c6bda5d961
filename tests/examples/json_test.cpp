// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "examples/support/json.hpp"

#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using example::json_writer;

template <class T>
std::string one(T const& value) {
  auto text = json_writer().value(value).text();
  BOOST_TEST(text.back() == '\n');
  text.pop_back();
  return text;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(json)

BOOST_AUTO_TEST_CASE(objects_and_arrays_nest) {
  json_writer json;
  json.begin_object().key("methods").begin_array();
  json.begin_object().member("name", "a").member("by_task", std::vector<double>{0.5, 0.25});
  json.key("none").null().end_object();
  json.begin_object().end_object();
  json.end_array().member("seeds", std::vector<int>{1, 2}).key("empty").begin_array().end_array();
  json.member("seconds", 1.5).end_object();
  BOOST_TEST(json.text() ==
             "{\n"
             "  \"methods\": [\n"
             "    {\n"
             "      \"name\": \"a\",\n"
             "      \"by_task\": [0.5, 0.25],\n"
             "      \"none\": null\n"
             "    },\n"
             "    {}\n"
             "  ],\n"
             "  \"seeds\": [1, 2],\n"
             "  \"empty\": [],\n"
             "  \"seconds\": 1.5\n"
             "}\n");
}

BOOST_AUTO_TEST_CASE(nested_arrays_are_separated) {
  json_writer json;
  json.begin_array().value(1).begin_array().value(2).end_array().value(3).end_array();
  BOOST_TEST(json.text() == "[1,\n  [2], 3\n]\n");
}

BOOST_AUTO_TEST_CASE(numbers_are_shortest_and_finite) {
  BOOST_TEST(one(0.1) == "0.1");
  BOOST_TEST(one(0.1f) == "0.1");
  BOOST_TEST(one(1e22) == "1e+22");
  BOOST_TEST(one(std::uint64_t{18446744073709551615u}) == "18446744073709551615");
  BOOST_TEST(one(-3) == "-3");
  BOOST_TEST(one(true) == "true");
  BOOST_TEST(one(false) == "false");
  BOOST_TEST(one(std::numeric_limits<double>::quiet_NaN()) == "null");
  BOOST_TEST(one(-std::numeric_limits<double>::infinity()) == "null");
  BOOST_TEST(one(std::numeric_limits<float>::infinity()) == "null");
  BOOST_TEST(one(std::optional<double>(2.5)) == "2.5");
  BOOST_TEST(one(std::optional<double>()) == "null");
}

BOOST_AUTO_TEST_CASE(text_is_escaped) {
  BOOST_TEST(one("plain") == "\"plain\"");
  BOOST_TEST(one(std::string("a\"b\\c/\n\x01\x1f\x7f")) ==
             "\"a\\\"b\\\\c/\\u000a\\u0001\\u001f\x7f\"");
  BOOST_TEST(one("\xC3\xA9\xFF") == "\"\xC3\xA9\xEF\xBF\xBD\"");
  json_writer json;
  json.begin_object().member("\"", 1).end_object();
  BOOST_TEST(json.text() == "{\n  \"\\\"\": 1\n}\n");
}

BOOST_AUTO_TEST_CASE(misuse_is_refused) {
  auto const refuses = [](auto&& use) { BOOST_CHECK_THROW(use(json_writer()), std::logic_error); };
  refuses([](json_writer j) { (void)j.text(); });
  refuses([](json_writer j) { (void)j.begin_array().text(); });
  refuses([](json_writer j) { j.value(1).value(2); });
  refuses([](json_writer j) { j.key("a"); });
  refuses([](json_writer j) { j.begin_array().key("a"); });
  refuses([](json_writer j) { j.begin_object().value(1); });
  refuses([](json_writer j) { j.begin_object().begin_array(); });
  refuses([](json_writer j) { j.begin_object().key("a").key("b"); });
  refuses([](json_writer j) { j.begin_object().key("a").end_object(); });
  refuses([](json_writer j) { j.begin_object().end_array(); });
  refuses([](json_writer j) { j.begin_array().end_object(); });
  refuses([](json_writer j) { j.end_array(); });
}

BOOST_AUTO_TEST_SUITE_END()
