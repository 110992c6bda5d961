// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <type_traits>

#include <stiefelx/core/matrix.hpp>

/// \file
/// \brief The one routine that the host calls of a BLAS, when STIEFELX_USE_BLAS is defined.
/// \ingroup host

/// \cond
extern "C" {
void sgemm_(char const*, char const*, int const*, int const*, int const*, float const*,
            float const*, int const*, float const*, int const*, float const*, float*, int const*);
void dgemm_(char const*, char const*, int const*, int const*, int const*, double const*,
            double const*, int const*, double const*, int const*, double const*, double*,
            int const*);
void cgemm_(char const*, char const*, int const*, int const*, int const*, void const*, void const*,
            int const*, void const*, int const*, void const*, void*, int const*);
void zgemm_(char const*, char const*, int const*, int const*, int const*, void const*, void const*,
            int const*, void const*, int const*, void const*, void*, int const*);
}
/// \endcond

namespace stiefelx::host {

/// \brief Calls gemm of the linked BLAS: c += alpha op(a) op(b).
/// \ingroup host
/// \param[in]     left      N, T or C: as it is, transposed, or its adjoint
/// \param[in]     right     likewise for b
/// \param[in]     m         rows of c
/// \param[in]     n         columns of c
/// \param[in]     k         inner size
/// \param[in]     alpha     factor
/// \param[in]     a         column-major
/// \param[in]     a_stride  its column stride
/// \param[in]     b         column-major
/// \param[in]     b_stride  its column stride
/// \param[in,out] c         column-major
/// \param[in]     c_stride  its column stride
/// Sizes fit an int, which the caller has checked.
template <class S>
void blas_gemm(char left, char right, index_t m, index_t n, index_t k, S alpha, S const* a,
               index_t a_stride, S const* b, index_t b_stride, S* c, index_t c_stride) {
  int const rows = static_cast<int>(m), cols = static_cast<int>(n), depth = static_cast<int>(k);
  int const lda = static_cast<int>(a_stride), ldb = static_cast<int>(b_stride),
            ldc = static_cast<int>(c_stride);
  S const one(1);
  if constexpr (std::is_same_v<S, float>)
    sgemm_(&left, &right, &rows, &cols, &depth, &alpha, a, &lda, b, &ldb, &one, c, &ldc);
  else if constexpr (std::is_same_v<S, double>)
    dgemm_(&left, &right, &rows, &cols, &depth, &alpha, a, &lda, b, &ldb, &one, c, &ldc);
  else if constexpr (std::is_same_v<S, std::complex<float>>)
    cgemm_(&left, &right, &rows, &cols, &depth, &alpha, a, &lda, b, &ldb, &one, c, &ldc);
  else
    zgemm_(&left, &right, &rows, &cols, &depth, &alpha, a, &lda, b, &ldb, &one, c, &ldc);
}

}  // namespace stiefelx::host
