// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/host/arena.hpp>
#include <stiefelx/host/thread_pool.hpp>
#if defined(STIEFELX_USE_BLAS)
#include <stiefelx/host/blas_threads.hpp>
#endif

namespace stiefelx::host {
inline namespace STIEFELX_HOST_BUILD {

/// How far results may depend on the number of threads.
/// \ingroup host
enum class determinism {
  /// The same bits for any number of threads: work is cut into blocks of a fixed size. With a BLAS,
  /// that has to use one thread a call.
  any_thread_count,
  /// The same bits from run to run with one number of threads: work is cut evenly, a little faster.
  this_thread_count,
};

/// Choices of a host context.
/// \ingroup host
struct context_options {
  int threads = 1;                                            ///< workers, at least 1
  determinism same_bits_for = determinism::any_thread_count;  ///< see determinism
  index_t dense_expert_columns = 0;                           ///< of the verb of that name
};

/// \brief Where and how work runs on the CPU: scratch memory, threads and determinism.
/// \ingroup host
///
/// Passed first to every function, never global. One context belongs to one thread at a time and
/// outlives the scratch taken from it. After the first step of a loop its memory has reached its
/// high-water mark and nothing is allocated any more.
struct context {
  /// \param[in] choices  threads and determinism
  /// \throws option_error  when threads is below 1; with STIEFELX_USE_BLAS also when the results are to
  ///                       be the same for any number of threads and the BLAS would use several of its
  ///                       own: the text names the library and its switch
  explicit context(context_options choices = {})
      : options(checked(choices)), workers(choices.threads) {}

  context_options options;  ///< as given
  arena memory;             ///< scratch
  thread_pool workers;      ///< threads

 private:
  static context_options checked(context_options choices) {
    expect_option(choices.threads >= 1, "host::context", "threads", choices.threads,
                  "a number of at least 1");
#if defined(STIEFELX_USE_BLAS)
    if (choices.same_bits_for == determinism::any_thread_count)
      expect_one_blas_thread("host::context", find_blas_threads(linked_blas_thread_queries()));
#endif
    return choices;
  }
};

/// \brief Columns E r of a bank of experts up to which tokens are multiplied with every expert.
/// \ingroup host
///
/// A core multiplies with the chosen experts alone for less.
/// \param[in] ctx  whose option it is
/// \returns context_options::dense_expert_columns
inline index_t dense_expert_columns(context const& ctx) { return ctx.options.dense_expert_columns; }

}  // namespace STIEFELX_HOST_BUILD
}  // namespace stiefelx::host
