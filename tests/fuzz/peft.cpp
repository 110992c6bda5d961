// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An adapter_config.json up to the first zero byte and an adapter_model.safetensors behind it: refused
// with a format_error, or read; then the configuration is written and read again to equal values, and
// every module comes back in every way of reading it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <stiefelx/io/peft_folder.hpp>
#include <stiefelx/io/peft_writer.hpp>

#include "expect.hpp"

namespace {

using stiefelx::conversion;
using stiefelx::flat_layout;
using stiefelx::index_t;
using stiefelx::matrix_ref;
using stiefelx::peft_folder;
using stiefelx::peft_module;

bool same_numbers(double a, double b) { return a == b || (a != a && b != b); }

/// A column-major matrix of ones.
struct owned {
  owned(index_t rows, index_t cols)
      : memory(static_cast<std::size_t>(rows * cols), 1.0), view{memory.data(), rows, cols, rows} {}

  std::vector<double> memory;
  matrix_ref<double> view;
};

bool same(owned const& a, owned const& b) {
  return std::equal(a.memory.begin(), a.memory.end(), b.memory.begin(), same_numbers);
}

// The factors' rows as the file has them.
void read_raw(peft_folder const& folder, peft_module const& m, owned& down, owned& up) {
  std::string full = "base_model.model." + m.name;
  if (folder.file().find(full + ".lora_A.weight") == nullptr) full = m.name;
  folder.file().read_rows_as_columns(full + ".lora_A.weight", down.view, conversion::rounded);
  folder.file().read_rows_as_columns(full + ".lora_B.weight", up.view, conversion::rounded);
}

void check_config(stiefelx::peft_config const& config) {
  auto const again = stiefelx::read_peft_config(stiefelx::write_peft_config(config), "again",
                                                {.accept_changed_base = true});
  fuzz::expect(again.rank == config.rank && again.alpha == config.alpha &&
                   again.dropout == config.dropout && again.dora == config.dora &&
                   again.rank_stabilized == config.rank_stabilized,
               "numbers of a configuration come back");
  fuzz::expect(
      again.rank_pattern == config.rank_pattern && again.alpha_pattern == config.alpha_pattern &&
          again.base_model == config.base_model && again.target_modules == config.target_modules &&
          again.target_parameters == config.target_parameters &&
          again.initialization == config.initialization,
      "texts of a configuration come back");
  fuzz::expect(again.unknown.empty(), "nothing is written that is not understood");
}

void check_module(peft_folder const& folder, peft_module const& m) {
  fuzz::expect(&folder.at(m.name) == &m, "a name finds its module");
  fuzz::expect(folder.config().rank_of(m.name) > 0, "a module has a rank");
  fuzz::expect(m.rank % folder.config().rank_of(m.name) == 0, "a module has whole experts");
  index_t const experts = m.rank / folder.config().rank_of(m.name);
  fuzz::expect(experts > 0, "a module has an expert");
  owned down(m.d_in, m.rank), up(m.rank, m.d_out);
  read_raw(folder, m, down, up);
  {
    owned a(m.d_in, m.rank), b(m.rank, m.d_out);
    bool is_refused = false;
    try {
      folder.read(m.name, a.view, b.view, conversion::rounded);
    } catch (stiefelx::format_error const&) {
      is_refused = true;
    }
    fuzz::expect(is_refused == (experts > 1), "experts that are fused alone are not read as one");
    fuzz::expect(is_refused || (same(a, down) && same(b, up)), "factors are the file's numbers");
  }
  for (index_t const count : {index_t{1}, index_t{2}, index_t{3}, experts}) {
    owned a(m.d_in, m.rank), b(m.rank, m.d_out), c(m.rank, m.d_out);
    try {
      folder.read_flat_experts(m.name, count, flat_layout::rank_major, a.view, b.view,
                               conversion::rounded);
      folder.read_flat_experts(m.name, count, flat_layout::expert_major, a.view, c.view,
                               conversion::rounded);
    } catch (stiefelx::format_error const&) {
      auto const one = [](double x) { return x == 1.0; };
      // One of the two layouts may be refused, by what the file says, and then changes nothing.
      bool const first = std::all_of(b.memory.begin(), b.memory.end(), one);
      fuzz::expect(first || folder.file().metadata(stiefelx::flat_layout_entry(m.name)) != nullptr,
                   "a refused call changes nothing");
      fuzz::expect(count != experts || !first ||
                       folder.file().metadata(stiefelx::flat_layout_entry(m.name)) != nullptr,
                   "as many experts as there are can be read");
      continue;
    }
    fuzz::expect(count == experts, "no other number of experts is read");
    stiefelx::reorder_flat_experts(count, false, b.view);
    fuzz::expect(std::equal(b.memory.begin(), b.memory.end(), c.memory.begin(), same_numbers),
                 "the layouts are permutations of each other");
    fuzz::expect(same(c, up) && same(a, down), "both ways of reading have the same numbers");
  }
  if (m.magnitude) {
    owned magnitude(1, m.d_out);
    folder.read_magnitude(m.name, magnitude.view, conversion::rounded);
  }
  // Names that end in a number are experts.
  if (m.name.ends_with('0') && m.rank <= 4096 && m.d_in * m.d_out > 0) {
    std::string const prefix = m.name.substr(0, m.name.size() - 1);
    for (conversion const how : {conversion::exact, conversion::rounded}) {
      owned a(m.d_in, 2 * m.rank), b(2 * m.rank, m.d_out);
      try {
        folder.read_experts(prefix, 2, a.view, b.view, how);
      } catch (stiefelx::format_error const&) {
        fuzz::expect(a.memory == owned(m.d_in, 2 * m.rank).memory &&
                         b.memory == owned(2 * m.rank, m.d_out).memory,
                     "a refused call changes nothing");
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const all(reinterpret_cast<char const*>(data), size);
  std::size_t const zero = std::min(all.find('\0'), size);
  auto const bytes = std::as_bytes(std::span(data, size)).subspan(std::min(zero + 1, size));
  bool is_read = false;
  try {
    check_config(stiefelx::read_peft_config(all.substr(0, zero), "adapter_config.json",
                                            {.accept_changed_base = true}));
    peft_folder const folder(all.substr(0, zero), bytes);
    is_read = true;
    std::size_t parts = folder.others().size();
    for (peft_module const& m : folder.modules()) {
      parts += m.magnitude ? 3 : 2;
      check_module(folder, m);
    }
    fuzz::expect(parts == folder.file().tensors().size(), "every tensor is a factor or named");
  } catch (stiefelx::format_error const& error) {
    fuzz::expect(!is_read, "what is accepted is read");
    fuzz::expect(std::string_view(error.what()).size() < 1000, "the text of an error is short");
  }
  return 0;
}
