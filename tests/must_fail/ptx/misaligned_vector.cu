// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Four numbers are loaded at once from a place that is one number beyond a multiple of four.
#include "mistake.cuh"

struct mistake {
  float const* x;
  float* y;
  int size;
  __device__ void operator()() const {
    int const i = static_cast<int>(threadIdx.x);
    float4 v = make_float4(0, 0, 0, 0);
    if (4 * i + 5 <= size) v = *reinterpret_cast<float4 const*>(x + 4 * i + (corrected ? 0 : 1));
    y[i] = v.x + v.y + v.z + v.w;
  }
};

template __global__ void run_kernel(mistake);
