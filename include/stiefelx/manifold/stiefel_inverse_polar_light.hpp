// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_polar_light.hpp>
#include <stiefelx/orth/svd.hpp>
#include <stiefelx/orth/unitary_logarithm.hpp>

namespace stiefelx {

/// \brief Inverse of the polar-light retraction.
/// \ingroup stiefel
///
/// \f$ x^{H} y = e^{A} (I + K^{H} K)^{-1/2} \f$ is a polar decomposition, so its singular values and
/// vectors \f$ x^{H} y = u\,\mathrm{diag}(w)\,r^{H} \f$ give both parts,
/// \f[ v = x\,(\log O - O) + y\,r\,\mathrm{diag}(1/w)\,r^{H}, \qquad O = u\,r^{H} . \f]
/// With the Cayley rotation \f$ 2\,(O - I)(O + I)^{-1} \f$ takes the place of the logarithm. It runs
/// in the wide scalar.
///
/// v exists, and is unique for angles of \f$ e^{A} \f$ below \f$ \pi \f$, exactly where \f$ x^{H} y
/// \f$ is nonsingular and O has no eigenvalue -1; for real points O has the sign of \f$ \det x^{H} y
/// \f$, so that one must be positive. Elsewhere status is `rank_deficient` for a singular \f$ x^{H} y
/// \f$ (or O + I), `not_converged` for a logarithm that does not exist, `not_finite` for a NaN or an
/// infinity, and v is NaN.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, a point
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in]     how     the rotation; its iterations are not used
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if x, y or v is not n x p
/// \throws alias_error  if v overlaps x or y
/// \par Cost
/// 6 n p^2 flops, a singular value decomposition and a logarithm of p x p; some p x p scratch
/// matrices.
/// \see \cite jensen2026
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, stiefel m, X const& x, Y const& y, V&& v, polar_light_retraction how,
                     Status&& status = {}) {
  using S = scalar_t<X>;
  using Real = real_of_t<wide_t<S>>;
  detail::expect_inverse_retraction(ctx, m, x, y, v);
  auto const& point = dense(ctx, x);
  auto const& target = dense(ctx, y);
  double const largest = detail::largest_inverse<S>(m.n);
  auto along = product(ctx, point.adjoint(), target);
  auto stretch = clone(ctx, along);
  auto bits = clear_status(ctx, 1);
  {
    auto u = widen(ctx, along);
    auto r = clone(ctx, u), a = clone(ctx, u), b = clone(ctx, u);
    auto w = scratch<Real>(ctx, 1, m.p);
    svd(ctx, u, u, w, r, bits);
    auto const o = product(ctx, u, r.adjoint());
    detail::raise_for_singular_values(ctx, w, largest, bits);
    transform(ctx, reciprocal_element{}, outputs(w), inputs(w));
    copy(ctx, r, u);
    scale_columns(ctx, w, u);
    multiply(ctx, u, r.adjoint(), b);
    copy(ctx, b, stretch);
    if (how.rotation == polar_light_rotation::exponential)
      unitary_logarithm(ctx, o, a, bits);
    else
      detail::inverse_cayley(ctx, o, largest, b, a, bits);
    axpy(ctx, -1, o, a);
    copy(ctx, a, along);
  }
  detail::spoil_and_raise(ctx, bits, stretch, status);
  multiply(ctx, target, stretch, v);
  multiply_add(ctx, 1, point, along, v);
}

}  // namespace stiefelx
