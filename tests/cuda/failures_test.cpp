// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every call that a program makes of the runtime and of cuBLAS fails once, in turn: the exception
// names it, nothing is left behind, and the context goes on.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>
#include <boost/test/unit_test.hpp>

#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/graph.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/reductions.hpp>
#include <stiefelx/cuda/transfer.hpp>

namespace {

namespace device = stiefelx::cuda;
using numbers = std::vector<double>;

constexpr int invalid = 1;  // an invalid argument for the runtime, no handle for cuBLAS

/// What the exception about a call begins with.
std::string head_of(std::string symbol) {
  if (symbol == "launch") return "launch of kernel ";
  if (symbol.ends_with("_v2")) symbol.resize(symbol.size() - 3);
  return symbol + ": ";
}

/// Copies, products, kernels and reductions with scratch, once directly and once as a graph.
struct small_program {
  device::matrix<double> x, g;
  std::optional<device::graph> work;

  explicit small_program(device::context& ctx)
      : x(zeros<double>(ctx, 4, 3)), g(zeros<double>(ctx, 4, 3)) {}

  // A copy to `found` may arrive after the wait for it has failed.
  numbers const& run(device::context& ctx, numbers& found) {
    numbers const start{1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 1};
    upload(ctx, start.data(), x);
    fill(ctx, 0.5, g);
    auto const step = [&] {
      auto const gram_matrix = gram(ctx, x);
      auto change = product(ctx, g, gram_matrix);
      auto length = scratch<double>(ctx, 1, 1);
      norm(ctx, change, length);
      axpy(ctx, length, change, x);
      scale(ctx, 0.25, x.middleRows(1, 2));
    };
    step();
    work.emplace(capture(ctx, step));
    replay(ctx, *work);
    download(ctx, x, found.data());
    return found;
  }
};

/// Runs f with its n-th call failing, for every n, and gives each of them to `look`.
template <class F, class Look>
int fail_in_turn(F const& f, Look const& look) {
  for (long n = 1;; ++n) {
    std::string text = "nothing was thrown", failed;
    {
      fake_cuda::failure const one("", n, invalid);
      try {
        f();
      } catch (device::cuda_error const& error) {
        text = error.what();
      }
      failed = one.failed();
    }
    if (failed.empty()) return static_cast<int>(n) - 1;
    BOOST_TEST_CONTEXT("call " << n << ", " << failed) look(failed, text);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(failures)

BOOST_AUTO_TEST_CASE(a_context_goes_on_after_any_failure_of_a_step) {
  numbers found(12);
  device::context ctx({.blas_workspace = 4096});
  small_program program(ctx);
  numbers const expected = program.run(ctx, found);
  program.work.reset();
  long const memory = fake_cuda::live_allocations();
  bool finished = false;
  int const calls = fail_in_turn(
      [&] {
        finished = false;
        program.run(ctx, found);
        finished = true;
        program.work.reset();
      },
      [&](std::string const& failed, std::string const& text) {
        // What fails at the end of an object is not thrown.
        BOOST_TEST(text.starts_with(finished ? "nothing was thrown" : head_of(failed)), text);
        program.work.reset();
        BOOST_TEST(fake_cuda::live_allocations() == memory);
        BOOST_TEST(ctx.memory.live() == 0U);
        BOOST_TEST(program.run(ctx, found) == expected, boost::test_tools::per_element());
        program.work.reset();
      });
  BOOST_TEST(calls >= 25);
}

BOOST_AUTO_TEST_CASE(a_program_that_fails_anywhere_leaves_nothing_behind) {
  numbers found(12);
  long const memory = fake_cuda::live_allocations();
  bool finished = false;
  int const calls = fail_in_turn(
      [&] {
        finished = false;
        device::context ctx({.blas_workspace = 4096});
        small_program program(ctx);
        program.run(ctx, found);
        finished = true;
      },
      [&](std::string const& failed, std::string const& text) {
        BOOST_TEST(text.starts_with(finished ? "nothing was thrown" : head_of(failed)), text);
        BOOST_TEST(fake_cuda::live_allocations() == memory);
      });
  BOOST_TEST(calls >= 40);
}

BOOST_AUTO_TEST_CASE(what_fails_in_a_destructor_is_not_blamed_on_the_next_launch) {
  device::context ctx({.blas_workspace = 4096});
  auto x = zeros<double>(ctx, 2, 2);
  for (char const* call : {"cudaStreamSynchronize", "cudaStreamDestroy"}) {
    void* left = nullptr;
    {
      fake_cuda::failure const f(call, 1, 700);
      device::stream const queue;
      left = device::stream_ref(queue).handle;
      device::arena const blocks(queue);
    }
    BOOST_CHECK_NO_THROW(fill(ctx, 1, x));
    // What was not destroyed is destroyed here.
    if (std::string(call) == "cudaStreamDestroy")
      (void)cudaStreamDestroy(static_cast<cudaStream_t>(left));
  }
}

BOOST_AUTO_TEST_CASE(shared_memory_is_allowed_within_bounds_and_on_one_device) {
  fake_cuda::pretend const two({.devices = 2});
  auto const allow = [&](int bytes) {
    return cudaFuncSetAttribute(&two, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  for (int const bytes : {-1, 227 * 1024 + 1}) BOOST_TEST(allow(bytes) == cudaErrorInvalidValue);
  BOOST_TEST(allow(60000) == cudaSuccess);
  BOOST_TEST(fake_cuda::shared_memory_of(&two) == 60000U);
  cudaSetDevice(1);
  BOOST_TEST(fake_cuda::shared_memory_of(&two) == 48U * 1024);
  cudaSetDevice(0);
}

BOOST_AUTO_TEST_SUITE_END()
