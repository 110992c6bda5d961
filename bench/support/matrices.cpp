// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "bench/support/matrices.hpp"

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#include <Eigen/QR>

namespace bench {

namespace {

std::string text_of(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", number);
  return text;
}

}  // namespace

template <class Scalar>
matrix<Scalar> normal_matrix(Eigen::Index rows, Eigen::Index cols, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  return matrix<Scalar>::NullaryExpr(rows, cols,
                                     [&] { return static_cast<Scalar>(normal(generator)); });
}

template <class Scalar>
point_and_tangent<Scalar> stiefel_point(tall shape) {
  using Wide = matrix<double>;
  Eigen::HouseholderQR<Wide> const qr(normal_matrix<double>(shape.n, shape.p, 1));
  Wide const x = qr.householderQ() * Wide::Identity(shape.n, shape.p);
  Wide v = normal_matrix<double>(shape.n, shape.p, 2);
  Wide const inner = x.transpose() * v;
  v -= x * (0.5 * (inner + inner.transpose()));
  // Power iteration; a per cent is enough for a size.
  Eigen::VectorXd direction = Eigen::VectorXd::Ones(shape.p).normalized();
  double size = 1;
  for (int i = 0; i < 30; ++i) {
    direction = v.transpose() * (v * direction).eval();
    size = std::sqrt(direction.norm());
    direction.normalize();
  }
  v /= size;
  return {x.cast<Scalar>(), v.cast<Scalar>()};
}

template <class Scalar>
std::string orthonormality_fault(matrix<Scalar> const& q) {
  matrix<double> const wide = q.template cast<double>();
  auto const identity = matrix<double>::Identity(q.cols(), q.cols());
  double const error = (wide.transpose() * wide - identity).norm();
  double const limit = 30 * static_cast<double>(q.rows()) *
                       static_cast<double>(std::numeric_limits<Scalar>::epsilon());
  if (error <= limit) return "";
  return "its columns are orthonormal to " + text_of(error) + " only, expected " + text_of(limit);
}

template <class Scalar>
std::string orthonormality_fault_of_each(matrix<Scalar> const& q, Eigen::Index k) {
  for (Eigen::Index first = 0; first < q.cols(); first += k) {
    std::string fault = orthonormality_fault<Scalar>(q.middleCols(first, k));
    if (!fault.empty()) return fault;
  }
  return "";
}

template <class Scalar>
std::string difference_fault(matrix<Scalar> const& a, matrix<Scalar> const& b, double limit) {
  double const error = static_cast<double>((a - b).norm() / b.norm());
  if (error <= limit) return "";
  return "its result differs by " + text_of(error) + ", expected " + text_of(limit);
}

template matrix<float> normal_matrix<float>(Eigen::Index, Eigen::Index, unsigned);
template matrix<double> normal_matrix<double>(Eigen::Index, Eigen::Index, unsigned);
template point_and_tangent<float> stiefel_point<float>(tall);
template point_and_tangent<double> stiefel_point<double>(tall);
template std::string orthonormality_fault<float>(matrix<float> const&);
template std::string orthonormality_fault<double>(matrix<double> const&);
template std::string orthonormality_fault_of_each<float>(matrix<float> const&, Eigen::Index);
template std::string orthonormality_fault_of_each<double>(matrix<double> const&, Eigen::Index);
template std::string difference_fault<float>(matrix<float> const&, matrix<float> const&, double);
template std::string difference_fault<double>(matrix<double> const&, matrix<double> const&, double);

}  // namespace bench
