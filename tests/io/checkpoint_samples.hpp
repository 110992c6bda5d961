// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <vector>

#include "safetensors_samples.hpp"

namespace io_test {

/// A checkpoint with metadata, tensors and as many bytes of data.
inline std::string checkpoint_text(std::string const& metadata, std::string const& tensors = "",
                                   std::size_t byte_count = 0) {
  return safetensors(R"({"__metadata__":{"stiefelx.format":"1")" + metadata + "}" + tensors + "}",
                     byte_count);
}

/// The entry of a state.
inline std::string state_text(std::string const& json) { return R"(,"state:s":")" + json + "\""; }

inline std::vector<sample> sound_checkpoint() {
  std::string const state =
      state_text(R"({\"optimizer\":\"adam\",\"arrays\":[\"m\",\"z\",\"n\"]})");
  return {
      {"nothing", checkpoint_text(""), {}},
      {"matrix", checkpoint_text("", "," + tensor("x", "F32", "2,1", "0,8"), 8), {}},
      {"state",
       checkpoint_text(state,
                       "," + tensor("s/m", "F32", "1,2", "0,8") + "," +
                           tensor("s/z", "F64", "1,1,2", "8,24") + "," +
                           tensor("s/n", "I32", "1,1", "24,28"),
                       28),
       {}},
      {"counters",
       checkpoint_text(
           R"(,"stream:d":"9 18446744073709551615","number:n":"-7","text:t":"e\u00e9")"),
       {}},
  };
}

/// Checkpoints that are refused when they are opened, or when state s, stream d or number n is read.
inline std::vector<sample> hostile_checkpoint() {
  using enum format_fault;
  std::string const m = "," + tensor("s/m", "F32", "1,1", "0,4");
  auto const state = [&](std::string const& json) {
    return checkpoint_text(state_text(json), m, 4);
  };
  return {
      {"no_format", safetensors("{}", 0), version},
      {"format_2", safetensors(R"({"__metadata__":{"stiefelx.format":"2"}})", 0), version},
      {"state_no_json", state("x"), syntax},
      {"state_too_deep", state("[[[[[[]]]]]]"), too_deep},
      {"state_without_arrays", state(R"({\"optimizer\":\"o\"})"), member},
      {"state_of_a_number", state(R"({\"optimizer\":1,\"arrays\":[]})"), member},
      {"state_without_its_array", state(R"({\"optimizer\":\"o\",\"arrays\":[\"x\"]})"),
       missing_tensor},
      {"state_with_an_array_twice", state(R"({\"optimizer\":\"o\",\"arrays\":[\"m\",\"m\"]})"),
       duplicate_name},
      {"state_of_bytes",
       checkpoint_text(state_text(R"({\"optimizer\":\"o\",\"arrays\":[\"m\"]})"),
                       "," + tensor("s/m", "U8", "1,1", "0,1"), 1),
       dtype},
      {"state_of_a_vector",
       checkpoint_text(state_text(R"({\"optimizer\":\"o\",\"arrays\":[\"m\"]})"),
                       "," + tensor("s/m", "F32", "1", "0,4"), 4),
       shape},
      {"stream_of_one_number", checkpoint_text(R"(,"stream:d":"9")"), number},
      {"number_that_is_too_large", checkpoint_text(R"(,"number:n":"9223372036854775808")"), number},
  };
}

}  // namespace io_test
