// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What the executors of kernels promise, and what they refuse.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/lane.hpp>

#include <fake_cuda/executor.hpp>

namespace cuda = stiefelx::cuda;

namespace {

// Runs a kernel in every order of lanes that the executor can take.
template <class Test>
void in_every_order(Test const& test) {
  fake_cuda::lane_schedule const before = fake_cuda::schedule();
  using enum fake_cuda::lane_order;
  for (fake_cuda::lane_schedule how :
       {fake_cuda::lane_schedule{forward, 0}, {backward, 0}, {random, 1}, {random, 2}}) {
    fake_cuda::schedule() = how;
    test();
    if (!fake_cuda::keeps_lane_order) break;
  }
  fake_cuda::schedule() = before;
}

template <class T>
std::vector<T> on_host(cuda::buffer<T> const& memory) {
  fake_cuda::device_access const access;
  return std::vector<T>(memory.data(), memory.data() + memory.size());
}

template <class T>
void clear(cuda::buffer<T> const& memory) {
  fake_cuda::device_access const access;
  std::memset(memory.data(), 0, memory.size() * sizeof(T));
}

// The text of the fault that a launch ends with, or "" where there is none.
template <class Kernel>
std::string fault_of(cuda::launch_shape shape, Kernel const& kernel) {
  cuda::stream const queue;
  try {
    cuda::launch(queue, shape, kernel);
  } catch (fake_cuda::fault const& e) {
    return e.what();
  }
  return "";
}

bool has(std::string const& text, std::string const& part) {
  return text.find(part) != std::string::npos;
}

struct count_lanes {
  int* out;
  void operator()() const {
    unsigned const block = cuda::block_x() + cuda::block_y() * cuda::grid_x();
    out[block * cuda::block_threads() + cuda::thread_rank()] += 1;
  }
};

struct reverse_block {
  int* out;
  void operator()() const {
    int* const shared = static_cast<int*>(cuda::shared_memory());
    unsigned const rank = cuda::thread_rank(), last = cuda::block_threads() - 1;
    for (int round = 0; round < 3; ++round) {
      shared[rank] = static_cast<int>(rank) + 1000 * round;
      cuda::block_barrier();
      out[rank] += shared[last - rank];
      cuda::block_barrier();
    }
  }
};

template <class T>
struct exchange_values {
  T* out;
  unsigned mask;
  void operator()() const {
    unsigned const rank = cuda::thread_rank();
    T const once = cuda::shuffle_xor(static_cast<T>(rank) / 4, mask);
    out[rank] = once + 100 * cuda::shuffle_xor(static_cast<T>(rank), 31);
  }
};

struct read_fresh_shared {
  double* out;
  void operator()() const {
    double* const shared = static_cast<double*>(cuda::shared_memory());
    if (cuda::thread_rank() != 0) return;
    out[cuda::block_x()] = shared[0];
    shared[0] = 1;
  }
};

struct one_lane_skips_barrier {
  void operator()() const {
    if (cuda::thread_rank() != 5) cuda::block_barrier();
  }
};

struct half_a_warp_shuffles {
  bool others_wait;
  void operator()() const {
    if (cuda::thread_rank() % 32 < 16) {
      (void)cuda::shuffle_xor(1, 1);
    } else if (others_wait) {
      cuda::block_barrier();
    }
  }
};

struct masks_differ {
  void operator()() const { (void)cuda::shuffle_xor(1, cuda::thread_rank() == 7 ? 2 : 1); }
};

struct mask_of_two_warps {
  void operator()() const { (void)cuda::shuffle_xor(1, 32); }
};

struct write_behind_shared {
  std::size_t bytes;
  void operator()() const {
    // Through an address that the compiler cannot see through, byte by byte.
    auto* const shared = static_cast<unsigned char volatile*>(cuda::shared_memory());
    if (cuda::thread_rank() == 0) shared[bytes] = 1;
  }
};

struct count_frames {
  std::atomic<int>* live;
  void operator()() const {
    struct frame {
      std::atomic<int>* live;
      explicit frame(std::atomic<int>* l) : live(l) { ++*live; }
      ~frame() { --*live; }
    } const own(live);
    cuda::block_barrier();
    if (cuda::thread_rank() == 40) throw std::runtime_error("from a lane");
    cuda::block_barrier();
  }
};

struct wide {
  static constexpr unsigned most_threads = 512;
  void operator()() const {}
};

struct nothing {
  void operator()() const {}
};

// Each reads what another lane may not have written yet.
struct missing_barrier {
  int* out;
  unsigned other;
  void operator()() const {
    int* const shared = static_cast<int*>(cuda::shared_memory());
    unsigned const rank = cuda::thread_rank();
    shared[rank] = static_cast<int>(rank);
    out[rank] = shared[rank ^ other];
  }
};

BOOST_AUTO_TEST_SUITE(executor)

BOOST_AUTO_TEST_CASE(every_lane_of_every_block_runs_once) {
  in_every_order([] {
    cuda::stream const queue;
    cuda::buffer<int> const out(3 * 2 * 64);
    clear(out);
    cuda::launch(queue, {3, 2, 64, 0}, count_lanes{out.data()});
    for (int n : on_host(out)) BOOST_REQUIRE_EQUAL(n, 1);
  });
}

BOOST_AUTO_TEST_CASE(an_empty_grid_runs_nothing) {
  cuda::stream const queue;
  cuda::launch(queue, {0, 1, 64, 0}, one_lane_skips_barrier{});
  cuda::launch(queue, {1, 0, 64, 0}, one_lane_skips_barrier{});
}

BOOST_AUTO_TEST_CASE(what_is_written_before_a_barrier_is_seen_after_it) {
  in_every_order([] {
    cuda::stream const queue;
    cuda::buffer<int> const out(96);
    clear(out);
    cuda::launch(queue, {1, 1, 96, 96 * sizeof(int)}, reverse_block{out.data()});
    auto const seen = on_host(out);
    for (int k = 0; k < 96; ++k) BOOST_REQUIRE_EQUAL(seen[std::size_t(k)], 3 * (95 - k) + 3000);
  });
}

template <class T>
void check_exchange(unsigned mask) {
  cuda::stream const queue;
  cuda::buffer<T> const out(64);
  cuda::launch(queue, {1, 1, 64, 0}, exchange_values<T>{out.data(), mask});
  auto const seen = on_host(out);
  for (unsigned k = 0; k < 64; ++k)
    BOOST_REQUIRE_EQUAL(seen[k], static_cast<T>(k ^ mask) / 4 + 100 * static_cast<T>(k ^ 31));
}

BOOST_AUTO_TEST_CASE(a_shuffle_gives_the_value_of_the_lane_beside) {
  in_every_order([] {
    for (unsigned mask : {0u, 1u, 16u, 21u}) {
      check_exchange<float>(mask);
      check_exchange<double>(mask);
      check_exchange<int>(mask);
      check_exchange<std::int64_t>(mask);
    }
  });
}

BOOST_AUTO_TEST_CASE(shared_memory_holds_nothing_of_an_earlier_block) {
  cuda::stream const queue;
  cuda::buffer<double> const out(4);
  clear(out);
  cuda::launch(queue, {4, 1, 32, sizeof(double)}, read_fresh_shared{out.data()});
  for (double v : on_host(out)) BOOST_CHECK(v != v);
}

BOOST_AUTO_TEST_CASE(shared_memory_is_aligned_to_sixteen_bytes) {
  struct kernel {
    unsigned* out;
    void operator()() const {
      if (cuda::thread_rank() == 0)
        *out = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(cuda::shared_memory()) % 16);
    }
  };
  cuda::stream const queue;
  cuda::buffer<unsigned> const out(1);
  cuda::launch(queue, {1, 1, 32, 24}, kernel{out.data()});
  BOOST_CHECK_EQUAL(on_host(out)[0], 0u);
}

BOOST_AUTO_TEST_CASE(a_barrier_that_one_lane_skips_is_reported) {
  in_every_order([] {
    std::string const text = fault_of({2, 1, 64, 0}, one_lane_skips_barrier{});
    BOOST_CHECK_MESSAGE(has(text,
                            "one_lane_skips_barrier, block (0, 0): lane 0 waits at a barrier,"
                            " and lane 5 has returned"),
                        text);
  });
}

BOOST_AUTO_TEST_CASE(a_shuffle_without_all_lanes_is_reported) {
  in_every_order([] {
    std::string text = fault_of({1, 1, 64, 0}, half_a_warp_shuffles{false});
    BOOST_CHECK_MESSAGE(has(text, "lane 0 shuffles, and lane 16 of its warp has returned"), text);
    text = fault_of({1, 1, 64, 0}, half_a_warp_shuffles{true});
    BOOST_CHECK_MESSAGE(has(text, "lane 0 shuffles, and lane 16 of its warp waits at a barrier"),
                        text);
  });
}

BOOST_AUTO_TEST_CASE(a_shuffle_with_several_masks_is_reported) {
  std::string text = fault_of({1, 1, 32, 0}, masks_differ{});
  BOOST_CHECK_MESSAGE(has(text, "lanes 0 and 7 shuffle with masks 1 and 2"), text);
  text = fault_of({1, 1, 32, 0}, mask_of_two_warps{});
  BOOST_CHECK_MESSAGE(has(text, "a shuffle with mask 32, expected below 32"), text);
}

#if !defined(FAKE_CUDA_ASAN)
// Under an address sanitizer the write itself ends the program.
BOOST_AUTO_TEST_CASE(a_write_behind_shared_memory_is_reported) {
  for (std::size_t bytes : {0u, 24u, 40000u}) {
    std::string const text = fault_of({1, 1, 32, bytes}, write_behind_shared{bytes});
    BOOST_CHECK_MESSAGE(
        has(text, "it writes outside of its " + std::to_string(bytes) + " bytes of shared memory"),
        text);
  }
}
#endif

BOOST_AUTO_TEST_CASE(a_launch_that_no_device_takes_is_reported) {
  auto const launch = [](cuda::launch_shape shape, std::size_t bytes) -> std::string {
    cuda::stream const queue;
    std::vector<char> const kernel(bytes);
    try {
      cuda::detail::launch_kernel(queue, shape, [](void const*) {}, kernel.data(), bytes, "i");
    } catch (fake_cuda::fault const& e) {
      return e.what();
    }
    return "";
  };
  BOOST_CHECK_EQUAL(launch({1, 1, 32, 48 * 1024}, 8), "");
  BOOST_CHECK(
      has(launch({1, 1, 32, 48 * 1024 + 1}, 8), "which cudaFuncSetAttribute did not allow"));
  BOOST_CHECK(has(launch({1, 1, 32, 227 * 1024 + 1}, 8), "232449 bytes of shared memory"));
  BOOST_CHECK(has(launch({1, 1, 48, 0}, 8), "48 threads, expected a multiple of 32 up to 1024"));
  BOOST_CHECK(has(launch({1, 1, 1056, 0}, 8), "1056 threads"));
  BOOST_CHECK(has(launch({1, 1, 0, 0}, 8), "0 threads"));
  BOOST_CHECK(has(launch({0, 1, 32, 0}, 8), "a grid without blocks"));
  BOOST_CHECK(has(launch({1, 65536, 32, 0}, 8), "65536 blocks along y"));
  BOOST_CHECK(has(launch({1, 1, 32, 0}, 5000), "5000 bytes of arguments"));
}

BOOST_AUTO_TEST_CASE(a_block_beyond_the_registers_of_its_kernel_throws_before_the_launch) {
  cuda::stream const queue;
  BOOST_CHECK_THROW(cuda::launch(queue, {1, 1, 288, 0}, nothing{}), std::invalid_argument);
  BOOST_CHECK_THROW(cuda::launch(queue, {1, 1, 40, 0}, nothing{}), std::invalid_argument);
  BOOST_CHECK_THROW(cuda::launch(queue, {1, 1, 544, 0}, wide{}), std::invalid_argument);
  BOOST_CHECK_EQUAL(cuda::most_threads<wide>, 512u);
  // A thread a lane is a matter of the machine that tests run on.
  std::string const text = fault_of({1, 1, 512, 0}, wide{});
  BOOST_CHECK_EQUAL(has(text, "threads run at most 256 lanes a block, not 512"),
                    !fake_cuda::keeps_lane_order);
}

BOOST_AUTO_TEST_CASE(lane_functions_outside_of_a_kernel_are_reported) {
  BOOST_CHECK_THROW(cuda::thread_rank(), fake_cuda::fault);
  BOOST_CHECK_THROW(cuda::block_barrier(), fake_cuda::fault);
  BOOST_CHECK_THROW((void)cuda::shuffle_xor(1.0, 1), fake_cuda::fault);
}

BOOST_AUTO_TEST_CASE(a_failed_kernel_leaves_no_frame_and_the_next_one_runs) {
  std::atomic<int> live = 0;
  cuda::stream const queue;
  BOOST_CHECK_THROW(cuda::launch(queue, {1, 1, 64, 0}, count_frames{&live}), std::runtime_error);
  BOOST_CHECK_EQUAL(live.load(), 0);
  cuda::buffer<int> const out(64);
  clear(out);
  cuda::launch(queue, {1, 1, 64, 0}, count_lanes{out.data()});
  for (int n : on_host(out)) BOOST_REQUIRE_EQUAL(n, 1);
}

BOOST_AUTO_TEST_CASE(the_order_of_lanes_shows_a_missing_barrier) {
  if (!fake_cuda::keeps_lane_order) return;
  for (unsigned other : {1u, 32u}) {
    in_every_order([&] {
      cuda::stream const queue;
      cuda::buffer<int> const out(64);
      cuda::launch(queue, {1, 1, 64, 64 * sizeof(int)}, missing_barrier{out.data(), other});
      auto const seen = on_host(out);
      int wrong = 0;
      for (unsigned k = 0; k < 64; ++k) wrong += seen[k] != static_cast<int>(k ^ other);
      BOOST_CHECK_GE(wrong, 16);
    });
  }
}

BOOST_AUTO_TEST_CASE(the_order_of_lanes_is_the_one_that_was_asked_for) {
  if (!fake_cuda::keeps_lane_order) return;
  struct kernel {
    int* next;
    int* place;
    void operator()() const { place[cuda::thread_rank()] = (*next)++; }
  };
  auto const places = [](fake_cuda::lane_schedule how) {
    fake_cuda::lane_schedule const before = fake_cuda::schedule();
    fake_cuda::schedule() = how;
    cuda::stream const queue;
    cuda::buffer<int> const next(1), place(64);
    clear(next);
    cuda::launch(queue, {1, 1, 64, 0}, kernel{next.data(), place.data()});
    fake_cuda::schedule() = before;
    return on_host(place);
  };
  using enum fake_cuda::lane_order;
  auto const forwards = places({forward, 0}), backwards = places({backward, 0});
  for (int k = 0; k < 64; ++k) {
    BOOST_REQUIRE_EQUAL(forwards[std::size_t(k)], k);
    BOOST_REQUIRE_EQUAL(backwards[std::size_t(k)], 63 - k);
  }
  BOOST_CHECK(places({random, 3}) == places({random, 3}));
  BOOST_CHECK(places({random, 3}) != places({random, 4}));
}

BOOST_AUTO_TEST_CASE(the_environment_names_an_order) {
  using enum fake_cuda::lane_order;
  BOOST_CHECK(fake_cuda::schedule_of("backward").order == backward);
  BOOST_CHECK(fake_cuda::schedule_of("forward").order == forward);
  BOOST_CHECK_EQUAL(fake_cuda::schedule_of("random:17").seed, 17u);
  BOOST_CHECK(fake_cuda::schedule_of(nullptr).order == random);
  BOOST_CHECK_THROW((void)fake_cuda::schedule_of("sideways"), fake_cuda::fault);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
