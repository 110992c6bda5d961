// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs kernels with the lanes of a block as fibers of the calling thread, block after block. A lane
// runs until it waits or returns, and a warp until none of its lanes can go on: so warps drift
// apart as far as barriers let them. What waits for ever ends the launch with one sentence.
// Programming Guide: "It must be possible to execute blocks in any order, in parallel or in
// series."
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "executor.hpp"
#include "fiber.hpp"

namespace fake_cuda {

bool const keeps_lane_order = true;

namespace {

struct lane {
  unsigned rank = 0;
  lane_state state = lane_state::runs;
  std::uint64_t bits = 0;  // into a shuffle, and out of it
  unsigned mask = 0;
  fiber line;
  fiber_stack* stack = nullptr;
};

// Thrown through the lanes of a launch that has failed, so that their frames are left in order.
struct cancelled {};

class grid_run {
 public:
  explicit grid_run(launched_kernel const& kernel)
      : kernel_(kernel), shared_(kernel.shape.shared_bytes), lanes_(kernel.shape.threads) {
    for (unsigned k = 0; k < lanes_.size(); ++k) lanes_[k].rank = k;
    before_ = current;
    current = this;
  }
  ~grid_run() {
    current = before_;
    for (lane& l : lanes_) release_stack(l);
  }
  grid_run(grid_run const&) = delete;
  grid_run& operator=(grid_run const&) = delete;

  void run() {
    for (y_ = 0; y_ < kernel_.shape.blocks_y; ++y_)
      for (x_ = 0; x_ < kernel_.shape.blocks_x; ++x_) run_block();
  }

  // What a lane that runs asks for.
  static grid_run& of(char const* function) {
    if (current == nullptr || current->now_ == nullptr)
      stop(std::string(function) + " is called outside of a kernel");
    return *current;
  }
  unsigned rank() const { return now_->rank; }
  unsigned threads() const { return kernel_.shape.threads; }
  unsigned x() const { return x_; }
  unsigned y() const { return y_; }
  unsigned blocks_x() const { return kernel_.shape.blocks_x; }
  void* shared() const { return shared_.data(); }

  void wait_at_barrier() { wait(lane_state::at_barrier); }

  std::uint64_t shuffle(std::uint64_t bits, unsigned mask) {
    lane& own = *now_;
    // Programming Guide, Warp Shuffle Functions: "Threads may only read data from another thread
    // which is actively participating", and no lane of a warp has such a number.
    if (mask >= 32)
      kernel_.stop_in(x_, y_,
                      "a shuffle with mask " + std::to_string(mask) + ", expected below 32");
    own.bits = bits;
    own.mask = mask;
    own.state = lane_state::in_shuffle;
    if (!exchange(&lanes_[own.rank / 32 * 32])) wait(lane_state::in_shuffle);
    own.state = lane_state::runs;
    return own.bits;
  }

 private:
  static inline thread_local grid_run* current = nullptr;

  static std::vector<fiber_stack*>& free_stacks() {
    static thread_local struct pool {
      std::vector<fiber_stack*> stacks;
      ~pool() {
        for (fiber_stack* s : stacks) delete s;
      }
    } own;
    return own.stacks;
  }

  static void run_lane() {
    grid_run& run = *current;
    lane& own = *run.now_;
    own.line.arrive(run.thread_);
    try {
      run.kernel_.run();
    } catch (cancelled const&) {
    } catch (...) {
      run.error_ = std::current_exception();
    }
    own.state = lane_state::returned;
    own.line.leave(run.thread_, true);
  }

  void wait(lane_state state) {
    lane& own = *now_;
    own.state = state;
    own.line.leave(thread_, false);
    if (failed_) throw cancelled{};
  }

  // Gives each lane of a warp what it asked for, if all are there: shfl.sync "will cause executing
  // thread to wait until all non-exited threads corresponding to membermask have executed shfl.sync
  // with the same qualifiers". Their masks may differ, but those of a butterfly are equal: others
  // are mistakes.
  bool exchange(lane* warp) {
    for (int k = 0; k < 32; ++k)
      if (warp[k].state != lane_state::in_shuffle) return false;
    std::uint64_t bits[32];
    for (unsigned k = 0; k < 32; ++k) {
      if (warp[k].mask != warp[0].mask)
        kernel_.stop_in(x_, y_,
                        "lanes " + std::to_string(warp[0].rank) + " and " +
                            std::to_string(warp[k].rank) + " shuffle with masks " +
                            std::to_string(warp[0].mask) + " and " + std::to_string(warp[k].mask));
      bits[k] = warp[k ^ warp[k].mask].bits;
    }
    for (int k = 0; k < 32; ++k) {
      warp[k].bits = bits[k];
      warp[k].state = lane_state::runs;
    }
    return true;
  }

  void resume(lane& l) {
    if (l.stack == nullptr) {
      auto& pool = free_stacks();
      if (pool.empty()) pool.push_back(new fiber_stack);
      l.stack = pool.back();
      pool.pop_back();
      l.line.start_on(*l.stack, &run_lane);
    }
    now_ = &l;
    l.line.enter(thread_);
    now_ = nullptr;
    if (l.state == lane_state::returned) release_stack(l);
  }

  static void release_stack(lane& l) {
    if (l.stack == nullptr) return;
    l.line.clear_stack();
    free_stacks().push_back(l.stack);
    l.stack = nullptr;
  }

  void run_warp(unsigned warp) {
    arrange(lane_order_, 32);
    for (bool moved = true; moved;) {
      moved = false;
      for (unsigned k : lane_order_) {
        lane& l = lanes_[warp * 32 + k];
        if (l.state != lane_state::runs) continue;
        moved = true;
        resume(l);
        if (error_) std::rethrow_exception(error_);
      }
    }
  }

  void run_block() {
    for (lane& l : lanes_) l.state = lane_state::runs;
    shared_.start_block();
    failed_ = false;
    try {
      while (!is_finished()) {
        arrange(warp_order_, kernel_.shape.threads / 32);
        for (unsigned w : warp_order_) run_warp(w);
        release_barrier();
      }
    } catch (...) {
      failed_ = true;
      for (lane& l : lanes_)
        if (l.stack != nullptr) resume(l);
      error_ = nullptr;
      throw;
    }
    if (!shared_.is_intact())
      kernel_.stop_in(x_, y_,
                      "it writes outside of its " + std::to_string(kernel_.shape.shared_bytes) +
                          " bytes of shared memory");
  }

  bool is_finished() const {
    return std::all_of(lanes_.begin(), lanes_.end(),
                       [](lane const& l) { return l.state == lane_state::returned; });
  }

  // All lanes have come as far as they can: __syncthreads() "waits until all threads in the thread
  // block have reached this point".
  void release_barrier() {
    states_.clear();
    for (lane const& l : lanes_) states_.push_back(l.state);
    if (std::string const what = stuck_lanes(states_); !what.empty()) kernel_.stop_in(x_, y_, what);
    for (lane& l : lanes_)
      if (l.state == lane_state::at_barrier) l.state = lane_state::runs;
  }

  void arrange(std::vector<unsigned>& order, unsigned count) {
    lane_schedule const how = schedule();
    order.resize(count);
    std::iota(order.begin(), order.end(), 0u);
    if (how.order == lane_order::backward) std::reverse(order.begin(), order.end());
    if (how.order == lane_order::random)
      for (unsigned k = count; k > 1; --k) std::swap(order[k - 1], order[random(how.seed) % k]);
  }

  // A multiplicative generator: only its order has to differ.
  unsigned random(unsigned seed) {
    if (random_ == 0) random_ = 2 * std::uint64_t{seed} + 1;
    random_ *= 6364136223846793005u;
    return static_cast<unsigned>(random_ >> 33);
  }

  launched_kernel const& kernel_;
  guarded_memory shared_;
  std::vector<lane> lanes_;
  fiber thread_;
  lane* now_ = nullptr;
  grid_run* before_ = nullptr;
  unsigned x_ = 0, y_ = 0;
  bool failed_ = false;
  std::exception_ptr error_;
  std::vector<unsigned> lane_order_, warp_order_;
  std::vector<lane_state> states_;
  std::uint64_t random_ = 0;
};

}  // namespace
}  // namespace fake_cuda

namespace stiefelx::cuda {

using fake_cuda::grid_run;

unsigned thread_rank() { return grid_run::of("thread_rank()").rank(); }
unsigned block_threads() { return grid_run::of("block_threads()").threads(); }
unsigned block_x() { return grid_run::of("block_x()").x(); }
unsigned block_y() { return grid_run::of("block_y()").y(); }
unsigned grid_x() { return grid_run::of("grid_x()").blocks_x(); }
void* shared_memory() { return grid_run::of("shared_memory()").shared(); }
void block_barrier() { grid_run::of("block_barrier()").wait_at_barrier(); }
std::uint64_t shuffle_xor_bits(std::uint64_t bits, unsigned mask) {
  return grid_run::of("shuffle_xor()").shuffle(bits, mask);
}

void detail::no_work() {}

void detail::launch_kernel(stream_ref stream, launch_shape shape, void (*body)(void const*),
                           void const* kernel, std::size_t bytes, char const* name) {
  auto const launched =
      std::make_shared<fake_cuda::launched_kernel const>(shape, body, kernel, bytes, name);
  int const status = fake_cuda::launch(stream.handle, launched->name, launched->arguments.get(),
                                       bytes, [launched] { grid_run(*launched).run(); });
  check_launch(static_cast<cudaError_t>(status), name);
}

}  // namespace stiefelx::cuda
