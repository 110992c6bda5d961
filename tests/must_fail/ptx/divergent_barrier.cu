// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Some threads of a warp, and a whole warp, never come to the barrier.
#include "mistake.cuh"

struct mistake {
  float const* x;
  float* y;
  int size;
  __device__ void operator()() const {
    unsigned const i = threadIdx.x;
    shared_floats()[i] = x[i];
    if (corrected || i < 40) __syncthreads();
    y[i] = shared_floats()[corrected ? i ^ 1 : i];
  }
};

template __global__ void run_kernel(mistake);
