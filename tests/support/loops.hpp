// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <support/backends.hpp>

/// Oracles in plain loops: nothing of the library and no kernel of Eigen's, and quick to compile.
namespace support {

/// a b, summed from left to right in the wide scalar.
template <class S>
matrix_x<S> loop_product(matrix_x<S> const& a, matrix_x<S> const& b) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<S> c(a.rows(), b.cols());
  for (index_t j = 0; j < c.cols(); ++j) {
    for (index_t i = 0; i < c.rows(); ++i) {
      wide sum(0);
      for (index_t k = 0; k < a.cols(); ++k)
        sum += static_cast<wide>(a(i, k)) * static_cast<wide>(b(k, j));
      c(i, j) = static_cast<S>(sum);
    }
  }
  return c;
}

/// The conjugate transpose of a.
template <class S>
matrix_x<S> loop_adjoint(matrix_x<S> const& a) {
  matrix_x<S> b(a.cols(), a.rows());
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) b(j, i) = Eigen::numext::conj(a(i, j));
  return b;
}

/// a in another precision.
template <class T, class S>
matrix_x<T> loop_cast(matrix_x<S> const& a) {
  matrix_x<T> b(a.rows(), a.cols());
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) b(i, j) = static_cast<T>(a(i, j));
  return b;
}

}  // namespace support
