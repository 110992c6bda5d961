// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <support/loops.hpp>

/// Geodesics of every metric of the Stiefel manifold, by plain loops and n x n matrices.
namespace support {

/// exp(a) by scaling, a Taylor series and squaring; for matrices of norm up to about 10.
template <class S>
matrix_x<S> loop_exponential(matrix_x<S> const& a) {
  constexpr int squarings = 4, terms = 20;
  matrix_x<S> const one = matrix_x<S>::Identity(a.rows(), a.cols());
  matrix_x<S> const small = a / S(1 << squarings);
  matrix_x<S> sum = one;
  for (int k = terms; k > 0; --k) {
    matrix_x<S> const next = loop_product(small, sum) / S(k);
    sum = one + next;
  }
  for (int k = 0; k < squarings; ++k) sum = loop_product(sum, sum);
  return sum;
}

/// \brief The geodesic of parameter alpha from x along v, at time one.
///
/// exp(2 b x a x^H + k x^H - x k^H) x exp((1 - 2 b) a) with a = x^H v, k = v - x a and
/// 2 b = 1 / (alpha + 1) (Zimmermann and Hueper 2022, without its compact form).
template <class S>
matrix_x<S> loop_geodesic(double alpha, matrix_x<S> const& x, matrix_x<S> const& v) {
  double const twice_b = 1 / (alpha + 1);
  matrix_x<S> const a = loop_product(loop_adjoint(x), v);
  matrix_x<S> const k = v - loop_product(x, a);
  matrix_x<S> const left = S(twice_b) * loop_product(x, a) + k;
  matrix_x<S> const turn = loop_product(left, loop_adjoint(x)) - loop_product(x, loop_adjoint(k));
  matrix_x<S> const inside = S(1 - twice_b) * a;
  return loop_product(loop_product(loop_exponential(turn), x), loop_exponential(inside));
}

}  // namespace support
