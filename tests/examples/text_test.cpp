// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "examples/support/text.hpp"

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <limits>
#include <string>

using namespace example;

BOOST_AUTO_TEST_SUITE(text)

BOOST_AUTO_TEST_CASE(shortest_number_gives_the_same_bits_back) {
  BOOST_TEST(to_shortest(0.1) == "0.1");
  BOOST_TEST(to_shortest(0.1f) == "0.1");
  BOOST_TEST(to_shortest(1.0) == "1");
  for (double const value :
       {1.0 / 3, 1e22, -4.9e-324, std::numeric_limits<double>::max(), 123456789.125}) {
    BOOST_TEST(std::strtod(to_shortest(value).c_str(), nullptr) == value);
  }
}

BOOST_AUTO_TEST_CASE(fixed_number_is_rounded_and_never_negative_zero) {
  BOOST_TEST(to_fixed(1.005, 1) == "1.0");
  BOOST_TEST(to_fixed(-2.75, 1) == "-2.8");
  BOOST_TEST(to_fixed(-0.001, 2) == "0.00");
  BOOST_TEST(to_fixed(-0.0, 0) == "0");
  BOOST_TEST(to_fixed(-std::numeric_limits<double>::max(), 17).size() == 1u + 309 + 1 + 17);
}

BOOST_AUTO_TEST_CASE(other_forms_have_the_digits_asked_for) {
  BOOST_TEST(to_scientific(0.0081, 1) == "8.1e-03");
  BOOST_TEST(to_significant(1234567.0, 3) == "1.23e+06");
  BOOST_TEST(to_significant(0.5, 3) == "0.5");
}

BOOST_AUTO_TEST_CASE(valid_utf8_stays_as_it_is) {
  std::string const good = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xED\x9F\xBF\xF4\x8F\xBF\xBF";
  BOOST_TEST(valid_utf8(good) == good);
}

BOOST_AUTO_TEST_CASE(ill_formed_bytes_are_replaced) {
  std::string const sign = "\xEF\xBF\xBD";
  BOOST_TEST(valid_utf8("a\xFFz") == "a" + sign + "z");
  BOOST_TEST(valid_utf8("\xC3") == sign);
  BOOST_TEST(valid_utf8("\x80z") == sign + "z");
  BOOST_TEST(valid_utf8("\xC3z") == sign + "z");
  BOOST_TEST(valid_utf8("\xC0\x80") == sign + sign);
  BOOST_TEST(valid_utf8("\xE0\x80\x80") == sign + sign + sign);
  BOOST_TEST(valid_utf8("\xED\xA0\x80") == sign + sign + sign);
  BOOST_TEST(valid_utf8("\xF4\x90\x80\x80") == sign + sign + sign + sign);
  BOOST_TEST(valid_utf8("\xF8\x90\x80\x80") == sign + sign + sign + sign);
  BOOST_TEST(valid_utf8("\xF5\x80\x80\x80") == sign + sign + sign + sign);
}

BOOST_AUTO_TEST_SUITE_END()
