// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_rotation.hpp>
#include <stiefelx/orth/inverse_sqrt.hpp>
#include <stiefelx/orth/scheduled_inverse_sqrt.hpp>

namespace stiefelx {

/// Selects the Q factor of a QR factorization with positive diagonal of R.
/// \ingroup stiefel
struct qr_retraction {};

/// Selects the orthogonal polar factor, by Newton-Schulz.
/// \ingroup stiefel
struct polar_retraction {
  /// How far the iteration reaches, in steps of Newton-Schulz, at least 1. The default reaches the
  /// unit roundoff of double for tangent vectors of spectral norm up to about 20; steps below 1 need
  /// 6. One matrix takes fewer steps of degree five that reach as far.
  int iterations = 14;
};

/// Selects the Cayley transform, by a 2p x 2p system.
/// \ingroup stiefel
struct cayley_retraction {};

namespace detail {

template <class Ctx, class X, class V, class Y>
void expect_retraction(Ctx& ctx, stiefel m, X const& x, V const& v, Y const& y) {
  expect_stiefel("retract", "x", m, x);
  expect_shape("retract", "v", v, m.n, m.p);
  expect_shape("retract", "y", y, m.n, m.p);
  expect_same_or_distinct(ctx, "retract", "y", y, "x", x);
  expect_distinct(ctx, "retract", "y", y, "v", v);
}

// The schedule that reaches as far as so many cubic steps do. After centring, these need five and one
// for each factor of 1.5 between the smallest singular value and one. Where one correction in the
// wide scalar follows, half the digits are enough.
template <class S>
polar_schedule inverse_root_schedule(int iterations) {
  constexpr bool corrected = !std::is_same_v<S, wide_t<S>>;
  constexpr auto unit = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon());
  double const reach = std::pow(1.5, std::min(0, 5 - iterations)) / std::sqrt(2.0);
  auto schedule =
      make_polar_schedule(polar_degree::quintic, reach, 0, corrected ? 1e-4 : unit / 64);
  schedule.count = std::min(schedule.count, iterations);
  return schedule;
}

// The same for the default, computed once.
template <class S>
polar_schedule const& default_inverse_root_schedule() {
  static polar_schedule const schedule = inverse_root_schedule<S>(polar_retraction{}.iterations);
  return schedule;
}

// y = sum (sum^H sum)^(-1/2); the eigenvalues of the Gram matrix are at least about one.
template <class Ctx, class Sum, class Y>
void multiply_by_inverse_root(Ctx& ctx, Sum const& sum, int iterations, Y&& y) {
  using S = scalar_t<Sum>;
  auto const g = gram(ctx, sum);
  auto z = clone(ctx, g);
  if (iterations == polar_retraction{}.iterations)
    inverse_sqrt(ctx, g, default_inverse_root_schedule<S>(), z);
  else
    inverse_sqrt(ctx, g, inverse_root_schedule<S>(iterations), z);
  multiply(ctx, sum, z, y);
}

}  // namespace detail

/// \brief Retracts a tangent vector to the Stiefel manifold by QR.
/// \ingroup stiefel
///
/// Computes \f$ R_x(v) = \mathrm{qf}(x + v) \f$ through a Cholesky factor: with \f$ y = x + v \f$
/// and \f$ y^{H} y = r^{H} r \f$, the result is \f$ y\,r^{-1} \f$. Of first order, for every metric.
///
/// Squaring the condition number is harmless here. Tangency gives \f$ y^{H} y = I + v^{H} v \f$, so
/// the Gram matrix is never smaller than the identity and the orthonormality error is of order
/// \f$ \epsilon\,(1 + \lVert v \rVert_2^2) \f$. The Gram matrix is that of y itself, so drift of x is
/// repaired too. A NaN or an infinity in x or v spreads to y.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point: \f$ x^{H} x = I \f$
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \throws shape_error  if x, v or y is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
/// \par Cost
/// \f$ 2np^2 + O(p^3) \f$ flops, one p x p scratch matrix.
/// \see \cite absil2008, section 4.1.1; example stiefel_procrustes.cpp
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, qr_retraction = {}) {
  detail::expect_retraction(ctx, m, x, v, y);
  auto const& step = dense(ctx, v);
  copy(ctx, x, y);
  axpy(ctx, 1, step, y);
  auto r = gram(ctx, y);
  cholesky(ctx, r, no_status{});
  solve_right(ctx, r, y);
}

/// \brief Retracts a tangent vector to the Stiefel manifold by the polar factor.
/// \ingroup stiefel
///
/// Computes \f$ R_x(v) = (x + v)(I + v^{H} v)^{-1/2} \f$, the point nearest to x + v. Of second order
/// for the Euclidean metric: it follows that geodesic to an error of third order. Of first order for
/// every other metric. The inverse square root is inverse_sqrt() of the Gram matrix of x + v, whose
/// eigenvalues are at least one, by a schedule of products; the orthonormality error is of the order of
/// the unit roundoff. Drift of x is repaired.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  iterations
/// \throws shape_error   if x, v or y is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if how.iterations is below 1
/// \par Cost
/// \f$ 3np^2 \f$ flops and, by default, \f$ 36p^3 \f$ in float and \f$ 42p^3 \f$ in double; one n x p and
/// some p x p scratch matrices.
/// \see \cite absil2008, section 4.1.1, \cite amsel2025
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, polar_retraction how) {
  detail::expect_retraction(ctx, m, x, v, y);
  expect_option(how.iterations >= 1, "retract", "polar_retraction::iterations", how.iterations,
                "a number of at least 1");
  auto sum = clone(ctx, x);
  axpy(ctx, 1, v, sum);
  detail::multiply_by_inverse_root(ctx, sum, how.iterations, y);
}

/// \brief Retracts a tangent vector to the Stiefel manifold by the Cayley transform.
/// \ingroup stiefel
///
/// With the skew \f$ W = A B^{H} \f$ of rotation_factors(), \f$ R_x(v) = (I - W/2)^{-1}(I + W/2)\,x =
/// x + A\,(I - K/2)^{-1} c \f$, where \f$ K = B^{H} A \f$ and \f$ c = B^{H} x \f$. Of second order for
/// the canonical metric: it follows that geodesic to an error of third order. Of first order for
/// every other metric. It is an isometry: drift of x stays. \f$ -W \f$ takes y back to x.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  no options
/// \throws shape_error  if x, v or y is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
/// \par Cost
/// \f$ 12np^2 + O(p^3) \f$ flops; one n x 2p and three 2p x 2p scratch matrices.
/// \see \cite wen2013
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y,
             [[maybe_unused]] cayley_retraction how) {
  using S = scalar_t<X>;
  detail::expect_retraction(ctx, m, x, v, y);
  index_t const p = m.p;
  auto a = scratch<S>(ctx, m.n, 2 * p);
  auto k = scratch<S>(ctx, 2 * p, 2 * p);
  rotation_factors(ctx, m, x, v, a, k);
  auto system = scratch<S>(ctx, 2 * p, 2 * p);
  set_identity(ctx, system);
  axpy(ctx, -0.5, k, system);
  auto right = clone(ctx, k.middleCols(p, p));
  solve(ctx, system, right, no_status{});
  copy(ctx, a.middleCols(p, p), y);
  multiply_add(ctx, 1, a, right, y);
}

}  // namespace stiefelx
