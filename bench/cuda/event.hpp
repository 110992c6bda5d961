// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <cuda_runtime_api.h>

#include <stiefelx/cuda/runtime.hpp>

namespace bench {

/// \brief A mark in a queue of the device, with the time at which the device reached it.
class event {
 public:
  event() {
    stiefelx::cuda::check(cudaEventCreateWithFlags(&mark_, 0), "cudaEventCreateWithFlags");
  }
  event(event const&) = delete;
  event& operator=(event const&) = delete;
  ~event() { (void)cudaEventDestroy(mark_); }

  /// Puts the mark behind what is queued so far.
  /// \param[in] queue  where
  void record(stiefelx::cuda::stream_ref queue) {
    stiefelx::cuda::check(cudaEventRecord(mark_, queue.handle), "cudaEventRecord");
  }
  /// Waits until the device has reached the mark.
  void wait() { stiefelx::cuda::check(cudaEventSynchronize(mark_), "cudaEventSynchronize"); }

  /// \param[in] first  a mark that the device has passed
  /// \param[in] last   a later one, passed too
  /// \returns nanoseconds between them
  static double nanoseconds(event const& first, event const& last) {
    float milliseconds = 0;
    stiefelx::cuda::check(cudaEventElapsedTime(&milliseconds, first.mark_, last.mark_),
                          "cudaEventElapsedTime");
    return 1e6 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t mark_ = nullptr;
};

}  // namespace bench
