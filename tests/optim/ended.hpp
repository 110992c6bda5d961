// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <boost/test/tools/assertion_result.hpp>

#include <stiefelx/optim/minimize.hpp>

namespace support {

/// Whether a minimization ended for the reason that was expected; says in words what it was.
inline boost::test_tools::assertion_result ended(stiefelx::minimum const& found,
                                                 stiefelx::stop_reason expected) {
  boost::test_tools::assertion_result result(found.reason == expected);
  result.message() << "ended in iteration " << found.last.number << " at a gradient of "
                   << found.last.gradient_norm << ": " << stiefelx::to_string(found.reason);
  return result;
}

}  // namespace support
