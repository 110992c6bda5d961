// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <utility>
#include <vector>

#include <Eigen/LU>

#include <support/backends.hpp>

/// Cotangents from a dense linear system, with no reverse rule in it.
///
/// A factorization a = f(y) with constraints g(y) = 0 has a differential that is linear in the
/// directions y may take. Its matrix is formed column by column; the cotangent of a is then one
/// transposed solve.
namespace support {

/// The inner product of the tests: Re tr(a^H b).
template <class S>
double real_inner(matrix_x<S> const& a, matrix_x<S> const& b) {
  double sum = 0;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i)
      sum += static_cast<double>(std::real(Eigen::numext::conj(a(i, j)) * b(i, j)));
  return sum;
}

/// The real units of a matrix of the size: one of them, and i where the scalar is complex.
template <class S>
std::vector<matrix_x<S>> units(index_t rows, index_t cols) {
  std::vector<S> factors{S(1)};
  if constexpr (!std::is_floating_point_v<S>) factors.push_back(S(0, 1));
  std::vector<matrix_x<S>> all;
  for (S const factor : factors)
    for (index_t j = 0; j < cols; ++j)
      for (index_t i = 0; i < rows; ++i) {
        all.push_back(matrix_x<S>::Zero(rows, cols));
        all.back()(i, j) = factor;
      }
  return all;
}

/// Two matrices that change together, such as q and r.
template <class S>
struct factor_pair {
  matrix_x<S> first, second;
};

/// \brief The cotangent of a = f(y) for a cotangent of y.
/// \param directions  the directions of y, more than the constraints leave
/// \param change      direction -> change of a
/// \param defect      direction -> change of what must stay zero
/// \param cotangent   of y
/// \param rows,cols   of a
template <class S, class Change, class Defect>
matrix_x<S> solved_cotangent(std::vector<factor_pair<S>> const& directions, Change const& change,
                             Defect const& defect, factor_pair<S> const& cotangent, index_t rows,
                             index_t cols) {
  auto const entries = units<S>(rows, cols);
  matrix_x<S> const zero = defect(directions.front());
  auto const kept = units<S>(zero.rows(), zero.cols());
  auto const size = static_cast<index_t>(directions.size());
  auto const above = static_cast<index_t>(entries.size());
  matrix_x<double> system(size, above + static_cast<index_t>(kept.size()));
  matrix_x<double> right(size, 1);
  for (index_t k = 0; k < size; ++k) {
    auto const& direction = directions[static_cast<std::size_t>(k)];
    matrix_x<S> const moved = change(direction), left = defect(direction);
    for (index_t i = 0; i < above; ++i)
      system(k, i) = real_inner(entries[static_cast<std::size_t>(i)], moved);
    for (index_t i = above; i < system.cols(); ++i)
      system(k, i) = real_inner(kept[static_cast<std::size_t>(i - above)], left);
    right(k, 0) = real_inner(cotangent.first, direction.first) +
                  real_inner(cotangent.second, direction.second);
  }
  matrix_x<double> const found = system.fullPivLu().solve(right);
  matrix_x<S> sum = matrix_x<S>::Zero(rows, cols);
  for (index_t i = 0; i < above; ++i) sum += entries[static_cast<std::size_t>(i)] * S(found(i, 0));
  return sum;
}

}  // namespace support
