// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include <stiefelx/core/matrix.hpp>

namespace support {

/// \brief How far a computed result may be from the exact one, relative to its norm.
///
/// An inner product of length n in precision u = eps / 2 has, with overwhelming probability for
/// rounding errors of mean zero, an error of at most lambda sqrt(n) u with lambda near 5 (Higham
/// and Mary, SIAM J. Sci. Comput. 41, 2019), and the worst case n u is met by short sums alone,
/// where both agree. A complex operation costs at most 2 sqrt(2) real ones in error. A result of
/// three such stages one after the other, and a reference that was rounded as well, gives
/// 4 * 2.5 sqrt(n) eps for real and 4 * 7 sqrt(n) eps for complex entries; 32 covers both.
///
/// \param size       length of the longest sum
/// \param condition  factor by which the problem enlarges a relative error of its input
template <class S>
double tolerance(std::ptrdiff_t size, double condition = 1) {
  constexpr double eps = std::numeric_limits<stiefelx::real_of_t<S>>::epsilon();
  double const length = static_cast<double>(std::max<std::ptrdiff_t>(size, 1));
  return 32 * eps * std::sqrt(length) * condition;
}

}  // namespace support
