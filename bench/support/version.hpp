// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>

#include <Eigen/Core>

#include <stiefelx/version.hpp>

namespace bench {

/// The version of Eigen, and the instructions that it was compiled for.
inline std::string eigen_version() {
  std::string const instructions = Eigen::SimdInstructionSetsInUse();  // the widest first
  return "Eigen " + std::to_string(EIGEN_WORLD_VERSION) + "." +
         std::to_string(EIGEN_MAJOR_VERSION) + "." + std::to_string(EIGEN_MINOR_VERSION) + " (" +
         instructions.substr(0, instructions.find(',')) + ")";
}

/// The version of this library, with what computes its products.
inline std::string library_version() {
  std::string text = "stiefelx " + std::to_string(stiefelx::version_major) + "." +
                     std::to_string(stiefelx::version_minor) + "." +
                     std::to_string(stiefelx::version_patch) + ", " + eigen_version();
#ifdef STIEFELX_USE_BLAS
  text += ", BLAS";
#endif
  return text;
}

}  // namespace bench
