// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/skew_exponential.hpp>
#include <stiefelx/orth/svd.hpp>
#include <stiefelx/orth/unitary_logarithm.hpp>

namespace stiefelx {

/// Selects the quasi-geodesic: a geodesic of the span of x, and a rotation within it.
/// \ingroup stiefel
struct quasi_geodesic_retraction {};

/// \brief Element text: cosine and sine of an angle.
/// \ingroup stiefel
struct cosine_sine_element {
  /// \param[out] cosine  cos t
  /// \param[out] sine    sin t
  /// \param[in]  t       angle
  template <class Real>
  STIEFELX_HD void operator()(Real& cosine, Real& sine, Real const& t) const {
    cosine = std::cos(t);
    sine = std::sin(t);
  }
};

/// \brief Element text: the ratio of an angle to its sine, from its cosine.
/// \ingroup stiefel
struct angle_to_sine_element {
  /// \param[out] ratio   t / sin t, 1 for t = 0
  /// \param[in]  cosine  cos t, with t from 0 to pi / 2; above 1 it is rounding
  template <class Real>
  STIEFELX_HD void operator()(Real& ratio, Real const& cosine) const {
    Real const sine = cosine < 1 ? std::sqrt((1 - cosine) * (1 + cosine)) : Real(0);
    ratio = sine == 0 ? Real(1) : std::atan2(sine, cosine) / sine;
  }
};

/// \brief Retracts a tangent vector to the Stiefel manifold along a quasi-geodesic.
/// \ingroup stiefel
///
/// With \f$ A = x^{H} v \f$ and the singular value decomposition \f$ v - x A = q\,\mathrm{diag}(w)\,
/// r^{H} \f$,
/// \f[ R_x(v) = \bigl( x\,r \cos(\mathrm{diag}(w))\,r^{H} + q \sin(\mathrm{diag}(w))\,r^{H} \bigr)
/// e^{A} : \f]
/// the span of x moves along its geodesic on the Grassmann manifold, the frame turns within it. Both
/// parts are exact where the other is zero, and the inverse has a closed form. Of first order for
/// every metric. Drift of x is not repaired.
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
/// 14 n p^2 flops, a singular value decomposition and an exponential of p x p; two n x p and some
/// p x p scratch matrices.
/// \see \cite bendokat2021
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y,
             [[maybe_unused]] quasi_geodesic_retraction how) {
  using S = scalar_t<X>;
  detail::expect_retraction(ctx, m, x, v, y);
  auto const& point = dense(ctx, x);
  auto beside = clone(ctx, v);
  auto a = product(ctx, point.adjoint(), beside);
  detail::make_skew(ctx, a);
  multiply_add(ctx, -1, point, a, beside);
  auto angles = scratch<real_of_t<S>>(ctx, 1, m.p);
  auto cosines = scratch<real_of_t<S>>(ctx, 1, m.p), sines = scratch<real_of_t<S>>(ctx, 1, m.p);
  auto r = scratch<S>(ctx, m.p, m.p);
  svd(ctx, beside, beside, angles, r);
  transform(ctx, cosine_sine_element{}, outputs(cosines, sines), inputs(angles));
  skew_exponential(ctx, a, a);
  auto sum = product(ctx, point, r);
  scale_columns(ctx, cosines, sum);
  scale_columns(ctx, sines, beside);
  axpy(ctx, 1, beside, sum);
  auto const turn = product(ctx, r.adjoint(), a);
  multiply(ctx, sum, turn, y);
}

/// \brief Inverse of the quasi-geodesic retraction.
/// \ingroup stiefel
///
/// \f$ x^{H} y = C e^{A} \f$ with the Hermitian \f$ C = r \cos(\mathrm{diag}(w))\,r^{H} \f$, so its
/// singular values and vectors \f$ x^{H} y = u\,\mathrm{diag}(c)\,s^{H} \f$ give \f$ O = e^{A} =
/// u\,s^{H} \f$ and the cosines c, and
/// \f[ v = x \log O + (y\,O^{H} - x C)\,u\,\mathrm{diag}(\arccos c / \sin \arccos c)\,u^{H} . \f]
/// It runs in the wide scalar where that matters.
///
/// v exists, and is unique for angles w below \f$ \pi/2 \f$ and angles of \f$ e^A \f$ below
/// \f$ \pi \f$, exactly where \f$ x^{H} y \f$ is nonsingular and O has no eigenvalue -1. Elsewhere
/// status is `rank_deficient` for a singular \f$ x^{H} y \f$, `not_converged` for a logarithm that
/// does not exist, `not_finite` for a NaN or an infinity, and v is NaN.
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
/// 6 n p^2 flops, a singular value decomposition and a logarithm of p x p; some p x p scratch
/// matrices.
/// \see \cite bendokat2021
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, stiefel m, X const& x, Y const& y, V&& v,
                     [[maybe_unused]] quasi_geodesic_retraction how, Status&& status = {}) {
  using S = scalar_t<X>;
  using Real = real_of_t<wide_t<S>>;
  detail::expect_inverse_retraction(ctx, m, x, y, v);
  auto const& point = dense(ctx, x);
  auto const& target = dense(ctx, y);
  auto along = product(ctx, point.adjoint(), target);
  auto across = clone(ctx, along);
  auto bits = clear_status(ctx, 1);
  {
    auto u = widen(ctx, along);
    auto const m_wide = clone(ctx, u);
    auto s = clone(ctx, u), o = clone(ctx, u), stretch = clone(ctx, u), a = clone(ctx, u);
    auto c = scratch<Real>(ctx, 1, m.p), ratio = scratch<Real>(ctx, 1, m.p);
    svd(ctx, u, u, c, s, bits);
    detail::raise_for_singular_values(ctx, c, detail::largest_inverse<S>(m.n), bits);
    multiply(ctx, u, s.adjoint(), o);
    unitary_logarithm(ctx, o, a, bits);
    // y O^H f - x C f with f = u diag(ratio) u^H: y takes O^H f, and x takes -C f = -M O^H f.
    transform(ctx, angle_to_sine_element{}, outputs(ratio), inputs(c));
    copy(ctx, u, s);
    scale_columns(ctx, ratio, s);
    auto const f = product(ctx, s, u.adjoint());
    multiply(ctx, o.adjoint(), f, stretch);
    copy(ctx, stretch, across);
    multiply_add(ctx, -1, m_wide, stretch, a);
    copy(ctx, a, along);
  }
  detail::spoil_and_raise(ctx, bits, across, status);
  multiply(ctx, target, across, v);
  multiply_add(ctx, 1, point, along, v);
}

}  // namespace stiefelx
