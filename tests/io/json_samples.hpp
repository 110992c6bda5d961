// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <vector>

#include "samples.hpp"

namespace io_test {

inline std::vector<sample> sound_json() {
  std::vector<sample> all;
  for (char const* text :
       {"null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "9007199254740992",
        "-9007199254740992",
        "1.5",
        "-0.0",
        "1e300",
        "5e-324",
        "1E+2",
        "0.1",
        "\"\"",
        "[]",
        "{}",
        " [ 1 , 2 ] \n",
        "{\"a\":{\"b\":[null,true,{}]},\"\":\"\\ud83d\\ude00\\u0000\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
        "\"\xF0\x9F\x98\x80\xC3\xA9\xE2\x82\xAC\"",
        "{\"r\":16,\"lora_alpha\":32,\"target_modules\":[\"q_proj\",\"v_proj\"],\"bias\":"
        "\"none\"}"})
    all.push_back({"sound_" + std::to_string(all.size()), text, {}});
  return all;
}

inline std::vector<sample> hostile_json() {
  using enum format_fault;
  return {
      {"nothing", "", syntax},
      {"byte_order_mark", "\xEF\xBB\xBF{}", syntax},
      {"two_values", "1 2", syntax},
      {"comma_at_the_end_of_an_array", "[1,]", syntax},
      {"comma_at_the_end_of_an_object", "{\"a\":1,}", syntax},
      {"comma_at_the_beginning", "[,1]", syntax},
      {"no_comma", "[1 2]", syntax},
      {"no_colon", "{\"a\" 1}", syntax},
      {"name_without_quotes", "{a:1}", syntax},
      {"single_quotes", "{'a':1}", syntax},
      {"comment", "[1/**/]", syntax},
      {"bracket_not_closed", "[[1]", syntax},
      {"wrong_bracket", "[1}", syntax},
      {"leading_zero", "01", syntax},
      {"negative_leading_zero", "-01", syntax},
      {"plus", "+1", syntax},
      {"minus_alone", "-", syntax},
      {"point_at_the_end", "1.", syntax},
      {"point_at_the_beginning", ".5", syntax},
      {"no_exponent", "1e", syntax},
      {"no_exponent_after_its_sign", "1e+", syntax},
      {"hexadecimal", "0x10", syntax},
      {"not_a_number", "NaN", syntax},
      {"infinity", "-Infinity", syntax},
      {"word_cut_off", "tru", syntax},
      {"word_too_long", "nulls", syntax},
      {"whole_number_beyond_2_to_53", "9007199254740993", number},
      {"whole_number_below_2_to_53", "-9007199254740993", number},
      {"whole_number_of_many_digits", std::string(400, '7'), number},
      {"number_beyond_double", "1e999", number},
      {"number_below_double", "1e-999", number},
      {"duplicate_name", "{\"a\":1,\"a\":1}", duplicate_name},
      {"duplicate_name_inside", "[[{\"b\":1,\"a\":1,\"b\":1}]]", duplicate_name},
      {"duplicate_name_by_escape", "{\"a\":1,\"\\u0061\":1}", duplicate_name},
      {"quote_not_closed", "\"a", syntax},
      {"escape_cut_off", "\"\\", syntax},
      {"unknown_escape", "\"\\x41\"", syntax},
      {"escape_of_three_digits", "\"\\u041\"", syntax},
      {"escape_with_a_sign", "\"\\u+041\"", syntax},
      {"line_end_in_a_text", "\"a\nb\"", syntax},
      {"low_surrogate_alone", "\"\\udc00\"", not_utf8},
      {"high_surrogate_alone", "\"\\ud800\"", not_utf8},
      {"high_surrogate_before_a_letter", "\"\\ud800\\u0041\"", not_utf8},
      {"two_high_surrogates", "\"\\ud800\\ud800\"", not_utf8},
      {"stray_continuation", "\"\x80\"", not_utf8},
      {"overlong_slash", "\"\xC0\xAF\"", not_utf8},
      {"overlong_three_bytes", "\"\xE0\x80\xAF\"", not_utf8},
      {"overlong_four_bytes", "\"\xF0\x80\x80\xAF\"", not_utf8},
      {"encoded_surrogate", "\"\xED\xA0\x80\"", not_utf8},
      {"above_the_last_character", "\"\xF4\x90\x80\x80\"", not_utf8},
      {"byte_of_no_character", "\"\xFF\"", not_utf8},
      {"character_cut_off", "\"\xE2\x82\"", not_utf8},
      {"too_deep", std::string(65, '[') + std::string(65, ']'), too_deep},
      {"far_too_deep", std::string(100000, '['), too_deep},
      {"too_deep_in_objects",
       [] {
         std::string text;
         for (int i = 0; i < 65; ++i) text += "{\"a\":";
         return text;
       }(),
       too_deep},
  };
}

}  // namespace io_test
