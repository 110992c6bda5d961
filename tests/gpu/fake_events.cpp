// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// For the benchmarks on the fake device: time between two events. Work there is done when it is
// queued, so any time is as good as another; this one is never zero.
#include <cuda_runtime_api.h>

extern "C" __attribute__((weak)) cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t,
                                                                  cudaEvent_t) {
  *milliseconds = 0.25F;
  return cudaSuccess;
}
