// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stdexcept>
#include <string>

namespace support {

/// The text of the misuse that f throws.
template <class F>
std::string message_of(F const& f) {
  try {
    f();
  } catch (std::invalid_argument const& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace support
