// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// In place of tests/fake_cuda/executor.hpp where a GPU runs the lanes: it takes every size, and an
// order that nobody chooses.
#pragma once

#include <fake_cuda/fake.hpp>

namespace fake_cuda {

/// No test has to spare its sizes.
inline constexpr bool keeps_lane_order = true;

/// Orders that a fake can be asked for.
enum class lane_order { forward, backward, random };

/// An order that changes nothing.
struct lane_schedule {
  lane_order order = lane_order::random;  ///< not read
  unsigned seed = 0;                      ///< not read
};

/// \returns what was asked for last
inline lane_schedule& schedule() {
  static lane_schedule asked;
  return asked;
}

}  // namespace fake_cuda
