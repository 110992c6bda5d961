// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <support/temporary_folder.hpp>

namespace example_test {

/// A folder for one test case, whose files are named by paths.
struct temporary_folder : support::temporary_folder {
  std::filesystem::path operator/(std::string_view name) const { return path() / name; }

  /// Returns how many files there are.
  std::size_t count() const { return names().size(); }
};

inline std::string read_file(std::filesystem::path const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void write_file(std::filesystem::path const& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// Returns the text of the exception that a call throws, or that there was none.
template <class Exception, class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (Exception const& error) {
    return error.what();
  }
  return "no exception";
}

}  // namespace example_test
