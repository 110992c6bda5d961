// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

#include <cuda_runtime_api.h>
#include <cxxabi.h>

/// \file
/// \brief What a failed call to the CUDA runtime is reported as. Nothing is called here.
/// \ingroup cuda

namespace stiefelx::cuda {

/// \brief A call to the CUDA runtime or to cuBLAS failed, or there is no device to use.
/// \ingroup cuda
///
/// The text names the call and holds the library's own: `cudaMalloc: out of memory (error 2)`.
struct cuda_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {

inline std::string failure_text(cudaError_t status, char const* call, char const* reason) {
  char const* const advice = status == cudaErrorStreamCaptureUnsupported
                                 ? "; a captured step must neither allocate device memory nor wait"
                                 : "";
  return std::string(call) + ": " + reason + " (error " + std::to_string(static_cast<int>(status)) +
         ")" + advice;
}

inline std::string dotted_version(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Of a machine whose driver is too old for the runtime; without one its version is 0.
inline std::string missing_driver_text(int driver, int runtime) {
  if (driver == 0)
    return "cuda::context: no NVIDIA driver was found on this machine; install one, or use "
           "host::context";
  return "cuda::context: the NVIDIA driver supports CUDA " + dotted_version(driver) +
         " and this program uses CUDA " + dotted_version(runtime) +
         "; install a newer driver, or build with an older CUDA";
}

// Of a program without code for a device, by what has noticed it.
inline std::string missing_code_text(char const* function, int device, int capability) {
  std::string const architecture = std::to_string(capability);
  return std::string(function) + ": this program holds no code for device " +
         std::to_string(device) + ", which is an sm_" + architecture +
         "; build it with CMAKE_CUDA_ARCHITECTURES=" + architecture;
}

inline std::string untranslated_code_text(char const* function, int device, int capability,
                                          int driver) {
  return std::string(function) + ": the NVIDIA driver supports CUDA " + dotted_version(driver) +
         " and cannot translate this program's PTX for device " + std::to_string(device) +
         "; install a newer driver, or build with CMAKE_CUDA_ARCHITECTURES=" +
         std::to_string(capability);
}

// The name of a type as it is written; typeid gives it as linkers see it.
inline std::string written_name(char const* mangled) {
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> const plain(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  return status == 0 ? plain.get() : mangled;
}

}  // namespace detail

}  // namespace stiefelx::cuda
