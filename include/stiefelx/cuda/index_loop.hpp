// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>

#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/cuda/lane.hpp>
#include <stiefelx/cuda/runtime.hpp>

#if defined(__CUDACC__)
#include <thrust/system/cuda/execution_policy.h>
#include <thrust/system_error.h>
#else
#include <thrust/system/cpp/execution_policy.h>
#endif

/// \file
/// \brief The one place that names a system of Thrust.
/// \ingroup cuda

namespace stiefelx::cuda {

namespace detail {

#if !defined(__CUDACC__)

// Kernel: Thrust's serial loop on one lane. What opens device memory to kernels opens it to Thrust.
template <class Body>
struct serial_loop {
  index_t count;
  Body body;

  void operator()() const {
    if (thread_rank() != 0) return;
    thrust::for_each_n(thrust::cpp::par, thrust::counting_iterator<index_t>(0), count, body);
  }
};

#endif

}  // namespace detail

/// \brief Queues body(0), ..., body(count - 1), in any order; nothing waits.
/// \ingroup cuda
/// \param[in] queue  where to queue it
/// \param[in] count  number of calls; 0 queues nothing
/// \param[in] body   trivially copyable functor
/// \throws cuda_error  if the launch is refused
template <class Body>
void for_each_index(stream_ref queue, index_t count, Body const& body) {
  if (count <= 0) return;
#if defined(__CUDACC__)
  // Thrust reports the last error of the thread, which another part of the program may have left.
  detail::forget_last_error();
  try {
    thrust::for_each_n(thrust::cuda::par_nosync.on(queue.handle),
                       thrust::counting_iterator<index_t>(0), count, body);
  } catch (thrust::system_error const& failure) {
    expect_kernel_image(static_cast<cudaError_t>(failure.code().value()), current_device());
    throw cuda_error(std::string("thrust::for_each_n: ") + failure.what());
  }
#else
  launch(queue, {1, 1, 32, 0}, detail::serial_loop<Body>{count, body});
#endif
}

}  // namespace stiefelx::cuda
