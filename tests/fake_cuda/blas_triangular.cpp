// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// cuBLAS: the symmetric product and the triangular solve. Plain loops that sum in double.

#include <string>

#include <fake_cuda/blas.hpp>

namespace fake_cuda {

namespace {

// syrk, trsm: "if uplo is not one of CUBLAS_FILL_MODE_LOWER and CUBLAS_FILL_MODE_UPPER" the call is
// refused by CUBLAS_STATUS_INVALID_VALUE; there is a third one, CUBLAS_FILL_MODE_FULL.
bool is_upper(char const* symbol, cublasFillMode_t fill) {
  if (fill != CUBLAS_FILL_MODE_LOWER && fill != CUBLAS_FILL_MODE_UPPER)
    stop(std::string(symbol) + ": uplo is neither CUBLAS_FILL_MODE_LOWER nor UPPER");
  return fill == CUBLAS_FILL_MODE_UPPER;
}

template <class S>
cublasStatus_t syrk(char const* symbol, cublasHandle_t handle, cublasFillMode_t fill,
                    cublasOperation_t op, int n, int k, S const* alpha, S const* a, int lda,
                    S const* beta, S* c, int ldc) {
  blas_call call(symbol, handle);
  if (call.refused() != CUBLAS_STATUS_SUCCESS) return call.refused();
  call.expect_size("n", n);
  call.expect_size("k", k);
  bool const upper = is_upper(symbol, fill);
  bool const transposed = call.is_transposed("trans", op);
  entry_type const type = entry_type_of<S>;
  matrix_argument const from{"A", type, a, transposed ? k : n, transposed ? n : k, lda};
  matrix_argument const to{"C", type, c, n, n, ldc};
  call.reads(from);
  call.writes(to);
  auto const scale = call.scalar("alpha", type, alpha);
  auto const keep = call.scalar("beta", type, beta);
  call.expect_apart();
  return call.start([=] {
    auto const entry = [&](std::int64_t i, std::int64_t l) {
      return transposed ? from(l, i) : from(i, l);
    };
    // Of C "the other symmetric part is not referenced".
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t i = upper ? 0 : j; i < (upper ? j + 1 : n); ++i) {
        double sum = 0;
        for (std::int64_t l = 0; l < k; ++l) sum += entry(i, l) * entry(j, l);
        // "If beta == 0 then C does not have to be a valid input."
        to.set(i, j, scale * sum + (keep == 0 ? 0 : keep * to(i, j)));
      }
  });
}

// Solves op(A) X = alpha B (left) or X op(A) = alpha B (right) by substitution; the right one is
// the left one of transposes. "No test for singularity or near-singularity is included in this
// function": a zero on the diagonal makes infinities.
template <class S>
cublasStatus_t trsm(char const* symbol, cublasHandle_t handle, cublasSideMode_t side,
                    cublasFillMode_t fill, cublasOperation_t op, cublasDiagType_t diagonal, int m,
                    int n, S const* alpha, S const* a, int lda, S* b, int ldb) {
  blas_call call(symbol, handle);
  if (call.refused() != CUBLAS_STATUS_SUCCESS) return call.refused();
  call.expect_size("m", m);
  call.expect_size("n", n);
  bool const left = call.is_left("side", side);
  bool const upper = is_upper(symbol, fill);
  bool const transposed = call.is_transposed("trans", op);
  // "if diag is not one of CUBLAS_DIAG_UNIT and CUBLAS_DIAG_NON_UNIT".
  if (diagonal != CUBLAS_DIAG_UNIT && diagonal != CUBLAS_DIAG_NON_UNIT)
    stop(std::string(symbol) + ": diag is " + std::to_string(static_cast<int>(diagonal)));
  entry_type const type = entry_type_of<S>;
  std::int64_t const order = left ? m : n;
  std::int64_t const others = left ? n : m;
  matrix_argument const factor{"A", type, a, order, order, lda};
  matrix_argument const x{"B", type, b, m, n, ldb};
  auto const scale = call.scalar("alpha", type, alpha);
  // "if alpha == 0 then A is not referenced": its leading dimension counts all the same.
  call.reads(factor, scale);
  call.writes(x);
  call.expect_apart();
  return call.start([=] {
    bool const flipped = transposed != !left;
    auto const entry = [&](std::int64_t i, std::int64_t j) {
      // CUBLAS_DIAG_UNIT: its elements "are unity and should not be accessed".
      if (i == j && diagonal == CUBLAS_DIAG_UNIT) return 1.0;
      return flipped ? factor(j, i) : factor(i, j);
    };
    bool const forward = upper == flipped;  // the triangle that is solved with is a lower one
    for (std::int64_t s = 0; s < others; ++s)
      for (std::int64_t step = 0; step < order; ++step) {
        std::int64_t const i = forward ? step : order - 1 - step;
        auto const at = [&](std::int64_t q) { return left ? x(q, s) : x(s, q); };
        // "if alpha == 0 then A is not referenced and B does not have to be a valid input".
        if (scale == 0) {
          left ? x.set(i, s, 0) : x.set(s, i, 0);
          continue;
        }
        double value = scale * at(i);
        for (std::int64_t before = 0; before < step; ++before) {
          std::int64_t const j = forward ? before : order - 1 - before;
          value -= entry(i, j) * at(j);
        }
        value /= entry(i, i);
        left ? x.set(i, s, value) : x.set(s, i, value);
      }
  });
}

}  // namespace

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

cublasStatus_t cublasSsyrk_v2(cublasHandle_t handle, cublasFillMode_t fill, cublasOperation_t op,
                              int n, int k, float const* alpha, float const* a, int lda,
                              float const* beta, float* c, int ldc) {
  return syrk("cublasSsyrk_v2", handle, fill, op, n, k, alpha, a, lda, beta, c, ldc);
}

cublasStatus_t cublasDsyrk_v2(cublasHandle_t handle, cublasFillMode_t fill, cublasOperation_t op,
                              int n, int k, double const* alpha, double const* a, int lda,
                              double const* beta, double* c, int ldc) {
  return syrk("cublasDsyrk_v2", handle, fill, op, n, k, alpha, a, lda, beta, c, ldc);
}

cublasStatus_t cublasStrsm_v2(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                              cublasOperation_t op, cublasDiagType_t diagonal, int m, int n,
                              float const* alpha, float const* a, int lda, float* b, int ldb) {
  return trsm("cublasStrsm_v2", handle, side, fill, op, diagonal, m, n, alpha, a, lda, b, ldb);
}

cublasStatus_t cublasDtrsm_v2(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                              cublasOperation_t op, cublasDiagType_t diagonal, int m, int n,
                              double const* alpha, double const* a, int lda, double* b, int ldb) {
  return trsm("cublasDtrsm_v2", handle, side, fill, op, diagonal, m, n, alpha, a, lda, b, ldb);
}

}  // extern "C"
