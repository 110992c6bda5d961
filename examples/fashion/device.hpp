// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <optional>
#include <stdexcept>

#include "examples/fashion/choices.hpp"
#include "examples/fashion/results.hpp"

namespace example {

/// The device cannot be used, or failed; the text is a sentence.
struct device_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// \brief train() on a CUDA device.
///
/// nvcc compiles this function and nothing else of the program, in device.cu; no_device.cpp takes its
/// place where there is no nvcc. Neither knows the other's contexts.
/// \param[in] c  from the command line
/// \returns as train()
/// \throws device_error        where there is no driver or no device, or a call to it fails
/// \throws std::runtime_error  where the program was built without CUDA
std::optional<study_results> train_on_device(choices const& c);

}  // namespace example
