// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Any bytes: refused with a format_error, or a checkpoint; then each of its entries is refused or
// read, and what was read is written and read again to the same bytes.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <stiefelx/io/checkpoint.hpp>

#include "expect.hpp"

namespace {

using stiefelx::checkpoint_reader;
using stiefelx::checkpoint_writer;
using stiefelx::index_t;

/// What save() returns, without an optimizer.
struct plain_state {
  struct array {
    std::string name, scalar;
    index_t rows = 0, cols = 0;
    std::vector<std::byte> bytes = {};
    bool operator==(array const&) const = default;
  };
  std::string optimizer = {};
  std::vector<array> arrays = {};
  bool operator==(plain_state const&) const = default;
};

// Whether a call reads, rather than refuses.
template <class Call>
bool reads(Call const& call) {
  try {
    call();
    return true;
  } catch (stiefelx::format_error const& error) {
    fuzz::expect(std::string_view(error.what()).size() < 1000, "the text of an error is short");
    return false;
  }
}

void check_state(checkpoint_reader const& from, std::string const& name) {
  plain_state state;
  if (!reads([&] { state = from.state<plain_state>(name); })) return;
  std::size_t all = 0;
  for (auto const& a : state.arrays) all += a.bytes.size();
  fuzz::expect(all <= from.file().tensors().back().end, "a state is no larger than its file");
  checkpoint_writer to;
  to.add_state(name, state);
  auto const written = to.bytes();
  checkpoint_reader const again{std::span<std::byte const>(written)};
  fuzz::expect(again.state<plain_state>(name) == state, "a state comes back");
}

void check_matrix(checkpoint_reader const& from, stiefelx::stored_tensor const& t) {
  auto const size = size_with_rows_as_columns(t.shape);
  std::vector<float> values(static_cast<std::size_t>(t.count()), 1.0F);
  stiefelx::matrix_ref<float> const m{values.data(), size.rows, size.cols, size.rows};
  bool const is_read = reads([&] { from.read(t.name, m); });
  fuzz::expect(is_read == (t.type == stiefelx::dtype::f32), "floats alone are read as floats");
  if (!is_read)
    fuzz::expect(values == std::vector<float>(values.size(), 1.0F), "nothing is changed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  auto const bytes = std::as_bytes(std::span(data, size));
  reads([&] {
    checkpoint_reader const from(bytes);
    for (auto const& [name, value] : from.file().metadata()) {
      auto const kind = [&, entry = std::string_view(name)](std::string_view word) {
        return entry.starts_with(word);
      };
      std::string const rest = name.substr(name.find(':') + 1);
      if (kind("state:")) check_state(from, rest);
      if (kind("text:")) fuzz::expect(from.text(rest) == value, "a text comes back");
      if (kind("number:")) {
        std::int64_t number = 0;
        if (reads([&] { number = from.number(rest); })) {
          checkpoint_writer to;
          to.add_number(rest, number);
          auto const written = to.bytes();
          fuzz::expect(
              checkpoint_reader(std::span<std::byte const>(written)).number(rest) == number,
              "a number comes back");
        }
      }
      if (kind("stream:")) reads([&] { from.stream(rest); });
    }
    for (auto const& t : from.file().tensors()) check_matrix(from, t);
  });
  return 0;
}
