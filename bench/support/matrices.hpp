// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>

#include <Eigen/Core>

#include "bench/support/cases.hpp"

namespace bench {

/// A column-major matrix.
template <class Scalar>
using matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

/// \brief Entries of a normal distribution, the same ones in every run.
/// \param[in] rows  rows
/// \param[in] cols  columns
/// \param[in] seed  tells matrices apart
template <class Scalar>
matrix<Scalar> normal_matrix(Eigen::Index rows, Eigen::Index cols, unsigned seed);

/// A point of the Stiefel manifold and a tangent vector there, of spectral norm 1.
template <class Scalar>
struct point_and_tangent {
  matrix<Scalar> x;
  matrix<Scalar> v;
};

/// \brief Makes a point and a tangent vector, the same ones in every run.
/// \param[in] shape  n x p
template <class Scalar>
point_and_tangent<Scalar> stiefel_point(tall shape);

/// \brief Looks whether columns are orthonormal to rounding, ||Q^T Q - I|| <= 30 n eps.
/// \returns empty if so, else what was found
template <class Scalar>
std::string orthonormality_fault(matrix<Scalar> const& q);

/// \brief The same for each k columns of q.
/// \returns empty if all are, else what was found first
template <class Scalar>
std::string orthonormality_fault_of_each(matrix<Scalar> const& q, Eigen::Index k);

/// \brief Looks whether a is close to b, ||a - b|| <= limit ||b||.
/// \returns empty if so, else what was found
template <class Scalar>
std::string difference_fault(matrix<Scalar> const& a, matrix<Scalar> const& b, double limit);

}  // namespace bench
