// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <boost/test/tools/assertion_result.hpp>

#include <support/backends.hpp>
#include <support/data.hpp>

namespace support {

/// \brief Whether central differences of f at 0 approach a derivative as h^2.
///
/// The differences at h = 2^-k have an error of c h^2 + O(h^4) and rounding of about eps |f| / h. A
/// derivative that is off by any amount above that rounding stops the fall of the error, so each
/// halving of h that is far from rounding must divide the error by 4.
///
/// \param f           smooth, double to double
/// \param derivative  what the code under test says of f'(0)
/// \param first       first k; a function of strong curvature needs a smaller step to start with
template <class F>
boost::test_tools::assertion_result falls_as_square(F const& f, double derivative, int first = 4) {
  constexpr int halvings = 9;
  boost::test_tools::assertion_result result(false);
  auto& message = result.message().stream();
  message.precision(17);
  message << "derivative " << derivative;
  double before = 0;
  int good = 0, bad = 0;
  for (int k = first; k <= first + halvings; ++k) {
    double const h = std::ldexp(1.0, -k);
    double const up = f(h), down = f(-h);
    double const difference = (up - down) / (2 * h);
    double const error = std::abs(difference - derivative);
    // Some hundred roundings enter f; 300 of them leave an error in the quotient of two digits.
    double const rounding =
        300 * std::numeric_limits<double>::epsilon() * std::max(std::abs(up), std::abs(down)) / h;
    message << "\n  h = 2^-" << k << ": difference " << difference << ", error " << error;
    if (error <= rounding) break;
    if (k > first) (std::abs(std::log2(before / error) - 2) < 0.25 ? good : bad) += 1;
    before = error;
  }
  // Curvature may disturb the first halvings; the last four must be right.
  if (good >= 4 && bad == 0) return boost::test_tools::assertion_result(true);
  message << "\n  " << good << " halvings divide the error by 4, " << bad << " do not";
  return result;
}

/// Sum over the entries of c sin(y): a loss whose third derivative is not zero.
inline double wave_loss(matrix_x<double> const& c, matrix_x<double> const& y) {
  double sum = 0;
  for (index_t j = 0; j < y.cols(); ++j)
    for (index_t i = 0; i < y.rows(); ++i) sum += c(i, j) * std::sin(y(i, j));
  return sum;
}

/// Gradient of wave_loss(): c cos(y).
inline matrix_x<double> wave_gradient(matrix_x<double> const& c, matrix_x<double> const& y) {
  matrix_x<double> g(y.rows(), y.cols());
  for (index_t j = 0; j < y.cols(); ++j)
    for (index_t i = 0; i < y.rows(); ++i) g(i, j) = c(i, j) * std::cos(y(i, j));
  return g;
}

/// \brief Whether a gradient agrees with central differences along a random direction.
/// \param loss      of one matrix; double
/// \param at        where
/// \param gradient  of loss at that matrix
/// \param seed      of the direction
/// \param first     of falls_as_square()
template <class Loss>
boost::test_tools::assertion_result is_gradient(Loss const& loss, matrix_x<double> const& at,
                                                matrix_x<double> const& gradient,
                                                std::uint64_t seed, int first = 4) {
  matrix_x<double> const direction = random_matrix<double>(at.rows(), at.cols(), seed);
  double along = 0;
  for (index_t j = 0; j < at.cols(); ++j)
    for (index_t i = 0; i < at.rows(); ++i) along += gradient(i, j) * direction(i, j);
  return falls_as_square(
      [&](double h) {
        matrix_x<double> moved = at;
        moved += h * direction;
        return loss(moved);
      },
      along, first);
}

}  // namespace support
