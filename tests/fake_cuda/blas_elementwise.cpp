// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// cuBLAS: sums and scalings of whole matrices.

#include <string>

#include <fake_cuda/blas.hpp>

namespace fake_cuda {

namespace {

// geam: "if C == A, ldc == lda and transa == CUBLAS_OP_N", or else "CUBLAS_STATUS_INVALID_VALUE is
// returned", and "The operation is out-of-place if C does not overlap A or B"; dgmm: "The in-place
// only works if lda == ldc".
void expect_in_place(char const* symbol, matrix_argument const& c, matrix_argument const& a,
                     bool transposed) {
  if (!overlap(c.where(), a.where())) return;
  if (c.first != a.first || c.stride != a.stride || transposed)
    stop(std::string(symbol) + ": C overlaps " + a.name + " and is not the same matrix");
}

// Scalar Parameters: factors on the device "should not be modified until the kernel is done".
void expect_apart(char const* symbol, matrix_argument const& c, char const* name,
                  scalar_argument const& factor) {
  std::size_t const bytes = size_of(factor.type);
  if (factor.device != nullptr &&
      overlap(c.where(), {reinterpret_cast<std::uintptr_t>(factor.device), bytes, bytes, 1}))
    stop(std::string(symbol) + ": C overlaps " + name);
}

template <class S>
cublasStatus_t geam(char const* symbol, cublasHandle_t handle, cublasOperation_t left,
                    cublasOperation_t right, int m, int n, S const* alpha, S const* a, int lda,
                    S const* beta, S const* b, int ldb, S* c, int ldc) {
  blas_call call(symbol, handle);
  if (call.refused() != CUBLAS_STATUS_SUCCESS) return call.refused();
  call.expect_size("m", m);
  call.expect_size("n", n);
  bool const flip_a = call.is_transposed("transa", left);
  bool const flip_b = call.is_transposed("transb", right);
  entry_type const type = entry_type_of<S>;
  matrix_argument const first{"A", type, a, flip_a ? n : m, flip_a ? m : n, lda};
  matrix_argument const second{"B", type, b, flip_b ? n : m, flip_b ? m : n, ldb};
  matrix_argument const to{"C", type, c, m, n, ldc};
  auto const x = call.scalar("alpha", type, alpha);
  auto const y = call.scalar("beta", type, beta);
  // "If *alpha == 0, A does not have to be a valid input", and the same of beta and B; but the call
  // is refused "if lda < max(1, m) when transa == CUBLAS_OP_N, and lda < max(1, n) otherwise"
  // whatever alpha is. A factor on the device is not known yet.
  call.reads(first, x);
  call.reads(second, y);
  call.writes(to);
  expect_apart(symbol, to, "alpha", x);
  expect_apart(symbol, to, "beta", y);
  if (x.device != nullptr || x != 0) expect_in_place(symbol, to, first, flip_a);
  if (y.device != nullptr || y != 0) expect_in_place(symbol, to, second, flip_b);
  return call.start([=] {
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t i = 0; i < m; ++i)
        to.set(i, j,
               (x == 0 ? 0 : x * (flip_a ? first(j, i) : first(i, j))) +
                   (y == 0 ? 0 : y * (flip_b ? second(j, i) : second(i, j))));
  });
}

// C = diag(x) A (left) or A diag(x) (right).
template <class S>
cublasStatus_t dgmm(char const* symbol, cublasHandle_t handle, cublasSideMode_t side, int m, int n,
                    S const* a, int lda, S const* x, int step, S* c, int ldc) {
  blas_call call(symbol, handle);
  if (call.refused() != CUBLAS_STATUS_SUCCESS) return call.refused();
  call.expect_size("m", m);
  call.expect_size("n", n);
  bool const left = call.is_left("mode", side);
  entry_type const type = entry_type_of<S>;
  std::int64_t const count = left ? m : n;
  matrix_argument const from{"A", type, a, m, n, lda};
  // "The absolute value of incx is the stride and the sign of incx is direction of the stride", and
  // 0 is one entry for all. The library needs neither, so they are not modelled.
  if (step < 1) stop(std::string(symbol) + ": incx is " + std::to_string(step));
  matrix_argument const weights{"x", type, x, 1, count, step};
  matrix_argument const to{"C", type, c, m, n, ldc};
  call.reads(from);
  call.reads(weights);
  call.writes(to);
  expect_in_place(symbol, to, from, false);
  // In place is said of A alone.
  if (overlap(to.where(), weights.where())) stop(std::string(symbol) + ": C overlaps x");
  return call.start([=] {
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t i = 0; i < m; ++i) to.set(i, j, from(i, j) * weights(0, left ? i : j));
  });
}

}  // namespace

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

cublasStatus_t cublasSgeam(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right,
                           int m, int n, float const* alpha, float const* a, int lda,
                           float const* beta, float const* b, int ldb, float* c, int ldc) {
  return geam("cublasSgeam", handle, left, right, m, n, alpha, a, lda, beta, b, ldb, c, ldc);
}

cublasStatus_t cublasDgeam(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right,
                           int m, int n, double const* alpha, double const* a, int lda,
                           double const* beta, double const* b, int ldb, double* c, int ldc) {
  return geam("cublasDgeam", handle, left, right, m, n, alpha, a, lda, beta, b, ldb, c, ldc);
}

cublasStatus_t cublasSdgmm(cublasHandle_t handle, cublasSideMode_t side, int m, int n,
                           float const* a, int lda, float const* x, int step, float* c, int ldc) {
  return dgmm("cublasSdgmm", handle, side, m, n, a, lda, x, step, c, ldc);
}

cublasStatus_t cublasDdgmm(cublasHandle_t handle, cublasSideMode_t side, int m, int n,
                           double const* a, int lda, double const* x, int step, double* c,
                           int ldc) {
  return dgmm("cublasDdgmm", handle, side, m, n, a, lda, x, step, c, ldc);
}

}  // extern "C"
