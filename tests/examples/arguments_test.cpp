// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "examples/support/arguments.hpp"

#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/examples/temporary_folder.hpp"

namespace {

using example::usage_error;
using example_test::message_of;
using words = std::vector<std::string>;

struct settings {
  std::string folder = "here";
  bool quick = false;
  int threads = 2;
  std::uint64_t seed = 1;
};

example::argument_parser parser_for(settings& s) {
  example::argument_parser parser("train", "Trains something.");
  parser.add("--out", "DIR", "folder for the results", &s.folder);
  parser.add("--quick", "", "one seed, fewer steps", &s.quick);
  parser.add("--threads", "N",
             "threads to use, at least one, at most as many as fit a line and more", &s.threads,
             {.least = 1, .most = 64});
  parser.add("--seed", "N", "seed of the first run", &s.seed);
  return parser;
}

settings parsed(words const& arguments) {
  settings s;
  parser_for(s).parse(arguments);
  return s;
}

std::string complaint(words const& arguments) {
  return message_of<usage_error>([&] { parsed(arguments); });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(arguments)

BOOST_AUTO_TEST_CASE(without_arguments_nothing_changes) {
  auto const s = parsed({});
  BOOST_TEST(s.folder == "here");
  BOOST_TEST(!s.quick);
  BOOST_TEST(s.threads == 2);
  BOOST_TEST(s.seed == 1u);
}

BOOST_AUTO_TEST_CASE(values_may_be_attached_or_follow) {
  for (auto const& arguments : {words{"--out", "a b", "--quick", "--threads", "64", "--seed", "0"},
                                words{"--seed=0", "--threads=64", "--quick", "--out=a b"}}) {
    auto const s = parsed(arguments);
    BOOST_TEST(s.folder == "a b");
    BOOST_TEST(s.quick);
    BOOST_TEST(s.threads == 64);
    BOOST_TEST(s.seed == 0u);
  }
  BOOST_TEST(parsed({"--out=a=b"}).folder == "a=b");
  BOOST_TEST(parsed({"--out=--odd"}).folder == "--odd");
  BOOST_TEST(parsed({"--out", "-"}).folder == "-");
  BOOST_TEST(parsed({"--seed", "18446744073709551615"}).seed == 18446744073709551615u);
}

BOOST_AUTO_TEST_CASE(last_value_counts) {
  BOOST_TEST(parsed({"--seed", "3", "--seed=4"}).seed == 4u);
}

BOOST_AUTO_TEST_CASE(arguments_of_main_start_after_the_program) {
  settings s;
  char const* const argv[] = {"--seed", "--quick"};
  parser_for(s).parse(2, argv);
  BOOST_TEST(s.quick);
}

BOOST_AUTO_TEST_CASE(unknown_options_are_refused) {
  BOOST_TEST(complaint({"--qick"}) == "unknown option --qick");
  BOOST_TEST(complaint({"--ou=x"}) == "unknown option --ou");
  BOOST_TEST(complaint({"--"}) == "unknown option --");
  BOOST_TEST(complaint({"-q"}) == "unexpected argument '-q'");
  BOOST_TEST(complaint({"--quick", "yes"}) == "unexpected argument 'yes'");
}

BOOST_AUTO_TEST_CASE(missing_and_superfluous_values_are_refused) {
  BOOST_TEST(complaint({"--out"}) == "option --out needs a value: DIR");
  BOOST_TEST(complaint({"--out="}) == "option --out needs a value: DIR");
  BOOST_TEST(complaint({"--out", ""}) == "option --out needs a value: DIR");
  BOOST_TEST(complaint({"--out", "--quick"}) == "option --out needs a value: DIR");
  BOOST_TEST(complaint({"--quick=1"}) == "option --quick takes no value");
}

BOOST_AUTO_TEST_CASE(numbers_are_whole_and_in_range) {
  for (std::string const value : {"0", "65", "-1", "two", "2x", "1e1", "2.0", " 2", "+2", "0x2",
                                  "99999999999999999999", "2147483648"}) {
    BOOST_TEST(complaint({"--threads", value}) ==
               "option --threads needs a whole number from 1 to 64, not '" + value + "'");
  }
  for (std::string const value : {"-1", "18446744073709551616", "1.5"}) {
    BOOST_TEST(complaint({"--seed", value}) ==
               "option --seed needs a whole number from 0 to 18446744073709551615, not '" + value +
                   "'");
  }
}

BOOST_AUTO_TEST_CASE(range_of_an_int_is_that_of_its_type_if_none_is_given) {
  int number = 0;
  example::argument_parser parser("p", "s");
  parser.add("--n", "N", "a number", &number);
  parser.parse(words{"--n", "-2147483648"});
  BOOST_TEST(number == std::numeric_limits<int>::min());
  BOOST_TEST(message_of<usage_error>([&] { parser.parse(words{"--n=2147483648"}); }) ==
             "option --n needs a whole number from -2147483648 to 2147483647, not '2147483648'");
}

BOOST_AUTO_TEST_CASE(usage_lists_every_option_in_80_columns) {
  settings s;
  BOOST_TEST(parser_for(s).usage() ==
             "usage: train [options]\n"
             "Trains something.\n"
             "\n"
             "  --out DIR    folder for the results\n"
             "  --quick      one seed, fewer steps\n"
             "  --threads N  threads to use, at least one, at most as many as fit a line and\n"
             "               more\n"
             "  --seed N     seed of the first run\n");
}

BOOST_AUTO_TEST_CASE(list_is_split_and_checked) {
  words const choices{"lora", "moe-4", "full"};
  BOOST_TEST(example::parse_list("--methods", "full,lora", choices) == (words{"full", "lora"}),
             boost::test_tools::per_element());
  BOOST_TEST(example::parse_list("--methods", "moe-4", choices) == words{"moe-4"},
             boost::test_tools::per_element());
  auto const list_complaint = [&](std::string const& value) {
    return message_of<usage_error>([&] { example::parse_list("--methods", value, choices); });
  };
  for (std::string const word : {"rola", "LORA"}) {
    BOOST_TEST(list_complaint("full," + word) ==
               "option --methods knows lora, moe-4, full, not '" + word + "'");
  }
  for (std::string const value : {"", "full,", ",full", "full,,lora"}) {
    BOOST_TEST(list_complaint(value) == "option --methods knows lora, moe-4, full, not ''");
  }
  BOOST_TEST(list_complaint("full,lora,full") == "option --methods has 'full' twice");
}

BOOST_AUTO_TEST_SUITE_END()
