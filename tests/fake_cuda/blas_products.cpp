// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// cuBLAS: products. Plain loops that sum in double.

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <fake_cuda/blas.hpp>

namespace fake_cuda {

namespace {

struct shape {
  cublasOperation_t left, right;
  std::int64_t m, n, k;
};

struct factors {
  entry_type type;
  void const* alpha;
  void const* beta;
};

// Fills in the rows and columns that lie in memory, and checks all three.
void check_product(blas_call& call, shape const& s, matrix_argument& a, matrix_argument& b,
                   matrix_argument& c) {
  call.expect_size("m", s.m);
  call.expect_size("n", s.n);
  call.expect_size("k", s.k);
  bool const left = call.is_transposed("transa", s.left);
  bool const right = call.is_transposed("transb", s.right);
  // "lda x k with lda >= max(1, m) if transa == CUBLAS_OP_N and lda x m with lda >= max(1, k)
  // otherwise", and so on.
  a.rows = left ? s.k : s.m;
  a.cols = left ? s.m : s.k;
  b.rows = right ? s.n : s.k;
  b.cols = right ? s.k : s.n;
  c.rows = s.m;
  c.cols = s.n;
  call.reads(a);
  call.reads(b);
  call.writes(c);
}

void multiply(shape const& s, double alpha, double beta, matrix_argument const& a,
              matrix_argument const& b, matrix_argument const& c, std::int64_t item) {
  bool const left = s.left != CUBLAS_OP_N;
  bool const right = s.right != CUBLAS_OP_N;
  for (std::int64_t j = 0; j < s.n; ++j)
    for (std::int64_t i = 0; i < s.m; ++i) {
      double sum = 0;
      for (std::int64_t l = 0; l < s.k; ++l)
        sum += (left ? a(l, i, item) : a(i, l, item)) * (right ? b(j, l, item) : b(l, j, item));
      // "If beta == 0, C does not have to be a valid input."
      double const before = beta == 0 ? 0 : beta * c(i, j, item);
      c.set(i, j, alpha * sum + before, item);
    }
}

cublasStatus_t product(char const* symbol, cublasHandle_t handle, shape const& s, factors f,
                       matrix_argument a, matrix_argument b, matrix_argument c, int compute = -1) {
  blas_call call(symbol, handle);
  if (call.refused() != CUBLAS_STATUS_SUCCESS) return call.refused();
  // The unit of an offset "is number of elements and must not be zero".
  if (c.batch > 1 && (a.step == 0 || b.step == 0))
    stop(std::string(symbol) + ": the items of a batch are 0 entries apart");
  // "batchCount < 0" is on some lists of CUBLAS_STATUS_INVALID_VALUE; it is meaningless on all.
  call.expect_size("batchCount", c.batch);
  check_product(call, s, a, b, c);
  auto const alpha = call.scalar("alpha", f.type, f.alpha);
  auto const beta = call.scalar("beta", f.type, f.beta);
  call.expect_apart();
  cublasStatus_t const status = call.start([=] {
    for (std::int64_t item = 0; item < c.batch; ++item) multiply(s, alpha, beta, a, b, c, item);
  });
  self().last.compute_type = compute;
  return status;
}

template <class S>
cublasStatus_t gemm(char const* symbol, cublasHandle_t handle, shape const& s, S const* alpha,
                    S const* a, int lda, long long step_a, S const* b, int ldb, long long step_b,
                    S const* beta, S* c, int ldc, long long step_c, int batch) {
  entry_type const type = entry_type_of<S>;
  return product(symbol, handle, s, {type, alpha, beta}, {"A", type, a, 0, 0, lda, step_a, batch},
                 {"B", type, b, 0, 0, ldb, step_b, batch},
                 {"C", type, c, 0, 0, ldc, step_c, batch});
}

bool is_known(cudaDataType_t type) {
  return type == CUDA_R_32F || type == CUDA_R_64F || type == CUDA_R_16BF || type == CUDA_R_16F;
}

entry_type type_of(cudaDataType_t type) {
  if (type == CUDA_R_64F) return entry_type::real64;
  if (type == CUDA_R_32F) return entry_type::real32;
  return type == CUDA_R_16BF ? entry_type::bfloat16 : entry_type::float16;
}

// The tables "supports the following Compute Type, Scale Type, Atype/Btype, and Ctype", real part;
// that of the grouped product has no CUDA_R_32F result of two-byte factors.
bool is_supported(cublasComputeType_t compute, cudaDataType_t a, cudaDataType_t b, cudaDataType_t c,
                  bool grouped) {
  if (a != b || !is_known(a) || !is_known(c)) return false;
  bool const narrow = a == CUDA_R_16BF || a == CUDA_R_16F;
  switch (compute) {
    case CUBLAS_COMPUTE_64F:
    case CUBLAS_COMPUTE_64F_PEDANTIC:
      return a == CUDA_R_64F && c == CUDA_R_64F;
    case CUBLAS_COMPUTE_32F:
      return (narrow && (c == a || (c == CUDA_R_32F && !grouped))) ||
             (a == CUDA_R_32F && c == CUDA_R_32F);
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      return (narrow && !grouped && (c == a || c == CUDA_R_32F)) ||
             (a == CUDA_R_32F && c == CUDA_R_32F);
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return a == CUDA_R_32F && c == CUDA_R_32F;
    case CUBLAS_COMPUTE_32F_FAST_16F:
    case CUBLAS_COMPUTE_32F_FAST_16BF:
      return !grouped && a == CUDA_R_32F && c == CUDA_R_32F;
    default:
      return false;
  }
}

entry_type scale_type(cublasComputeType_t compute) {
  bool const wide = compute == CUBLAS_COMPUTE_64F || compute == CUBLAS_COMPUTE_64F_PEDANTIC;
  return wide ? entry_type::real64 : entry_type::real32;
}

// "If Atype is CUDA_R_16F or CUDA_R_16BF or if the computeType is any of the FAST options [...] if
// (k * AtypeSize) % 16 == 0 then ensure intptr_t(ptr) % 16 == 0, if (k * AtypeSize) % 4 == 0 then
// ensure intptr_t(ptr) % 4 == 0."
void expect_aligned(char const* symbol, matrix_argument const& x, std::int64_t row_bytes,
                    cublasComputeType_t compute) {
  if (size_of(x.type) > 2 && compute != CUBLAS_COMPUTE_32F_FAST_TF32) return;
  std::uintptr_t const unit = row_bytes % 16 == 0 ? 16 : row_bytes % 4 == 0 ? 4 : 1;
  if (reinterpret_cast<std::uintptr_t>(x.first) % unit != 0)
    stop(std::string(symbol) + ": " + x.name + ": not aligned to " + std::to_string(unit) +
         " bytes");
}

}  // namespace

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t left,
                              cublasOperation_t right, int m, int n, int k, float const* alpha,
                              float const* a, int lda, float const* b, int ldb, float const* beta,
                              float* c, int ldc) {
  return gemm("cublasSgemm_v2", handle, {left, right, m, n, k}, alpha, a, lda, 0, b, ldb, 0, beta,
              c, ldc, 0, 1);
}

cublasStatus_t cublasDgemm_v2(cublasHandle_t handle, cublasOperation_t left,
                              cublasOperation_t right, int m, int n, int k, double const* alpha,
                              double const* a, int lda, double const* b, int ldb,
                              double const* beta, double* c, int ldc) {
  return gemm("cublasDgemm_v2", handle, {left, right, m, n, k}, alpha, a, lda, 0, b, ldb, 0, beta,
              c, ldc, 0, 1);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t left,
                                         cublasOperation_t right, int m, int n, int k,
                                         float const* alpha, float const* a, int lda,
                                         long long step_a, float const* b, int ldb,
                                         long long step_b, float const* beta, float* c, int ldc,
                                         long long step_c, int batch) {
  return gemm("cublasSgemmStridedBatched", handle, {left, right, m, n, k}, alpha, a, lda, step_a, b,
              ldb, step_b, beta, c, ldc, step_c, batch);
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t handle, cublasOperation_t left,
                                         cublasOperation_t right, int m, int n, int k,
                                         double const* alpha, double const* a, int lda,
                                         long long step_a, double const* b, int ldb,
                                         long long step_b, double const* beta, double* c, int ldc,
                                         long long step_c, int batch) {
  return gemm("cublasDgemmStridedBatched", handle, {left, right, m, n, k}, alpha, a, lda, step_a, b,
              ldb, step_b, beta, c, ldc, step_c, batch);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right,
                            int m, int n, int k, void const* alpha, void const* a,
                            cudaDataType_t a_type, int lda, void const* b, cudaDataType_t b_type,
                            int ldb, void const* beta, void* c, cudaDataType_t c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
  // Which of several mistakes a call tells of is not said: here CUBLAS_STATUS_NOT_SUPPORTED first.
  if (!is_supported(compute, a_type, b_type, c_type, false)) return CUBLAS_STATUS_NOT_SUPPORTED;
  return product("cublasGemmEx", handle, {left, right, m, n, k}, {scale_type(compute), alpha, beta},
                 {"A", type_of(a_type), a, 0, 0, lda}, {"B", type_of(b_type), b, 0, 0, ldb},
                 {"C", type_of(c_type), c, 0, 0, ldc}, static_cast<int>(compute));
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t left,
                                          cublasOperation_t right, int m, int n, int k,
                                          void const* alpha, void const* a, cudaDataType_t a_type,
                                          int lda, long long step_a, void const* b,
                                          cudaDataType_t b_type, int ldb, long long step_b,
                                          void const* beta, void* c, cudaDataType_t c_type, int ldc,
                                          long long step_c, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
  if (!is_supported(compute, a_type, b_type, c_type, false)) return CUBLAS_STATUS_NOT_SUPPORTED;
  return product("cublasGemmStridedBatchedEx", handle, {left, right, m, n, k},
                 {scale_type(compute), alpha, beta},
                 {"A", type_of(a_type), a, 0, 0, lda, step_a, batch},
                 {"B", type_of(b_type), b, 0, 0, ldb, step_b, batch},
                 {"C", type_of(c_type), c, 0, 0, ldc, step_c, batch}, static_cast<int>(compute));
}

cublasStatus_t cublasGemmGroupedBatchedEx(
    cublasHandle_t handle, cublasOperation_t const left[], cublasOperation_t const right[],
    int const m[], int const n[], int const k[], void const* alpha, void const* const a[],
    cudaDataType_t a_type, int const lda[], void const* const b[], cudaDataType_t b_type,
    int const ldb[], void const* beta, void* const c[], cudaDataType_t c_type, int const ldc[],
    int groups, int const group_size[], cublasComputeType_t compute) {
  char const* const symbol = "cublasGemmGroupedBatchedEx";
  if (!is_supported(compute, a_type, b_type, c_type, true)) return CUBLAS_STATUS_NOT_SUPPORTED;
  blas_call call(symbol, handle);
  if (call.refused() != CUBLAS_STATUS_SUCCESS) return call.refused();
  // "CUBLAS_STATUS_NOT_SUPPORTED: the pointer mode is set to CUBLAS_POINTER_MODE_DEVICE".
  if (handle->mode == CUBLAS_POINTER_MODE_DEVICE) return CUBLAS_STATUS_NOT_SUPPORTED;
  // "CUBLAS_STATUS_INVALID_VALUE if group_count < 0", and "group_size[i] < 0".
  call.expect_size("group_count", groups);
  auto const count = static_cast<std::size_t>(groups);
  // Its table of parameters puts the arrays of each group into host memory ("host | input |
  // group_count") and the arrays of pointers into the device's ("device | input | problem_count").
  std::pair<char const*, void const*> const shapes[] = {{"m_array", m},
                                                        {"n_array", n},
                                                        {"k_array", k},
                                                        {"lda_array", lda},
                                                        {"ldb_array", ldb},
                                                        {"ldc_array", ldc},
                                                        {"group_size", group_size}};
  for (auto const& [name, p] : shapes) call.host_array(name, p, count * sizeof(int));
  call.host_array("transa_array", left, count * sizeof *left);
  call.host_array("transb_array", right, count * sizeof *right);
  entry_type const scale = scale_type(compute);
  call.host_array("alpha_array", alpha, count * size_of(scale));
  call.host_array("beta_array", beta, count * size_of(scale));
  std::size_t problems = 0;
  for (std::size_t g = 0; g < count; ++g) {
    call.expect_size("group_size", group_size[g]);
    problems += static_cast<std::size_t>(group_size[g]);
  }
  call.device_array("Aarray", a, problems * sizeof(void*));
  call.device_array("Barray", b, problems * sizeof(void*));
  call.device_array("Carray", c, problems * sizeof(void*));

  struct one {
    shape s;
    double alpha, beta;
    matrix_argument a, b, c;
  };
  std::vector<one> all;
  for (std::size_t g = 0, p = 0; g < count; ++g)
    for (int j = 0; j < group_size[g]; ++j, ++p) {
      one next{{left[g], right[g], m[g], n[g], k[g]},
               load(scale, alpha, static_cast<std::int64_t>(g)),
               load(scale, beta, static_cast<std::int64_t>(g)),
               {"A", type_of(a_type), a[p], 0, 0, lda[g]},
               {"B", type_of(b_type), b[p], 0, 0, ldb[g]},
               {"C", type_of(c_type), c[p], 0, 0, ldc[g]}};
      // When the pointers in device memory are read is not said: here with the call, so they must
      // be there by then.
      check_product(call, next.s, next.a, next.b, next.c);
      for (matrix_argument const* x : {&next.a, &next.b, &next.c})
        expect_aligned(symbol, *x, k[g] * static_cast<std::int64_t>(size_of(next.a.type)), compute);
      all.push_back(next);
    }
  call.expect_apart();
  cublasStatus_t const status = call.start([all] {
    for (one const& x : all) multiply(x.s, x.alpha, x.beta, x.a, x.b, x.c, 0);
  });
  self().last.compute_type = static_cast<int>(compute);
  return status;
}

}  // extern "C"
