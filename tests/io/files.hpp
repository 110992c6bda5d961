// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/io/format_error.hpp>
#include <support/temporary_folder.hpp>

namespace io_test {

/// A folder for one test case, whose files are named by texts.
struct temporary_folder : support::temporary_folder {
  std::string operator/(std::string_view name) const {
    return path().string() + "/" + std::string(name);
  }
};

inline std::string content(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void put(std::string const& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::span<std::byte const> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

inline std::string text_of(std::span<std::byte const> bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

/// Expects a format_error of one kind, with a text that names what the second argument says.
template <class Call>
void expect_fault(stiefelx::format_fault fault, std::string_view named, Call const& call) {
  try {
    call();
    BOOST_ERROR("nothing was thrown, expected fault " << static_cast<int>(fault));
  } catch (stiefelx::format_error const& error) {
    std::string const text = error.what();
    if (error.fault() != fault)
      BOOST_ERROR("fault " << static_cast<int>(error.fault()) << " (" << text << "), expected "
                           << static_cast<int>(fault));
    if (text.find(named) == text.npos) BOOST_ERROR(text << ", expected to name " << named);
    if (text.find(", expected ") == text.npos)
      BOOST_ERROR(text << " says nothing of what is expected");
  }
}

}  // namespace io_test
