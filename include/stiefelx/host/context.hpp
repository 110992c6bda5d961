// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/host/arena.hpp>
#include <stiefelx/host/thread_pool.hpp>

namespace stiefelx::host {
inline namespace STIEFELX_HOST_BUILD {

/// How far results may depend on the number of threads.
/// \ingroup host
enum class determinism {
  /// The same bits for any number of threads: work is cut into blocks of a fixed size.
  any_thread_count,
  /// The same bits from run to run with one number of threads: work is cut evenly, a little faster.
  this_thread_count,
};

/// Choices of a host context.
/// \ingroup host
struct context_options {
  int threads = 1;                                            ///< workers, at least 1
  determinism same_bits_for = determinism::any_thread_count;  ///< see determinism
};

/// \brief Where and how work runs on the CPU: scratch memory, threads and determinism.
/// \ingroup host
///
/// Passed first to every function, never global. One context belongs to one thread at a time and
/// outlives the scratch taken from it. After the first step of a loop its memory has reached its
/// high-water mark and nothing is allocated any more.
struct context {
  /// \param[in] choices  threads and determinism
  /// \throws option_error  when threads is below 1
  explicit context(context_options choices = {})
      : options(checked(choices)), workers(choices.threads) {}

  context_options options;  ///< as given
  arena memory;             ///< scratch
  thread_pool workers;      ///< threads

 private:
  static context_options checked(context_options choices) {
    expect_option(choices.threads >= 1, "host::context", "threads", choices.threads,
                  "a number of at least 1");
    return choices;
  }
};

}  // namespace STIEFELX_HOST_BUILD
}  // namespace stiefelx::host
