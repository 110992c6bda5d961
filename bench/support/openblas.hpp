// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <string>

#include "bench/support/matrices.hpp"

/// \file
/// \brief OpenBLAS by its own symbols: products, and which kernel it chose for this machine.

extern "C" {
char* openblas_get_corename();
char* openblas_get_config();
void openblas_set_num_threads(int threads);
void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                 float const* a, int lda, float const* b, int ldb, float beta, float* c, int ldc);
void cblas_dgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, double alpha,
                 double const* a, int lda, double const* b, int ldb, double beta, double* c,
                 int ldc);
}

namespace bench::openblas {

inline constexpr int column_major = 102;
inline constexpr int as_it_is = 111;

/// c = a b.
inline void multiply(matrix<float> const& a, matrix<float> const& b, matrix<float>& c) {
  auto const m = static_cast<int>(c.rows()), n = static_cast<int>(c.cols());
  auto const k = static_cast<int>(a.cols());
  cblas_sgemm(column_major, as_it_is, as_it_is, m, n, k, 1, a.data(), m, b.data(), k, 0, c.data(),
              m);
}
/// c = a b.
inline void multiply(matrix<double> const& a, matrix<double> const& b, matrix<double>& c) {
  auto const m = static_cast<int>(c.rows()), n = static_cast<int>(c.cols());
  auto const k = static_cast<int>(a.cols());
  cblas_dgemm(column_major, as_it_is, as_it_is, m, n, k, 1, a.data(), m, b.data(), k, 0, c.data(),
              m);
}

/// Its version and the kernel that it runs, like `OpenBLAS 0.3.21 (Cooperlake)`.
inline std::string version() {
  std::string text = openblas_get_config();  // "OpenBLAS 0.3.21 NO_LAPACKE ..."
  std::size_t const word = text.find(' ');
  std::size_t const end = word == std::string::npos ? word : text.find(' ', word + 1);
  return text.substr(0, end) + " (" + openblas_get_corename() + ")";
}

/// \brief Looks whether its products are right: some old versions compute wrong ones on some
/// processors.
/// \returns empty if so, else what is wrong
template <class Scalar>
std::string product_fault() {
  auto const a = normal_matrix<Scalar>(331, 517, 3);
  auto const b = normal_matrix<Scalar>(517, 259, 4);
  matrix<Scalar> c(331, 259);
  multiply(a, b, c);
  matrix<double> const expected = a.template cast<double>().lazyProduct(b.template cast<double>());
  double const error = (c.template cast<double>() - expected).norm() / expected.norm();
  if (error < 1e-5) return "";
  return version() + " multiplies two matrices of " + scalar_name<Scalar> +
         " with a relative error of " + std::to_string(error);
}

}  // namespace bench::openblas
