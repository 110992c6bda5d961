// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstddef>
#include <ostream>
#include <vector>

namespace stiefelx {

/// \brief An error at a step length.
/// \ingroup testing
struct slope_point {
  double t;      ///< step length
  double error;  ///< the larger one of both directions, \f$ t \f$ and \f$ -t \f$
};

/// \brief What measure_slope() found.
/// \ingroup testing
struct slope_report {
  std::vector<slope_point> points;  ///< longest step first, the last ones at the rounding level
  double rounding = 0;              ///< errors below this are not told from rounding
  std::size_t first = 0;            ///< first point of the window that the slope is taken from
  std::size_t count = 0;            ///< points of the window
  double order = 2;                 ///< slope that was asked for
  double slope = 0;                 ///< of log E over log t in the window; 0 where there is none
  bool exact = false;               ///< every error is at the rounding level: nothing to measure
  bool passed = false;              ///< exact, or the slope is at least order less slope_margin
};

/// \brief A measured slope may fall short of its order by this much and pass.
/// \ingroup testing
///
/// The window ends where errors are 100 times rounding, which moves the slope by less than 0.02;
/// the rest is for the next term at the longest steps. An error of the order below has a slope that is
/// less by 1.
inline constexpr double slope_margin = 0.15;

/// \brief Fewest points that a slope is taken from.
/// \ingroup testing
inline constexpr std::size_t slope_fewest_points = 4;

namespace detail {

inline double fitted_slope(slope_point const* first, std::size_t count) {
  double t = 0, e = 0;
  for (std::size_t k = 0; k < count; ++k) {
    t += std::log(first[k].t) / static_cast<double>(count);
    e += std::log(first[k].error) / static_cast<double>(count);
  }
  double above = 0, below = 0;
  for (std::size_t k = 0; k < count; ++k) {
    double const along = std::log(first[k].t) - t;
    above += along * (std::log(first[k].error) - e);
    below += along * along;
  }
  return above / below;
}

}  // namespace detail

/// \brief Measures how fast an error falls with the step length, above the level of rounding.
/// \ingroup testing
///
/// Rounding is measured, not guessed: it is the largest error at eight steps so short that an
/// error of that order vanishes beside it, and at least `4 eps size`. Then t falls from
/// `longest` by factors of \f$ \sqrt 2 \f$ until errors come within 100 times rounding. The slope
/// is that of the line through the last eight points before, by least squares on the logarithms:
/// the shortest steps show the lowest order in the error, however small its factor. Each error is
/// the larger one of t and -t, so that parts of first and second order cannot cancel.
///
/// \param[in] error    callable(t) -> double, the error of a step, t of either sign
/// \param[in] longest  longest step, above 0
/// \param[in] eps      epsilon of the scalar that error is computed in
/// \param[in] size     size of the numbers whose difference is the error
/// \param[in] order    slope to expect, 2 or more
/// \returns the points and the slope. Fewer than slope_fewest_points above rounding are a failure,
///          none at all are exact; a NaN is a failure
template <class Error>
slope_report measure_slope(Error const& error, double longest, double eps, double size,
                           double order = 2) {
  constexpr double margin = 100;
  constexpr std::size_t window = 8;
  auto const larger = [&](double t) {
    double const ahead = error(t), back = error(-t);
    return ahead >= back || std::isnan(ahead) ? ahead : back;
  };
  slope_report found;
  found.order = order;
  std::vector<slope_point> shortest;
  found.rounding = 4 * eps * size;
  for (double t = 512 * eps * longest; t > 3 * eps * longest; t /= 2) {
    shortest.push_back({t, larger(t)});
    if (!(shortest.back().error <= found.rounding)) found.rounding = shortest.back().error;
  }
  std::size_t above = 0;
  int below = 0;
  for (double t = longest; t > 1024 * eps * longest && below < 2; t /= std::sqrt(2.0)) {
    double const e = larger(t);
    if (std::isnan(e)) found.rounding = e;
    found.points.push_back({t, e});
    bool const seen = e > margin * found.rounding;
    below = seen ? 0 : below + 1;
    if (seen) above = found.points.size();
  }
  if (!std::isnan(found.rounding)) {
    // A step that is exact by chance, above the others, ends the window.
    std::size_t start = above;
    while (start > 0 && above - start < window &&
           found.points[start - 1].error > margin * found.rounding)
      --start;
    found.first = start;
    found.count = above - start;
    found.exact = above == 0;
    if (found.count >= slope_fewest_points)
      found.slope = detail::fitted_slope(found.points.data() + found.first, found.count);
    found.passed = found.exact || found.slope >= order - slope_margin;
  }
  found.points.insert(found.points.end(), shortest.begin(), shortest.end());
  return found;
}

/// \brief Prints a slope, why it failed, and every point; those of the window have a star.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  from measure_slope()
/// \returns out
inline std::ostream& operator<<(std::ostream& out, slope_report const& found) {
  auto const precision = out.precision(4);
  if (std::isnan(found.rounding)) {
    out << "FAILED: an error is not a number\n";
  } else if (found.exact) {
    out << "passed: exact, no error is above rounding (" << found.rounding << ")\n";
  } else if (found.count < slope_fewest_points) {
    out << "FAILED: " << found.count << " errors are well above rounding (" << found.rounding
        << "), expected at least " << slope_fewest_points << "; use a wider scalar\n";
  } else {
    out << (found.passed ? "passed" : "FAILED") << ": slope " << found.slope
        << ", expected at least " << found.order - slope_margin << "; rounding is "
        << found.rounding << "\n";
  }
  for (std::size_t k = 0; k < found.points.size(); ++k) {
    bool const used = k >= found.first && k < found.first + found.count;
    out << (used ? "  * t = " : "    t = ") << found.points[k].t
        << "  error = " << found.points[k].error << "\n";
  }
  out.precision(precision);
  return out;
}

}  // namespace stiefelx
