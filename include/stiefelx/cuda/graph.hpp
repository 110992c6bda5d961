// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stdexcept>
#include <utility>

#include <stiefelx/cuda/arena.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/runtime.hpp>

/// \file
/// \brief CUDA graphs: a step that is recorded once and then queued by one call.
/// \ingroup cuda
///
/// The names are CUDA's: a step is captured into a graph, which is replayed.

namespace stiefelx::cuda {

/// \brief Work of a context that was captured once, for replay(). Moves, never copies.
/// \ingroup cuda
///
/// It holds launches with their numbers and addresses, and nothing of the matrices behind these: a
/// replay reads and writes the memory of the captured call, with what is there by then. Scratch of
/// the step stays reserved while the graph lives; it serves other work between replays. The context
/// and every matrix that the step names outlive the graph.
class graph {
 public:
  /// Takes over the work; the source is left without any.
  /// \param[in] other  owner until now
  graph(graph&& other) noexcept
      : context_(std::exchange(other.context_, nullptr)),
        scratch_(std::move(other.scratch_)),
        work_(std::move(other.work_)) {}
  graph& operator=(graph&&) = delete;
  /// Waits until the last replay is done.
  ~graph() {
    if (context_ != nullptr) finish(context_->queue);
  }

 private:
  template <class F>
  friend graph capture(context& ctx, F&& step);
  friend void replay(context& ctx, graph const& work);

  graph(context& ctx, recorded_scratch&& scratch)
      : context_(&ctx), scratch_(std::move(scratch)), work_(ctx.queue) {}

  context* context_;
  recorded_scratch scratch_;
  recorded_work work_;
};

namespace detail {

// Records what a context queues until the recording is taken, or until an exception passes.
class open_capture {
 public:
  explicit open_capture(context& ctx) : context_(ctx) {
    if (is_capturing(ctx.queue))
      throw std::logic_error(
          "capture: this context is being captured already; a captured step cannot capture");
    ctx.memory.start_recording();
    begin_capture(ctx.queue);
  }
  open_capture(open_capture const&) = delete;
  open_capture& operator=(open_capture const&) = delete;
  ~open_capture() {
    if (open_) abandon_capture(context_.queue);
  }

  // From here on the recording ends with whatever takes it.
  void hand_over() { open_ = false; }

 private:
  context& context_;
  bool open_ = true;
};

}  // namespace detail

/// \brief Records what a step queues, without running it.
/// \ingroup cuda
///
/// Call the step once before, so that the context's scratch is as large as the step needs. The step
/// runs on the host as always: its choices and numbers (shapes, learning rates, seeds) are those of
/// this call in every replay, so state that a step keeps on the host does not go on. It must not
/// wait (download(), value(), retractions that read a status), must not make or drop owning
/// matrices or graphs, and reads memory of the host, as upload() does, when it is replayed. An
/// exception of the step ends the capture, passes, and leaves the context as it was.
/// \param[in] ctx   whose work is recorded; the calling thread must not allocate device memory or
///                  wait for the device meanwhile, other threads may
/// \param[in] step  called once without arguments; queues work of ctx only
/// \returns the graph; nothing of it has run
/// \par Cost
/// about that of some calls of the step; a graph of n launches is queued at about the cost of one
/// \throws std::logic_error  when ctx is being captured already, or when the step needs more scratch
///                           than ctx holds
/// \throws cuda_error        when the step allocates, frees or waits
template <class F>
graph capture(context& ctx, F&& step) {
  detail::open_capture open(ctx);
  step();
  auto scratch = ctx.memory.end_recording();
  open.hand_over();
  return graph(ctx, std::move(scratch));
}

/// \brief Queues captured work once more; does not wait.
/// \ingroup cuda
/// \param[in] ctx   where it was captured
/// \param[in] work  from capture(); may be queued any number of times
/// \par Cost
/// one call of the runtime and no allocation
/// \throws std::logic_error  for another context, for a graph that was moved from, inside of a
///                           capture, or when scratch that was taken after the capture is still held
///                           and lies where the graph writes
inline void replay(context& ctx, graph const& work) {
  if (work.context_ != &ctx)
    throw std::logic_error("replay: the graph was captured from another context, or moved from");
  if (is_capturing(ctx.queue))
    throw std::logic_error("replay: a graph cannot be part of the capture of another one");
  ctx.memory.expect_free(work.scratch_);
  work.work_.run(ctx.queue);
}

}  // namespace stiefelx::cuda
