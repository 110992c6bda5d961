// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>

namespace stiefelx {

/// \brief Metric parameter of the Euclidean metric, \f$ \mathrm{Re\,tr}(u^H v) \f$.
/// \ingroup stiefel
inline constexpr double euclidean_metric = -0.5;

/// \brief Metric parameter of the canonical metric.
/// \ingroup stiefel
inline constexpr double canonical_metric = 0;

/// \brief The Stiefel manifold: n x p matrices with orthonormal columns.
/// \ingroup stiefel
///
/// \f$ \mathrm{St}(n, p) = \{ x : x^H x = I_p \} \f$, real or complex by the scalar of the points,
/// \f$ n \ge p \f$. The tangent space at x is \f$ \{ v : x^H v + v^H x = 0 \} \f$. The metric is
/// one of the family \cite huper2021, with \f$ \alpha > -1 \f$,
/// \f[ \langle u, v \rangle_\alpha = \mathrm{Re\,tr}\Bigl( u^H \bigl( I -
///     \tfrac{2\alpha + 1}{2(\alpha + 1)}\, x x^H \bigr) v \Bigr) : \f]
/// the part \f$ x\,x^H v \f$ counts \f$ 1 / (2(\alpha + 1)) \f$ times. It is the metric of the
/// space around for \f$ \alpha = -\tfrac12 \f$, the default, and the canonical one, which counts
/// each independent entry of the skew part once, for \f$ \alpha = 0 \f$. For p = 1 and real points
/// all of them agree. inner(), norm(), riemannian_gradient(), riemannian_hessian(), tangent
/// coordinates and random_tangent() are those of the metric; project() and nearest_point() are the
/// same for all.
///
/// Invariant of every function here: points that come in with orthonormal columns go out with
/// orthonormal columns, to the accuracy on the function's page. Points with orthonormal rows are
/// those of row_orthonormal.
/// \see \cite absil2008, \cite edelman1998
struct stiefel {
  index_t n;  ///< rows
  index_t p;  ///< columns, at most n
  /// Metric parameter, above -1.
  double alpha = euclidean_metric;
};

namespace detail {

[[noreturn]] STIEFELX_COLD inline void throw_stiefel(char const* function, stiefel m) {
  throw shape_error(std::string(function) + ": the manifold is stiefel{" + std::to_string(m.n) +
                    ", " + std::to_string(m.p) + "}, expected 0 <= p <= n");
}

[[noreturn]] STIEFELX_COLD inline void throw_wide_point(char const* function, char const* argument,
                                                        stiefel m) {
  std::string const n = std::to_string(m.n), p = std::to_string(m.p);
  throw shape_error(
      std::string(function) + ": " + argument + " is " + p + "x" + n + ", expected " + n + "x" + p +
      "; points with orthonormal rows are those of row_orthonormal{stiefel{" + n + ", " + p + "}}");
}

inline void expect_stiefel(char const* function, stiefel m) {
  if (m.p > m.n || m.p < 0) throw_stiefel(function, m);
  expect_option(m.alpha > -1 && m.alpha <= std::numeric_limits<double>::max(), function,
                "stiefel::alpha", m.alpha, "a number above -1");
}

template <class X>
void expect_stiefel(char const* function, char const* argument, stiefel m, X const& x) {
  expect_stiefel(function, m);
  if (m.n != m.p && x.rows() == m.p && x.cols() == m.n) throw_wide_point(function, argument, m);
  expect_shape(function, argument, x, m.n, m.p);
}

// How often the part x x^H v counts in the metric, over how often the rest does.
constexpr double metric_weight(stiefel m) { return 1 / (2 * (m.alpha + 1)); }

}  // namespace detail

/// \brief Dimension of the real Stiefel manifold as a real manifold.
/// \ingroup stiefel
/// \param[in] m  the manifold
/// \returns n p - p (p + 1) / 2
constexpr index_t dimension(stiefel m) { return m.n * m.p - m.p * (m.p + 1) / 2; }

/// \brief Dimension of the complex Stiefel manifold as a real manifold.
/// \ingroup stiefel
/// \param[in] m  the manifold
/// \returns 2 n p - p^2
constexpr index_t complex_dimension(stiefel m) { return 2 * m.n * m.p - m.p * m.p; }

/// \brief Injectivity radius of the real Stiefel manifold: below it, geodesics are shortest.
/// \ingroup stiefel
///
/// With \f$ \beta = 1 / (2 (\alpha + 1)) \f$ and \f$ 2 \le p < n \f$ it is
/// - \f$ \pi \f$ for the Euclidean metric \cite zimmermann2024, and for all with
///   \f$ -\tfrac12 \le \alpha \le -\tfrac14 \f$ \cite stoye2025, half of a great circle of one
///   column;
/// - \f$ \sqrt{2\beta}\,\pi \f$ for \f$ \alpha \ge \tfrac12 \f$ \cite stoye2025, half of a turn of
///   two columns into each other;
/// - \f$ \sqrt 2\,t \f$, about \f$ 0.9132618916\,\pi \f$, for the canonical metric, with t the
///   smallest positive root of \f$ \sin t / t + \cos t \f$: the distance of a conjugate point. That
///   is a proven upper bound, the value in all experiments \cite absil2024, and the proven lower
///   bound is \f$ \sqrt{4/5}\,\pi \f$.
///
/// For p = n - 1 the first two hold as well: the loops are there, and the manifold is a totally
/// geodesic part of St(n + 1, p), whose bound on the curvature it inherits. Its canonical metric is
/// the bi-invariant one of SO(n), with radius \f$ \pi \f$. For p = 1 the manifold is a sphere with
/// great circles of length \f$ 2\pi \f$, so \f$ \pi \f$ for every metric. For n = p it is the
/// orthogonal group with a bi-invariant metric, whose shortest loops turn one plane: \f$
/// \sqrt{2\beta}\,\pi \f$ for every metric. Where the manifold is a set of points the radius is
/// infinite.
///
/// Of the complex manifold none of this is said: there a loop of length \f$ 2 \sqrt\beta\,\pi \f$
/// turns one column by a phase, so that the radius is at most half of that.
///
/// \param[in] m  the manifold, of real points
/// \returns the radius in the metric of m
/// \throws shape_error   unless 0 <= p <= n
/// \throws option_error  if alpha is not above -1, or nothing is proven of that metric
inline double injectivity_radius(stiefel m) {
  detail::expect_stiefel("injectivity_radius", m);
  constexpr double pi = std::numbers::pi;
  double const turn = pi * std::sqrt(2 * detail::metric_weight(m));
  if (dimension(m) == 0) return std::numeric_limits<double>::infinity();
  if (m.p == 1) return pi;
  if (m.n == m.p || m.alpha >= 0.5) return turn;
  if (m.alpha >= -0.5 && m.alpha <= -0.25) return pi;
  expect_option(m.alpha == canonical_metric, "injectivity_radius", "stiefel::alpha", m.alpha,
                "-0.5 to -0.25, 0, or at least 0.5");
  // Root of sin t / t + cos t, to the last bit.
  constexpr double root = 2.0287578381104342;
  return m.p == m.n - 1 ? pi : std::numbers::sqrt2 * root;
}

}  // namespace stiefelx
