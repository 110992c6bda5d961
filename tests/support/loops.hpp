// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <support/backends.hpp>

/// Oracles in plain loops: nothing of the library and no kernel of Eigen's, and quick to compile. They
/// run over pointers: without optimization each of Eigen's subscripts is a dozen calls.
namespace support {

/// a b, summed from left to right in the wide scalar.
template <class S>
matrix_x<S> loop_product(matrix_x<S> const& a, matrix_x<S> const& b) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<S> c(a.rows(), b.cols());
  index_t const rows = a.rows(), depth = a.cols(), cols = b.cols();
  S const *const left = a.data(), *const right = b.data();
  S* out = c.data();
  for (index_t j = 0; j < cols; ++j) {
    for (index_t i = 0; i < rows; ++i) {
      wide sum(0);
      for (index_t k = 0; k < depth; ++k)
        sum += static_cast<wide>(left[i + k * rows]) * static_cast<wide>(right[k + j * depth]);
      *out++ = static_cast<S>(sum);
    }
  }
  return c;
}

/// The conjugate transpose of a.
template <class S>
matrix_x<S> loop_adjoint(matrix_x<S> const& a) {
  matrix_x<S> b(a.cols(), a.rows());
  index_t const rows = a.rows(), cols = a.cols();
  S const* in = a.data();
  S* const out = b.data();
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) out[j + i * cols] = Eigen::numext::conj(*in++);
  return b;
}

/// a in another precision.
template <class T, class S>
matrix_x<T> loop_cast(matrix_x<S> const& a) {
  matrix_x<T> b(a.rows(), a.cols());
  S const* in = a.data();
  for (T *out = b.data(), *const end = out + b.size(); out != end;) *out++ = static_cast<T>(*in++);
  return b;
}

}  // namespace support
