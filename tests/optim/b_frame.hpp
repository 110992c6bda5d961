// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstdint>

#include <optim/step_laws.hpp>

/// Points of x^H B x = I and their distance from it.
namespace support {

/// B with eigenvalues from 1 to 1 / condition, and a frame with x^H B x = I.
template <class S>
struct b_frame {
  matrix_x<S> b, x;

  b_frame(index_t n, index_t p, double condition, std::uint64_t seed) {
    using wide = stiefelx::wide_t<S>;
    matrix_x<wide> const v = orthonormal_frame<wide>(n, n, seed);
    matrix_x<wide> weighted = v, root = v;
    for (index_t j = 0; j < n; ++j) {
      double const share = static_cast<double>(j) / static_cast<double>(n - 1);
      weighted.col(j) *= wide(std::pow(condition, -share));
      root.col(j) *= wide(std::pow(condition, share / 2));
    }
    matrix_x<wide> const product = loop_product(weighted, loop_adjoint(v));
    matrix_x<wide> const frame = orthonormal_frame<wide>(n, p, seed + 1);
    b = loop_cast<S>(matrix_x<wide>((product + loop_adjoint(product)) / wide(2)));
    x = loop_cast<S>(loop_product(root, frame));
  }
};

/// x^H b x - I in long double.
template <class S>
matrix_x<exact> b_defect(matrix_x<S> const& x, matrix_x<S> const& b) {
  matrix_x<exact> const y = loop_cast<exact>(x);
  matrix_x<exact> defect = loop_product(loop_adjoint(y), loop_product(loop_cast<exact>(b), y));
  for (index_t j = 0; j < x.cols(); ++j) defect(j, j) -= exact(1);
  return defect;
}

template <class S>
double b_distance(matrix_x<S> const& x, matrix_x<S> const& b) {
  return static_cast<double>(frobenius(table(b_defect(x, b))));
}

}  // namespace support
