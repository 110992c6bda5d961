// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_inverse_qr_body.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/lyapunov.hpp>

/// \file
/// \brief Inverses of the QR, polar and Cayley retractions.
/// \ingroup stiefel
///
/// `inverse_retract(ctx, m, x, y, v, how, status)` finds the tangent vector v at x with \f$ R_x(v) = y
/// \f$. Not every y is reached: each page says which. Elsewhere a status bit is set and every entry of
/// v is NaN, so that a caller who ignores the status does not go on with a wrong vector.

namespace stiefelx {

/// \brief Element text: status of the inverse of a matrix by the norms of both.
/// \ingroup stiefel
struct inverse_norm_element {
  double largest;  ///< largest norm of an inverse that has correct digits

  /// \param[in,out] bits     status: `rank_deficient` above the limit, or `not_finite`
  /// \param[in]     size     norm of the matrix
  /// \param[in]     inverse  norm of its inverse
  template <class Real>
  STIEFELX_HD void operator()(int& bits, Real const& size, Real const& inverse) const {
    if (!(size - size == 0))
      bits |= not_finite;
    else if (!(static_cast<double>(inverse) <= largest))
      bits |= rank_deficient;
  }
};

/// \brief Element text: a factor that makes a result NaN where a status is set.
/// \ingroup stiefel
struct spoil_element {
  /// \param[out] factor  1 without a bit, else NaN
  /// \param[in]  bits    status
  template <class Real>
  STIEFELX_HD void operator()(Real& factor, int const& bits) const {
    factor = bits == 0 ? Real(1) : std::numeric_limits<Real>::quiet_NaN();
  }
};

namespace detail {

template <class Ctx, class X, class Y, class V>
void expect_inverse_retraction(Ctx& ctx, stiefel m, X const& x, Y const& y, V const& v) {
  expect_stiefel("inverse_retract", "x", m, x);
  expect_stiefel("inverse_retract", "y", m, y);
  expect_shape("inverse_retract", "v", v, m.n, m.p);
  expect_distinct(ctx, "inverse_retract", "v", v, "x", x);
  expect_distinct(ctx, "inverse_retract", "v", v, "y", y);
}

// Norm of the inverse of a matrix beyond which rounding of n-term products has taken every digit.
template <class S>
double largest_inverse(index_t n) {
  return 1 / static_cast<double>(rank_tolerance<S>(n));
}

// Multiplies a by NaN where bits has one, and passes the bits on.
template <class Ctx, class Bits, class A, class Status>
void spoil_and_raise(Ctx& ctx, Bits const& bits, A&& a, Status&& status) {
  auto factor = scratch<real_t<A>>(ctx, 1, 1);
  transform(ctx, spoil_element{}, outputs(factor), inputs(bits));
  scale(ctx, factor, a);
  raise(ctx, status, bits);
}

// Status of what came of inverting a matrix m.
template <class Ctx, class M, class Inverse, class Bits>
void raise_for_norms(Ctx& ctx, M const& m, Inverse const& inverse, double largest, Bits& bits) {
  auto sizes = scratch<real_t<M>>(ctx, 1, 2);
  norm(ctx, m, sizes.middleCols(0, 1));
  norm(ctx, inverse, sizes.middleCols(1, 1));
  transform(ctx, inverse_norm_element{largest}, outputs(bits),
            inputs(sizes.middleCols(0, 1), sizes.middleCols(1, 1)));
}

// Status of the inverse of a matrix with the singular values w, 1 x p.
template <class Ctx, class W, class Bits>
void raise_for_singular_values(Ctx& ctx, W const& w, double largest, Bits& bits) {
  auto inverse = clone(ctx, w);
  transform(ctx, reciprocal_element{}, outputs(inverse), inputs(w));
  raise_for_norms(ctx, w, inverse, largest, bits);
}

// With b = (I + m)^-1: a = 2 b^H (m - m^H) b, the skew part of the inverse Cayley transform of any
// frame whose part along x is m; for a unitary m it is 2 (m - I)(m + I)^-1.
template <class Ctx, class M, class B, class A, class Bits>
void inverse_cayley(Ctx& ctx, M const& m, double largest, B&& b, A&& a, Bits& bits) {
  {
    auto sum = clone(ctx, m);
    set_identity(ctx, b);
    axpy(ctx, 1, b, sum);
    solve(ctx, sum, b, no_status{});
  }
  raise_for_norms(ctx, m, b, largest, bits);
  copy(ctx, m, a);
  axpy(ctx, -1, m.adjoint(), a);
  auto const ab = product(ctx, a, b);
  multiply(ctx, b.adjoint(), ab, a);
  scale(ctx, 2, a);
}

}  // namespace detail

/// \brief Inverse of the QR retraction.
/// \ingroup stiefel
///
/// \f$ v = y\,r - x \f$ with the upper triangular r of positive diagonal that makes \f$ x^{H} y\,r - I
/// \f$ skew-Hermitian, column after column; inverse_qr_body has the recursion. It runs in the wide
/// scalar. v is unique where it exists: for real points exactly where every leading minor of
/// \f$ x^{H} y \f$ is positive, so \f$ \lVert y - x \rVert_2 < \sqrt 2 \f$ suffices. Elsewhere status is
/// `rank_deficient`, or `not_finite` for a NaN or an infinity, and v is NaN.
///
/// The error is of order \f$ \epsilon\,(1 + \lVert v \rVert_2^2) \f$.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, a point
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in]     how     no options
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if x, y or v is not n x p
/// \throws alias_error  if v overlaps x or y
/// \par Cost
/// 4 n p^2 flops, and 3 p^3 by one team; four p x p scratch matrices.
/// \see \cite kaneko2013
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, stiefel m, X const& x, Y const& y, V&& v,
                     [[maybe_unused]] qr_retraction how = {}, Status&& status = {}) {
  using S = scalar_t<X>;
  detail::expect_inverse_retraction(ctx, m, x, y, v);
  auto const& point = dense(ctx, x);
  auto const& target = dense(ctx, y);
  auto r = product(ctx, point.adjoint(), target);
  {
    auto const along = widen(ctx, r);
    auto lu = clone(ctx, along), triangle = clone(ctx, along);
    auto bits = clear_status(ctx, 1);
    run_batch(ctx, 1, inverse_qr_body{detail::largest_inverse<S>(m.n)}, along, lu, triangle, bits);
    copy(ctx, triangle, r);
    raise(ctx, status, bits);
  }
  multiply(ctx, target, r, v);
  axpy(ctx, -1, point, v);
}

/// \brief Inverse of the polar retraction.
/// \ingroup stiefel
///
/// \f$ v = y\,s - x \f$ with the Hermitian positive definite s that makes \f$ x^{H} y\,s - I \f$
/// skew-Hermitian: \f$ M s + s M^{H} = 2 I,\ M = x^{H} y \f$, by lyapunov(). v is unique where it
/// exists: exactly where the eigenvalues of M have positive real parts, so \f$ \lVert y - x \rVert_2
/// < \sqrt 2 \f$ suffices. Elsewhere status is `not_converged`, `rank_deficient` where an eigenvalue
/// is zero to rounding, or `not_finite` for a NaN or an infinity, and v is NaN. s needs no test for
/// its sign: what lyapunov() computes for the sign N of M solves the equation with the right side
/// \f$ N + N^{H} \f$, which is 2I only for N = I.
///
/// The error is of order \f$ \epsilon\,(1 + \lVert v \rVert_2^2) \f$.
///
/// \param[in]     ctx     where to run; waits, because lyapunov() does
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, a point
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in]     how     its iterations are not used
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if x, y or v is not n x p
/// \throws alias_error  if v overlaps x or y
/// \par Cost
/// 4 n p^2 flops and a Lyapunov equation; four p x p scratch matrices beside its own.
/// \see \cite kaneko2013
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, stiefel m, X const& x, Y const& y, V&& v,
                     [[maybe_unused]] polar_retraction how, Status&& status = {}) {
  detail::expect_inverse_retraction(ctx, m, x, y, v);
  auto const& point = dense(ctx, x);
  auto const& target = dense(ctx, y);
  auto const along = product(ctx, point.adjoint(), target);
  auto right = clone(ctx, along), s = clone(ctx, along);
  auto bits = clear_status(ctx, 1);
  set_identity(ctx, right);
  scale(ctx, 2, right);
  lyapunov(ctx, along, right, s, bits);
  symmetrize(ctx, s);
  detail::raise_for_norms(ctx, along, s, detail::largest_inverse<scalar_t<X>>(m.n), bits);
  detail::spoil_and_raise(ctx, bits, s, status);
  multiply(ctx, target, s, v);
  axpy(ctx, -1, point, v);
}

/// \brief Inverse of the Cayley retraction.
/// \ingroup stiefel
///
/// With \f$ M = x^{H} y \f$ and \f$ b = (I + M)^{-1} \f$, the transform \f$ y - x = W (x + y)/2 \f$
/// of rotation_factors() has along x and beside it the parts
/// \f[ v = x A + 2\,(y - x M)\,b, \qquad A = 2\,b^{H} (M - M^{H})\,b , \f]
/// the second from \f$ M^{H} M + (y - xM)^{H} (y - xM) = I \f$, which makes A skew to rounding. v is
/// unique where it exists: exactly where -1 is no eigenvalue of \f$ x^{H} y \f$, so almost
/// everywhere. Elsewhere status is `rank_deficient`, or `not_finite` for a NaN or an infinity, and v
/// is NaN.
///
/// The error is of order \f$ \epsilon\,\lVert b \rVert_2^2 \f$, with \f$ \lVert b \rVert_2 \f$ from
/// 1/2 near x to about \f$ \tfrac12 + \tfrac18 \lVert v \rVert_2^2 \f$.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, a point
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in]     how     no options
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if x, y or v is not n x p
/// \throws alias_error  if v overlaps x or y
/// \par Cost
/// \f$ 6np^2 + O(p^3) \f$ flops; five p x p scratch matrices.
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, stiefel m, X const& x, Y const& y, V&& v,
                     [[maybe_unused]] cayley_retraction how, Status&& status = {}) {
  using S = scalar_t<X>;
  detail::expect_inverse_retraction(ctx, m, x, y, v);
  auto const& point = dense(ctx, x);
  auto const& target = dense(ctx, y);
  auto const along = product(ctx, point.adjoint(), target);
  auto b = clone(ctx, along), a = clone(ctx, along);
  auto bits = clear_status(ctx, 1);
  detail::inverse_cayley(ctx, along, detail::largest_inverse<S>(m.n), b, a, bits);
  scale(ctx, 2, b);
  multiply_add(ctx, -1, along, b, a);
  detail::spoil_and_raise(ctx, bits, b, status);
  multiply(ctx, target, b, v);
  multiply_add(ctx, 1, point, a, v);
}

}  // namespace stiefelx
