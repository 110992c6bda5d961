// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <typeinfo>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/cuda/runtime.hpp>

/// \file
/// \brief The one place where a kernel touches the machine: lanes, barrier, shuffle, shared memory.
/// \ingroup cuda
///
/// Kernels are functors that call these functions and nothing else of the device. Under nvcc and
/// clang's CUDA mode they are the intrinsics. For a plain C++ compiler they are only declared: a
/// program that links an executor (tests/fake_cuda) runs the same kernels on the host.

namespace stiefelx::cuda {

/// \brief How many lanes a launch has.
/// \ingroup cuda
struct launch_shape {
  unsigned blocks_x;         ///< blocks along x
  unsigned blocks_y;         ///< blocks along y, at most 65535
  unsigned threads;          ///< lanes of a block, a multiple of 32
  std::size_t shared_bytes;  ///< shared memory of a block
};

/// Lanes that shuffle together.
/// \ingroup cuda
inline constexpr unsigned warp_lanes = 32;

/// \brief Lanes a block of a kernel may have: its member `most_threads`, or 256.
/// \ingroup cuda
///
/// The compiler keeps so many lanes' registers on one multiprocessor: 256 lanes leave each all the
/// registers that it can name.
template <class Kernel>
inline constexpr unsigned most_threads = 256;

/// Of a kernel that names a number.
/// \ingroup cuda
template <class Kernel>
  requires requires { Kernel::most_threads; }
inline constexpr unsigned most_threads<Kernel> = Kernel::most_threads;

/// \ingroup cuda
/// \returns the number of this lane in its block
STIEFELX_HD unsigned thread_rank();

/// \ingroup cuda
/// \returns the lanes of a block
STIEFELX_HD unsigned block_threads();

/// \ingroup cuda
/// \returns the number of this block along x
STIEFELX_HD unsigned block_x();

/// \ingroup cuda
/// \returns the number of this block along y
STIEFELX_HD unsigned block_y();

/// \ingroup cuda
/// \returns the number of blocks along x
STIEFELX_HD unsigned grid_x();

/// \brief Waits for every lane of the block; what was written before it is seen after it.
/// \ingroup cuda
STIEFELX_HD void block_barrier();

/// \ingroup cuda
/// \returns the shared memory of the block, aligned to 16 bytes; what it holds at first is undefined
STIEFELX_HD void* shared_memory();

/// \brief The value of another lane of the same warp.
/// \ingroup cuda
///
/// All 32 lanes of the warp call it together, with one mask. It orders no memory.
/// \param[in] v     this lane's value, of 4 or 8 bytes
/// \param[in] mask  below 32: the value comes from the lane whose rank is this lane's xor mask
/// \returns that lane's value
template <class T>
STIEFELX_HD T shuffle_xor(T v, unsigned mask);

#if defined(__CUDACC__)

// The host's half of a function that runs on both sides is never called: it only has to compile.

STIEFELX_HD inline unsigned thread_rank() {
#if defined(__CUDA_ARCH__)
  return threadIdx.x;
#else
  return 0;
#endif
}

STIEFELX_HD inline unsigned block_threads() {
#if defined(__CUDA_ARCH__)
  return blockDim.x;
#else
  return 1;
#endif
}

STIEFELX_HD inline unsigned block_x() {
#if defined(__CUDA_ARCH__)
  return blockIdx.x;
#else
  return 0;
#endif
}

STIEFELX_HD inline unsigned block_y() {
#if defined(__CUDA_ARCH__)
  return blockIdx.y;
#else
  return 0;
#endif
}

STIEFELX_HD inline unsigned grid_x() {
#if defined(__CUDA_ARCH__)
  return gridDim.x;
#else
  return 1;
#endif
}

STIEFELX_HD inline void block_barrier() {
#if defined(__CUDA_ARCH__)
  __syncthreads();
#endif
}

STIEFELX_HD inline void* shared_memory() {
#if defined(__CUDA_ARCH__)
  extern __shared__ __align__(16) unsigned char stiefelx_cuda_shared[];
  return stiefelx_cuda_shared;
#else
  return nullptr;
#endif
}

template <class T>
STIEFELX_HD T shuffle_xor(T v, [[maybe_unused]] unsigned mask) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
#if defined(__CUDA_ARCH__)
  return __shfl_xor_sync(0xffffffffu, v, static_cast<int>(mask));
#else
  return v;
#endif
}

#else

/// \brief What shuffle_xor() calls where an executor runs kernels on the host.
/// \ingroup cuda
/// \param[in] bits  this lane's value
/// \param[in] mask  as of shuffle_xor()
/// \returns the other lane's bits
std::uint64_t shuffle_xor_bits(std::uint64_t bits, unsigned mask);

template <class T>
T shuffle_xor(T v, unsigned mask) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<T>(static_cast<Bits>(shuffle_xor_bits(std::bit_cast<Bits>(v), mask)));
}

#endif

namespace detail {

STIEFELX_HD constexpr bool is_launchable(launch_shape shape, unsigned most) {
  return shape.threads > 0 && shape.threads % warp_lanes == 0 && shape.threads <= most;
}

[[noreturn]] STIEFELX_COLD inline void throw_launch_shape(launch_shape shape, unsigned most) {
  throw std::invalid_argument("launch: a block has " + std::to_string(shape.threads) +
                              " threads, expected a multiple of 32 up to " + std::to_string(most));
}

#if defined(__CUDACC__)

// One block a multiprocessor is enough: left to itself the assembler spills registers for two.
template <class Kernel>
__global__ void __launch_bounds__(most_threads<Kernel>, 1) run_kernel(Kernel const kernel) {
  kernel();
}

// Is there to be asked about: what nvcc compiles has it, for its architectures.
template <class = void>
__global__ void no_work() {}
inline void const* askable_kernel() { return reinterpret_cast<void const*>(&no_work<>); }

#else

// Null where no executor defines it: a plain compiler makes no kernels, so a file of its own that opens
// a device has none to ask about.
[[gnu::weak]] void no_work();
inline void const* askable_kernel() { return reinterpret_cast<void const*>(&no_work); }

// Queues body(kernel) for every lane; `kernel` is copied before this returns. Defined by an executor.
void launch_kernel(stream_ref stream, launch_shape shape, void (*body)(void const*),
                   void const* kernel, std::size_t bytes, char const* name);

#endif

}  // namespace detail

/// \brief Queues kernel() for every lane of every block; an empty grid queues nothing.
/// \ingroup cuda
/// \param[in] stream  where to queue it
/// \param[in] shape   blocks, lanes of a block and shared memory
/// \param[in] kernel  trivially copyable functor; its `operator()` is const and takes nothing
/// \throws std::invalid_argument  if the lanes are not a multiple of 32, or more than
///                                most_threads<Kernel>
/// \throws cuda_error             if the launch is refused
template <class Kernel>
void launch(stream_ref stream, launch_shape shape, Kernel const& kernel) {
  static_assert(std::is_trivially_copyable_v<Kernel>);
  static_assert(sizeof(Kernel) <= 4096, "arguments of a kernel fill at most 4 KiB");
  if (!detail::is_launchable(shape, most_threads<Kernel>))
    detail::throw_launch_shape(shape, most_threads<Kernel>);
  if (shape.blocks_x == 0 || shape.blocks_y == 0) return;
#if defined(__CUDACC__)
  auto const entry = &detail::run_kernel<Kernel>;
#else
  auto const entry = +[](void const* k) { (*static_cast<Kernel const*>(k))(); };
#endif
  // Up to here every kernel may have shared memory; beyond it must be asked for.
  if (shape.shared_bytes > 48 * 1024)
    allow_shared_memory(reinterpret_cast<void const*>(entry), shape.shared_bytes);
#if defined(__CUDACC__)
  void* arguments[] = {const_cast<Kernel*>(&kernel)};
  detail::queue_launch(reinterpret_cast<void const*>(entry), shape.blocks_x, shape.blocks_y,
                       shape.threads, shape.shared_bytes, arguments, stream, typeid(Kernel).name());
#else
  detail::launch_kernel(stream, shape, entry, &kernel, sizeof kernel, typeid(Kernel).name());
#endif
}

}  // namespace stiefelx::cuda
