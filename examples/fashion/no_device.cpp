// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <optional>
#include <stdexcept>

#include "examples/fashion/device.hpp"

namespace example {

std::optional<study_results> train_on_device(choices const&) {
  throw std::runtime_error(
      "--device cuda: this program was built without CUDA; build it with STIEFELX_CUDA=ON, as bash "
      "examples/train.sh --device cuda does, or, where that is how it was built, install the CUDA "
      "toolkit first, because CMake finds no nvcc that works");
}

}  // namespace example
