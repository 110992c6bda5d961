// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <cstdint>
#include <tuple>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>

namespace support {

/// Cases of the long lists of retractions. The other pairs of backend and scalar differ in nothing
/// that these do not have, and static/archetype_retraction.cpp compiles them.
using retraction_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
               test_case<host_backend, std::complex<double>>, test_case<archetype_backend, double>>;

/// The Frobenius norm of y^H y - I, in the wide scalar.
template <class S>
double orthonormality(matrix_x<S> const& y) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const w = loop_cast<wide>(y);
  matrix_x<wide> defect = loop_product(loop_adjoint(w), w);
  for (index_t j = 0; j < y.cols(); ++j) defect(j, j) -= wide(1);
  return static_cast<double>(frobenius(table(defect)));
}

/// A tangent vector of a Frobenius norm; zero where rounding alone is tangent.
template <class S>
matrix_x<S> tangent_of_length(matrix_x<S> const& x, double length, std::uint64_t seed) {
  matrix_x<S> const v = tangent_vector(x, seed);
  double const now = static_cast<double>(frobenius(table(v)));
  if (now < 1e-3) return matrix_x<S>::Zero(x.rows(), x.cols());
  return v * static_cast<stiefelx::real_of_t<S>>(length / now);
}

/// The skew n x n matrix W with W x = v whose Cayley transform the retraction is, by its definition.
template <class S>
matrix_x<stiefelx::wide_t<S>> dense_rotation(matrix_x<S> const& x, matrix_x<S> const& v) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const point = loop_cast<wide>(x), step = loop_cast<wide>(v);
  matrix_x<wide> const along = loop_product(loop_adjoint(point), step);
  matrix_x<wide> const d = step - loop_product(point, along) / wide(2);
  return loop_product(d, loop_adjoint(point)) - loop_product(point, loop_adjoint(d));
}

}  // namespace support
