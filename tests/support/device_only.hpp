// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// For nvcc: the names of the other backends, and where they run is the device.
#include <stiefelx/core/context.hpp>
#include <support/device_backend.hpp>

namespace stiefelx::host {

/// \brief A name without verbs.
///
/// Helpers of the tests may mention it; tests/gpu/device_cases.awk leaves out the cases that use it.
struct context {
  /// Options of the host's context.
  struct context_options {
    int threads = 1;  ///< as on the host
  };
  context() = default;
  explicit context(context_options) {}
};

}  // namespace stiefelx::host

namespace support {

/// The device, under the name of the library's own backend: a type of its own, because cases of one
/// list differ.
struct host_backend : device_backend {};

/// The device, under the name of the backend that promises least.
struct archetype_backend : device_backend {};

}  // namespace support
