// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <exception>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/cuda/arena.hpp>
#include <stiefelx/cuda/blas.hpp>
#include <stiefelx/cuda/lane.hpp>
#include <stiefelx/cuda/runtime.hpp>

namespace stiefelx::cuda {

/// Choices of a device context.
/// \ingroup cuda
struct context_options {
  int device = 0;     ///< number of the device
  bool tf32 = false;  ///< whether products of float may round their factors to TF32
  /// Bytes for cuBLAS, some of whose routines may fail below 16 KiB; 0 for what NVIDIA recommends.
  std::size_t blas_workspace = 0;
  index_t dense_expert_columns = 512;  ///< of the verb of that name
};

namespace detail {

// Another device than the current one, until this goes.
class device_before {
 public:
  device_before() = default;
  device_before(device_before const&) = delete;
  device_before& operator=(device_before const&) = delete;
  ~device_before() {
    if (number_ >= 0) leave_for(number_);
  }
  void leave_for(int device) noexcept {
    try {
      int const now = current_device();
      if (now == device) return;
      use_device(device);
      number_ = now;
    } catch (std::exception const&) {
      // A destructor has nobody to tell; what follows then works from where the thread is.
      return;
    }
  }

 private:
  int number_ = -1;
};

}  // namespace detail

/// \brief Where and how work runs on a device: its queue, scratch memory and cuBLAS.
/// \ingroup cuda
///
/// Passed first to every function, never global. Work is queued in order on one stream of the
/// context's own and nothing waits but upload(), download(), value(), the making of a graph, the
/// growth of the scratch memory and owning matrices when they go.
/// The first step of a loop makes that memory and the second puts its pieces together; after that
/// nothing is allocated any more. Results are the same from run to run: sums have a fixed order and use no
/// atomic operations.
///
/// One context belongs to one thread at a time and outlives the scratch taken from it. It makes its
/// device the thread's current one; a thread that uses contexts of several devices calls select()
/// when it changes between them, and so does a thread that uses one which another thread opened.
struct context {
 private:
  // Goes last, when nothing of the device is left to be given back.
  detail::device_before before;

 public:
  /// \brief Opens a device.
  /// \param[in] choices  device and precision
  /// \throws cuda_error  saying what is missing when there is no such device, or no driver or code for
  ///                     it
  explicit context(context_options choices = {})
      : options(opened(choices)),
        capability(compute_capability(choices.device)),
        multiprocessors(multiprocessor_count(choices.device)),
        memory(queue),
        blas(queue, capability, {.tf32 = choices.tf32, .workspace = choices.blas_workspace}) {}

  context(context const&) = delete;
  context& operator=(context const&) = delete;
  /// Waits for its work, whose memory goes. Which device is current does not matter, and stays.
  ~context() {
    before.leave_for(options.device);
    finish(queue);
  }

  /// Makes its device the one that the calling thread uses.
  void select() const { use_device(options.device); }

  context_options options;  ///< as given
  int capability;           ///< compute capability of the device: 90 for sm_90
  int multiprocessors;      ///< of the device
  stream queue;             ///< where work is queued
  arena memory;             ///< scratch
  blas_context blas;        ///< products

 private:
  static context_options opened(context_options choices) {
    require_device(choices.device);
    use_device(choices.device);
    require_code(detail::askable_kernel(), choices.device);
    return choices;
  }
};

/// \brief Columns E r of a bank of experts up to which tokens are multiplied with every expert.
/// \ingroup cuda
///
/// Such a product reads each token once and is bound by memory; products with chosen experts are not.
/// \param[in] ctx  whose option it is
/// \returns context_options::dense_expert_columns
inline index_t dense_expert_columns(context const& ctx) { return ctx.options.dense_expert_columns; }

}  // namespace stiefelx::cuda
