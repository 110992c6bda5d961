// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the two executors of kernels share. One of them is linked: fibers.cpp runs the lanes of a
// block as fibers of one thread, fast and the same every time; threads.cpp gives each lane a thread
// of its own, for a thread sanitizer.
#pragma once

#include <cxxabi.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <stiefelx/cuda/lane.hpp>

#include "fake.hpp"
#include "sanitizer.hpp"

namespace fake_cuda {

/// In which order lanes run between two barriers. Programming Guide, SIMT Architecture: threads of
/// a warp "are therefore free to branch and execute independently".
enum class lane_order { forward, backward, random };

/// The order and the seed of a random one. At the start they come from the environment variable
/// FAKE_CUDA_LANE_ORDER: forward, backward, random or random:SEED. Threads ignore it.
struct lane_schedule {
  lane_order order = lane_order::random;
  unsigned seed = 1;
};

inline lane_schedule schedule_of(char const* text) {
  if (text == nullptr) return {};
  std::string const name(text);
  if (name == "forward") return {lane_order::forward, 0};
  if (name == "backward") return {lane_order::backward, 0};
  if (name.rfind("random:", 0) == 0)
    return {lane_order::random, static_cast<unsigned>(std::strtoul(text + 7, nullptr, 10))};
  if (name != "random") stop("FAKE_CUDA_LANE_ORDER is " + name + ", expected forward or random:1");
  return {};
}

/// What the next launches use.
inline lane_schedule& schedule() {
  static lane_schedule now = schedule_of(std::getenv("FAKE_CUDA_LANE_ORDER"));
  return now;
}

/// Whether the linked executor runs lanes in the order of the schedule.
extern bool const keeps_lane_order;

/// What a lane does, as far as an executor knows.
enum class lane_state : unsigned { runs, at_barrier, in_shuffle, returned };

/// What keeps lanes waiting that wait for ever, or "" where none waits. Programming Guide:
/// __syncthreads() "waits until all threads in the thread block have reached this point", and where
/// some do not "the code execution is likely to hang or produce unintended side effects". Of
/// shuffles: "If the target thread is inactive, the retrieved value is undefined." That PTX's
/// shfl.sync waits for "non-exited threads" alone is no use: a lane that returned gives no value.
/// \param states  of every lane, none of which can go on
inline std::string stuck_lanes(std::vector<lane_state> const& states) {
  auto const lane = [](auto place) { return "lane " + std::to_string(place); };
  for (std::size_t k = 0; k < states.size(); ++k) {
    if (states[k] != lane_state::in_shuffle) continue;
    std::size_t missing = k / 32 * 32;
    while (states[missing] == lane_state::in_shuffle) ++missing;
    return lane(k) + " shuffles, and " + lane(missing) + " of its warp " +
           (states[missing] == lane_state::returned ? "has returned" : "waits at a barrier");
  }
  std::size_t waits = states.size(), gone = states.size();
  for (std::size_t k = states.size(); k-- > 0;)
    (states[k] == lane_state::returned ? gone : waits) = k;
  if (waits == states.size() || gone == states.size()) return "";
  return lane(waits) + " waits at a barrier, and " + lane(gone) + " has returned";
}

/// One launch as the executor got it; the kernel is a copy.
struct launched_kernel {
  stiefelx::cuda::launch_shape shape;
  void (*body)(void const*);
  std::unique_ptr<std::max_align_t[]> arguments;
  std::string name;

  launched_kernel(stiefelx::cuda::launch_shape s, void (*text)(void const*), void const* kernel,
                  std::size_t bytes, char const* mangled)
      : shape(s), body(text) {
    name = plain_name(mangled);
    expect_possible(bytes);
    arguments = std::make_unique<std::max_align_t[]>(bytes / sizeof(std::max_align_t) + 1);
    std::memcpy(arguments.get(), kernel, bytes);
  }

  void run() const { body(arguments.get()); }

  /// Stops with the block and what is wrong in it.
  [[noreturn]] void stop_in(unsigned x, unsigned y, std::string const& what) const {
    stop("kernel " + name + ", block (" + std::to_string(x) + ", " + std::to_string(y) +
         "): " + what);
  }

 private:
  // Kernels are few, launches many, and names long.
  static std::string const& plain_name(char const* mangled) {
    static thread_local std::unordered_map<char const*, std::string> known;
    std::string& made = known[mangled];
    if (!made.empty()) return made;
    int status = 0;
    std::unique_ptr<char, void (*)(void*)> const plain(
        abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
    return made = status == 0 ? plain.get() : mangled;
  }

  // Programming Guide, Features and Technical Specifications, column 9.0.
  // cudaErrorInvalidConfiguration: "Requesting more shared memory per block than the device
  // supports will trigger this error, as will requesting too many threads or blocks."
  void expect_possible(std::size_t bytes) const {
    auto const refuse = [&](std::string const& what) { stop("launch of " + name + ": " + what); };
    // "Maximum number of threads per block: 1024". A warp that is not whole has lanes that no
    // shuffle may ask, so it is refused here, as is a grid of nothing.
    if (shape.threads == 0 || shape.threads % 32 != 0 || shape.threads > 1024)
      refuse(std::to_string(shape.threads) + " threads, expected a multiple of 32 up to 1024");
    if (shape.blocks_x == 0 || shape.blocks_y == 0) refuse("a grid without blocks");
    // "Maximum x-dimension of a grid: 2^31-1", and "y- or z-dimension: 65535".
    if (shape.blocks_x > 0x7fffffffu) refuse("more than 2147483647 blocks along x");
    if (shape.blocks_y > 65535u)
      refuse(std::to_string(shape.blocks_y) + " blocks along y, expected at most 65535");
    // "Maximum amount of shared memory per thread block: 227 KB".
    if (shape.shared_bytes > std::size_t{227} * 1024)
      refuse(std::to_string(shape.shared_bytes) +
             " bytes of shared memory, expected at most 232448");
    // "Kernels relying on shared memory allocations over 48 KB per block [...] require an explicit
    // opt-in using the cudaFuncSetAttribute() function."
    if (shape.shared_bytes > shared_memory_of(reinterpret_cast<void const*>(body)))
      refuse(std::to_string(shape.shared_bytes) +
             " bytes of shared memory, which cudaFuncSetAttribute did not allow");
    // Function Parameters: "limited to 32,764 bytes starting with Volta, and 4 KB on older
    // architectures"; the library keeps to the smaller one.
    if (bytes > 4096) refuse(std::to_string(bytes) + " bytes of arguments, expected at most 4096");
  }
};

/// The shared memory of one block at a time: full of 0xFF when a block starts, so that what was not
/// written is NaN, and with guards before and behind it. Nothing says what it holds then. Of what
/// lies beside it cudaErrorLaunchFailure says: "Common causes include [...] accessing out of bounds
/// shared memory."
class guarded_memory {
 public:
  explicit guarded_memory(std::size_t bytes) : bytes_(bytes), room_(bytes + 2 * guard + 32, mark) {
    // Aligned to 16 bytes and to no more: nothing promises more of an array without a type, and 16
    // is the largest of the "words of size equal to 1, 2, 4, 8, or 16 bytes" of a memory
    // instruction.
    auto const at = reinterpret_cast<std::uintptr_t>(room_.data() + guard);
    first_ = room_.data() + guard + (48 - at % 32) % 32;
    poison(true);
  }
  ~guarded_memory() { poison(false); }
  guarded_memory(guarded_memory const&) = delete;
  guarded_memory& operator=(guarded_memory const&) = delete;

  unsigned char* data() const { return first_; }
  void start_block() { std::memset(first_, 0xff, bytes_); }

  /// Whether a block has left the guards as they were.
  bool is_intact() {
    poison(false);
    bool intact = true;
    for (std::size_t k = 1; k <= guard; ++k)
      intact = intact && first_[-static_cast<std::ptrdiff_t>(k)] == mark &&
               first_[bytes_ + k - 1] == mark;
    poison(true);
    return intact;
  }

 private:
  static constexpr std::size_t guard = 256;
  static constexpr unsigned char mark = 0xa5;

  void poison([[maybe_unused]] bool on) {
#if defined(FAKE_CUDA_ASAN)
    for (unsigned char const* from : {first_ - guard, first_ + bytes_}) {
      if (on) {
        ASAN_POISON_MEMORY_REGION(from, guard);
      } else {
        ASAN_UNPOISON_MEMORY_REGION(from, guard);
      }
    }
#endif
  }

  std::size_t bytes_;
  std::vector<unsigned char> room_;
  unsigned char* first_;
};

}  // namespace fake_cuda
