// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <cublas_v2.h>

#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/runtime.hpp>

/// \file
/// \brief cuBLAS: every call to it, with sizes, strides and operations taken from the matrices.
/// \ingroup cuda
///
/// cuBLAS is column-major, and so are device matrices: a plain matrix is passed as it lies
/// (operation N), an adjoint as the matrix in memory with operation T. A row-major matrix is the
/// adjoint of a column-major one (cuda/matrix.hpp) and needs nothing of its own.

namespace stiefelx::cuda {

/// \brief Throws unless a call to cuBLAS succeeded.
/// \ingroup cuda
/// \param[in] status  what it returned
/// \param[in] call    its name, for the text
/// \throws cuda_error  with the call's name and cuBLAS's text
inline void check(cublasStatus_t status, char const* call);

/// Choices of a blas_context.
/// \ingroup cuda
struct blas_options {
  bool tf32 = false;          ///< whether products of float may round their factors to TF32
  std::size_t workspace = 0;  ///< bytes for cuBLAS's own use, or 0 for what NVIDIA recommends
};

/// Entries whose products cuBLAS computes in their own type.
/// \ingroup cuda
template <class S>
concept BlasScalar = std::same_as<S, float> || std::same_as<S, double>;

/// \brief The factor of a product: a number of the host's, or one on the device.
/// \ingroup cuda
///
/// The one on the device is read when the product runs, so nothing waits for it.
template <class R>
struct blas_factor {
  R number = R(1);            ///< used where there is no address
  R const* device = nullptr;  ///< address on the device, or null
};

/// \brief A cuBLAS handle on one queue, with a workspace of its own.
/// \ingroup cuda
///
/// One queue and one workspace make results the same from run to run: cuBLAS may choose another
/// order of summation only when streams share a workspace. Products of float run in float: TF32
/// rounds factors to 11 bits and is for callers who ask for it. Sums of two-byte entries stay in
/// float throughout.
class blas_context {
 public:
  /// \brief Opens cuBLAS on the current device; waits.
  /// \param[in] queue       where products are queued; outlives the handle
  /// \param[in] capability  compute capability of the device, as compute_capability() gives it
  /// \param[in] options     precision and memory
  blas_context(stream_ref queue, int capability, blas_options options);
  blas_context(blas_context const&) = delete;
  blas_context& operator=(blas_context const&) = delete;

  /// \brief The handle, set for factors on one side.
  ///
  /// The side is set anew for every call: it is a variable of the handle and costs nothing on the
  /// device, while a host's number kept on the device would have to be copied there first.
  /// \param[in] on_device  whether factors lie on the device
  /// \returns the handle
  cublasHandle_t with_factors(bool on_device);

  /// \param[in] one  which number
  /// \returns address on the device of the number 1, or of 0
  template <BlasScalar R>
  R const* number_on_device(bool one) const {
    if constexpr (std::same_as<R, float>)
      return constants_.data()->single + (one ? 1 : 0);
    else
      return constants_.data()->full + (one ? 1 : 0);
  }

 private:
  struct constants {
    double full[2];
    float single[2];
  };
  // A class of its own: it is closed when a later step of the constructor throws.
  struct opened {
    cublasHandle_t handle = nullptr;
    opened();
    opened(opened const&) = delete;
    opened& operator=(opened const&) = delete;
    ~opened();
  };

  buffer<std::byte> workspace_;
  buffer<constants> constants_;
  opened open_;
};

/// \brief Queues c = s a b, or c += s a b.
/// \ingroup cuda
/// \param[in]     blas      cuBLAS
/// \param[in]     function  name of the verb, for the text of an error
/// \param[in]     s         a factor in c's scalar
/// \param[in]     a         m x k, of c's scalar, or of two bytes an entry where that is float
/// \param[in]     b         k x n, of a's scalar
/// \param[in,out] c         m x n, apart from a and b; not read unless add
/// \param[in]     add       whether to add to c
/// \throws shape_error  when a size is beyond cuBLAS's int
template <DeviceMatrix A, DeviceMatrix B, DevicePlain C>
void gemm(blas_context& blas, char const* function, blas_factor<arithmetic_t<scalar_t<A>>> s,
          A const& a, B const& b, C& c, bool add);

/// \brief Queues the upper triangle of c = y^T y; the rest of c stays.
/// \ingroup cuda
/// \param[in]     blas      cuBLAS
/// \param[in]     function  name of the verb, for the text of an error
/// \param[in]     y         n x p
/// \param[in,out] c         p x p, apart from y
/// \throws shape_error  when a size is beyond cuBLAS's int
template <DeviceMatrix Y, DevicePlain C>
void syrk(blas_context& blas, char const* function, Y const& y, C& c);

/// \brief Queues y = y r^-1 for upper triangular r.
/// \ingroup cuda
/// \param[in]     blas      cuBLAS
/// \param[in]     function  name of the verb, for the text of an error
/// \param[in]     r         p x p; entries below the diagonal are not read
/// \param[in,out] y         n x p, apart from r
/// \throws shape_error  when a size is beyond cuBLAS's int
template <DeviceMatrix R, DevicePlain Y>
void trsm(blas_context& blas, char const* function, R const& r, Y& y);

namespace detail {

[[noreturn]] STIEFELX_COLD inline void throw_blas_error(cublasStatus_t status, char const* call) {
  forget_last_error();
  throw cuda_error(std::string(call) + ": " + cublasGetStatusString(status) + " (status " +
                   std::to_string(static_cast<int>(status)) + ")");
}

// cuBLAS's int for a size of a matrix.
template <DeviceMatrix A>
void expect_blas_sizes(char const* function, char const* argument, A const& a) {
  constexpr index_t largest = std::numeric_limits<int>::max();
  if (std::max({a.rows(), a.cols(), a.stride()}) <= largest) return;
  stiefelx::detail::throw_shape(
      function, argument, a.rows(), a.cols(),
      "sizes and a stride of at most " + std::to_string(largest) + " for cuBLAS");
}

// An operand as cuBLAS takes it.
template <class S>
struct operand {
  S const* data;
  int stride;
  cublasOperation_t operation;
};

template <DeviceMatrix A>
operand<scalar_t<A>> operand_of(A const& a) {
  return {a.data(), std::max(1, static_cast<int>(a.stride())),
          is_adjoint<std::remove_cvref_t<A>> ? CUBLAS_OP_T : CUBLAS_OP_N};
}

template <NarrowScalar S>
inline constexpr cudaDataType_t data_type = std::same_as<S, bfloat16> ? CUDA_R_16BF : CUDA_R_16F;

// cuBLAS's product of factors of one scalar.
template <class S>
void call_gemm(cublasHandle_t handle, int m, int n, int k, arithmetic_t<S> const* alpha,
               operand<S> a, operand<S> b, arithmetic_t<S> const* beta, arithmetic_t<S>* c,
               int stride) {
  if constexpr (NarrowScalar<S>)
    check(cublasGemmEx(handle, a.operation, b.operation, m, n, k, alpha, a.data, data_type<S>,
                       a.stride, b.data, data_type<S>, b.stride, beta, c, CUDA_R_32F, stride,
                       CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
  else if constexpr (std::same_as<S, float>)
    check(cublasSgemm(handle, a.operation, b.operation, m, n, k, alpha, a.data, a.stride, b.data,
                      b.stride, beta, c, stride),
          "cublasSgemm");
  else
    check(cublasDgemm(handle, a.operation, b.operation, m, n, k, alpha, a.data, a.stride, b.data,
                      b.stride, beta, c, stride),
          "cublasDgemm");
}

}  // namespace detail

inline void check(cublasStatus_t status, char const* call) {
  if (status != CUBLAS_STATUS_SUCCESS) detail::throw_blas_error(status, call);
}

inline blas_context::opened::opened() { check(cublasCreate(&handle), "cublasCreate"); }

inline blas_context::opened::~opened() { (void)cublasDestroy(handle); }

inline blas_context::blas_context(stream_ref queue, int capability, blas_options options)
    // NVIDIA's recommendation: 32 MiB for Hopper and later architectures, 4 MiB before.
    : workspace_(options.workspace != 0 ? options.workspace
                                        : std::size_t{capability >= 90 ? 32U : 4U} << 20),
      constants_(1) {
  cublasHandle_t const handle = open_.handle;
  // Setting the stream resets the workspace, so it comes first.
  check(cublasSetStream(handle, queue.handle), "cublasSetStream");
  check(cublasSetWorkspace(handle, workspace_.data(), workspace_.size()), "cublasSetWorkspace");
  unsigned const mode = options.tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH;
  unsigned const sums = CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  check(cublasSetMathMode(handle, static_cast<cublasMath_t>(mode | sums)), "cublasSetMathMode");
  constants const numbers{{0.0, 1.0}, {0.0F, 1.0F}};
  copy_2d(constants_.data(), sizeof numbers, &numbers, sizeof numbers, sizeof numbers, 1,
          direction::to_device, queue);
  synchronize(queue);
}

inline cublasHandle_t blas_context::with_factors(bool on_device) {
  check(cublasSetPointerMode(open_.handle,
                             on_device ? CUBLAS_POINTER_MODE_DEVICE : CUBLAS_POINTER_MODE_HOST),
        "cublasSetPointerMode");
  return open_.handle;
}

template <DeviceMatrix A, DeviceMatrix B, DevicePlain C>
void gemm(blas_context& blas, char const* function, blas_factor<arithmetic_t<scalar_t<A>>> s,
          A const& a, B const& b, C& c, bool add) {
  using S = scalar_t<A>;
  using R = arithmetic_t<S>;
  static_assert(SameScalar<A, B> && std::same_as<scalar_t<C>, R>);
  detail::expect_blas_sizes(function, "a", a);
  detail::expect_blas_sizes(function, "b", b);
  detail::expect_blas_sizes(function, "c", c);
  // Both factors of a call lie on one side.
  R const host_beta = add ? R(1) : R(0);
  bool const on_device = s.device != nullptr;
  cublasHandle_t const handle = blas.with_factors(on_device);
  detail::call_gemm<S>(handle, static_cast<int>(c.rows()), static_cast<int>(c.cols()),
                       static_cast<int>(a.cols()), on_device ? s.device : &s.number,
                       detail::operand_of(a), detail::operand_of(b),
                       on_device ? blas.number_on_device<R>(add) : &host_beta, c.data(),
                       static_cast<int>(c.stride()));
}

template <DeviceMatrix Y, DevicePlain C>
void syrk(blas_context& blas, char const* function, Y const& y, C& c) {
  using S = scalar_t<Y>;
  static_assert(BlasScalar<S> && SameScalar<Y, C>);
  detail::expect_blas_sizes(function, "y", y);
  auto const a = detail::operand_of(y);
  // y^T y: syrk calls the product of a matrix with its own transpose N.
  auto const operation = a.operation == CUBLAS_OP_N ? CUBLAS_OP_T : CUBLAS_OP_N;
  auto const n = static_cast<int>(y.cols());
  auto const k = static_cast<int>(y.rows());
  auto const stride = static_cast<int>(c.stride());
  S const one(1), zero(0);
  cublasHandle_t const handle = blas.with_factors(false);
  if constexpr (std::same_as<S, float>)
    check(cublasSsyrk(handle, CUBLAS_FILL_MODE_UPPER, operation, n, k, &one, a.data, a.stride,
                      &zero, c.data(), stride),
          "cublasSsyrk");
  else
    check(cublasDsyrk(handle, CUBLAS_FILL_MODE_UPPER, operation, n, k, &one, a.data, a.stride,
                      &zero, c.data(), stride),
          "cublasDsyrk");
}

template <DeviceMatrix R, DevicePlain Y>
void trsm(blas_context& blas, char const* function, R const& r, Y& y) {
  using S = scalar_t<R>;
  static_assert(BlasScalar<S> && SameScalar<R, Y>);
  detail::expect_blas_sizes(function, "r", r);
  detail::expect_blas_sizes(function, "y", y);
  auto const a = detail::operand_of(r);
  // The upper triangle of an adjoint lies in memory as the lower one.
  auto const triangle =
      a.operation == CUBLAS_OP_N ? CUBLAS_FILL_MODE_UPPER : CUBLAS_FILL_MODE_LOWER;
  auto const m = static_cast<int>(y.rows());
  auto const n = static_cast<int>(y.cols());
  auto const stride = static_cast<int>(y.stride());
  S const one(1);
  cublasHandle_t const handle = blas.with_factors(false);
  if constexpr (std::same_as<S, float>)
    check(cublasStrsm(handle, CUBLAS_SIDE_RIGHT, triangle, a.operation, CUBLAS_DIAG_NON_UNIT, m, n,
                      &one, a.data, a.stride, y.data(), stride),
          "cublasStrsm");
  else
    check(cublasDtrsm(handle, CUBLAS_SIDE_RIGHT, triangle, a.operation, CUBLAS_DIAG_NON_UNIT, m, n,
                      &one, a.data, a.stride, y.data(), stride),
          "cublasDtrsm");
}

}  // namespace stiefelx::cuda
