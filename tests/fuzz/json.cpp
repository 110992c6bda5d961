// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Any bytes: refused with a format_error, or read, and then written and read again to equal values
// and equal text, on one line and indented.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <stiefelx/io/json.hpp>
#include <stiefelx/io/json_writer.hpp>

#include "expect.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  stiefelx::json_value value;
  try {
    value = stiefelx::read_json(text);
  } catch (stiefelx::format_error const& error) {
    fuzz::expect(std::string_view(error.what()).size() < 1000, "the text of an error is short");
    return 0;
  }
  std::string const written = stiefelx::write_json(value);
  fuzz::expect(stiefelx::is_utf8(written), "what is written is UTF-8");
  auto const again = stiefelx::read_json(written);
  fuzz::expect(again == value, "what is written is read again");
  fuzz::expect(stiefelx::write_json(again) == written, "equal values give equal text");
  fuzz::expect(stiefelx::read_json(stiefelx::write_json(value, 3)) == value,
               "indentation changes nothing");
  return 0;
}
