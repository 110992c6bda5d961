// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>

/// \file
/// \brief The two parts of the landing field, beside the Stiefel manifold and beside its
/// generalized form.
/// \ingroup optim

namespace stiefelx {

namespace detail {

// Scratch g - I.
template <class Ctx, class G>
auto minus_identity(Ctx& ctx, G const& g) {
  auto defect = clone(ctx, g);
  auto identity = clone(ctx, g);
  set_identity(ctx, identity);
  axpy(ctx, -1, identity, defect);
  return defect;
}

// f = t (u k - y u^H y) - r y defect with k = y^H y, for numbers or 1 x 1 matrices t and r.
template <class Ctx, class Y, class U, class K, class Defect, class T, class R, class F>
void combine_field(Ctx& ctx, Y const& y, U const& u, K const& k, Defect const& defect, T const& t,
                   R const& r, F&& f) {
  auto small = clone(ctx, k);
  scale(ctx, t, small);
  multiply(ctx, u, small, f);
  multiply(ctx, u.adjoint(), y, small);
  scale(ctx, t, small);
  axpy(ctx, r, defect, small);
  multiply_add(ctx, -1, y, small, f);
}

// The rounding of the distance of p orthonormal columns of n entries: of each squared length eps
// sqrt(n), of p of them together sqrt(p) times that; the factor is for what comes before and after.
template <class Real>
double rounding_of_distance(index_t n, index_t p) {
  constexpr auto eps = static_cast<double>(std::numeric_limits<Real>::epsilon());
  return 8 * eps * std::sqrt(static_cast<double>(n) * static_cast<double>(p));
}

template <class Ctx, class X, class U, class F>
void expect_field(Ctx& ctx, char const* function, X const& x, char const* argument, U const& u,
                  F const& f) {
  expect_shape(function, argument, u, x.rows(), x.cols());
  expect_shape(function, "f", f, x.rows(), x.cols());
  expect_distinct(ctx, function, "f", f, "x", x);
  expect_distinct(ctx, function, "f", f, argument, u);
}

}  // namespace detail

/// \brief Relative gradient: the part of the landing field along the manifold,
/// \f$ \Psi(x, g) = \tfrac12 (g\,x^H x - x\,g^H x) \f$.
/// \ingroup optim
///
/// It is \f$ w x \f$ with the skew-Hermitian \f$ w = \tfrac12 (g x^H - x g^H) \f$. So \f$ x^H \Psi
/// \f$ is skew-Hermitian for any x: \f$ \Psi \f$ is tangent at x to \f$ \{ y : y^H y = x^H x \}
/// \f$, and a step changes \f$ x^H x \f$ in second order only. For orthonormal x it is half of the
/// gradient in the canonical metric, and zero exactly where that is. It is linear in g.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  x    n x p, any matrix
/// \param[in]  g    n x p, Euclidean gradient at x, or another direction
/// \param[out] f    n x p; must not overlap x or g
/// \throws shape_error  if g or f has another shape than x
/// \throws alias_error  if f overlaps x or g
/// \par Cost
/// 7 n p^2 flops, three p x p scratch matrices.
/// \see \cite ablin2023
template <class Ctx, Matrix X, Matrix G, class F>
  requires OutputMatrix<F> && SameScalar<X, G, F>
void relative_gradient(Ctx& ctx, X const& x, G const& g, F&& f) {
  detail::expect_field(ctx, "relative_gradient", x, "g", g, f);
  auto const k = gram(ctx, x);
  detail::combine_field(ctx, x, g, k, k, 0.5, 0, f);
}

/// \brief Landing field: \f$ f = \Psi(x, g) + \lambda\,x\,(x^H x - I) \f$.
/// \ingroup optim
///
/// The second part is the gradient of \f$ \tfrac14 \lVert x^H x - I \rVert_F^2 \f$, which draws x
/// to the manifold. The two parts are orthogonal, so the field is zero only where both are: at the
/// critical points on the manifold (for x of full rank).
/// \param[in]  ctx         where to run; nothing waits
/// \param[in]  x           n x p, any matrix
/// \param[in]  g           n x p, Euclidean gradient at x
/// \param[in]  attraction  \f$ \lambda \f$
/// \param[out] f           n x p; must not overlap x or g
/// \throws shape_error  if g or f has another shape than x
/// \throws alias_error  if f overlaps x or g
/// \par Cost
/// 7 n p^2 flops, four p x p scratch matrices.
/// \see \cite ablin2022, \cite ablin2023
template <class Ctx, Matrix X, Matrix G, class F>
  requires OutputMatrix<F> && SameScalar<X, G, F>
void landing_field(Ctx& ctx, X const& x, G const& g, double attraction, F&& f) {
  detail::expect_field(ctx, "landing_field", x, "g", g, f);
  auto const k = gram(ctx, x);
  auto const defect = detail::minus_identity(ctx, k);
  detail::combine_field(ctx, x, g, k, defect, 0.5, -attraction, f);
}

/// \brief Landing field beside the generalized Stiefel manifold \f$ x^H B x = I \f$, with no solve:
/// \f$ f = \tfrac12 (g\,(Bx)^H Bx - Bx\,g^H Bx) + \lambda\,Bx\,(x^H B x - I) \f$.
/// \ingroup optim
///
/// The first part is \f$ w\,Bx \f$ with the skew-Hermitian \f$ w = \tfrac12 (g (Bx)^H - Bx\,g^H)
/// \f$, so \f$ (Bx)^H w\,Bx \f$ is skew-Hermitian and the part is tangent at any x. It is zero
/// where g is \f$ Bx\,s \f$ with a Hermitian s, as at every critical point. An attraction of 0
/// gives it alone.
/// \param[in]  ctx         where to run; nothing waits
/// \param[in]  x           n x p, any matrix
/// \param[in]  bx          n x p, B x, or an estimate of it
/// \param[in]  g           n x p, Euclidean gradient at x
/// \param[in]  attraction  \f$ \lambda \f$
/// \param[out] f           n x p; must not overlap x, bx or g
/// \throws shape_error  if bx, g or f has another shape than x
/// \throws alias_error  if f overlaps x, bx or g
/// \par Cost
/// 9 n p^2 flops, five p x p scratch matrices.
/// \see \cite vary2024
template <class Ctx, Matrix X, Matrix Bx, Matrix G, class F>
  requires OutputMatrix<F> && SameScalar<X, Bx, G, F>
void generalized_landing_field(Ctx& ctx, X const& x, Bx const& bx, G const& g, double attraction,
                               F&& f) {
  detail::expect_field(ctx, "generalized_landing_field", x, "bx", bx, f);
  detail::expect_field(ctx, "generalized_landing_field", x, "g", g, f);
  auto const k = gram(ctx, bx);
  auto b_gram = product(ctx, x.adjoint(), bx);
  symmetrize(ctx, b_gram);
  auto const defect = detail::minus_identity(ctx, b_gram);
  detail::combine_field(ctx, bx, g, k, defect, 0.5, -attraction, f);
}

}  // namespace stiefelx
