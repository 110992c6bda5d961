// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The study on a CUDA device: the text of study.hpp with another context.

#include <stiefelx/cuda.hpp>

#include "examples/fashion/device.hpp"
#include "examples/fashion/study.hpp"

namespace example {

namespace {

struct on_device {
  using context = stiefelx::cuda::context;
  static context open(int /*threads*/) { return context{}; }
};

}  // namespace

std::optional<study_results> train_on_device(choices const& c) {
  try {
    // Before anything is read or written.
    stiefelx::cuda::require_device(0);
    return train<on_device>(c);
  } catch (stiefelx::cuda::cuda_error const& e) {
    throw device_error(e.what());
  }
}

}  // namespace example
