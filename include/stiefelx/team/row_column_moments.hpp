// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/column.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Team text of optimizers that keep one second moment a row and one a column.
/// \ingroup optim

namespace stiefelx {

/// \brief Team text: means of the squared entries of every row and every column.
/// \ingroup optim
///
/// \f[ l_i \leftarrow \beta l_i + \frac{1-\beta}{p} \sum_j |r_{ij}|^2, \qquad
///     c_j \leftarrow \beta c_j + \frac{1-\beta}{n} \sum_i |r_{ij}|^2, \f]
/// and the largest values so far, unless the gradient was not finite.
struct row_column_moments_body {
  double decay;  ///< \f$ \beta \f$

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team     lanes
  /// \param[in]     r        n x p, the gradient
  /// \param[in]     finite   1 x 1; 0 leaves the moments as they are
  /// \param[in,out] rows     n x 2: the means, and the largest so far
  /// \param[in,out] columns  2 x p: the means, and the largest so far
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S const> r,
                              matrix_ref<double const> finite, matrix_ref<double> rows,
                              matrix_ref<double> columns) const {
    if (finite(0, 0) == 0) return;
    double const by_row = (1 - decay) / static_cast<double>(r.cols);
    double const by_column = (1 - decay) / static_cast<double>(r.rows);
    for (index_t i = team.rank(); i < r.rows; i += team.size()) rows(i, 0) *= decay;
    for (index_t j = 0; j < r.cols; ++j) {
      double sum = 0;
      for (index_t i = team.rank(); i < r.rows; i += team.size()) {
        double const a = static_cast<double>(modulus(r(i, j)));
        sum += a * a;
        rows(i, 0) += by_row * a * a;
      }
      sum = team.sum(sum);
      if (team.rank() == 0) {
        columns(0, j) = decay * columns(0, j) + by_column * sum;
        if (columns(0, j) > columns(1, j)) columns(1, j) = columns(0, j);
      }
    }
    for (index_t i = team.rank(); i < r.rows; i += team.size())
      if (rows(i, 0) > rows(i, 1)) rows(i, 1) = rows(i, 0);
  }
};

/// \brief Team text: divides every entry by powers of its row's and its column's moment.
/// \ingroup optim
///
/// \f$ d_{ij} = r_{ij}\,(s\,l_i + \epsilon)^{-a} (s\,c_j + \epsilon)^{-b} \f$.
struct row_column_scaling_body {
  double row_power;     ///< a: 0, 1/4 or 1/2
  double column_power;  ///< b: 0, 1/4 or 1/2
  double epsilon;       ///< added to each moment
  index_t which = 1;    ///< 0 for the means, 1 for the largest so far

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes
  /// \param[in]  r        n x p
  /// \param[in]  rows     n x 2
  /// \param[in]  columns  2 x p
  /// \param[in]  factor   1 x 1, s: the correction of moments that start at zero
  /// \param[out] d        n x p; may be r
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S const> r,
                              matrix_ref<double const> rows, matrix_ref<double const> columns,
                              matrix_ref<double const> factor, matrix_ref<S> d) const {
    double const s = factor(0, 0);
    for (index_t i = team.rank(); i < r.rows; i += team.size()) {
      double const left = inverse_power(s * rows(i, which) + epsilon, row_power);
      for (index_t j = 0; j < r.cols; ++j) {
        double const right = inverse_power(s * columns(which, j) + epsilon, column_power);
        d(i, j) = r(i, j) * static_cast<real_of_t<S>>(left * right);
      }
    }
  }

 private:
  // a^-power for the powers 0, 1/4 and 1/2.
  STIEFELX_HD static double inverse_power(double a, double power) {
    if (power == 0) return 1;
    double const root = std::sqrt(a);
    return 1 / (power == 0.5 ? root : std::sqrt(root));
  }
};

}  // namespace stiefelx
