// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

#include <cuda_runtime_api.h>
#include <cxxabi.h>

#include <stiefelx/core/host_device.hpp>

/// \file
/// \brief What a failed call to the CUDA runtime becomes.
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

[[noreturn]] STIEFELX_COLD inline void throw_cuda_error(cudaError_t status, char const* call) {
  // The runtime keeps the error and would report it again after the next launch.
  (void)cudaGetLastError();
  char const* const advice = status == cudaErrorStreamCaptureUnsupported
                                 ? "; a captured step must neither allocate device memory nor wait"
                                 : "";
  throw cuda_error(std::string(call) + ": " + cudaGetErrorString(status) + " (error " +
                   std::to_string(static_cast<int>(status)) + ")" + advice);
}

// For calls of destructors: an error that nobody hears of would be blamed on the next launch.
inline bool succeeds(cudaError_t status) noexcept {
  if (status != cudaSuccess) (void)cudaGetLastError();
  return status == cudaSuccess;
}

// An error that was thrown once is not the next call's.
inline void forget_last_error() noexcept { (void)cudaGetLastError(); }

// The name of a type as it is written; typeid gives it as linkers see it.
inline std::string written_name(char const* mangled) {
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> const plain(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  return status == 0 ? plain.get() : mangled;
}

}  // namespace detail

/// \brief Throws unless a call to the runtime succeeded.
/// \ingroup cuda
/// \param[in] status  what it returned
/// \param[in] call    its name, for the text
/// \throws cuda_error  with the call's name and the runtime's text
inline void check(cudaError_t status, char const* call) {
  if (status != cudaSuccess) detail::throw_cuda_error(status, call);
}

}  // namespace stiefelx::cuda
