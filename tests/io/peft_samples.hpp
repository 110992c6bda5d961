// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <vector>

#include "safetensors_samples.hpp"

/// PEFT folders as one text each: adapter_config.json, a zero byte, adapter_model.safetensors.
namespace io_test {

inline std::string peft_text(std::string const& members, std::string const& tensors) {
  return R"({"peft_type":"LORA","r":2)" + members + "}" + '\0' + tensors;
}

/// Factors of one module, A of 2 x 3 and B of 2 x 2 numbers of one byte, then what is added.
inline std::string peft_factors(std::string const& module, std::string const& more = "",
                                std::size_t more_bytes = 0) {
  return safetensors(
      "{" + tensor("base_model.model." + module + ".lora_A.weight", "I8", "2,3", "0,6") + "," +
          tensor("base_model.model." + module + ".lora_B.weight", "I8", "2,2", "6,10") + more + "}",
      10 + more_bytes);
}

inline std::vector<sample> sound_peft() {
  std::string const two = "{" + tensor("base_model.model.e.0.lora_A.weight", "I8", "2,1", "0,2") +
                          "," + tensor("base_model.model.e.0.lora_B.weight", "I8", "1,2", "2,4") +
                          "," + tensor("base_model.model.e.1.lora_A.weight", "I8", "2,1", "4,6") +
                          "," + tensor("base_model.model.e.1.lora_B.weight", "I8", "1,2", "6,8") +
                          "}";
  return {
      {"plain",
       peft_text(R"(,"lora_alpha":6,"lora_dropout":0.5,"target_modules":["q"])", peft_factors("q")),
       {}},
      {"router",
       peft_text(R"(,"use_rslora":true,"alpha_pattern":{"^q":2.5})",
                 peft_factors("q", "," + tensor("gate", "U8", "1", "10,11"), 1)),
       {}},
      {"magnitude",
       peft_text(
           R"(,"use_dora":true,"base_model_name_or_path":"b")",
           peft_factors(
               "q", "," + tensor("base_model.model.q.lora_magnitude_vector", "I8", "2", "10,12"),
               2)),
       {}},
      {"fused",
       peft_text(R"(,"target_parameters":["e.up"],"rank_pattern":{"e":1})", peft_factors("e")),
       {}},
      {"fused_with_layout",
       peft_text(R"(,"target_parameters":["e.up"],"rank_pattern":{"e":1})",
                 peft_factors("e", R"(,"__metadata__":{"flat_layout:e":"rank_major"})")),
       {}},
      // Three experts of rank 2: the smallest whose two orders are no swap of each other.
      {"fused_of_three",
       peft_text(R"(,"target_parameters":["e.up"])",
                 safetensors("{" + tensor("e.lora_A.weight", "I8", "6,1", "0,6") + "," +
                                 tensor("e.lora_B.weight", "I8", "1,6", "6,12") + "}",
                             12)),
       {}},
      {"fused_by_the_end_of_a_name",
       peft_text(R"(,"target_parameters":["e.up","e.down"],"rank_pattern":{"e":1})",
                 peft_factors("m.e.base_layer")),
       {}},
      {"fused_in_any_module",
       peft_text(R"(,"target_parameters":["up"],"rank_pattern":{"e":1})", peft_factors("e")),
       {}},
      {"experts", peft_text("", safetensors(two, 8)), {}},
      // The second expert's lora_A has values that no double may have.
      {"experts_of_two_types",
       peft_text("", safetensors("{" + tensor("e.0.lora_A.weight", "I8", "2,1", "0,2") + "," +
                                     tensor("e.0.lora_B.weight", "I8", "1,2", "2,4") + "," +
                                     tensor("e.1.lora_A.weight", "I64", "2,1", "4,20") + "," +
                                     tensor("e.1.lora_B.weight", "I8", "1,2", "20,22") + "}",
                                 22)),
       {}},
      {"expression", peft_text(R"(,"target_modules":".*[qk]")", peft_factors("q")), {}},
  };
}

inline std::vector<sample> hostile_peft() {
  using enum format_fault;
  std::string const none = safetensors("{}", 0);
  auto const factors = [](std::string const& a, std::string const& b) {
    return safetensors("{" + tensor("q.lora_A.weight", "I8", a, "0,0") + "," +
                           tensor("q.lora_B.weight", "I8", b, "0,0") + "}",
                       0);
  };
  auto const magnitude = [](std::string const& ending, std::string const& bytes) {
    return tensor("base_model.model.q.lora_magnitude_vector" + ending, "I8", "2", bytes);
  };
  return {
      {"another_type", R"({"peft_type":"MIXLORA","r":2})" + std::string(1, '\0') + none, member},
      {"no_rank", R"({"peft_type":"LORA"})" + std::string(1, '\0') + none, member},
      {"rank_0", peft_text(R"(,"rank_pattern":{"q":0})", none), member},
      {"rank_negative", peft_text(R"(,"rank_pattern":{"":-1})", none), member},
      {"rank_with_a_point", peft_text(R"(,"rank_pattern":{"q":2.0})", none), member},
      {"rank_twice", peft_text(R"(,"r":3)", none), duplicate_name},
      {"expression_for_alpha", peft_text(R"(,"alpha_pattern":{"^^q":2})", none), member},
      {"dropout_1", peft_text(R"(,"lora_dropout":1)", none), member},
      {"bias", peft_text(R"(,"bias":"all")", none), member},
      {"layers_copied", peft_text(R"(,"layer_replication":[[0,4],[2,5]])", none), member},
      {"pissa", peft_text(R"(,"init_lora_weights":"pissa_niter_4")", none), member},
      {"modules_as_numbers", peft_text(R"(,"target_modules":[1])", none), member},
      {"no_module", peft_text("", none), missing_tensor},
      {"no_module_beside_a_router",
       peft_text("", safetensors("{" + tensor("gate", "U8", "1", "0,1") + "}", 1)), missing_tensor},
      {"embedding",
       peft_text(
           "",
           peft_factors(
               "q", "," + tensor("base_model.model.e.lora_embedding_A", "I8", "2", "10,12"), 2)),
       name},
      {"name_of_the_adapter",
       peft_text("",
                 peft_factors("q", "," + tensor("k.lora_A.default.weight", "I8", "2", "10,12"), 2)),
       name},
      {"bias_of_a_factor",
       peft_text(
           "", peft_factors("q", "," + tensor("base_model.model.q.lora_B.bias", "I8", "2", "10,12"),
                            2)),
       name},
      {"fused_of_rank_0", peft_text(R"(,"target_parameters":["q.up"])", factors("0,5", "3,0")),
       shape},
      {"no_tensors", peft_text("", ""), truncated},
      {"rank_of_the_tensors", peft_text("", factors("3,0", "0,3")), shape},
      {"rank_that_is_too_large", peft_text("", factors("9007199254740992,0", "0,9007199254740992")),
       shape},
      {"three_dimensions", peft_text("", factors("2,0,1", "0,2")), shape},
      {"no_up",
       peft_text("", safetensors("{" + tensor("q.lora_A.weight", "I8", "2,0", "0,0") + "}", 0)),
       shape},
      {"two_magnitudes",
       peft_text(R"(,"use_dora":true)",
                 peft_factors(
                     "q", "," + magnitude("", "10,12") + "," + magnitude(".weight", "12,14"), 4)),
       shape},
      // Rank 4 under r 2, beside a target parameter of another module.
      {"another_module_is_fused",
       peft_text(R"(,"target_parameters":["e.up"],"rank_pattern":{"q":1})", peft_factors("q")),
       shape},
      {"alpha_of_one_fused_parameter",
       peft_text(R"(,"target_parameters":["e.up"],"rank_pattern":{"e":1},"alpha_pattern":{"up":2})",
                 peft_factors("e")),
       shape},
      {"an_end_within_a_word",
       peft_text(R"(,"target_parameters":["q.up"],"rank_pattern":{"aq":1})", peft_factors("aq")),
       shape},
      {"magnitudes_missing", peft_text(R"(,"use_dora":true)", peft_factors("q")), shape},
  };
}

}  // namespace io_test
