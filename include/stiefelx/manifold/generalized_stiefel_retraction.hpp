// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/manifold/generalized_stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/inverse_sqrt.hpp>
#include <stiefelx/orth/svd.hpp>

namespace stiefelx {

namespace detail {

// y = t (3 I - t^H B t) / 2.
template <class Ctx, class M, class T, class Y>
void repair_b(Ctx& ctx, M const& m, T const& t, Y&& y) {
  auto const g = gram_b(ctx, m, t);
  auto s = clone(ctx, g);
  set_identity(ctx, s);
  scale(ctx, 1.5, s);
  axpy(ctx, -0.5, g, s);
  multiply(ctx, t, s, y);
}

}  // namespace detail

/// \brief Retracts by Cholesky QR: \f$ y = (x + v)\,r^{-1} \f$, \f$ r^H r = (x + v)^H B (x + v)
/// \f$.
/// \ingroup manifolds
///
/// First order. The Gram matrix is that of x + v itself, so drift of x is repaired. For a tangent v
/// it is \f$ I + v^H B v \f$: one factorization never breaks down.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  no options
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
/// \par Cost
/// One product with B and \f$ 3np^2 + O(p^3) \f$ flops; two n x p scratch matrices.
template <class Ctx, class Apply, class Solve, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, X const& x, V const& v, Y&& y,
             [[maybe_unused]] qr_retraction how = {}) {
  detail::expect_step(ctx, "retract", m, x, v, y);
  auto sum = clone(ctx, x);
  axpy(ctx, 1, v, sum);
  auto r = detail::gram_b(ctx, m, sum);
  cholesky(ctx, r, no_status{});
  solve_right(ctx, r, sum);
  copy(ctx, sum, y);
}

/// \brief Retracts by the polar factor: \f$ y = (x + v)\,((x + v)^H B (x + v))^{-1/2} \f$.
/// \ingroup manifolds
///
/// The point nearest to x + v in the norm of B; second order for the metric of B. Drift of x is
/// repaired.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  iterations
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if how.iterations is below 1
/// \par Cost
/// One product with B, \f$ 4np^2 \f$ flops and 6 p^3 an iteration; two n x p scratch matrices.
template <class Ctx, class Apply, class Solve, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, X const& x, V const& v, Y&& y,
             polar_retraction how) {
  detail::expect_step(ctx, "retract", m, x, v, y);
  expect_option(how.iterations >= 1, "retract", "polar_retraction::iterations", how.iterations,
                "a number of at least 1");
  auto sum = clone(ctx, x);
  axpy(ctx, 1, v, sum);
  auto root = detail::gram_b(ctx, m, sum);
  {
    auto const g = widen(ctx, root);
    auto wide_root = clone(ctx, g);
    inverse_sqrt(ctx, g, 1, how.iterations, wide_root);
    copy(ctx, wide_root, root);
  }
  multiply(ctx, sum, root, y);
}

/// \brief Element text: \f$ y = 1/\sqrt{x} \f$.
/// \ingroup manifolds
struct inverse_root_element {
  /// \param[out] y  result
  /// \param[in]  x  above 0
  template <class Y, class X>
  STIEFELX_HD void operator()(Y& y, X const& x) const {
    y = static_cast<Y>(1 / std::sqrt(x));
  }
};

/// \brief The point nearest to a matrix in the norm of B: \f$ x = z\,(z^H B z)^{-1/2} \f$.
/// \ingroup manifolds
///
/// The root comes from the eigenvectors of the Gram matrix, and a Newton-Schulz step follows, so
/// the result is a point to rounding for condition numbers of \f$ B^{1/2} z \f$ up to about \f$
/// \epsilon^{-1/4} \f$; its error is that condition squared.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     z       n x p, of full rank
/// \param[out]    x       n x p, a point; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of svd() of the Gram matrix
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if x overlaps z without being z
/// \par Cost
/// Two products with B, 8 n p^2 flops, one svd() of p x p; two n x p scratch matrices.
template <class Ctx, class Apply, class Solve, Matrix Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, Z const& z, X&& x,
                   Status&& status = {}) {
  using S = scalar_t<Z>;
  detail::expect_nearest(ctx, m, z, x);
  auto const& input = dense(ctx, z);
  auto g = detail::gram_b(ctx, m, input);
  auto u = clone(ctx, g), v = clone(ctx, g);
  auto w = scratch<real_of_t<S>>(ctx, 1, m.p);
  svd(ctx, g, u, w, v, status);
  transform(ctx, inverse_root_element{}, outputs(w), inputs(w));
  copy(ctx, u, v);
  scale_columns(ctx, w, v);
  multiply(ctx, v, u.adjoint(), g);
  auto const nearest = product(ctx, input, g);
  detail::repair_b(ctx, m, nearest, x);
}

}  // namespace stiefelx
