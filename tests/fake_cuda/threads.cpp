// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs kernels with a thread for each lane of a block, block after block, so that a thread sanitizer
// sees a barrier that is missing. The barrier is one of its own: the waiters of std::barrier meet in
// places that unrelated barriers share, which orders more than the barrier does and hides races. A
// shuffle orders nothing at all: its lanes meet by relaxed operations. Programming Guide, Warp
// Shuffle Functions: "These intrinsics do not imply a memory barrier. They do not guarantee any
// memory ordering." The other rules are those of fibers.cpp and executor.hpp.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "executor.hpp"

namespace fake_cuda {

bool const keeps_lane_order = false;

namespace {

// Thrown through the lanes of a launch that has failed.
struct cancelled {};

class grid_run;

struct lane {
  grid_run* grid = nullptr;
  unsigned rank = 0;
  unsigned x = 0, y = 0;
  unsigned shuffles = 0;
  std::atomic<std::uint64_t> state{0};  // phase that it waits for the end of, and a lane_state
};

struct meeting {
  std::atomic<unsigned> arrived{0};
  std::atomic<unsigned> phase{0};
};

// Two sets of places take turns: who is late in one shuffle still finds its value during the next.
struct warp {
  meeting all;
  std::atomic<std::uint64_t> bits[2][32];
  std::atomic<unsigned> masks[2][32];
};

thread_local lane* current = nullptr;

class grid_run {
 public:
  explicit grid_run(launched_kernel const& kernel)
      : kernel_(kernel),
        shared_(kernel.shape.shared_bytes),
        lanes_(kernel.shape.threads),
        warps_(kernel.shape.threads / 32) {
    if (kernel.shape.threads > 256)
      stop("launch of " + kernel.name + ": threads run at most 256 lanes a block, not " +
           std::to_string(kernel.shape.threads));
    for (unsigned k = 0; k < lanes_.size(); ++k) {
      lanes_[k].grid = this;
      lanes_[k].rank = k;
    }
  }

  void run() {
    std::vector<std::thread> threads;
    for (lane& l : lanes_) threads.emplace_back([this, &l] { run_lane(l); });
    for (std::thread& t : threads) t.join();
    if (error_) std::rethrow_exception(error_);
    if (!wrong_.empty()) kernel_.stop_in(wrong_x_, wrong_y_, wrong_);
  }

  stiefelx::cuda::launch_shape const& shape() const { return kernel_.shape; }
  void* shared() const { return shared_.data(); }

  void wait_at_barrier(lane& own) {
    meet<true>(own, barrier_, lanes_.size(), lane_state::at_barrier);
  }

  std::uint64_t shuffle(lane& own, std::uint64_t bits, unsigned mask) {
    if (mask >= 32)
      fail(own, "a shuffle with mask " + std::to_string(mask) + ", expected below 32");
    warp& w = warps_[own.rank / 32];
    unsigned const set = own.shuffles++ % 2, place = own.rank % 32;
    w.bits[set][place].store(bits, std::memory_order_relaxed);
    w.masks[set][place].store(mask, std::memory_order_relaxed);
    meet<false>(own, w.all, 32, lane_state::in_shuffle);
    unsigned const first = w.masks[set][0].load(std::memory_order_relaxed);
    for (unsigned k = 0; k < 32; ++k) {
      unsigned const other = w.masks[set][k].load(std::memory_order_relaxed);
      if (other != first)
        fail(own, "lanes " + std::to_string(own.rank - place) + " and " +
                      std::to_string(own.rank - place + k) + " shuffle with masks " +
                      std::to_string(first) + " and " + std::to_string(other));
    }
    return w.bits[set][place ^ mask].load(std::memory_order_relaxed);
  }

 private:
  void run_lane(lane& own) {
    current = &own;
    try {
      for (own.y = 0; own.y < kernel_.shape.blocks_y; ++own.y)
        for (own.x = 0; own.x < kernel_.shape.blocks_x; ++own.x) run_block(own);
    } catch (cancelled const&) {
    } catch (...) {
      std::lock_guard const lock(mutex_);
      if (!error_) error_ = std::current_exception();
      cancel_ = true;
    }
    set_state(own, 0, lane_state::returned);
  }

  void run_block(lane& own) {
    if (own.rank == 0) shared_.start_block();
    set_state(own, 0, lane_state::runs);
    meet<true>(own, start_, lanes_.size(), lane_state::runs);
    kernel_.run();
    set_state(own, 0, lane_state::returned);
    meet<true>(own, end_, lanes_.size(), lane_state::returned);
    if (own.rank == 0 && !shared_.is_intact())
      fail(own, "it writes outside of its " + std::to_string(kernel_.shape.shared_bytes) +
                    " bytes of shared memory");
  }

  static void set_state(lane& own, unsigned phase, lane_state state) {
    own.state.store(std::uint64_t{phase} << 2 | static_cast<unsigned>(state),
                    std::memory_order_relaxed);
  }

  // Waits for all lanes of a meeting. Ordered: what was written before it is seen after it.
  template <bool Ordered>
  void meet(lane& own, meeting& all, std::size_t count, lane_state waiting) {
    constexpr auto relaxed = std::memory_order_relaxed;
    unsigned const phase = all.phase.load(relaxed);
    auto const arrive = Ordered ? std::memory_order_acq_rel : relaxed;
    if (all.arrived.fetch_add(1, arrive) + 1 == count) {
      all.arrived.store(0, relaxed);
      released_.fetch_add(1, relaxed);
      all.phase.store(phase + 1, Ordered ? std::memory_order_release : relaxed);
      return;
    }
    // Only now: a lane whose state says that it waits is not the one that ends the waiting.
    set_state(own, phase, waiting);
    auto const look = Ordered ? std::memory_order_acquire : relaxed;
    for (unsigned turns = 1; all.phase.load(look) == phase; ++turns) {
      if (cancel_.load(relaxed)) throw cancelled{};
      if (turns % 64 == 0) look_for_stuck_lanes(own);
      std::this_thread::yield();
    }
    set_state(own, 0, lane_state::runs);
  }

  // Lanes only go on when a meeting ends. When none has ended while all were seen to wait, none will.
  void look_for_stuck_lanes(lane& own) {
    constexpr auto relaxed = std::memory_order_relaxed;
    unsigned const before = released_.load(relaxed);
    std::vector<lane_state> states;
    for (lane const& l : lanes_) {
      std::uint64_t const seen = l.state.load(relaxed);
      auto const state = static_cast<lane_state>(seen & 3u);
      auto const phase = static_cast<unsigned>(seen >> 2);
      bool const waits =
          state == lane_state::returned ||
          (state == lane_state::at_barrier && phase == barrier_.phase.load(relaxed)) ||
          (state == lane_state::in_shuffle && phase == warps_[l.rank / 32].all.phase.load(relaxed));
      if (!waits) return;
      states.push_back(state);
    }
    if (released_.load(relaxed) != before) return;
    if (std::string const what = stuck_lanes(states); !what.empty()) fail(own, what);
  }

  [[noreturn]] void fail(lane& own, std::string const& what) {
    {
      std::lock_guard const lock(mutex_);
      if (wrong_.empty()) {
        wrong_ = what;
        wrong_x_ = own.x;
        wrong_y_ = own.y;
      }
      cancel_ = true;
    }
    throw cancelled{};
  }

  launched_kernel const& kernel_;
  guarded_memory shared_;
  std::vector<lane> lanes_;
  std::vector<warp> warps_;
  meeting start_, barrier_, end_;
  std::atomic<unsigned> released_{0};
  std::atomic<bool> cancel_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
  std::string wrong_;
  unsigned wrong_x_ = 0, wrong_y_ = 0;
};

lane& lane_of(char const* function) {
  if (current == nullptr) stop(std::string(function) + " is called outside of a kernel");
  return *current;
}

}  // namespace
}  // namespace fake_cuda

namespace stiefelx::cuda {

using fake_cuda::lane_of;

unsigned thread_rank() { return lane_of("thread_rank()").rank; }
unsigned block_threads() { return lane_of("block_threads()").grid->shape().threads; }
unsigned block_x() { return lane_of("block_x()").x; }
unsigned block_y() { return lane_of("block_y()").y; }
unsigned grid_x() { return lane_of("grid_x()").grid->shape().blocks_x; }
void* shared_memory() { return lane_of("shared_memory()").grid->shared(); }
void block_barrier() {
  fake_cuda::lane& own = lane_of("block_barrier()");
  own.grid->wait_at_barrier(own);
}
std::uint64_t shuffle_xor_bits(std::uint64_t bits, unsigned mask) {
  fake_cuda::lane& own = lane_of("shuffle_xor()");
  return own.grid->shuffle(own, bits, mask);
}

void detail::no_work() {}

void detail::launch_kernel(stream_ref stream, launch_shape shape, void (*body)(void const*),
                           void const* kernel, std::size_t bytes, char const* name) {
  auto const launched =
      std::make_shared<fake_cuda::launched_kernel const>(shape, body, kernel, bytes, name);
  int const status = fake_cuda::launch(stream.handle, launched->name, launched->arguments.get(),
                                       bytes, [launched] { fake_cuda::grid_run(*launched).run(); });
  check_launch(static_cast<cudaError_t>(status), name);
}

}  // namespace stiefelx::cuda
