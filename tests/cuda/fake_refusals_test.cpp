// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the fakes of the runtime and of cuBLAS refuse, and no test of the library comes near: a value
// of an enumeration, a handle or a place of memory that nobody should pass.

#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <boost/test/unit_test.hpp>

#include <cuda/stopped.hpp>
#include <fake_cuda/fake.hpp>
#include <fake_cuda/sanitizer.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/runtime.hpp>

namespace {

using fake_cuda::device_access;
using stiefelx::cuda::buffer;
using stiefelx::cuda::stream;
using stiefelx::cuda::stream_ref;

// A number that an enumeration of two cannot hold ends the program where it is read, in builds with
// sanitizers.
#if defined(FAKE_CUDA_ASAN)
constexpr bool takes_any_number = false;
#else
constexpr bool takes_any_number = true;
#endif

/// Four 4 x 4 matrices that follow each other, and numbers of the host.
struct four_matrices {
  stream queue;
  cublasHandle_t handle = nullptr;
  buffer<double> all{64};
  double* a = all.data();
  double* b = a + 16;
  double* c = a + 32;
  double* d = a + 48;
  double one = 1, zero = 0;

  four_matrices() {
    cublasCreate(&handle);
    cublasSetStream(handle, raw());
    device_access const access;
    for (int i = 0; i < 64; ++i) a[i] = 1 + i;
  }
  ~four_matrices() { cublasDestroy(handle); }

  cudaStream_t raw() const { return static_cast<stream_ref>(queue).handle; }
  cublasStatus_t sum(cublasOperation_t op, double const* alpha, double const* from,
                     double const* beta, double* to) const {
    return cublasDgeam(handle, op, CUBLAS_OP_N, 4, 4, alpha, from, 4, beta, b, 4, to, 4);
  }
  cublasStatus_t solve(cublasSideMode_t side, cublasFillMode_t fill, cublasDiagType_t diagonal,
                       double* x) const {
    return cublasDtrsm(handle, side, fill, CUBLAS_OP_N, diagonal, 4, 4, &one, a, 4, x, 4);
  }
  cublasStatus_t symmetric(cublasFillMode_t fill, cublasOperation_t op, int k, double* to) const {
    return cublasDsyrk(handle, fill, op, 4, k, &one, a, 4, &zero, to, 4);
  }
  cublasStatus_t weighted(cublasSideMode_t side, double const* from, int stride, double const* x,
                          int step, double* to) const {
    return cublasDdgmm(handle, side, 2, 4, from, stride, x, step, to, 4);
  }
};

constexpr auto left = CUBLAS_SIDE_LEFT;
constexpr auto upper = CUBLAS_FILL_MODE_UPPER;
constexpr auto plain = CUBLAS_DIAG_NON_UNIT;
constexpr auto as_is = CUBLAS_OP_N;

}  // namespace

BOOST_FIXTURE_TEST_SUITE(fake_refusals, four_matrices)

BOOST_AUTO_TEST_CASE(values_that_an_enumeration_of_cublas_does_not_have_are_named) {
  BOOST_TEST(stops([&] { symmetric(CUBLAS_FILL_MODE_FULL, as_is, 4, c); }, "uplo is neither"));
  BOOST_TEST(stops([&] { solve(left, CUBLAS_FILL_MODE_FULL, plain, c); }, "uplo is neither"));
  BOOST_TEST(stops([&] { symmetric(upper, CUBLAS_OP_CONJG, 4, c); }, "trans is 3"));
  BOOST_TEST(stops(
      [&] { cublasDgemm(handle, as_is, CUBLAS_OP_CONJG, 4, 4, 4, &one, a, 4, b, 4, &zero, c, 4); },
      "transb is 3"));
  BOOST_TEST(stops([&] { sum(CUBLAS_OP_CONJG, &one, a, &one, c); }, "transa is 3"));
  if (!takes_any_number) return;
  // A constant of this kind would not compile.
  int const volatile beyond = 2;
  auto const side = static_cast<cublasSideMode_t>(beyond);
  BOOST_TEST(stops([&] { solve(side, upper, plain, c); }, "side is 2, expected CUBLAS_SIDE_LEFT"));
  BOOST_TEST(stops([&] { weighted(side, a, 4, b, 1, c); }, "mode is 2, expected CUBLAS_SIDE_LEFT"));
  auto const diagonal = static_cast<cublasDiagType_t>(beyond);
  BOOST_TEST(stops([&] { solve(left, upper, diagonal, c); }, "cublasDtrsm_v2: diag is 2"));
  auto const mode = static_cast<cublasPointerMode_t>(beyond);
  BOOST_TEST(stops([&] { cublasSetPointerMode(handle, mode); }, "pointerMode is 2"));
}

BOOST_AUTO_TEST_CASE(atomic_operations_of_cublas_are_not_allowed) {
  BOOST_TEST(cublasSetAtomicsMode(handle, CUBLAS_ATOMICS_NOT_ALLOWED) == CUBLAS_STATUS_SUCCESS);
  BOOST_TEST(stops([&] { cublasSetAtomicsMode(handle, CUBLAS_ATOMICS_ALLOWED); }, "mode is 1"));
}

BOOST_AUTO_TEST_CASE(negative_sizes_of_a_call_are_named) {
  auto const batched = [&](int count) {
    cublasDgemmStridedBatched(handle, as_is, as_is, 2, 2, 2, &one, a, 2, 4, b, 2, 4, &zero, c, 2, 4,
                              count);
  };
  BOOST_CHECK_NO_THROW(batched(2));
  BOOST_TEST(stops([&] { batched(-1); }, "batchCount is -1"));
  BOOST_TEST(stops([&] { symmetric(upper, as_is, -1, c); }, "k is -1"));
  BOOST_TEST(stops([&] { cublasDgeam(handle, as_is, as_is, 4, -1, &one, a, 4, &one, b, 4, c, 4); },
                   "n is -1"));
}

BOOST_AUTO_TEST_CASE(an_output_lies_apart_from_what_it_is_computed_from) {
  BOOST_CHECK_NO_THROW(symmetric(upper, as_is, 4, c));
  BOOST_TEST(stops([&] { symmetric(upper, as_is, 4, a + 8); }, "C overlaps A"));
  BOOST_CHECK_NO_THROW(solve(left, upper, plain, c));
  BOOST_TEST(stops([&] { solve(left, upper, plain, a + 8); }, "B overlaps A"));
  // A diagonal goes into its matrix in place, and into no other one that overlaps.
  BOOST_CHECK_NO_THROW(weighted(left, a, 4, b, 1, a));
  BOOST_TEST(stops([&] { weighted(left, a, 4, b, 1, a + 1); }, "is not the same matrix"));
  BOOST_TEST(stops([&] { weighted(left, a, 8, b + 16, 1, a); }, "is not the same matrix"));
  BOOST_TEST(stops([&] { weighted(left, a, 4, c, 1, c); }, "C overlaps x"));
  for (int const step : {0, -1})
    BOOST_TEST(stops([&] { weighted(left, a, 4, b, step, c); }, "incx is " + std::to_string(step)));
  BOOST_TEST(stops([&] { weighted(CUBLAS_SIDE_RIGHT, a, 4, d, 6, c); }, "x leaves its allocation"));
}

BOOST_AUTO_TEST_CASE(a_factor_of_zero_that_lies_on_the_device_counts_when_the_sum_runs) {
  {
    device_access const access;
    d[0] = 0;
    d[1] = 1;
    for (int i = 0; i < 16; ++i) a[i] = std::nan("");
  }
  cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE);
  BOOST_TEST(sum(as_is, d, a, d + 1, c) == CUBLAS_STATUS_SUCCESS);
  {
    device_access const access;
    for (int i = 0; i < 16; ++i) BOOST_TEST(c[i] == b[i]);
  }
  // It is not known when the call is made, so the matrix has to be one that could be added.
  BOOST_TEST(stops([&] { sum(as_is, d, nullptr, d + 1, c); }, "A is a host pointer"));
  BOOST_TEST(stops([&] { sum(CUBLAS_OP_T, d, c, d + 1, c); }, "is not the same matrix"));
  BOOST_TEST(stops([&] { sum(as_is, d + 1, a, c + 4, c); }, "C overlaps beta"));
  BOOST_TEST(stops([&] { sum(as_is, c + 4, a, d, c); }, "C overlaps alpha"));
}

BOOST_AUTO_TEST_CASE(a_matrix_of_a_call_does_not_lie_in_the_workspace) {
  cublasSetWorkspace(handle, c, 128);
  BOOST_CHECK_NO_THROW(symmetric(upper, as_is, 4, d));
  BOOST_TEST(stops([&] { symmetric(upper, as_is, 4, c + 8); }, "a matrix lies in the workspace"));
}

BOOST_AUTO_TEST_CASE(a_grouped_product_looks_at_each_of_its_arrays) {
  buffer<__nv_bfloat16> const narrow(64);
  buffer<void*> const pointers(3);
  int const size[] = {8}, wrong_count[] = {-1}, count[] = {1};
  cublasOperation_t const op[] = {as_is};
  std::array<float, 1> const factor{1};
  auto const put = [&](int shift) {
    device_access const access;
    for (int i = 0; i < 3; ++i) pointers.data()[i] = a + 16 * i;
    pointers.data()[0] = narrow.data() + shift;
  };
  auto const run = [&](void** b_of, void const* alpha, int groups, int const* counts, int k) {
    int const inner_size[] = {k};
    void** const p = pointers.data();
    return cublasGemmGroupedBatchedEx(handle, op, op, count, count, inner_size, alpha, p,
                                      CUDA_R_16BF, size, b_of, CUDA_R_16BF, size, factor.data(),
                                      p + 2, CUDA_R_16BF, size, groups, counts, CUBLAS_COMPUTE_32F);
  };
  put(0);
  void** const p = pointers.data();
  BOOST_TEST(run(p + 1, factor.data(), 1, count, 2) == CUBLAS_STATUS_SUCCESS);
  BOOST_TEST(stops([&] { run(p + 1, factor.data(), -1, count, 2); }, "group_count is -1"));
  BOOST_TEST(stops([&] { run(p + 1, factor.data(), 1, wrong_count, 2); }, "group_size is -1"));
  BOOST_TEST(stops([&] { run(p + 1, c, 1, count, 2); }, "alpha_array is a device pointer"));
  BOOST_TEST(stops([&] { run(nullptr, factor.data(), 1, count, 2); }, "Barray is a host pointer"));
  // Rows of 4 bytes need factors at multiples of 4, and of 16 bytes at multiples of 16.
  for (auto const& [shift, k, unit] : {std::array{1, 2, 4}, std::array{2, 8, 16}}) {
    put(shift);
    std::string const piece = "A: not aligned to " + std::to_string(unit) + " bytes";
    BOOST_TEST(stops([&] { run(p + 1, factor.data(), 1, count, k); }, piece));
    BOOST_TEST(run(p + 1, factor.data(), 1, count, 1) == CUBLAS_STATUS_SUCCESS);
  }
}

BOOST_AUTO_TEST_CASE(a_launch_needs_a_driver_a_device_and_code_for_it) {
  double* const p = a;
  bool ran = false;
  auto const launch_on = [&](fake_cuda::machine const& m) {
    fake_cuda::pretend const other(m);
    return fake_cuda::launch(raw(), "kernel", &p, sizeof p, [&] { ran = true; });
  };
  for (auto const& [m, status] : {std::pair<fake_cuda::machine, cudaError_t>{
                                      {.driver_version = 0}, cudaErrorInsufficientDriver},
                                  {{.driver_version = 12090}, cudaErrorInsufficientDriver},
                                  {{.devices = 0}, cudaErrorNoDevice},
                                  {{.image = false}, cudaErrorNoKernelImageForDevice}}) {
    BOOST_TEST(launch_on(m) == status);
    BOOST_TEST(cudaGetLastError() == status);
  }
  BOOST_TEST(!ran);
  BOOST_TEST(launch_on({}) == cudaSuccess);
  BOOST_TEST(ran);
}

BOOST_AUTO_TEST_CASE(questions_about_a_kernel_or_a_device_that_there_is_not_are_refused) {
  cudaFuncAttributes found{};
  BOOST_TEST(cudaFuncGetAttributes(&found, &found) == cudaSuccess);
  BOOST_TEST(found.maxDynamicSharedSizeBytes == 48 * 1024);
  BOOST_TEST(stops([&] { cudaFuncGetAttributes(&found, nullptr); }, "no kernel"));
  {
    fake_cuda::pretend const other({.image = false});
    BOOST_TEST(cudaFuncGetAttributes(&found, &found) == cudaErrorNoKernelImageForDevice);
    BOOST_TEST(cudaGetLastError() == cudaErrorNoKernelImageForDevice);
  }
  auto const largest = cudaFuncAttributeMaxDynamicSharedMemorySize;
  auto const carveout = cudaFuncAttributePreferredSharedMemoryCarveout;
  BOOST_TEST(stops([&] { cudaFuncSetAttribute(nullptr, largest, 0); }, "no kernel"));
  BOOST_TEST(stops([&] { cudaFuncSetAttribute(&found, carveout, 0); }, "attribute 9 is not known"));
  int number = 0;
  BOOST_TEST(stops([&] { cudaDeviceGetAttribute(&number, cudaDevAttrClockRate, 0); },
                   "is not known here"));
  for (int const device : {-1, 1}) {
    BOOST_TEST(cudaDeviceGetAttribute(&number, cudaDevAttrWarpSize, device) ==
               cudaErrorInvalidDevice);
    BOOST_TEST(cudaSetDevice(device) == cudaErrorInvalidDevice);
    BOOST_TEST(cudaGetLastError() == cudaErrorInvalidDevice);
  }
  BOOST_TEST(cudaGetErrorString(static_cast<cudaError_t>(9999)) ==
             std::string("unrecognized error code"));
}

BOOST_AUTO_TEST_CASE(memory_must_be_somewhere_and_rows_apart) {
  std::array<double, 8> host{};
  auto const copy = [&](void* to, std::size_t to_pitch, void const* from, std::size_t from_pitch,
                        cudaMemcpyKind kind) {
    cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, 16, 2, kind, raw());
  };
  BOOST_TEST(stops([&] { copy(a, 32, b, 8, cudaMemcpyDeviceToDevice); }, "spitch 8 < width 16"));
  BOOST_TEST(stops([&] { cudaMemset2DAsync(a, 8, 0, 16, 1, raw()); }, "pitch 8 < width 16"));
  BOOST_TEST(stops([&] { copy(nullptr, 32, a, 32, cudaMemcpyDeviceToHost); }, "target is null"));
  BOOST_TEST(stops([&] { copy(a, 32, nullptr, 32, cudaMemcpyHostToDevice); }, "source is null"));
  BOOST_TEST(stops([&] { copy(a - 1, 32, host.data(), 32, cudaMemcpyHostToDevice); },
                   "it begins beside it"));
  BOOST_TEST(stops([&] { cudaFreeHost(host.data()); }, "not an address that cudaHostAlloc"));
  void* too_much = host.data();
  BOOST_TEST(cudaMalloc(&too_much, std::size_t{1} << 62) == cudaErrorMemoryAllocation);
  BOOST_TEST(too_much == nullptr);
}

BOOST_AUTO_TEST_CASE(handles_that_nobody_made_are_none) {
  double memory = 0;
  auto* const event = reinterpret_cast<cudaEvent_t>(&memory);
  auto* const graph = reinterpret_cast<cudaGraph_t>(&memory);
  auto* const work = reinterpret_cast<cudaGraphExec_t>(&memory);
  BOOST_TEST(stops([&] { cudaEventRecord(event, raw()); }, "not an event"));
  BOOST_TEST(stops([&] { cudaGraphDestroy(graph); }, "not a graph"));
  BOOST_TEST(stops([&] { cudaGraphLaunch(work, raw()); }, "not a graph"));
}

BOOST_AUTO_TEST_CASE(a_graph_stops_where_memory_that_it_names_was_freed) {
  enum class call { kernel, copy, fill };
  for (call const captured : {call::kernel, call::copy, call::fill}) {
    auto memory = std::make_unique<buffer<double>>(8);
    double* const p = memory->data();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t work = nullptr;
    cudaStreamBeginCapture(raw(), cudaStreamCaptureModeThreadLocal);
    if (captured == call::kernel) fake_cuda::launch(raw(), "kernel", &p, sizeof p, [] {});
    if (captured == call::copy) cudaMemcpyAsync(p, a, 64, cudaMemcpyDeviceToDevice, raw());
    if (captured == call::fill) cudaMemsetAsync(p, 0, 64, raw());
    cudaStreamEndCapture(raw(), &graph);
    cudaGraphInstantiate(&work, graph, 0);
    BOOST_TEST(cudaGraphLaunch(work, raw()) == cudaSuccess);
    memory.reset();
    BOOST_TEST(stops([&] { cudaGraphLaunch(work, raw()); }, "was freed"));
    cudaGraphExecDestroy(work);
    cudaGraphDestroy(graph);
  }
}

// "the resources associated with stream will be released automatically once the device has completed
// all work in stream": a stream that goes does not wait for it.
BOOST_AUTO_TEST_CASE(work_of_a_stream_that_has_gone_is_still_waited_for) {
  auto gone = std::make_unique<stream>();
  cudaMemsetAsync(a, 0, 64, stream_ref(*gone).handle);
  gone.reset();
  auto const fill = [&] { cudaMemsetAsync(a, 1, 64, raw()); };
  BOOST_TEST(stops(fill, "writes memory that another stream writes"));
  cudaDeviceSynchronize();
  BOOST_CHECK_NO_THROW(fill());
}

BOOST_AUTO_TEST_SUITE_END()
