// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>

namespace support {

/// Both backends, both precisions, real and complex.
using rotation_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

/// A skew-Hermitian matrix and its exponential, from planes turned by known angles.
template <class S>
struct rotation {
  using wide = stiefelx::wide_t<S>;

  /// Angles fall from `largest` to a third of it; an odd n leaves one direction at rest.
  rotation(index_t n, double largest, std::uint64_t seed = 1) {
    matrix_x<wide> angles = matrix_x<wide>::Zero(n, n), turns = matrix_x<wide>::Identity(n, n);
    for (index_t k = 0; k + 1 < n; k += 2) {
      double const angle =
          largest * (1 - 2.0 / 3 * static_cast<double>(k) / static_cast<double>(n));
      angles(k + 1, k) = angle;
      angles(k, k + 1) = -angle;
      turns(k, k) = turns(k + 1, k + 1) = std::cos(angle);
      turns(k + 1, k) = std::sin(angle);
      turns(k, k + 1) = -std::sin(angle);
    }
    if constexpr (!std::is_floating_point_v<S>) {
      // One eigenvalue without its conjugate.
      if (n % 2 == 1) {
        angles(n - 1, n - 1) = wide(0, largest / 2);
        turns(n - 1, n - 1) = wide(std::cos(largest / 2), std::sin(largest / 2));
      }
    }
    matrix_x<wide> const frame = orthonormal_frame<wide>(n, n, seed);
    skew = loop_cast<S>(loop_product(loop_product(frame, angles), loop_adjoint(frame)));
    unitary = loop_cast<S>(loop_product(loop_product(frame, turns), loop_adjoint(frame)));
  }

  matrix_x<S> skew;     ///< the logarithm
  matrix_x<S> unitary;  ///< the exponential
};

}  // namespace support
