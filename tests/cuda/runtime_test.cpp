// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Calls to the CUDA runtime: what failures say, and what copies, streams and buffers do.

#include <array>
#include <cstddef>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>
#include <boost/test/unit_test.hpp>

#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/lane.hpp>

namespace {

namespace device = stiefelx::cuda;

template <class F>
std::string message_of(F const& f) {
  try {
    f();
  } catch (device::cuda_error const& error) {
    return error.what();
  }
  return "nothing was thrown";
}

std::string message_on(fake_cuda::machine const& m, int number = 0) {
  fake_cuda::pretend const other(m);
  return message_of([&] { device::context ctx({.device = number}); });
}

bool holds(std::string const& text, char const* piece) {
  return text.find(piece) != std::string::npos;
}

using device::direction;

struct touches_shared_memory {
  std::size_t bytes;
  void operator()() const {
    if (device::thread_rank() == 0) static_cast<char*>(device::shared_memory())[bytes - 1] = 1;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(runtime)

BOOST_AUTO_TEST_CASE(a_failed_call_gives_its_name_and_the_runtimes_text) {
  BOOST_TEST(message_of([] { device::check(cudaErrorMemoryAllocation, "cudaMalloc"); }) ==
             "cudaMalloc: out of memory (error 2)");
  BOOST_TEST(message_of([] { device::check(cudaSuccess, "cudaMalloc"); }) == "nothing was thrown");
}

BOOST_AUTO_TEST_CASE(a_machine_without_a_driver_is_told_so) {
  std::string const text = message_on({.driver_version = 0, .devices = 0});
  BOOST_TEST(holds(text, "no NVIDIA driver was found on this machine"), text);
  BOOST_TEST(holds(text, "host::context"), text);
}

BOOST_AUTO_TEST_CASE(an_old_driver_is_named_with_both_versions) {
  std::string const text = message_on({.driver_version = 12040, .runtime_version = 13000});
  BOOST_TEST(holds(text, "driver supports CUDA 12.4 and this program uses CUDA 13.0"), text);
  BOOST_TEST(holds(text, "install a newer driver"), text);
}

BOOST_AUTO_TEST_CASE(a_driver_without_a_visible_device_points_to_the_variable_that_hides_it) {
  std::string const text = message_on({.devices = 0});
  BOOST_TEST(holds(text, "shows no device"), text);
  BOOST_TEST(holds(text, "CUDA_VISIBLE_DEVICES"), text);
}

BOOST_AUTO_TEST_CASE(a_device_that_does_not_exist_is_refused_with_those_that_do) {
  for (int const number : {2, -1}) {
    std::string const text = message_on({.devices = 2}, number);
    BOOST_TEST(holds(text, ("there is no device " + std::to_string(number)).c_str()), text);
    BOOST_TEST(holds(text, "from 0 to 1"), text);
  }
  fake_cuda::pretend const two({.devices = 2});
  BOOST_TEST(message_of([] { device::context ctx({.device = 1}); }) == "nothing was thrown");
  BOOST_TEST(device::current_device() == 1);
  device::use_device(0);
}

BOOST_AUTO_TEST_CASE(a_device_that_the_program_has_no_code_for_is_named_with_its_architecture) {
  std::string const text =
      message_of([] { device::expect_kernel_image(cudaErrorNoKernelImageForDevice, 0); });
  BOOST_TEST(holds(text, "holds no code for device 0, which is an sm_90"), text);
  BOOST_TEST(holds(text, "CMAKE_CUDA_ARCHITECTURES=90"), text);
  std::string const ptx =
      message_of([] { device::expect_kernel_image(cudaErrorUnsupportedPtxVersion, 0); });
  BOOST_TEST(holds(ptx, "driver supports CUDA 13.0 and cannot translate"), ptx);
  BOOST_TEST(message_of([] { device::expect_kernel_image(cudaErrorInvalidValue, 0); }) ==
             "nothing was thrown");
}

BOOST_AUTO_TEST_CASE(a_context_is_not_opened_on_a_device_that_the_program_has_no_code_for) {
  int const before = device::current_device();
  std::string const text = message_on({.devices = 2, .image = false}, 1);
  BOOST_TEST(text ==
             "cuda::context: this program holds no code for device 1, which is an sm_90; build it "
             "with CMAKE_CUDA_ARCHITECTURES=90");
  BOOST_TEST(cudaGetLastError() == cudaSuccess);
  device::use_device(before);
  fake_cuda::failure const f("cudaFuncGetAttributes", 1, cudaErrorUnsupportedPtxVersion);
  std::string const ptx = message_of([] { device::context ctx; });
  BOOST_TEST(holds(ptx, "cuda::context: the NVIDIA driver supports CUDA 13.0 and cannot"), ptx);
}

BOOST_AUTO_TEST_CASE(a_file_without_kernels_has_nothing_to_ask_about) {
  long const before = fake_cuda::calls("cudaFuncGetAttributes");
  device::require_code(nullptr, 0);
  BOOST_TEST(fake_cuda::calls("cudaFuncGetAttributes") == before);
}

BOOST_AUTO_TEST_CASE(opening_a_context_launches_nothing) {
  long const before = fake_cuda::calls("launch");
  device::context const ctx;
  BOOST_TEST(fake_cuda::calls("launch") == before);
}

BOOST_AUTO_TEST_CASE(the_first_launch_on_such_a_device_says_so_and_a_later_one_may_work) {
  device::context ctx({.blas_workspace = 4096});
  device::matrix<double> a(3, 4);
  {
    // The columns of a view are apart, so that a kernel of the library's own fills it.
    fake_cuda::pretend const other({.image = false});
    std::string const text = message_of([&] { fill(ctx, 2, a.middleRows(0, 2)); });
    BOOST_TEST(holds(text, "holds no code for device 0, which is an sm_90"), text);
  }
  BOOST_TEST(message_of([&] { fill(ctx, 2, a); }) == "nothing was thrown");
  synchronize(ctx.queue);
}

BOOST_AUTO_TEST_CASE(a_refused_launch_is_named_with_its_reason) {
  BOOST_TEST(holds(
      message_of([] { device::check_launch(cudaErrorNoKernelImageForDevice, typeid(int).name()); }),
      "holds no code"));
  BOOST_TEST(message_of([] {
               device::check_launch(cudaErrorInvalidValue, typeid(device::context).name());
             }) == "launch of kernel stiefelx::cuda::context: invalid argument (error 1)");
}

BOOST_AUTO_TEST_CASE(shared_memory_beyond_48_kib_is_asked_for_first) {
  device::stream const queue;
  for (std::size_t const bytes : {48U * 1024U, 48U * 1024U + 16U, 227U * 1024U}) {
    long const asked = fake_cuda::calls("cudaFuncSetAttribute");
    device::launch(queue, {1, 1, 32, bytes}, touches_shared_memory{bytes});
    BOOST_TEST(fake_cuda::calls("cudaFuncSetAttribute") - asked == (bytes > 48U * 1024U));
  }
  BOOST_TEST(message_of([&] {
               device::launch(queue, {1, 1, 32, 227 * 1024 + 1}, touches_shared_memory{1});
             }) == "cudaFuncSetAttribute: invalid argument (error 1)");
}

BOOST_AUTO_TEST_CASE(an_error_that_nobody_read_is_not_blamed_on_the_next_launch) {
  device::context ctx({.blas_workspace = 4096});
  device::matrix<double> a(3, 4);
  BOOST_TEST(cudaSetDevice(99) != cudaSuccess);
  BOOST_TEST(message_of([&] { fill(ctx, 2, a.middleRows(0, 2)); }) == "nothing was thrown");
  BOOST_TEST(cudaGetLastError() == cudaErrorInvalidDevice);
  fake_cuda::failure const f("cudaMalloc", 1, fake_cuda::out_of_memory);
  BOOST_TEST(message_of([] { device::buffer<float> b(4); }) ==
             "cudaMalloc: out of memory (error 2)");
  BOOST_TEST(cudaGetLastError() == cudaSuccess);
}

BOOST_AUTO_TEST_CASE(every_call_of_a_context_is_checked_and_nothing_is_left_behind) {
  long const memory = fake_cuda::live_allocations();
  for (char const* call :
       {"cudaSetDevice", "cudaFuncGetAttributes", "cudaDeviceGetAttribute",
        "cudaStreamCreateWithFlags", "cudaMalloc", "cublasCreate_v2", "cublasSetStream_v2",
        "cublasSetWorkspace_v2", "cublasSetMathMode", "cudaMemcpyAsync", "cudaStreamSynchronize"}) {
    fake_cuda::failure const f(call, 1, 1);
    std::string const text = message_of([] { device::context ctx; });
    std::string const name(call);
    bool const versioned = name.ends_with("_v2");
    BOOST_TEST(text.starts_with((versioned ? name.substr(0, name.size() - 3) : name) + ": "),
               call << " gives " << text);
    BOOST_TEST(fake_cuda::live_allocations() == memory, call);
  }
}

BOOST_AUTO_TEST_CASE(destructors_stay_silent_when_the_runtime_fails) {
  cudaStream_t queue_left = nullptr;
  void* memory_left = nullptr;
  {
    fake_cuda::failure const destroy("cudaStreamDestroy", 1, 700);
    fake_cuda::failure const give("cudaFree", 1, 700);
    fake_cuda::failure const wait("cudaStreamSynchronize", 1, 700);
    device::stream const queue;
    device::buffer<int> const memory(3);
    device::arena const blocks(queue);
    queue_left = device::stream_ref(queue).handle;
    memory_left = memory.data();
  }
  // What the failures above left is given back here, and was not before.
  BOOST_TEST(cudaStreamDestroy(queue_left) == cudaSuccess);
  BOOST_TEST(cudaFree(memory_left) == cudaSuccess);
}

BOOST_AUTO_TEST_CASE(a_copy_moves_runs_at_their_distances_and_arrives_when_waited_for) {
  device::stream const queue;
  device::buffer<int> memory(20);
  std::array<int, 12> from{};
  std::iota(from.begin(), from.end(), 1);
  device::clear_2d(memory.data(), 0, 80, 1, queue);
  // Three runs of two ints: 4 apart on the host, 5 apart on the device.
  device::copy_2d(memory.data() + 1, 20, from.data(), 16, 8, 3, direction::to_device, queue);
  std::array<int, 20> to;
  to.fill(-1);
  device::copy_2d(to.data(), 80, memory.data(), 80, 80, 1, direction::to_host, queue);
  BOOST_TEST(to[1] == -1);
  device::synchronize(queue);
  std::array<int, 20> const expected{0, 1, 2, 0, 0, 0, 5, 6, 0, 0, 0, 9, 10};
  BOOST_TEST(to == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(runs_that_follow_each_other_are_one_and_none_are_no_call) {
  device::stream const queue;
  device::buffer<int> a(12), b(12);
  device::clear_2d(a.data(), 0, 48, 1, queue);
  long const flat = fake_cuda::calls("cudaMemcpyAsync");
  long const rectangles = fake_cuda::calls("cudaMemcpy2DAsync");
  device::copy_2d(b.data(), 16, a.data(), 16, 16, 3, direction::on_device, queue);
  BOOST_TEST(fake_cuda::calls("cudaMemcpyAsync") == flat + 1);
  BOOST_TEST(fake_cuda::calls("cudaMemcpy2DAsync") == rectangles);
  long const all = fake_cuda::calls("");
  device::copy_2d(b.data(), 16, a.data(), 16, 0, 3, direction::on_device, queue);
  device::copy_2d(b.data(), 16, a.data(), 16, 16, 0, direction::on_device, queue);
  device::clear_2d(b.data(), 16, 0, 3, queue);
  device::clear_2d(b.data(), 16, 16, 0, queue);
  BOOST_TEST(fake_cuda::calls("") == all);
}

BOOST_AUTO_TEST_CASE(runs_too_far_apart_for_one_call_are_copied_all_the_same) {
  device::stream const queue;
  device::buffer<int> far(20), near(20);
  std::array<int, 20> values{};
  std::iota(values.begin(), values.end(), 0);
  for (int const limit : {16, 15}) {
    fake_cuda::pretend const other({.largest_pitch = limit});
    long const rectangles = fake_cuda::calls("cudaMemcpy2DAsync");
    // Two ints of each four; whichever end has the larger distance counts.
    device::copy_2d(far.data(), 16, values.data(), 16, 8, 3, direction::to_device, queue);
    device::copy_2d(near.data(), 12, far.data(), 16, 8, 3, direction::on_device, queue);
    device::copy_2d(far.data(), 16, near.data(), 12, 8, 3, direction::on_device, queue);
    std::array<int, 12> back{};
    device::copy_2d(back.data(), 16, far.data(), 16, 8, 3, direction::to_host, queue);
    device::synchronize(queue);
    std::array<int, 12> const expected{0, 1, 0, 0, 4, 5, 0, 0, 8, 9, 0, 0};
    BOOST_TEST(back == expected, boost::test_tools::per_element());
    BOOST_TEST(fake_cuda::calls("cudaMemcpy2DAsync") == rectangles + (limit == 16 ? 4 : 0));
  }
}

BOOST_AUTO_TEST_CASE(clearing_leaves_what_lies_between_the_runs) {
  device::stream const queue;
  device::buffer<int> memory(12);
  std::array<int, 12> values{};
  std::iota(values.begin(), values.end(), 1);
  device::copy_2d(memory.data(), 48, values.data(), 48, 48, 1, direction::to_device, queue);
  device::clear_2d(memory.data() + 1, 16, 8, 3, queue);
  device::copy_2d(values.data(), 48, memory.data(), 48, 48, 1, direction::to_host, queue);
  device::synchronize(queue);
  std::array<int, 12> const expected{1, 0, 0, 4, 5, 0, 0, 8, 9, 0, 0, 12};
  BOOST_TEST(values == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_buffer_has_one_owner) {
  long const before = fake_cuda::live_allocations();
  {
    device::buffer<double> a(5);
    double* const first = a.data();
    device::buffer<double> b(std::move(a));
    BOOST_TEST(b.data() == first);
    BOOST_TEST(b.size() == 5U);
    device::buffer<double> c(7);
    BOOST_TEST(fake_cuda::live_allocations() == before + 2);
    c = std::move(b);
    BOOST_TEST(c.data() == first);
    BOOST_TEST(fake_cuda::live_allocations() == before + 1);
    device::buffer<double> const nothing(0);
    BOOST_TEST(nothing.data() == nullptr);
    BOOST_TEST(fake_cuda::live_allocations() == before + 1);
  }
  BOOST_TEST(fake_cuda::live_allocations() == before);
}

BOOST_AUTO_TEST_CASE(a_device_answers_what_it_is) {
  fake_cuda::pretend const other({.devices = 2, .multiprocessors = 17});
  BOOST_TEST(device::compute_capability(0) == 90);
  BOOST_TEST(device::multiprocessor_count(1) == 17);
  device::use_device(1);
  BOOST_TEST(device::current_device() == 1);
  device::use_device(0);
  BOOST_TEST(holds(message_of([] { device::use_device(2); }), "cudaSetDevice: invalid device"));
}

// The memory, the queue and cuBLAS of a device are given back while that device is current, and the
// caller's stays.
BOOST_AUTO_TEST_CASE(a_context_may_go_while_another_device_is_current) {
  fake_cuda::pretend const other({.devices = 2});
  device::use_device(0);
  {
    device::context ctx({.device = 1, .blas_workspace = 4096});
    auto a = scratch<double>(ctx, 5, 3);
    fill(ctx, 2, a);
    device::use_device(0);
  }
  BOOST_TEST(device::current_device() == 0);
}

BOOST_AUTO_TEST_CASE(contexts_of_two_devices_change_the_current_one_when_asked) {
  fake_cuda::pretend const other({.devices = 2});
  device::context const first({.device = 0});
  device::context const second({.device = 1});
  BOOST_TEST(device::current_device() == 1);
  first.select();
  BOOST_TEST(device::current_device() == 0);
}

BOOST_AUTO_TEST_SUITE_END()
