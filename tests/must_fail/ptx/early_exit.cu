// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Threads beyond the end return, and the others wait for them at a barrier.
#include "mistake.cuh"

struct mistake {
  float const* x;
  float* y;
  int size;
  __device__ void operator()() const {
    unsigned const i = threadIdx.x;
    if (i >= 50) {
      y[i] = 0;
      if (!corrected) return;
    } else {
      shared_floats()[i] = x[i];
    }
    __syncthreads();
    if (i < 50) y[i] = shared_floats()[49 - i];
  }
};

template __global__ void run_kernel(mistake);
