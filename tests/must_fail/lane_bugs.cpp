// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   lane_bugs BUG
//
// Mistakes between the lanes of a kernel. Tier B, where lanes run as fibers in an order that favours
// mistakes, and tier C, with a thread a lane under a thread sanitizer, must each catch what the
// table says. The same text is run first as it should be, which must give the right numbers.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <cuda/child.hpp>
#include <fake_cuda/executor.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/lane.hpp>

#include "bug_table.hpp"

namespace {

namespace cuda = stiefelx::cuda;

constexpr unsigned lanes = 64;

double number(unsigned rank) { return rank + 1.0; }

/// Runs a kernel in one block and compares what each lane has written.
template <class Kernel, class Expected>
void expect_numbers(Kernel kernel, std::size_t shared_bytes, Expected const& expected) {
  cuda::stream const queue;
  cuda::buffer<double> const out(lanes);
  kernel.out = out.data();
  cuda::launch(queue, {1, 1, lanes, shared_bytes}, kernel);
  cuda::synchronize(queue);
  fake_cuda::device_access const access;
  for (unsigned k = 0; k < lanes; ++k)
    if (!(std::abs(out.data()[k] - expected(k)) < 1e-12))
      throw std::runtime_error("wrong numbers: lane " + std::to_string(k));
}

double* shared() { return static_cast<double*>(cuda::shared_memory()); }

struct neighbour {
  bool wrong;
  double* out;
  void operator()() const {
    unsigned const rank = cuda::thread_rank();
    shared()[rank] = number(rank);
    if (!wrong) cuda::block_barrier();
    out[rank] = shared()[(rank + 1) % lanes];
  }
};

struct two_sums {
  bool wrong;
  double* out;

  double sum(double v, double* exchange) const {
    for (unsigned mask = 16; mask > 0; mask /= 2) v += cuda::shuffle_xor(v, mask);
    if (cuda::thread_rank() % 32 == 0) exchange[cuda::thread_rank() / 32] = v;
    cuda::block_barrier();
    return exchange[0] + exchange[1];
  }
  void operator()() const {
    double const v = number(cuda::thread_rank());
    double const first = sum(v, shared());
    out[cuda::thread_rank()] = first + sum(v * v, shared() + (wrong ? 0 : 2));
  }
};

// Two items of a batch in one block, as run_batch() has them: the second one writes the work memory
// of the first.
struct two_items {
  bool wrong;
  double* out;
  void operator()() const {
    unsigned const rank = cuda::thread_rank();
    double sum = 0;
    for (unsigned item = 0; item < 2; ++item) {
      shared()[rank] = number(rank) + item;
      cuda::block_barrier();
      sum += shared()[lanes - 1 - rank];
      if (!wrong) cuda::block_barrier();
    }
    out[rank] = sum;
  }
};

struct some_lanes_wait {
  bool wrong;
  double* out;
  void operator()() const {
    unsigned const rank = cuda::thread_rank();
    if (!wrong || rank < lanes / 2) cuda::block_barrier();
    out[rank] = number(rank);
  }
};

struct some_lanes_shuffle {
  bool wrong;
  double* out;
  void operator()() const {
    unsigned const rank = cuda::thread_rank();
    out[rank] = number(rank);
    if (!wrong || rank % 32 < 31) out[rank] = cuda::shuffle_xor(out[rank], 1);
  }
};

struct one_more_than_shared {
  bool wrong;
  double* out;
  void operator()() const {
    unsigned const rank = cuda::thread_rank();
    auto* const places = static_cast<double volatile*>(shared());
    places[rank + (wrong ? 1 : 0)] = number(rank);
    cuda::block_barrier();
    out[rank] = wrong && rank == 0 ? number(0) : places[rank];
  }
};

struct shared_that_nobody_wrote {
  bool wrong;
  double* out;
  void operator()() const {
    unsigned const rank = cuda::thread_rank();
    if (!wrong || rank != 0) shared()[rank] = number(rank);
    cuda::block_barrier();
    out[rank] = shared()[rank];
  }
};

template <class Kernel>
void own_number(bool wrong) {
  expect_numbers(Kernel{wrong, nullptr}, lanes * sizeof(double), number);
}

void missing_barrier(bool wrong) {
  expect_numbers(neighbour{wrong, nullptr}, lanes * sizeof(double),
                 [](unsigned k) { return number((k + 1) % lanes); });
}

void missing_double_buffer(bool wrong) {
  double const n = lanes;
  double const expected = n * (n + 1) / 2 + n * (n + 1) * (2 * n + 1) / 6;
  expect_numbers(two_sums{wrong, nullptr}, 4 * sizeof(double), [=](unsigned) { return expected; });
}

void missing_barrier_between_items(bool wrong) {
  expect_numbers(two_items{wrong, nullptr}, lanes * sizeof(double),
                 [](unsigned k) { return 2 * number(lanes - 1 - k) + 1; });
}

void missing_lanes(bool wrong) {
  expect_numbers(some_lanes_shuffle{wrong, nullptr}, 0, [](unsigned k) { return number(k ^ 1u); });
}

struct bug {
  char const* name;
  void (*run)(bool wrong);
  child::end by_fibers;
  char const* fibers_say;
  child::end by_threads;
  char const* threads_say;
};

using enum child::end;

#if defined(FAKE_CUDA_ASAN)
constexpr child::end outside = exit_code;
constexpr char const* outside_says = "use-after-poison";
#else
constexpr child::end outside = stopped;
constexpr char const* outside_says = "writes outside of its 512 bytes of shared memory";
#endif

bug const bugs[] = {
    {"missing_barrier", missing_barrier, thrown, "wrong numbers", exit_code, "data race"},
    {"missing_double_buffer", missing_double_buffer, thrown, "wrong numbers", exit_code,
     "data race"},
    {"missing_barrier_between_items", missing_barrier_between_items, thrown, "wrong numbers",
     exit_code, "data race"},
    {"divergent_barrier", own_number<some_lanes_wait>, stopped,
     "lane 0 waits at a barrier, and lane 32 has returned", stopped,
     "lane 0 waits at a barrier, and lane 32 has returned"},
    {"missing_lanes", missing_lanes, stopped,
     "lane 0 shuffles, and lane 31 of its warp has returned", stopped,
     "lane 0 shuffles, and lane 31 of its warp has returned"},
    {"shared_out_of_bounds_by_one", own_number<one_more_than_shared>, outside, outside_says,
     stopped, "writes outside of its 512 bytes of shared memory"},
    {"unwritten_shared", own_number<shared_that_nobody_wrote>, thrown, "wrong numbers: lane 0",
     thrown, "wrong numbers: lane 0"},
};

}  // namespace

int main(int count, char** arguments) {
  bool const fibers = fake_cuda::keeps_lane_order;
  std::vector<must_fail::bug> here;
  for (bug const& b : bugs)
    here.push_back({b.name, b.run, fibers ? b.by_fibers : b.by_threads,
                    fibers ? b.fibers_say : b.threads_say});
  return must_fail::run_named(here, count, arguments);
}
