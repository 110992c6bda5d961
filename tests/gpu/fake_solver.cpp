// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// For the peers of the benchmarks on the fake device: the calls of cuSOLVER, and cuBLAS's QR of many
// matrices, that bench/cuda/peers.cpp names. By plain loops in double, on device memory that is opened
// for the call; arguments that no such call could take are told by their status.
#include <cmath>
#include <cstddef>
#include <vector>

#include <cublas_v2.h>
#include <cusolverDn.h>

#include <fake_cuda/fake.hpp>

namespace {

struct column_major {
  float* first;
  std::size_t stride;
  float& operator()(std::size_t i, std::size_t j) const { return first[i + j * stride]; }
};

std::size_t size(int n) { return static_cast<std::size_t>(n); }

// Reflectors I - tau v v^T with v_j = 1, below the diagonal of a; R above it.
void factor(column_major a, std::size_t n, std::size_t p, float* tau) {
  for (std::size_t j = 0; j < p; ++j) {
    double below = 0;
    for (std::size_t i = j + 1; i < n; ++i) below += static_cast<double>(a(i, j)) * a(i, j);
    double const top = a(j, j), length = std::sqrt(top * top + below);
    double const pivot = top > 0 ? -length : length;
    tau[j] = below == 0 ? 0.0F : static_cast<float>((pivot - top) / pivot);
    if (below == 0) continue;
    for (std::size_t i = j + 1; i < n; ++i) a(i, j) = static_cast<float>(a(i, j) / (top - pivot));
    for (std::size_t c = j + 1; c < p; ++c) {
      double sum = a(j, c);
      for (std::size_t i = j + 1; i < n; ++i) sum += static_cast<double>(a(i, j)) * a(i, c);
      sum *= static_cast<double>(tau[j]);
      a(j, c) = static_cast<float>(a(j, c) - sum);
      for (std::size_t i = j + 1; i < n; ++i) a(i, c) = static_cast<float>(a(i, c) - sum * a(i, j));
    }
    a(j, j) = static_cast<float>(pivot);
  }
}

// The first p columns of the product of the reflectors.
void form(column_major a, std::size_t n, std::size_t p, float const* tau) {
  std::vector<double> q(n * p);
  for (std::size_t j = 0; j < p; ++j) q[j + j * n] = 1;
  for (std::size_t r = p; r-- > 0;)
    for (std::size_t c = 0; c < p; ++c) {
      double sum = q[r + c * n];
      for (std::size_t i = r + 1; i < n; ++i) sum += static_cast<double>(a(i, r)) * q[i + c * n];
      sum *= static_cast<double>(tau[r]);
      q[r + c * n] -= sum;
      for (std::size_t i = r + 1; i < n; ++i) q[i + c * n] -= sum * static_cast<double>(a(i, r));
    }
  for (std::size_t j = 0; j < p; ++j)
    for (std::size_t i = 0; i < n; ++i) a(i, j) = static_cast<float>(q[i + j * n]);
}

int room(int p) { return 3 * p + 1; }

cusolverStatus_t checked(bool right) {
  return right ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_INVALID_VALUE;
}

int handle_place;

}  // namespace

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  *handle = reinterpret_cast<cusolverDnHandle_t>(&handle_place);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) { return checked(handle != nullptr); }

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  return checked(handle != nullptr && stream != nullptr);
}

cusolverStatus_t cusolverDnSgeqrf_bufferSize(cusolverDnHandle_t handle, int m, int n, float* a,
                                             int lda, int* entries) {
  *entries = room(n);
  return checked(handle != nullptr && a != nullptr && m >= n && lda >= m);
}

cusolverStatus_t cusolverDnSgeqrf(cusolverDnHandle_t handle, int m, int n, float* a, int lda,
                                  float* tau, float* work, int entries, int* info) {
  if (handle == nullptr || m < n || lda < m || work == nullptr || entries < room(n))
    return checked(false);
  fake_cuda::device_access const open;
  factor({a, size(lda)}, size(m), size(n), tau);
  work[entries - 1] = 0;
  *info = 0;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k,
                                             float const* a, int lda, float const*, int* entries) {
  *entries = room(n);
  return checked(handle != nullptr && a != nullptr && m >= n && n >= k && lda >= m);
}

cusolverStatus_t cusolverDnSorgqr(cusolverDnHandle_t handle, int m, int n, int k, float* a, int lda,
                                  float const* tau, float* work, int entries, int* info) {
  if (handle == nullptr || m < n || n != k || lda < m || work == nullptr || entries < room(n))
    return checked(false);
  fake_cuda::device_access const open;
  form({a, size(lda)}, size(m), size(n), tau);
  *info = 0;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSpotrfBatched(cusolverDnHandle_t handle, cublasFillMode_t fill, int n,
                                         float* matrices[], int lda, int* info, int count) {
  if (handle == nullptr || fill != CUBLAS_FILL_MODE_UPPER || lda < n) return checked(false);
  fake_cuda::device_access const open;
  for (std::size_t m = 0; m < size(count); ++m) {
    column_major const g{matrices[m], size(lda)};
    info[m] = 0;
    for (std::size_t j = 0; j < size(n); ++j)
      for (std::size_t i = 0; i <= j; ++i) {
        double sum = g(i, j);
        for (std::size_t k = 0; k < i; ++k) sum -= static_cast<double>(g(k, i)) * g(k, j);
        g(i, j) = static_cast<float>(i == j ? std::sqrt(sum) : sum / g(i, i));
      }
  }
  return CUSOLVER_STATUS_SUCCESS;
}

cublasStatus_t cublasSgeqrfBatched(cublasHandle_t handle, int m, int n, float* const matrices[],
                                   int lda, float* const tau[], int* info, int count) {
  // info lies on the host; the arrays of pointers do not.
  if (handle == nullptr || m < n || lda < m) return CUBLAS_STATUS_INVALID_VALUE;
  *info = 0;
  fake_cuda::device_access const open;
  for (std::size_t i = 0; i < size(count); ++i)
    factor({matrices[i], size(lda)}, size(m), size(n), tau[i]);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
