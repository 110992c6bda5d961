// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Captures of the fake CUDA runtime: what is kept, when it runs, and what is refused meanwhile.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <boost/test/unit_test.hpp>

#include <cuda/child.hpp>
#include <cuda/stopped.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/runtime.hpp>

namespace {

using stiefelx::cuda::buffer;
using stiefelx::cuda::stream;
using stiefelx::cuda::stream_ref;

bool holds(std::string const& text, char const* piece) {
  return text.find(piece) != std::string::npos;
}

/// A stream, memory on both sides, and one capture at a time.
struct one_capture {
  std::vector<double> host = std::vector<double>(8, 1.0);
  stream s;
  buffer<double> a{8}, b{8};
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t work = nullptr;

  cudaStream_t raw() const { return static_cast<stream_ref>(s).handle; }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    BOOST_TEST(cudaStreamBeginCapture(raw(), mode) == cudaSuccess);
  }
  cudaStreamCaptureStatus state() const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaStreamIsCapturing(raw(), &status);
    return status;
  }
  void end() {
    BOOST_TEST(cudaStreamEndCapture(raw(), &graph) == cudaSuccess);
    BOOST_TEST(cudaGraphInstantiate(&work, graph, 0) == cudaSuccess);
  }
  cudaError_t run() const { return cudaGraphLaunch(work, raw()); }
  void expect_invalidated() {
    BOOST_TEST(state() == cudaStreamCaptureStatusInvalidated);
    BOOST_TEST(cudaMemsetAsync(a.data(), 0, 8, raw()) == cudaErrorStreamCaptureInvalidated);
    BOOST_TEST(cudaStreamEndCapture(raw(), &graph) == cudaErrorStreamCaptureInvalidated);
    BOOST_TEST(graph == nullptr);
    BOOST_TEST(state() == cudaStreamCaptureStatusNone);
    (void)cudaGetLastError();
  }
  void put(double number) {
    host.assign(8, number);
    cudaMemcpyAsync(a.data(), host.data(), 64, cudaMemcpyHostToDevice, raw());
  }
  double get(buffer<double> const& from) {
    double found = 0;
    cudaMemcpyAsync(&found, from.data(), 8, cudaMemcpyDeviceToHost, raw());
    cudaStreamSynchronize(raw());
    return found;
  }
  ~one_capture() {
    if (work != nullptr) cudaGraphExecDestroy(work);
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(fake_graph, one_capture)

BOOST_AUTO_TEST_CASE(a_captured_call_runs_when_its_graph_does_and_in_its_order) {
  put(1);
  begin();
  BOOST_TEST(state() == cudaStreamCaptureStatusActive);
  cudaMemcpyAsync(b.data(), a.data(), 64, cudaMemcpyDeviceToDevice, raw());
  cudaMemsetAsync(a.data(), 0, 64, raw());
  end();
  BOOST_TEST(get(a) == 1);
  BOOST_TEST(std::isnan(get(b)));
  BOOST_TEST(run() == cudaSuccess);
  BOOST_TEST(get(a) == 0);
  BOOST_TEST(get(b) == 1);
  put(5);
  run();
  BOOST_TEST(get(a) == 0);
  BOOST_TEST(get(b) == 5);
}

BOOST_AUTO_TEST_CASE(a_captured_copy_to_the_host_arrives_after_the_wait_for_its_graph) {
  put(3);
  double found = -1;
  begin();
  cudaMemcpyAsync(&found, a.data(), 8, cudaMemcpyDeviceToHost, raw());
  end();
  cudaStreamSynchronize(raw());
  BOOST_TEST(found == -1);
  run();
  BOOST_TEST(std::isnan(found));
  cudaStreamSynchronize(raw());
  BOOST_TEST(found == 3);
}

BOOST_AUTO_TEST_CASE(a_graph_runs_in_the_stream_that_it_is_launched_in) {
  put(3);
  double found = -1;
  begin();
  cudaMemcpyAsync(&found, a.data(), 8, cudaMemcpyDeviceToHost, raw());
  cudaMemsetAsync(b.data(), 0, 64, raw());
  end();
  stream const other;
  cudaStream_t const on = static_cast<stream_ref>(other).handle;
  auto const launch = [&] { return cudaGraphLaunch(work, on); };
  BOOST_TEST(holds(stopped(launch), "reads memory that another stream writes"));
  cudaStreamSynchronize(raw());
  launch();
  cudaStreamSynchronize(raw());
  BOOST_TEST(std::isnan(found));
  BOOST_TEST(holds(stopped([&] { get(b); }), "reads memory that another stream writes"));
  // The launches of one graph come after each other, and nothing else of their streams does.
  BOOST_TEST(run() == cudaSuccess);
  BOOST_TEST(get(b) == 0);
  cudaStreamSynchronize(on);
  BOOST_TEST(found == 3);
}

BOOST_AUTO_TEST_CASE(a_launch_keeps_the_arguments_it_was_captured_with) {
  struct arguments {
    double* out;
    double number;
  };
  auto const kernel = std::make_shared<arguments>(arguments{a.data(), 2});
  put(0);
  begin();
  long const before = fake_cuda::calls("launch");
  fake_cuda::launch(raw(), "kernel", kernel.get(), sizeof *kernel,
                    [kernel] { *kernel->out += kernel->number; });
  BOOST_TEST(fake_cuda::calls("launch") == before + 1);
  end();
  BOOST_TEST(get(a) == 0);
  run();
  run();
  BOOST_TEST(get(a) == 4);
  // A replay is one call of the program's.
  BOOST_TEST(fake_cuda::calls("launch") == before + 1);
}

BOOST_AUTO_TEST_CASE(a_product_keeps_numbers_of_the_host_and_reads_those_of_the_device) {
  buffer<char> const workspace(1024);
  cublasHandle_t handle = nullptr;
  cublasCreate(&handle);
  cublasSetStream(handle, raw());
  double factor = 2, zero = 0;
  auto const multiply = [&](double const* alpha, double const* beta) {
    return cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, alpha, a.data(), 1, a.data() + 1,
                       1, beta, b.data(), 1);
  };
  put(3);
  begin();
  BOOST_TEST(holds(stopped([&] { multiply(&factor, &zero); }), "needs a workspace"));
  cublasSetWorkspace(handle, workspace.data(), 1024);
  BOOST_TEST(multiply(&factor, &zero) == CUBLAS_STATUS_SUCCESS);
  end();
  factor = 100;
  put(4);
  run();
  BOOST_TEST(get(b) == 32);
  cudaGraphExecDestroy(work);
  cudaGraphDestroy(graph);

  cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE);
  cudaMemsetAsync(b.data() + 1, 0, 8, raw());
  begin();
  multiply(a.data() + 2, b.data() + 1);
  end();
  put(5);
  run();
  BOOST_TEST(get(b) == 125);
  cublasDestroy(handle);
}

BOOST_AUTO_TEST_CASE(waiting_for_a_captured_stream_is_refused_and_ends_the_capture) {
  for (int kind = 0; kind < 3; ++kind) {
    begin(cudaStreamCaptureModeRelaxed);
    cudaError_t const status = kind == 0   ? cudaStreamSynchronize(raw())
                               : kind == 1 ? cudaStreamQuery(raw())
                                           : cudaDeviceSynchronize();
    BOOST_TEST(status == cudaErrorStreamCaptureUnsupported);
    BOOST_TEST(cudaGetLastError() == cudaErrorStreamCaptureUnsupported);
    expect_invalidated();
  }
  stream const other;
  begin();
  BOOST_TEST(cudaStreamSynchronize(static_cast<stream_ref>(other).handle) == cudaSuccess);
  end();
}

BOOST_AUTO_TEST_CASE(memory_is_not_taken_or_given_back_by_a_thread_that_captures) {
  void* p = nullptr;
  void* q = nullptr;
  cudaMalloc(&p, 8);
  cudaHostAlloc(&q, 8, 0);
  for (int kind = 0; kind < 4; ++kind) {
    begin(kind % 2 == 0 ? cudaStreamCaptureModeThreadLocal : cudaStreamCaptureModeGlobal);
    void* fresh = nullptr;
    cudaError_t const status = kind == 0   ? cudaMalloc(&fresh, 8)
                               : kind == 1 ? cudaFree(p)
                               : kind == 2 ? cudaHostAlloc(&fresh, 8, 0)
                                           : cudaFreeHost(q);
    BOOST_TEST(status == cudaErrorStreamCaptureUnsupported);
    BOOST_TEST(fresh == nullptr);
    expect_invalidated();
  }
  cudaFree(p);
  cudaFreeHost(q);
}

BOOST_AUTO_TEST_CASE(a_relaxed_capture_a_relaxed_thread_and_another_thread_may_allocate) {
  begin(cudaStreamCaptureModeRelaxed);
  {
    buffer<double> const made(3);
  }
  end();
  cudaGraphExecDestroy(work);
  cudaGraphDestroy(graph);
  begin();
  std::thread([] { buffer<double> const made(3); }).join();
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  BOOST_TEST(mode == cudaStreamCaptureModeGlobal);
  {
    buffer<double> const made(3);
  }
  cudaThreadExchangeStreamCaptureMode(&mode);
  BOOST_TEST(mode == cudaStreamCaptureModeRelaxed);
  end();
}

BOOST_AUTO_TEST_CASE(a_global_capture_forbids_other_threads_what_it_forbids_its_own) {
  for (auto const& [of_capture, of_thread] :
       {std::pair{cudaStreamCaptureModeGlobal, cudaStreamCaptureModeGlobal},
        std::pair{cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal},
        std::pair{cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeGlobal}}) {
    begin(of_capture);
    cudaError_t status = cudaSuccess;
    cudaStreamCaptureMode before = of_thread, after = cudaStreamCaptureModeRelaxed;
    std::thread([&] {
      void* p = nullptr;
      cudaThreadExchangeStreamCaptureMode(&before);
      status = cudaMalloc(&p, 8);
      cudaThreadExchangeStreamCaptureMode(&after);
      cudaFree(p);
    }).join();
    BOOST_TEST(before == cudaStreamCaptureModeGlobal);
    BOOST_TEST(after == of_thread);
    bool const forbidden =
        of_capture == cudaStreamCaptureModeGlobal && of_thread == cudaStreamCaptureModeGlobal;
    BOOST_TEST((status == cudaErrorStreamCaptureUnsupported) == forbidden);
    if (forbidden) expect_invalidated();
    if (state() == cudaStreamCaptureStatusActive) cudaStreamEndCapture(raw(), &graph);
    if (graph != nullptr) cudaGraphDestroy(std::exchange(graph, nullptr));
  }
}

BOOST_AUTO_TEST_CASE(a_handle_of_cublas_is_not_made_or_destroyed_beside_a_capture) {
  cublasHandle_t handle = nullptr;
  begin();
  BOOST_TEST(cublasCreate(&handle) == CUBLAS_STATUS_ALLOC_FAILED);
  expect_invalidated();
  cublasCreate(&handle);
  begin(cudaStreamCaptureModeRelaxed);
  cublasDestroy(handle);
  expect_invalidated();
}

BOOST_AUTO_TEST_CASE(a_capture_begins_once_and_ends_in_its_thread) {
  BOOST_TEST(cudaStreamEndCapture(raw(), &graph) == cudaErrorIllegalState);
  begin();
  BOOST_TEST(cudaStreamBeginCapture(raw(), cudaStreamCaptureModeRelaxed) == cudaErrorIllegalState);
  cudaError_t status = cudaSuccess;
  std::thread([&] { status = cudaStreamEndCapture(raw(), &graph); }).join();
  BOOST_TEST(status == cudaErrorStreamCaptureWrongThread);
  end();
  (void)cudaGetLastError();
}

BOOST_AUTO_TEST_CASE(what_a_capture_has_no_use_for_is_stopped) {
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, 0);
  cudaEventRecord(event, raw());
  begin();
  BOOST_TEST(holds(stopped([&] { cudaEventRecord(event, raw()); }), "being captured"));
  BOOST_TEST(holds(stopped([&] { cudaStreamWaitEvent(raw(), event, 0); }), "is captured"));
  BOOST_TEST(holds(stopped([&] { cudaStreamDestroy(raw()); }), "being captured"));
  BOOST_TEST(holds(stopped([&] { cudaMemsetAsync(a.data(), 0, 8, nullptr); }), "default stream"));
  BOOST_TEST(holds(stopped([&] { cudaMemsetAsync(a.data(), 0, 80, raw()); }), "leaves its alloc"));
  end();
  cudaGraphExec_t other = nullptr;
  BOOST_TEST(holds(stopped([&] { cudaGraphInstantiate(&other, graph, 64); }), "flags are 64"));
  begin();
  BOOST_TEST(holds(stopped([&] { run(); }), "its stream is being captured"));
  cudaGraph_t empty = nullptr;
  cudaStreamEndCapture(raw(), &empty);
  cudaGraphDestroy(empty);
  BOOST_TEST(holds(stopped([&] { cudaGraphDestroy(empty); }), "the graph was destroyed"));
  cudaEventDestroy(event);
}

BOOST_AUTO_TEST_CASE(an_executable_graph_is_a_copy_and_is_gone_when_destroyed) {
  put(1);
  begin();
  cudaMemsetAsync(a.data(), 0, 64, raw());
  end();
  cudaGraphDestroy(graph);
  graph = nullptr;
  BOOST_TEST(run() == cudaSuccess);
  BOOST_TEST(get(a) == 0);
  cudaGraphExecDestroy(work);
  BOOST_TEST(holds(stopped([&] { run(); }), "the graph was destroyed"));
  work = nullptr;
}

BOOST_AUTO_TEST_CASE(a_graph_that_is_left_at_exit_is_an_error) {
  auto const ended = child::run(
      [&] {
        begin();
        end();
      },
      true);
  BOOST_TEST(holds(ended.text, "2 graphs"), ended.text);
}

BOOST_AUTO_TEST_SUITE_END()
