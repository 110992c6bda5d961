// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <Eigen/Core>

#include <stiefelx/core/matrix.hpp>
#include <support/backends.hpp>
#include <support/loops.hpp>

/// Matrices of the tests, each a function of its size and seed: the same numbers on every
/// machine, since the standard's distributions are not used.
namespace support {

/// Uniform and normal numbers from a seed.
class numbers {
 public:
  explicit numbers(std::uint64_t seed) : engine_(seed) {}

  /// In (0, 1).
  double uniform() { return (static_cast<double>(engine_() >> 12) + 0.5) * 0x1p-52; }

  /// Normal, by Box and Muller.
  double normal() {
    double const radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

  /// Normal; a complex number has independent parts.
  template <class S>
  S entry() {
    using real = stiefelx::real_of_t<S>;
    auto const first = static_cast<real>(normal());
    if constexpr (std::is_floating_point_v<S>) {
      return first;
    } else {
      return S(first, static_cast<real>(normal()));
    }
  }

 private:
  std::mt19937_64 engine_;
};

/// Independent normal entries.
template <class S>
matrix_x<S> random_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  numbers draw(seed);
  matrix_x<S> a(rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) a(i, j) = draw.entry<S>();
  return a;
}

/// n x p with orthonormal columns to the rounding of S, for n >= p: Householder's Q of a random
/// matrix, formed by plain loops in the wide scalar.
template <class S>
matrix_x<S> orthonormal_frame(index_t n, index_t p, std::uint64_t seed) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> v = random_matrix<wide>(n, p, seed);
  matrix_x<wide> q(n, p);
  for (index_t j = 0; j < p; ++j)
    for (index_t i = 0; i < n; ++i) q(i, j) = wide(i == j ? 1 : 0);

  // Column k of m minus its component along v(from:, from), in direction 2 v v^H / v^H v.
  auto const reflect = [&](matrix_x<wide>& m, index_t k, index_t from) {
    wide along(0);
    double square = 0;
    wide const* const direction = v.data() + from * n;
    wide* const column = m.data() + k * n;
    for (index_t i = from; i < n; ++i) {
      along += Eigen::numext::conj(direction[i]) * column[i];
      square += Eigen::numext::abs2(direction[i]);
    }
    if (square == 0) return;
    wide const part = along * (2 / square);
    for (index_t i = from; i < n; ++i) column[i] -= direction[i] * part;
  };
  for (index_t j = 0; j < p; ++j) {
    double square = 0;
    for (index_t i = j; i < n; ++i) square += Eigen::numext::abs2(v(i, j));
    double const head = std::abs(v(j, j));
    v(j, j) *= 1 + std::sqrt(square) / head;
    for (index_t k = j + 1; k < p; ++k) reflect(v, k, j);
  }
  for (index_t j = p; j-- > 0;)
    for (index_t k = j; k < p; ++k) reflect(q, k, j);
  return loop_cast<S>(q);
}

/// Tangent at the orthonormal frame x: z - x (x^H z + z^H x) / 2 for a random z.
template <class S>
matrix_x<S> tangent_vector(matrix_x<S> const& x, std::uint64_t seed) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const point = loop_cast<wide>(x);
  matrix_x<wide> z = random_matrix<wide>(x.rows(), x.cols(), seed);
  matrix_x<wide> s = loop_product(loop_adjoint(point), z);
  s = (s + loop_adjoint(s)) / wide(2);
  z -= loop_product(point, s);
  return loop_cast<S>(z);
}

/// Singular values from 1 down to 1 / condition, in equal ratios.
template <class S>
matrix_x<S> conditioned_matrix(index_t rows, index_t cols, double condition, std::uint64_t seed) {
  using wide = stiefelx::wide_t<S>;
  index_t const rank = std::min(rows, cols);
  matrix_x<wide> left = orthonormal_frame<wide>(rows, rank, seed);
  for (index_t j = 0; j < rank; ++j) {
    double const share = rank > 1 ? static_cast<double>(j) / static_cast<double>(rank - 1) : 0;
    left.col(j) *= std::pow(condition, -share);
  }
  matrix_x<wide> const right = orthonormal_frame<wide>(cols, rank, seed + 1);
  return loop_cast<S>(loop_product(left, loop_adjoint(right)));
}

/// Columns whose norms fall from 1 to 1 / ratio: badly scaled, not badly conditioned otherwise.
template <class S>
matrix_x<S> graded_matrix(index_t rows, index_t cols, double ratio, std::uint64_t seed) {
  matrix_x<S> a = random_matrix<S>(rows, cols, seed);
  for (index_t j = 0; j < cols; ++j) {
    double const share = cols > 1 ? static_cast<double>(j) / static_cast<double>(cols - 1) : 0;
    a.col(j) *= static_cast<stiefelx::real_of_t<S>>(std::pow(ratio, -share));
  }
  return a;
}

/// Hermitian with eigenvalues from 1 down to 1 / condition.
template <class S>
matrix_x<S> positive_matrix(index_t n, double condition, std::uint64_t seed) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const root = conditioned_matrix<wide>(n, n, std::sqrt(condition), seed);
  matrix_x<wide> const square = loop_product(loop_adjoint(root), root);
  matrix_x<wide> const mean = (square + loop_adjoint(square)) / wide(2);
  return loop_cast<S>(mean);
}

/// What a factorization may say of a matrix.
enum class rank {
  full,        ///< its columns are independent by far
  borderline,  ///< so near to dependent that either verdict is right
  deficient,   ///< a column depends on the others to working accuracy
};

/// A matrix of the zoo.
template <class S>
struct specimen {
  std::string name;    ///< for BOOST_TEST_CONTEXT
  matrix_x<S> matrix;  ///< the matrix
  rank columns;        ///< what is known of its columns
};

/// \brief Tall matrices of one size that break careless factorizations.
///
/// Random, graded, nearly dependent, with repeated and zero columns, all zero, and scaled to the
/// ends of the range: by 1e30 in float, 1e150 in double, and into the denormal numbers.
template <class S>
std::vector<specimen<S>> zoo(index_t rows, index_t cols) {
  using real = stiefelx::real_of_t<S>;
  constexpr bool narrow = std::is_same_v<real, float>;
  constexpr double eps = std::numeric_limits<real>::epsilon();
  real const large = narrow ? real(1e30F) : real(1e150);
  real const denormal = std::numeric_limits<real>::min() / 256;
  matrix_x<S> const random = random_matrix<S>(rows, cols, 1);

  std::vector<specimen<S>> all;
  all.push_back({"random", random, rank::full});
  all.push_back({"orthonormal", orthonormal_frame<S>(rows, cols, 2), rank::full});
  all.push_back({"graded", graded_matrix<S>(rows, cols, 1 / std::sqrt(eps), 3), rank::full});
  all.push_back({"condition 100", conditioned_matrix<S>(rows, cols, 100, 4), rank::full});
  all.push_back(
      {"condition 0.1 / eps", conditioned_matrix<S>(rows, cols, 0.1 / eps, 5), rank::borderline});
  all.push_back({"scaled up", random * large, rank::full});
  all.push_back({"scaled down", random / large, rank::full});
  all.push_back({"denormal", random * denormal, rank::borderline});
  if (cols > 0) {
    all.push_back({"zero", matrix_x<S>::Zero(rows, cols), rank::deficient});
    specimen<S> zero_column{"zero column", random, rank::deficient};
    zero_column.matrix.col(cols / 2).setZero();
    all.push_back(zero_column);
  }
  if (cols > 1) {
    specimen<S> repeated{"repeated column", random, rank::deficient};
    repeated.matrix.col(cols - 1) = repeated.matrix.col(0);
    all.push_back(repeated);
    specimen<S> sum{"dependent column", random, rank::deficient};
    sum.matrix.col(cols - 1).setZero();
    for (index_t j = 0; j + 1 < cols; ++j) sum.matrix.col(cols - 1) += sum.matrix.col(j);
    all.push_back(sum);
  }
  return all;
}

}  // namespace support
