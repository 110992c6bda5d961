// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// adapter_config.json: patterns, names of modules, and options that are refused.

#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <io/files.hpp>
#include <stiefelx/io/peft_config.hpp>

namespace {

using io_test::expect_fault;
using stiefelx::format_fault;

stiefelx::peft_config of_json(std::string const& members, stiefelx::peft_options options = {}) {
  return stiefelx::read_peft_config(
      R"({"peft_type":"LORA","r":4,"lora_alpha":8,"target_modules":["q"])" + members + "}",
      "c.json", options);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(peft_config)

BOOST_AUTO_TEST_CASE(patterns_name_ends_of_names) {
  auto const c = of_json(R"(,"rank_pattern":{"up":2,"^a.down":3},"alpha_pattern":{"x.q":2.5})");
  BOOST_TEST(c.rank_of("layers.0.up") == 2);
  BOOST_TEST(c.rank_of("up") == 2);
  BOOST_TEST(c.rank_of("layers.0.setup") == 4);
  BOOST_TEST(c.rank_of("a.down") == 3);
  BOOST_TEST(c.rank_of("b.a.down") == 4);
  BOOST_TEST(c.alpha_of("x.q") == 2.5);
  BOOST_TEST(c.alpha_of("q") == 8);
}

BOOST_AUTO_TEST_CASE(an_expression_for_modules_stays_one) {
  auto const of = [](char const* modules) {
    return stiefelx::read_peft_config(R"({"peft_type":"LORA","r":4,"target_modules":)" +
                                      std::string(modules) + "}");
  };
  for (auto const& [modules, is_expression] :
       {std::pair{R"(".*\\.(q|k)_proj")", true}, std::pair{R"(["q_proj"])", false}}) {
    auto const c = of(modules);
    BOOST_TEST(c.target_is_expression == is_expression);
    BOOST_TEST((stiefelx::write_peft_config(c).find(std::string("\"target_modules\":") + modules) !=
                std::string::npos));
  }
}

BOOST_AUTO_TEST_CASE(unknown_names_are_listed_and_options_that_change_the_meaning_are_refused) {
  BOOST_TEST(of_json(R"(,"newest_option":1)").unknown == std::vector<std::string>{"newest_option"},
             boost::test_tools::per_element());
  struct refused {
    char const* members;
    char const* named;
  };
  for (auto const& [members, named] :
       {refused{R"(,"bias":"all")", "bias 'all'"}, refused{R"(,"lora_bias":true)", "lora_bias"},
        refused{R"(,"layer_replication":[[0,4]])", "layer_replication"},
        refused{R"(,"modules_to_save":["head"])", "modules_to_save"},
        refused{R"(,"use_qalora":true)", "use_qalora"},
        refused{R"(,"init_lora_weights":"pissa")", "changed the base weights"},
        refused{R"(,"rank_pattern":{"q|k":2})", "not an expression"},
        refused{R"(,"rank_pattern":{"q":0})", "rank_pattern 0"},
        refused{R"(,"lora_dropout":1.5)", "lora_dropout"},
        refused{R"(,"use_dora":1)", "true or false"}})
    expect_fault(format_fault::member, named, [&, m = members] { of_json(m); });
  BOOST_TEST(
      of_json(R"(,"init_lora_weights":"pissa")", {.accept_changed_base = true}).initialization ==
      "pissa");
  BOOST_TEST(of_json(R"(,"init_lora_weights":"gaussian")").initialization == "gaussian");
  // What is written again is refused for the same reason.
  expect_fault(format_fault::member, "changed the base weights", [] {
    stiefelx::read_peft_config(stiefelx::write_peft_config(
        of_json(R"(,"init_lora_weights":"pissa")", {.accept_changed_base = true})));
  });
  expect_fault(format_fault::member, "peft_type 'LOHA'",
               [] { stiefelx::read_peft_config(R"({"peft_type":"LOHA","r":4})"); });
  expect_fault(format_fault::member, "no r",
               [] { stiefelx::read_peft_config(R"({"peft_type":"LORA"})"); });
  expect_fault(format_fault::member, "r 0",
               [] { stiefelx::read_peft_config(R"({"peft_type":"LORA","r":0})"); });
}

BOOST_AUTO_TEST_SUITE_END()
