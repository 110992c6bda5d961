// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// \file
/// \brief The library's macros, all of them.
/// \ingroup core

/// Marks a function that runs on the host and, under nvcc or clang's CUDA mode, on the device.
#if defined(__CUDACC__)
#define STIEFELX_HD __host__ __device__
#else
#define STIEFELX_HD
#endif

/// Keeps the text of an exception out of the caller's instructions.
#if defined(__GNUC__)
#define STIEFELX_COLD __attribute__((noinline, cold))
#else
#define STIEFELX_COLD
#endif
