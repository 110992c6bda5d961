// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <stiefelx/io/format_error.hpp>

/// Files in memory: sound ones, and ones with a defect each. Tests read them, and fuzzers start with
/// them.
namespace io_test {

using stiefelx::format_fault;

struct sample {
  std::string name;
  std::string bytes;
  format_fault fault{};  ///< of a defect
};

/// The sample of a name.
inline sample const& named(std::vector<sample> const& all, std::string_view name) {
  for (sample const& s : all) {
    if (s.name == name) return s;
  }
  throw std::logic_error("no sample " + std::string(name));
}

}  // namespace io_test
