// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <stiefelx/core/host_device.hpp>

/// \file
/// \brief Odd polynomials that bring singular values to one.
/// \ingroup orth

namespace stiefelx {

/// \brief p(x) = a x + b x^3 + c x^5.
/// \ingroup orth
///
/// Of a matrix, \f$ p(x) = x\,(a I + b\,x^H x + c\,(x^H x)^2) \f$ acts on the singular values
/// alone.
struct odd_polynomial {
  double a;  ///< coefficient of x
  double b;  ///< coefficient of x^3
  double c;  ///< coefficient of x^5

  /// \param[in] x  where
  /// \returns the value
  STIEFELX_HD double operator()(double x) const { return x * (a + x * x * (b + x * x * c)); }
};

/// \brief The odd cubic nearest to one on an interval, in the largest error.
/// \ingroup orth
///
/// Closed form \cite amsel2025. The largest value is taken inside the interval, the smallest at
/// both its ends.
/// \param[in] lower  above 0
/// \param[in] upper  at least lower
/// \returns the polynomial
inline odd_polynomial optimal_cubic(double lower, double upper) {
  double const alpha = std::sqrt(3 / (upper * upper + lower * upper + lower * lower));
  double const beta = 4 / (2 + lower * upper * (lower + upper) * alpha * alpha * alpha);
  return {1.5 * alpha * beta, -0.5 * alpha * alpha * alpha * beta, 0};
}

/// \brief The odd quintic nearest to one on an interval, in the largest error.
/// \ingroup orth
///
/// By the exchange algorithm on four points: the error has the same size and alternating signs at
/// both ends and at the two points between them where the polynomial turns \cite amsel2025.
/// \param[in] lower  above 0
/// \param[in] upper  at least lower
/// \returns the polynomial; below a relative width of 1e-5 that of Newton and Schulz, as good there
inline odd_polynomial optimal_quintic(double lower, double upper) {
  double const ratio = lower / upper;
  if (ratio > 1 - 1e-5) {
    double const middle = (lower + upper) / 2, square = middle * middle;
    return {1.875 / middle, -1.25 / (square * middle), 0.375 / (square * square * middle)};
  }
  // In units of the upper end: a y + b y^3 + c y^5 with y in [ratio, 1].
  double first = (3 * ratio + 1) / 4, second = (ratio + 3) / 4, error = 2;
  odd_polynomial p{0, 0, 0};
  for (int round = 0; round < 40; ++round) {
    // Rows: y, y^3, y^5, +-error, equal to one; eliminated with partial pivoting.
    double const nodes[4] = {ratio, first, second, 1};
    double m[4][5];
    for (int i = 0; i < 4; ++i) {
      double const y = nodes[i], square = y * y;
      double const row[5] = {y, square * y, square * square * y, i % 2 == 0 ? 1.0 : -1.0, 1.0};
      std::copy(row, row + 5, m[i]);
    }
    for (int k = 0; k < 4; ++k) {
      int pivot = k;
      for (int i = k + 1; i < 4; ++i)
        if (std::abs(m[i][k]) > std::abs(m[pivot][k])) pivot = i;
      if (pivot != k) std::swap_ranges(m[k], m[k] + 5, m[pivot]);
      for (int i = 0; i < 4; ++i) {
        if (i == k) continue;
        double const factor = m[i][k] / m[k][k];
        for (int j = k; j < 5; ++j) m[i][j] -= factor * m[k][j];
      }
    }
    p = {m[0][4] / m[0][0], m[1][4] / m[1][1], m[2][4] / m[2][2]};
    double const next = m[3][4] / m[3][3];
    // p'(y) = a + 3 b y^2 + 5 c y^4 vanishes at the two inner points.
    double const root = std::sqrt(std::max(0.0, 9 * p.b * p.b - 20 * p.a * p.c));
    first = std::sqrt((-3 * p.b - root) / (10 * p.c));
    second = std::sqrt((-3 * p.b + root) / (10 * p.c));
    if (std::abs(next - error) <= 1e-14) break;
    error = next;
  }
  double const square = upper * upper;
  return {p.a / upper, p.b / (upper * square), p.c / (upper * square * square)};
}

/// \brief The polynomials of a polar iteration, one a step.
/// \ingroup orth
///
/// Each is the best for the interval that the one before leaves, somewhat widened upward so that
/// rounding cannot drive a singular value out of it. The fit ignores the part of the interval below
/// a cushion: else large values would be brought down beside the smallest and lose their digits.
struct polar_schedule {
  static constexpr int capacity = 64;  ///< most steps that are told apart

  int count = 0;                     ///< steps
  odd_polynomial steps[capacity]{};  ///< their polynomials

  /// \param[in] k  a step; beyond the last stored one that is repeated
  /// \returns its polynomial
  STIEFELX_HD odd_polynomial const& operator[](int k) const {
    int const last = (count < capacity ? count : capacity) - 1;
    return steps[k < last ? k : last];
  }
};

/// Degree of the polynomials of a schedule.
/// \ingroup orth
enum class polar_degree {
  cubic,    ///< Newton-Schulz, optimal for the interval
  quintic,  ///< Polar Express
};

/// \brief The schedule for singular values in [lower, 1].
/// \ingroup orth
/// \param[in] degree      of the polynomials
/// \param[in] lower       above 0, at most 1
/// \param[in] iterations  how many steps; 0 takes as many as bring the interval to 1 +- accuracy
/// \param[in] accuracy    when to stop, for iterations = 0
/// \returns the polynomials
inline polar_schedule make_polar_schedule(polar_degree degree, double lower, int iterations,
                                          double accuracy) {
  bool const cubic = degree == polar_degree::cubic;
  double const cushion = cubic ? 0.1 : 0.024;
  polar_schedule schedule;
  double upper = 1;
  int const most = iterations > 0 ? iterations : polar_schedule::capacity;
  while (schedule.count < most) {
    double const width = upper - lower;
    if (iterations == 0 && schedule.count > 0 && std::abs(1 - lower) <= accuracy &&
        std::abs(upper - 1) <= accuracy)
      break;
    odd_polynomial p{};
    double next_lower = 1, next_upper = 1;
    if (std::abs(1 - lower) <= 1e-3 && std::abs(upper - 1) <= 1e-3) {
      // Newton-Schulz attracts from here without a fit.
      p = cubic ? odd_polynomial{1.5, -0.5, 0} : odd_polynomial{1.875, -1.25, 0.375};
      double const e = std::max(std::abs(1 - lower), std::abs(upper - 1));
      double const next = cubic ? 2 * e * e : 3 * e * e * e;
      next_lower = 1 - next;
      next_upper = 1 + next;
    } else {
      double const top = upper + 0.01 * width, bottom = std::max(lower, cushion * top);
      p = cubic ? optimal_cubic(bottom, top) : optimal_quintic(bottom, top);
      next_lower = std::min(p(lower), p(bottom));
      next_upper = 2 - p(bottom);
    }
    if (schedule.count < polar_schedule::capacity) schedule.steps[schedule.count] = p;
    ++schedule.count;
    lower = next_lower;
    upper = next_upper;
  }
  return schedule;
}

}  // namespace stiefelx
