// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The fake CUDA runtime: each of its guards catches what it is there for, and nothing else.

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>
#include <boost/test/unit_test.hpp>

#include <cuda/child.hpp>
#include <cuda/stopped.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/runtime.hpp>

namespace {

using fake_cuda::device_access;
using stiefelx::cuda::buffer;
using stiefelx::cuda::stream;
using stiefelx::cuda::stream_ref;

cudaStream_t raw(stream const& s) { return static_cast<stream_ref>(s).handle; }

template <class T>
void put(buffer<T> const& to, std::vector<T> const& from, stream const& s) {
  cudaMemcpyAsync(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice, raw(s));
}

struct one_stream {
  stream s;
  buffer<double> a{32}, b{32};
  std::vector<double> host = std::vector<double>(32, 1.0);
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(fake, one_stream)

BOOST_AUTO_TEST_CASE(the_host_cannot_touch_device_memory) {
  double* const p = a.data();
  BOOST_TEST(
      (child::run([&] { *static_cast<double volatile*>(p) = 1; }).how == child::end::memory_fault));
  BOOST_TEST((child::run([&] { (void)*static_cast<double volatile*>(p); }).how ==
              child::end::memory_fault));
  device_access const access;
  *p = 1;
  BOOST_TEST(*p == 1);
}

BOOST_AUTO_TEST_CASE(nested_access_closes_with_the_outermost) {
  auto const reads_after = [&](bool outer) {
    return child::run([&] {
             device_access* const first = outer ? new device_access : nullptr;
             {
               device_access const second;
             }
             (void)*static_cast<double volatile*>(a.data());
             delete first;
           })
        .how;
  };
  BOOST_TEST((reads_after(true) == child::end::normal));
  BOOST_TEST((reads_after(false) == child::end::memory_fault));
}

BOOST_AUTO_TEST_CASE(a_kernel_that_reads_behind_an_allocation_faults) {
  // 256 bytes end at the inaccessible page.
  auto const read = [&](std::ptrdiff_t i) {
    return child::run([&] {
             device_access const access;
             (void)static_cast<double volatile*>(a.data())[i];
           })
        .how;
  };
  BOOST_TEST((read(31) == child::end::normal));
  BOOST_TEST((read(32) == child::end::memory_fault));
}

BOOST_AUTO_TEST_CASE(a_kernel_that_writes_between_allocation_and_page_is_found_at_the_next_call) {
  for (std::ptrdiff_t const place : {-1, 10}) {
    auto const ended = child::run([&] {
      buffer<float> const small(10);
      {
        device_access const access;
        small.data()[place] = 1;
      }
      cudaStreamSynchronize(raw(s));
    });
    // An address sanitizer reports the write itself.
    bool const by_sanitizer = ended.text.find("use-after-poison") != std::string::npos;
    BOOST_TEST((by_sanitizer || (ended.how == child::end::stopped &&
                                 ended.text.find("40 bytes was written") != std::string::npos)),
               ended.text);
  }
}

BOOST_AUTO_TEST_CASE(fresh_memory_is_nan_and_aligned) {
  for (std::size_t const n : {1U, 33U, 600U, 3000000U}) {
    buffer<double> const memory(n);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(memory.data()) % 256 == 0U);
    device_access const access;
    BOOST_TEST(std::isnan(memory.data()[0]));
    BOOST_TEST(std::isnan(memory.data()[n - 1]));
  }
}

BOOST_AUTO_TEST_CASE(a_copy_must_go_where_its_kind_says) {
  double* const d = a.data();
  double* const h = host.data();
  auto const copy = [&](void* to, void const* from, cudaMemcpyKind kind) {
    return [=, this] { cudaMemcpyAsync(to, from, 8, kind, raw(s)); };
  };
  BOOST_TEST(stops(copy(h, h, cudaMemcpyHostToDevice), "target is a host pointer"));
  BOOST_TEST(stops(copy(d, d, cudaMemcpyHostToDevice), "source is a device pointer"));
  BOOST_TEST(stops(copy(d, d + 1, cudaMemcpyDeviceToHost), "target is a device pointer"));
  BOOST_TEST(stops(copy(h, h, cudaMemcpyDeviceToHost), "source is a host pointer"));
  BOOST_TEST(stops(copy(d, h, cudaMemcpyDeviceToDevice), "source is a host pointer"));
  BOOST_TEST(stops(copy(d, h, cudaMemcpyDefault), "says nothing"));
  BOOST_CHECK_NO_THROW(copy(d, h, cudaMemcpyHostToDevice)());
  BOOST_CHECK_NO_THROW(copy(b.data(), d, cudaMemcpyDeviceToDevice)());
}

BOOST_AUTO_TEST_CASE(a_copy_must_stay_in_its_allocation) {
  auto const flat = [&](std::size_t bytes) { cudaMemsetAsync(a.data(), 0, bytes, raw(s)); };
  BOOST_CHECK_NO_THROW(flat(256));
  BOOST_TEST(stops([&] { flat(257); }, "leaves its allocation"));
  auto const rows = [&](std::size_t pitch, std::size_t width, std::size_t height) {
    cudaMemcpy2DAsync(a.data(), pitch, b.data(), pitch, width, height, cudaMemcpyDeviceToDevice,
                      raw(s));
  };
  BOOST_CHECK_NO_THROW(rows(64, 64, 4));
  BOOST_CHECK_NO_THROW(rows(72, 40, 4));
  BOOST_TEST(stops([&] { rows(72, 48, 4); }, "leaves its allocation"));
  BOOST_TEST(stops([&] { rows(32, 40, 4); }, "dpitch 32 < width 40"));
  auto const shifted = [&](std::ptrdiff_t by, std::size_t n) {
    cudaMemcpyAsync(a.data() + by, a.data(), n * 8, cudaMemcpyDeviceToDevice, raw(s));
  };
  BOOST_TEST(stops([&] { shifted(3, 4); }, "overlap"));
  BOOST_CHECK_NO_THROW(shifted(4, 4));
}

BOOST_AUTO_TEST_CASE(what_goes_to_the_host_arrives_when_its_stream_is_waited_for) {
  stream const other;
  put(a, host, s);
  std::vector<double> got(32, 5.0);
  cudaMemcpyAsync(got.data(), a.data(), 256, cudaMemcpyDeviceToHost, raw(s));
  BOOST_TEST(std::isnan(got[3]));
  cudaStreamSynchronize(raw(other));
  BOOST_TEST(std::isnan(got[3]));
  BOOST_TEST(cudaStreamQuery(raw(s)) == cudaErrorNotReady);
  BOOST_TEST(std::isnan(got[3]));
  // It holds what the device held when the copy was queued.
  cudaMemsetAsync(a.data(), 0, 256, raw(s));
  cudaStreamSynchronize(raw(s));
  BOOST_TEST(got[3] == 1.0);
}

BOOST_AUTO_TEST_CASE(an_event_brings_what_came_before_it_and_no_more) {
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  BOOST_TEST(stops([&] { cudaStreamWaitEvent(raw(s), event, 0); }, "nothing was recorded"));
  put(a, host, s);
  double first = 0, second = 0;
  cudaMemcpyAsync(&first, a.data(), 8, cudaMemcpyDeviceToHost, raw(s));
  cudaEventRecord(event, raw(s));
  cudaMemcpyAsync(&second, a.data(), 8, cudaMemcpyDeviceToHost, raw(s));
  cudaEventSynchronize(event);
  BOOST_TEST(first == 1.0);
  BOOST_TEST(std::isnan(second));
  cudaEventDestroy(event);
  BOOST_TEST(stops([&] { cudaEventRecord(event, raw(s)); }, "event was destroyed"));
  cudaStreamSynchronize(raw(s));
}

BOOST_AUTO_TEST_CASE(a_pinned_source_stays_until_its_stream_is_waited_for) {
  auto const upload = [&](bool change) {
    void* p = nullptr;
    cudaHostAlloc(&p, 8, cudaHostAllocDefault);
    auto* const source = static_cast<double*>(p);
    *source = 2;
    cudaMemcpyAsync(a.data(), source, 8, cudaMemcpyHostToDevice, raw(s));
    bool const early = stops([&] { cudaFreeHost(p); }, "is not waited for");
    if (change) *source = 3;
    bool const changed =
        stops([&] { cudaStreamSynchronize(raw(s)); }, "source of a copy was changed");
    cudaFreeHost(p);
    return early && changed == change;
  };
  BOOST_TEST(upload(false));
  BOOST_TEST(upload(true));
}

BOOST_AUTO_TEST_CASE(pageable_memory_stays_too_where_copies_read_it_in_place) {
  for (bool const in_place : {false, true}) {
    fake_cuda::pretend const other({.reads_in_place = in_place});
    put(a, host, s);
    host[3] += 1;
    BOOST_TEST(stops([&] { cudaStreamSynchronize(raw(s)); }, "source of a copy") == in_place);
  }
}

BOOST_AUTO_TEST_CASE(a_distance_above_the_largest_one_is_refused) {
  auto const copy = [&](std::size_t to, std::size_t from) {
    return cudaMemcpy2DAsync(a.data(), to, b.data(), from, 16, 3, cudaMemcpyDeviceToDevice, raw(s));
  };
  fake_cuda::pretend const other({.largest_pitch = 31});
  BOOST_TEST(copy(24, 24) == cudaSuccess);
  BOOST_TEST(copy(32, 24) == cudaErrorInvalidPitchValue);
  BOOST_TEST(copy(24, 32) == cudaErrorInvalidPitchValue);
  BOOST_TEST(cudaGetLastError() == cudaErrorInvalidPitchValue);
}

BOOST_AUTO_TEST_CASE(another_stream_must_wait_for_what_it_uses) {
  stream const other;
  auto const read = [&] {
    cudaMemcpyAsync(b.data(), a.data(), 64, cudaMemcpyDeviceToDevice, raw(other));
  };
  put(a, host, s);
  BOOST_TEST(stops(read, "reads memory that another stream writes"));
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  cudaEventRecord(event, raw(s));
  BOOST_TEST(stops(read, "another stream writes"));
  cudaStreamWaitEvent(raw(other), event, 0);
  BOOST_CHECK_NO_THROW(read());
  // The read is now what a write must wait for; two reads go together.
  BOOST_TEST(stops([&] { put(a, host, s); }, "writes memory that another stream reads"));
  std::vector<double> got(4);
  BOOST_CHECK_NO_THROW(cudaMemcpyAsync(got.data(), a.data(), 32, cudaMemcpyDeviceToHost, raw(s)));
  cudaStreamSynchronize(raw(other));
  BOOST_CHECK_NO_THROW(put(a, host, s));
  cudaEventDestroy(event);
}

BOOST_AUTO_TEST_CASE(streams_may_share_an_allocation_in_parts) {
  stream const other;
  // Rows 0 and 1 of a 4 x 8 matrix on one stream, rows 2 and 3 on the other.
  cudaMemset2DAsync(a.data(), 32, 0, 16, 8, raw(s));
  BOOST_CHECK_NO_THROW(cudaMemset2DAsync(a.data() + 2, 32, 0, 16, 8, raw(other)));
  BOOST_TEST(stops([&] { cudaMemset2DAsync(a.data() + 1, 32, 0, 16, 8, raw(other)); },
                   "another stream writes"));
}

BOOST_AUTO_TEST_CASE(a_launch_is_part_of_the_order_of_streams) {
  stream const other;
  struct {
    double const* in;
    double* out;
  } const kernel{a.data(), b.data()};
  auto const launch = [&](stream const& queue, double result) {
    fake_cuda::launch(raw(queue), "kernel", &kernel, sizeof kernel, [&] { *kernel.out = result; });
  };
  put(a, host, s);
  BOOST_TEST(stops([&] { launch(other, 1); }, "kernel reads memory that another stream writes"));
  long const before = fake_cuda::calls("launch");
  launch(s, 2);
  BOOST_TEST(fake_cuda::calls("launch") == before + 1);
  BOOST_TEST(fake_cuda::calls("kernel") > 0);
  double got = 0;
  auto const read = [&](double const* p) {
    cudaMemcpyAsync(&got, p, 8, cudaMemcpyDeviceToHost, raw(other));
  };
  BOOST_TEST(stops([&] { read(b.data()); }, "another stream writes"));
  cudaStreamSynchronize(raw(s));
  BOOST_CHECK_NO_THROW(read(b.data()));
  // What a kernel only read is free for all readers.
  launch(s, 2);
  BOOST_CHECK_NO_THROW(read(a.data()));
}

BOOST_AUTO_TEST_CASE(streams_that_are_none_are_refused) {
  auto const set = [&](cudaStream_t q) { cudaMemsetAsync(a.data(), 0, 8, q); };
  BOOST_TEST(stops([&] { set(nullptr); }, "on the default stream"));
  BOOST_TEST(stops([&] { set(cudaStreamLegacy); }, "not a stream"));
  cudaStream_t gone = nullptr;
  cudaStreamCreateWithFlags(&gone, cudaStreamNonBlocking);
  cudaStreamDestroy(gone);
  BOOST_TEST(stops([&] { set(gone); }, "the stream was destroyed"));
  BOOST_TEST(stops([&] { cudaStreamDestroy(gone); }, "the stream was destroyed"));
  BOOST_TEST(stops([&] { cudaStreamCreateWithFlags(&gone, cudaStreamDefault); }, "default stream"));
}

BOOST_AUTO_TEST_CASE(memory_is_given_back_once_and_not_used_after) {
  void* p = nullptr;
  cudaMalloc(&p, 512);
  auto* const bytes = static_cast<char*>(p);
  BOOST_TEST(stops([&] { cudaFree(bytes + 256); }, "not an address that cudaMalloc returned"));
  cudaFree(p);
  BOOST_TEST(stops([&] { cudaFree(p); }, "freed before"));
  BOOST_TEST(stops([&] { cudaMemsetAsync(bytes + 8, 0, 8, raw(s)); }, "was freed"));
  BOOST_TEST((child::run([&] {
                device_access const access;
                *static_cast<char volatile*>(bytes) = 1;
              }).how == child::end::memory_fault));
  BOOST_TEST(cudaFree(nullptr) == cudaSuccess);
}

BOOST_AUTO_TEST_CASE(what_is_left_at_exit_is_an_error) {
  auto const leave = [](auto const& f) { return child::run(f, true); };
  // The fixture's own objects are never destroyed in a child, so each report has them too.
  BOOST_TEST(leave([] {}).text.find("2 allocations of 512 bytes") != std::string::npos);
  BOOST_TEST(leave([] {}).text.find("1 streams") != std::string::npos);
  auto const ended = leave([] {
    void* p = nullptr;
    cudaMalloc(&p, 100);
    cudaHostAlloc(&p, 100, 0);
    cudaEvent_t event = nullptr;
    cudaEventCreateWithFlags(&event, 0);
  });
  BOOST_TEST(ended.text.find("3 allocations of 612 bytes, 1 of pinned memory, 1 streams, 1 "
                             "events, 0 graphs") != std::string::npos,
             ended.text);
  BOOST_TEST((ended.how == child::end::exit_code));
}

BOOST_AUTO_TEST_CASE(what_is_made_belongs_to_the_device_that_was_current) {
  fake_cuda::pretend const two({.devices = 2});
  put(a, host, s);
  cudaMemcpyAsync(host.data(), a.data(), 8, cudaMemcpyDeviceToHost, raw(s));
  cudaSetDevice(1);
  cudaDeviceSynchronize();
  BOOST_TEST(std::isnan(host[0]));
  stream const other;
  buffer<double> const far(8);
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  BOOST_TEST(cudaEventRecord(event, raw(s)) == cudaErrorInvalidResourceHandle);
  auto const launch = [](stream const& on, double* p) {
    return fake_cuda::launch(raw(on), "kernel", &p, sizeof p, [] {});
  };
  BOOST_TEST(launch(s, a.data()) == cudaErrorInvalidResourceHandle);
  BOOST_TEST(launch(other, far.data()) == cudaSuccess);
  BOOST_TEST(stops([&] { launch(other, a.data()); }, "memory of device 0 on a stream of device 1"));
  BOOST_TEST(stops([&] { cudaMemsetAsync(far.data(), 0, 8, raw(s)); }, "memory of device 1"));
  cudaEventDestroy(event);
  cudaSetDevice(0);
  cudaDeviceSynchronize();
  BOOST_TEST(host[0] == 1);
}

BOOST_AUTO_TEST_CASE(memory_is_counted) {
  std::size_t const before = fake_cuda::live_bytes();
  fake_cuda::reset_peak();
  {
    buffer<char> const memory(1000);
  }
  BOOST_TEST(fake_cuda::live_bytes() == before);
  BOOST_TEST(fake_cuda::peak_bytes() == before + 1000);
}

BOOST_AUTO_TEST_CASE(a_test_can_choose_the_machine_and_what_fails) {
  int count = -1;
  {
    fake_cuda::pretend const without({.driver_version = 0});
    BOOST_TEST(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
    void* p = nullptr;
    BOOST_TEST(cudaMalloc(&p, 8) == cudaErrorInsufficientDriver);
  }
  {
    // Minor versions of one major version work together.
    fake_cuda::pretend const old({.driver_version = 13000, .runtime_version = 13010});
    BOOST_TEST(cudaGetDeviceCount(&count) == cudaSuccess);
    BOOST_TEST(count == 1);
    fake_cuda::pretend const older({.driver_version = 12090, .runtime_version = 13010});
    BOOST_TEST(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  }
  {
    fake_cuda::pretend const empty({.devices = 0});
    BOOST_TEST(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
    BOOST_TEST(cudaGetLastError() == cudaErrorNoDevice);
    BOOST_TEST(cudaGetLastError() == cudaSuccess);
  }
  fake_cuda::failure const third("cudaMalloc", 3, fake_cuda::out_of_memory);
  std::array<void*, 4> p{};
  for (void*& one : p) {
    bool const fails = &one == &p[2];
    BOOST_TEST(cudaMalloc(&one, 8) == (fails ? cudaErrorMemoryAllocation : cudaSuccess));
  }
  for (void* const one : p) cudaFree(one);
}

BOOST_AUTO_TEST_SUITE_END()
