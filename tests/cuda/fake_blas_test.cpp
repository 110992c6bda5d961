// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The fake cuBLAS: its numbers are those of the textbook, and each of its guards catches what it is
// there for.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <boost/test/unit_test.hpp>

#include <cuda/stopped.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/runtime.hpp>

namespace {

using fake_cuda::device_access;
using stiefelx::cuda::buffer;
using stiefelx::cuda::stream;
using stiefelx::cuda::stream_ref;

constexpr double inv = 1.0 / 7;

/// A column-major matrix on the device, with spare rows in each column.
struct device_matrix {
  int rows, cols, stride;
  buffer<double> memory;

  device_matrix(int m, int n, int spare, int seed)
      : rows(m), cols(n), stride(m + spare), memory(static_cast<std::size_t>(stride * n)) {
    device_access const access;
    for (int j = 0; j < n; ++j)
      for (int i = 0; i < m; ++i) (*this)(i, j) = std::sin(seed + 3 * i + 7 * j) + (i == j ? 3 : 0);
  }
  double* data() const { return memory.data(); }
  double& operator()(int i, int j) const { return memory.data()[i + j * stride]; }
};

struct blas {
  stream queue;
  cublasHandle_t handle = nullptr;
  double one = 1, zero = 0, two = 2;

  blas() {
    cublasCreate(&handle);
    cublasSetStream(handle, static_cast<stream_ref>(queue).handle);
  }
  ~blas() { cublasDestroy(handle); }

  cublasStatus_t gemm(cublasOperation_t ta, cublasOperation_t tb, double const* alpha,
                      device_matrix const& a, device_matrix const& b, double const* beta,
                      device_matrix const& c) const {
    int const k = ta == CUBLAS_OP_N ? a.cols : a.rows;
    return cublasDgemm(handle, ta, tb, c.rows, c.cols, k, alpha, a.data(), a.stride, b.data(),
                       b.stride, beta, c.data(), c.stride);
  }
};

double at(device_matrix const& a, cublasOperation_t op, int i, int j) {
  return op == CUBLAS_OP_N ? a(i, j) : a(j, i);
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(fake_blas, blas)

BOOST_AUTO_TEST_CASE(a_product_is_the_sum_over_the_inner_index) {
  for (auto const ta : {CUBLAS_OP_N, CUBLAS_OP_T})
    for (auto const tb : {CUBLAS_OP_N, CUBLAS_OP_C}) {
      device_matrix const a(ta == CUBLAS_OP_N ? 4 : 3, ta == CUBLAS_OP_N ? 3 : 4, 2, 1);
      device_matrix const b(tb == CUBLAS_OP_N ? 3 : 5, tb == CUBLAS_OP_N ? 5 : 3, 1, 2);
      device_matrix const c(4, 5, 3, 3), before(4, 5, 3, 3);
      BOOST_TEST(gemm(ta, tb, &two, a, b, &inv, c) == CUBLAS_STATUS_SUCCESS);
      device_access const access;
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 5; ++j) {
          double const expected =
              2 * (at(a, ta, i, 0) * at(b, tb, 0, j) + at(a, ta, i, 1) * at(b, tb, 1, j) +
                   at(a, ta, i, 2) * at(b, tb, 2, j)) +
              before(i, j) / 7;
          BOOST_TEST(std::abs(c(i, j) - expected) < 1e-14);
        }
      BOOST_TEST(std::isnan(c.data()[4]));
    }
}

BOOST_AUTO_TEST_CASE(a_beta_of_zero_never_reads_the_result) {
  device_matrix const a(3, 3, 0, 1), b(3, 3, 0, 2), c(3, 3, 0, 3);
  auto const run = [&](double const* beta) {
    {
      device_access const access;
      c(1, 1) = std::nan("");
    }
    gemm(CUBLAS_OP_N, CUBLAS_OP_N, &one, a, b, beta, c);
    device_access const access;
    return std::isnan(c(1, 1));
  };
  BOOST_TEST(!run(&zero));
  BOOST_TEST(run(&one));
}

BOOST_AUTO_TEST_CASE(scalars_lie_where_the_pointer_mode_says) {
  device_matrix const a(2, 2, 0, 1), b(2, 2, 0, 2), c(2, 2, 0, 3), s(2, 1, 0, 4);
  auto const run = [&](double const* alpha, double const* beta) {
    return [=, &a, &b, &c, this] { gemm(CUBLAS_OP_N, CUBLAS_OP_N, alpha, a, b, beta, c); };
  };
  BOOST_TEST(stops(run(s.data(), &one), "alpha lies on the device"));
  BOOST_TEST(stops(run(nullptr, &one), "alpha is null"));
  cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE);
  BOOST_TEST(stops(run(s.data(), &one), "beta lies on the host"));
  run(s.data(), s.data() + 1)();
  device_matrix const expected(2, 2, 0, 3);
  device_access const access;
  double const sum = a(0, 0) * b(0, 0) + a(0, 1) * b(1, 0);
  BOOST_TEST(std::abs(c(0, 0) - (s(0, 0) * sum + s(1, 0) * expected(0, 0))) < 1e-14);
}

BOOST_AUTO_TEST_CASE(a_matrix_must_fit_into_its_allocation) {
  device_matrix const a(4, 3, 0, 1), b(3, 5, 0, 2), c(4, 5, 0, 3);
  std::vector<double> host(12);
  auto const run = [&](double const* first, int lda, int m = 4) {
    return [=, &b, &c, this] {
      cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, m, 5, 3, &one, first, lda, b.data(), 3, &zero,
                  c.data(), 4);
    };
  };
  BOOST_CHECK_NO_THROW(run(a.data(), 4)());
  BOOST_TEST(stops(run(a.data(), 3), "A: leading dimension 3, expected at least 4"));
  BOOST_TEST(stops(run(a.data(), 5), "A leaves its allocation"));
  BOOST_TEST(stops(run(a.data() + 1, 4), "A leaves its allocation"));
  BOOST_TEST(stops(run(host.data(), 4), "A is a host pointer"));
  BOOST_TEST(stops(run(a.data(), 4, -1), "m is -1"));
  auto* const odd = reinterpret_cast<double*>(reinterpret_cast<std::uintptr_t>(a.data()) + 4);
  BOOST_TEST(stops(run(odd, 4), "not aligned"));
  auto const op = CUBLAS_OP_CONJG;
  BOOST_TEST(stops([&] { gemm(op, CUBLAS_OP_N, &one, a, b, &zero, c); }, "transa is 3"));
}

BOOST_AUTO_TEST_CASE(a_result_must_lie_apart_from_the_factors) {
  device_matrix const all(8, 4, 0, 1);
  auto const run = [&](int to) {
    return [=, &all, this] {
      cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, all.data(), 8, all.data() + 16,
                  8, &zero, all.data() + to, 8);
    };
  };
  BOOST_TEST(stops(run(1), "C overlaps A"));
  BOOST_TEST(stops(run(17), "C overlaps B"));
  // Other rows of the same columns are apart.
  BOOST_CHECK_NO_THROW(run(2)());
}

BOOST_AUTO_TEST_CASE(a_symmetric_product_writes_one_triangle) {
  for (auto const fill : {CUBLAS_FILL_MODE_UPPER, CUBLAS_FILL_MODE_LOWER})
    for (auto const op : {CUBLAS_OP_N, CUBLAS_OP_T}) {
      device_matrix const a(op == CUBLAS_OP_N ? 3 : 5, op == CUBLAS_OP_N ? 5 : 3, 1, 1);
      device_matrix const c(3, 3, 2, 2), before(3, 3, 2, 2);
      cublasDsyrk(handle, fill, op, 3, 5, &two, a.data(), a.stride, &inv, c.data(), c.stride);
      device_access const access;
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
          bool const written = fill == CUBLAS_FILL_MODE_UPPER ? i <= j : i >= j;
          double sum = before(i, j) / 7;
          for (int l = 0; l < 5; ++l) sum += 2 * at(a, op, i, l) * at(a, op, j, l);
          BOOST_TEST(std::abs(c(i, j) - (written ? sum : before(i, j))) < 1e-13);
        }
    }
}

BOOST_AUTO_TEST_CASE(a_triangular_solve_undoes_the_product) {
  for (auto const side : {CUBLAS_SIDE_LEFT, CUBLAS_SIDE_RIGHT})
    for (auto const fill : {CUBLAS_FILL_MODE_UPPER, CUBLAS_FILL_MODE_LOWER})
      for (auto const op : {CUBLAS_OP_N, CUBLAS_OP_T})
        for (auto const diagonal : {CUBLAS_DIAG_NON_UNIT, CUBLAS_DIAG_UNIT}) {
          bool const left = side == CUBLAS_SIDE_LEFT;
          int const n = left ? 4 : 3;
          device_matrix const r(n, n, 1, 1), x(4, 3, 2, 2), before(4, 3, 2, 2);
          cublasDtrsm(handle, side, fill, op, diagonal, 4, 3, &two, r.data(), r.stride, x.data(),
                      x.stride);
          device_access const access;
          auto const entry = [&](int i, int j) {  // of op(r), with zeros and ones where they are
            int const p = op == CUBLAS_OP_N ? i : j, q = op == CUBLAS_OP_N ? j : i;
            if (p == q) return diagonal == CUBLAS_DIAG_UNIT ? 1.0 : r(p, q);
            return (fill == CUBLAS_FILL_MODE_UPPER) == (p < q) ? r(p, q) : 0.0;
          };
          double error = 0;
          for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 3; ++j) {
              double sum = 0;
              for (int l = 0; l < n; ++l)
                sum += left ? entry(i, l) * x(l, j) : x(i, l) * entry(l, j);
              error = std::max(error, std::abs(sum - 2 * before(i, j)));
            }
          BOOST_TEST(error < 1e-11);
        }
}

BOOST_AUTO_TEST_CASE(a_solve_with_a_factor_of_zero_does_not_look_at_the_triangle) {
  device_matrix const x(4, 3, 1, 5);
  BOOST_TEST(cublasDtrsm(handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N,
                         CUBLAS_DIAG_NON_UNIT, 4, 3, &zero, nullptr, 4, x.data(),
                         x.stride) == CUBLAS_STATUS_SUCCESS);
  {
    device_access const access;
    for (int j = 0; j < 3; ++j)
      for (int i = 0; i < 4; ++i) BOOST_TEST(x(i, j) == 0);
  }
  BOOST_TEST(stops(
      [&] {
        cublasDtrsm(handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N,
                    CUBLAS_DIAG_NON_UNIT, 4, 3, &zero, nullptr, 3, x.data(), x.stride);
      },
      "leading dimension 3"));
}

BOOST_AUTO_TEST_CASE(sums_and_scalings_of_matrices_are_exact) {
  device_matrix const a(3, 4, 1, 1), b(4, 3, 2, 2), c(4, 3, 0, 3), w(1, 3, 0, 4);
  cublasDgeam(handle, CUBLAS_OP_T, CUBLAS_OP_N, 4, 3, &two, a.data(), a.stride, &one, b.data(),
              b.stride, c.data(), c.stride);
  {
    device_access const access;
    BOOST_TEST(c(3, 1) == 2 * a(1, 3) + b(3, 1));
  }
  auto const in_place = [&](cublasOperation_t op) {
    return [=, &c, &b, this] {
      cublasDgeam(handle, op, CUBLAS_OP_N, 3, 3, &one, c.data(), c.stride, &one, b.data(), b.stride,
                  c.data(), c.stride);
    };
  };
  BOOST_CHECK_NO_THROW(in_place(CUBLAS_OP_N)());
  BOOST_TEST(stops(in_place(CUBLAS_OP_T), "is not the same matrix"));
  cublasDdgmm(handle, CUBLAS_SIDE_RIGHT, 4, 3, b.data(), b.stride, w.data(), 1, c.data(), c.stride);
  device_access const access;
  BOOST_TEST(c(2, 1) == b(2, 1) * w(0, 1));
}

BOOST_AUTO_TEST_CASE(a_sum_looks_at_what_a_factor_of_zero_leaves_out_and_at_its_factors) {
  device_matrix const a(3, 3, 0, 1), c(3, 3, 0, 2);
  auto const run = [&](double const* x, double const* y, double const* from, int lda) {
    cublasDgeam(handle, CUBLAS_OP_N, CUBLAS_OP_N, 3, 3, x, from, lda, y, a.data(), 3, c.data(), 3);
  };
  BOOST_CHECK_NO_THROW(run(&zero, &one, nullptr, 3));
  BOOST_TEST(stops([&] { run(&zero, &one, nullptr, 2); }, "A: leading dimension 2, expected at"));
  cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE);
  BOOST_TEST(stops([&] { run(a.data(), c.data() + 4, a.data(), 3); }, "C overlaps beta"));
}

BOOST_AUTO_TEST_CASE(two_byte_factors_are_summed_wide_and_rounded_once) {
  buffer<__nv_bfloat16> const a(4), c(4);
  buffer<float> const wide(4);
  {
    device_access const access;
    for (int i = 0; i < 4; ++i)
      a.data()[i] = __float2bfloat16(1.0F + 0.25F * static_cast<float>(i));
  }
  float const alpha = 1, beta = 0;
  auto const run = [&](void* to, cudaDataType_t type, cublasComputeType_t compute) {
    return cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &alpha, a.data(), CUDA_R_16BF, 2,
                        a.data(), CUDA_R_16BF, 2, &beta, to, type, 2, compute, CUBLAS_GEMM_DEFAULT);
  };
  BOOST_TEST(run(wide.data(), CUDA_R_32F, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_SUCCESS);
  BOOST_TEST(fake_cuda::last_product().compute_type == static_cast<int>(CUBLAS_COMPUTE_32F));
  BOOST_TEST(run(c.data(), CUDA_R_16BF, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_SUCCESS);
  BOOST_TEST(run(wide.data(), CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32) ==
             CUBLAS_STATUS_NOT_SUPPORTED);
  BOOST_TEST(run(wide.data(), CUDA_R_16F, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_NOT_SUPPORTED);
  device_access const access;
  // Columns (1, 1.25) and (1.5, 1.75): the entry (0, 1) is 1 * 1.5 + 1.5 * 1.75.
  BOOST_TEST(wide.data()[2] == 4.125F);
  BOOST_TEST(__bfloat162float(c.data()[2]) == 4.125F);
  BOOST_TEST(__bfloat162float(c.data()[3]) == 4.9375F);
}

BOOST_AUTO_TEST_CASE(items_of_a_batch_lie_a_step_apart) {
  device_matrix const a(2, 6, 0, 1), b(2, 6, 0, 2), c(2, 6, 0, 3);
  auto const run = [&](long long step, int batch) {
    return [=, &a, &b, &c, this] {
      cublasDgemmStridedBatched(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, a.data(), 2, step,
                                b.data(), 2, 4, &zero, c.data(), 2, step, batch);
    };
  };
  run(4, 3)();
  BOOST_TEST(stops(run(0, 3), "are 0 entries apart"));
  BOOST_TEST(stops(run(2, 3), "C overlaps C"));
  BOOST_TEST(stops(run(4, 4), "leaves its allocation"));
  device_access const access;
  BOOST_TEST(std::abs(c(1, 4) - (a(1, 4) * b(0, 4) + a(1, 5) * b(1, 4))) < 1e-14);
}

BOOST_AUTO_TEST_CASE(a_grouped_product_has_its_shapes_on_the_host_and_its_pointers_on_the_device) {
  device_matrix const a(3, 2, 0, 1), b(2, 4, 0, 2), c(3, 4, 0, 3), d(2, 4, 0, 4);
  buffer<void*> const pointers(6);
  {
    device_access const access;
    void* const all[] = {a.data(), a.data(), b.data(), b.data(), c.data(), d.data()};
    std::copy(all, all + 6, pointers.data());
  }
  int const m[] = {3, 2}, n[] = {4, 4}, k[] = {2, 2}, lda[] = {3, 3}, ldb[] = {2, 2};
  int const ldc[] = {3, 2}, size[] = {1, 1};
  cublasOperation_t const op[] = {CUBLAS_OP_N, CUBLAS_OP_N};
  double const alpha[] = {1, 2}, beta[] = {0, 0};
  auto const run = [&](void** first, int const* shape) {
    return cublasGemmGroupedBatchedEx(handle, op, op, shape, n, k, alpha, first, CUDA_R_64F, lda,
                                      first + 2, CUDA_R_64F, ldb, beta, first + 4, CUDA_R_64F, ldc,
                                      2, size, CUBLAS_COMPUTE_64F);
  };
  BOOST_TEST(run(pointers.data(), m) == CUBLAS_STATUS_SUCCESS);
  {
    device_access const access;
    BOOST_TEST(std::abs(c(2, 3) - (a(2, 0) * b(0, 3) + a(2, 1) * b(1, 3))) < 1e-14);
    BOOST_TEST(std::abs(d(1, 3) - 2 * (a(1, 0) * b(0, 3) + a(1, 1) * b(1, 3))) < 1e-14);
  }
  std::vector<void*> host(6);
  BOOST_TEST(stops([&] { run(host.data(), m); }, "Aarray is a host pointer"));
  auto const* const on_device = reinterpret_cast<int const*>(pointers.data());
  BOOST_TEST(stops([&] { run(pointers.data(), on_device); }, "m_array is a device pointer"));
  cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE);
  BOOST_TEST(run(pointers.data(), m) == CUBLAS_STATUS_NOT_SUPPORTED);
}

BOOST_AUTO_TEST_CASE(a_handle_works_on_its_stream_with_its_workspace) {
  device_matrix const a(2, 2, 0, 1), b(2, 2, 0, 2), c(2, 2, 0, 3);
  auto const run = [&] { gemm(CUBLAS_OP_N, CUBLAS_OP_N, &one, a, b, &zero, c); };
  buffer<char> const room(1024);
  BOOST_TEST(stops([&] { cublasSetWorkspace(handle, room.data() + 8, 512); }, "256 bytes"));
  BOOST_TEST(stops([&] { cublasSetWorkspace(handle, room.data(), 2048); }, "leaves"));
  cublasSetWorkspace(handle, room.data(), 1024);
  run();
  BOOST_TEST(fake_cuda::last_product().workspace == 1024U);
  BOOST_TEST(stops([&] { cublasSetMathMode(handle, static_cast<cublasMath_t>(7)); }, "mode is 7"));
  // A workspace of nothing is one.
  BOOST_TEST(cublasSetWorkspace(handle, nullptr, 0) == CUBLAS_STATUS_SUCCESS);
  cublasSetWorkspace(handle, room.data(), 1024);
  // Another stream must wait, and setting a stream forgets the workspace.
  stream const other;
  cublasSetStream(handle, static_cast<stream_ref>(other).handle);
  BOOST_TEST(stops(run, "another stream writes"));
  synchronize(queue);
  run();
  BOOST_TEST(fake_cuda::last_product().workspace == 0U);

  cublasHandle_t fresh = nullptr;
  cublasCreate(&fresh);
  std::swap(fresh, handle);
  BOOST_TEST(stops(run, "on the default stream"));
  cublasDestroy(handle);
  BOOST_TEST(stops(run, "the handle was destroyed"));
  handle = nullptr;
  BOOST_TEST(stops(run, "not a handle"));
  std::swap(fresh, handle);
}

BOOST_AUTO_TEST_CASE(a_handle_works_on_the_device_it_was_created_on) {
  fake_cuda::pretend const both({.devices = 2});
  device_matrix const a(2, 2, 0, 1), c(2, 2, 0, 3);
  cudaSetDevice(1);
  device_matrix const far(2, 2, 0, 2);
  stream const other;
  auto const run = [&] { gemm(CUBLAS_OP_N, CUBLAS_OP_N, &one, a, far, &zero, c); };
  BOOST_TEST(stops(run, "a handle of device 0, but the current one is device 1"));
  BOOST_TEST(stops([&] { cublasDestroy(handle); }, "but the current one is device 1"));
  cudaSetDevice(0);
  BOOST_TEST(stops(run, "memory of device 1 on a stream of device 0"));
  auto const take = [&] { cublasSetStream(handle, static_cast<stream_ref>(other).handle); };
  BOOST_TEST(stops(take, "a handle of device 0 and a stream of device 1"));
}

BOOST_AUTO_TEST_CASE(a_test_can_let_cublas_fail) {
  cublasHandle_t none = nullptr;
  {
    fake_cuda::pretend const without({.driver_version = 0});
    BOOST_TEST(cublasCreate(&none) == CUBLAS_STATUS_NOT_INITIALIZED);
  }
  fake_cuda::failure const next("cublasDgemm_v2", 1, CUBLAS_STATUS_EXECUTION_FAILED);
  device_matrix const a(2, 2, 0, 1), c(2, 2, 0, 3);
  BOOST_TEST(gemm(CUBLAS_OP_N, CUBLAS_OP_N, &one, a, a, &zero, c) ==
             CUBLAS_STATUS_EXECUTION_FAILED);
  BOOST_TEST(gemm(CUBLAS_OP_N, CUBLAS_OP_N, &one, a, a, &zero, c) == CUBLAS_STATUS_SUCCESS);
}

BOOST_AUTO_TEST_SUITE_END()
