// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include <Eigen/Eigenvalues>

#include <stiefelx/core/context.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

namespace support {

/// \brief A problem whose minimum is known, in the tests' own matrices.
///
/// Its functions are erased, so that every problem on a manifold is one type and the solvers are
/// compiled once for each manifold.
template <class M, class S = double>
struct known_problem {
  using matrix = matrix_x<S>;

  M manifold;
  std::function<double(matrix const&)> of;                        ///< the cost
  std::function<matrix(matrix const&)> slope;                     ///< its Euclidean gradient
  std::function<matrix(matrix const&, matrix const&)> curvature;  ///< of x and v
  double minimum = 0;                                             ///< the least cost
  double size = 1;                                                ///< scale of the gradient
  double convexity = 1;  ///< least curvature at the minimum, across what leaves the cost alone
  double largest = 1;    ///< largest curvature there, about

  template <class Ctx, class X>
  double cost(Ctx&, X const& x) const {
    return of(x);
  }
  template <class Ctx, class X, class G>
  void gradient(Ctx&, X const& x, G& g) const {
    g = slope(x);
  }
  template <class Ctx, class X, class V, class H>
  void hessian(Ctx&, X const& x, V const& v, H& h) const {
    h = curvature(x, v);
  }
};

/// q diag(values) q^H.
template <class S>
matrix_x<S> with_eigenvalues(matrix_x<S> const& q, Eigen::VectorXd const& values) {
  matrix_x<S> weighted = q;
  for (index_t j = 0; j < q.cols(); ++j) weighted.col(j) *= values(j);
  matrix_x<S> const a = weighted * q.adjoint();
  return (a + a.adjoint()) / 2;
}

/// -Re tr(x^H a x) / 2 for a Hermitian a with descending eigenvalues: the leading eigenspace.
template <class M, class S>
known_problem<M, S> eigenspace_problem(M m, matrix_x<S> const& a, Eigen::VectorXd const& values) {
  index_t const p = m.p, last = values.size() - 1;
  return {
      .manifold = m,
      .of = [a](auto const& x) { return -Eigen::numext::real((x.adjoint() * a * x).trace()) / 2; },
      .slope = [a](auto const& x) { return matrix_x<S>(-a * x); },
      .curvature = [a](auto const&, auto const& v) { return matrix_x<S>(-a * v); },
      .minimum = -values.head(p).sum() / 2,
      .size = std::max(std::abs(values(0)), std::abs(values(last))),
      .convexity = values(p - 1) - values(p),
      .largest = values(0) - values(last)};
}

/// Re tr(x^H a x D) / 2 with ascending eigenvalues of a and positive descending weights: the p
/// lowest eigenvectors, the lowest with the largest weight.
template <class M, class S>
known_problem<M, S> brockett_problem(M m, matrix_x<S> const& a, Eigen::VectorXd const& values,
                                     Eigen::VectorXd const& weights) {
  auto const apply = [a, weights](matrix_x<S> const& x) {
    matrix_x<S> y = a * x;
    for (index_t j = 0; j < y.cols(); ++j) y.col(j) *= weights(j);
    return y;
  };
  // At the minimum the curvature is (weight difference) (eigenvalue difference), or the last weight
  // times the gap.
  index_t const p = m.p, last = values.size() - 1;
  double least = weights(p - 1) * (values(p) - values(p - 1));
  for (index_t j = 0; j + 1 < p; ++j)
    least = std::min(least, (weights(j) - weights(j + 1)) * (values(j + 1) - values(j)) / 2);
  return {.manifold = m,
          .of =
              [apply](auto const& x) {
                return Eigen::numext::real((x.adjoint() * apply(x)).trace()) / 2;
              },
          .slope = apply,
          .curvature = [apply](auto const&, auto const& v) { return apply(v); },
          .minimum = values.head(p).dot(weights) / 2,
          .size = weights(0) * std::max(std::abs(values(0)), std::abs(values(last))),
          .convexity = least,
          .largest = weights(0) * (values(last) - values(0))};
}

/// |a x - b|^2 / 2 over square orthogonal x. `best` is the polar factor of a^T b and `least` its
/// least singular value.
template <class M>
known_problem<M> procrustes_problem(M m, matrix_x<double> const& a, matrix_x<double> const& b,
                                    matrix_x<double> const& best, Eigen::VectorXd const& singular) {
  return {.manifold = m,
          .of = [a, b](auto const& x) { return (a * x - b).squaredNorm() / 2; },
          .slope = [a, b](auto const& x) { return matrix_x<double>(a.transpose() * (a * x - b)); },
          .curvature = [a](auto const&,
                           auto const& v) { return matrix_x<double>(a.transpose() * (a * v)); },
          .minimum = (a * best - b).squaredNorm() / 2,
          .size = singular(0),
          .convexity = singular(singular.size() - 1),
          .largest = singular(0)};
}

/// -tr(x^T a x) / tr(x^T b x), b positive definite; `minimum` is the caller's.
template <class M>
known_problem<M> trace_ratio_problem(M m, matrix_x<double> const& a, matrix_x<double> const& b) {
  using matrix = matrix_x<double>;
  struct parts {
    matrix residual;
    double below, ratio;
  };
  auto const at = [a, b](matrix const& x) {
    double const below = (x.transpose() * b * x).trace();
    double const ratio = (x.transpose() * a * x).trace() / below;
    return parts{a * x - ratio * b * x, below, ratio};
  };
  return {.manifold = m,
          .of = [at](auto const& x) { return -at(x).ratio; },
          .slope =
              [at](auto const& x) {
                parts const k = at(x);
                return matrix(-2 / k.below * k.residual);
              },
          .curvature =
              [at, a, b](auto const& x, auto const& v) {
                parts const k = at(x);
                double const ratio_change = 2 * v.cwiseProduct(k.residual).sum() / k.below;
                double const below_change = 2 * v.cwiseProduct(b * x).sum();
                matrix const moved = a * v - k.ratio * b * v - ratio_change * b * x;
                return matrix(-2 / k.below * moved +
                              2 * below_change / (k.below * k.below) * k.residual);
              }};
}

/// The ratio at which the p largest eigenvalues of a - ratio b sum to zero: a decreasing function of
/// the ratio, whose root is the largest trace ratio.
inline double largest_trace_ratio(matrix_x<double> const& a, matrix_x<double> const& b, index_t p,
                                  double low, double high) {
  for (int k = 0; k < 80; ++k) {
    double const middle = (low + high) / 2;
    Eigen::SelfAdjointEigenSolver<matrix_x<double>> const e(a - middle * b, Eigen::EigenvaluesOnly);
    (e.eigenvalues().tail(p).sum() > 0 ? low : high) = middle;
  }
  return (low + high) / 2;
}

/// -sum kappa_i (q_i^T x_j)^4 / 4: the fourth cumulants of independent sources, mixed by q. Minima
/// are q up to signs and the order of its columns.
template <class M>
known_problem<M> ica_problem(M m, matrix_x<double> const& q, Eigen::VectorXd const& kappa) {
  using matrix = matrix_x<double>;
  return {.manifold = m,
          .of =
              [q, kappa](auto const& x) {
                matrix const y = q.transpose() * x;
                return -(kappa.asDiagonal() * y.array().pow(4).matrix()).sum() / 4;
              },
          .slope =
              [q, kappa](auto const& x) {
                matrix const y = q.transpose() * x;
                return matrix(-q * (kappa.asDiagonal() * y.array().cube().matrix()));
              },
          .curvature =
              [q, kappa](auto const& x, auto const& v) {
                matrix const y = q.transpose() * x, u = q.transpose() * v;
                matrix const change = 3 * y.array().square() * u.array();
                return matrix(-q * (kappa.asDiagonal() * change));
              },
          .minimum = -kappa.sum() / 4,
          .size = kappa.maxCoeff(),
          .convexity = kappa.minCoeff(),
          .largest = 2 * kappa.maxCoeff()};
}

/// -sum over k of |diag(x^T c_k x)|^2 / 4 for c_k = q diag(row k) q^T: joint diagonalization.
template <class M>
known_problem<M> diagonalization_problem(M m, matrix_x<double> const& q,
                                         matrix_x<double> const& rows) {
  using matrix = matrix_x<double>;
  std::vector<matrix> all;
  for (index_t k = 0; k < rows.rows(); ++k)
    all.push_back(with_eigenvalues<double>(q, rows.row(k).transpose()));
  auto const diagonal = [](matrix const& x, matrix const& cx) {
    return Eigen::VectorXd((x.transpose() * cx).diagonal());
  };
  // Rotating two columns by an angle t costs t^2 times the squared distance of their diagonals.
  double least = INFINITY, most = 0;
  for (index_t i = 0; i < q.cols(); ++i)
    for (index_t j = 0; j < i; ++j) {
      double const square = (rows.col(i) - rows.col(j)).squaredNorm();
      least = std::min(least, square), most = std::max(most, square);
    }
  return {.manifold = m,
          .of =
              [all, diagonal](auto const& x) {
                double sum = 0;
                for (matrix const& c : all) sum -= diagonal(x, c * x).squaredNorm() / 4;
                return sum;
              },
          .slope =
              [all, diagonal](auto const& x) {
                matrix g = matrix::Zero(x.rows(), x.cols());
                for (matrix const& c : all) {
                  matrix const cx = c * x;
                  g -= cx * diagonal(x, cx).asDiagonal();
                }
                return g;
              },
          .curvature =
              [all, diagonal](auto const& x, auto const& v) {
                matrix h = matrix::Zero(x.rows(), x.cols());
                for (matrix const& c : all) {
                  matrix const cx = c * x, cv = c * v;
                  h -= cv * diagonal(x, cx).asDiagonal();
                  h -= 2 * cx * diagonal(x, cv).asDiagonal();
                }
                return h;
              },
          .minimum = -rows.squaredNorm() / 4,
          .size = rows.squaredNorm(),
          .convexity = least / 2,
          .largest = most};
}

/// |x^T x - c|^2 / 4 over unit columns: the nearest correlation matrix of rank m.n.
template <class M>
known_problem<M> correlation_problem(M m, matrix_x<double> const& c) {
  using matrix = matrix_x<double>;
  return {.manifold = m,
          .of = [c](auto const& x) { return (x.transpose() * x - c).squaredNorm() / 4; },
          .slope = [c](auto const& x) { return matrix(x * (x.transpose() * x - c)); },
          .curvature =
              [c](auto const& x, auto const& v) {
                matrix const cross = v.transpose() * x;
                return matrix(v * (x.transpose() * x - c) + x * (cross + cross.transpose()));
              },
          .minimum = 0};
}

/// How far the columns of x span another space than those of q, both orthonormal.
template <class S>
double space_distance(matrix_x<S> const& x, matrix_x<S> const& q) {
  return (x - q * (q.adjoint() * x)).norm();
}

/// Amari's index of q^T x: zero when it is a permutation with signs, at most one.
inline double amari_index(matrix_x<double> const& q, matrix_x<double> const& x) {
  matrix_x<double> const y = (q.transpose() * x).cwiseAbs();
  double sum = 0;
  for (index_t i = 0; i < y.rows(); ++i) sum += y.row(i).sum() / y.row(i).maxCoeff() - 1;
  for (index_t j = 0; j < y.cols(); ++j) sum += y.col(j).sum() / y.col(j).maxCoeff() - 1;
  return sum / static_cast<double>(2 * y.rows() * (y.rows() - 1));
}

}  // namespace support
