// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// \file
/// \brief The library's macros, all of them.
/// \ingroup core

// Without the flag nvcc only warns, and leaves what calls such a function out of the kernel.
#if defined(__NVCC__) && defined(__CUDACC__) && !defined(__CUDACC_RELAXED_CONSTEXPR__)
#error "stiefelx: compile device code with nvcc's flag --expt-relaxed-constexpr"
#endif

/// Marks a function that runs on the host and, under nvcc or clang's CUDA mode, on the device.
#if defined(__CUDACC__)
#define STIEFELX_HD __host__ __device__
#else
#define STIEFELX_HD
#endif

/// Inlines a function into device code, where what a call refers to lies in a lane's slow memory.
#if defined(__CUDACC__)
#define STIEFELX_DEVICE_INLINE __attribute__((always_inline)) inline
#else
#define STIEFELX_DEVICE_INLINE
#endif

/// Keeps the text of an exception out of the caller's instructions.
#if defined(__GNUC__)
#define STIEFELX_COLD __attribute__((noinline, cold))
#else
#define STIEFELX_COLD
#endif

// Two translation units compiled for different instruction sets, or with and without a BLAS, must
// not share an inline function: the linker keeps one body, and it may hold instructions that the
// other's machine lacks. What is compiled in is therefore an inline namespace around the kernels of
// simd/ and around host::context, and so a part of every name that either occurs in.

/// The instruction set that this file is compiled for: the inline namespace around simd/.
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
#define STIEFELX_SIMD_ISA isa_avx512
#elif defined(__AVX512F__)
#define STIEFELX_SIMD_ISA isa_avx512f
#elif defined(__AVX2__) && defined(__FMA__)
#define STIEFELX_SIMD_ISA isa_avx2_fma
#elif defined(__AVX2__)
#define STIEFELX_SIMD_ISA isa_avx2
#elif defined(__AVX__) && defined(__FMA__)
#define STIEFELX_SIMD_ISA isa_avx_fma
#elif defined(__AVX__)
#define STIEFELX_SIMD_ISA isa_avx
#elif defined(__SSE4_1__)
#define STIEFELX_SIMD_ISA isa_sse4_1
#elif defined(__SSE3__)
#define STIEFELX_SIMD_ISA isa_sse3
#else
#define STIEFELX_SIMD_ISA isa_base
#endif

/// Appends what products run on to the name of an instruction set.
#if defined(STIEFELX_USE_BLAS)
#define STIEFELX_HOST_BUILD_OF(isa) isa##_blas
#else
#define STIEFELX_HOST_BUILD_OF(isa) isa##_eigen
#endif
/// Expands its argument first.
#define STIEFELX_HOST_BUILD_NAMED(isa) STIEFELX_HOST_BUILD_OF(isa)
/// The inline namespace around host::context.
#define STIEFELX_HOST_BUILD STIEFELX_HOST_BUILD_NAMED(STIEFELX_SIMD_ISA)
