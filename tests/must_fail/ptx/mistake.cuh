// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the seeded mistakes share: a functor of one signature, given by value to a kernel. With
// STIEFELX_CORRECTED each of them is right, so that a check cannot pass by stopping everything.
#pragma once

#if defined(STIEFELX_CORRECTED)
inline constexpr bool corrected = true;
#else
inline constexpr bool corrected = false;
#endif

extern __shared__ float4 shared_bytes[];

__device__ inline float* shared_floats() { return reinterpret_cast<float*>(shared_bytes); }

template <class Kernel>
__global__ void run_kernel(Kernel kernel) {
  kernel();
}
