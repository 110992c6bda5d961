// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_stack.hpp>
#include <stiefelx/team/stiefel_cayley_item.hpp>
#include <stiefelx/team/stiefel_polar_item.hpp>

namespace stiefelx {

namespace detail {

template <class M>
item_of<stiefel_qr_item, M> retraction_item(power<M> const& m, qr_retraction) {
  return {item_rows(m.manifold), item_cols(m.manifold)};
}

template <class M>
item_of<stiefel_polar_item, M> retraction_item(power<M> const& m, polar_retraction how) {
  return {item_rows(m.manifold), item_cols(m.manifold), how.iterations};
}

template <class M>
item_of<stiefel_cayley_item, M> retraction_item(power<M> const& m, cayley_retraction) {
  return {item_rows(m.manifold), item_cols(m.manifold)};
}

inline void expect_iterations(polar_retraction how) {
  expect_option(how.iterations >= 1, "retract", "polar_retraction::iterations", how.iterations,
                "a number of at least 1");
}

template <class Ctx, class M, class X, class V, class Y, class How>
void retract_stack(Ctx& ctx, power<M> const& m, X const& x, V const& v, Y&& y, How how) {
  index_t const n = m.manifold.n, cols = m.manifold.p * m.count;
  expect_power("retract", "x", m, x);
  expect_shape("retract", "v", v, n, cols);
  expect_shape("retract", "y", y, n, cols);
  expect_same_or_distinct(ctx, "retract", "y", y, "x", x);
  expect_distinct(ctx, "retract", "y", y, "v", v);
  stiefel const one = m.manifold;
  if (is_for_lanes<Ctx>(one, m.count))
    run_in_lanes(ctx, retraction_item(m, how), m, x, v, y);
  else
    run_one_by_one(m, x, v, y, [&](auto const& xk, auto const& vk, auto&& yk) {
      retract(ctx, one, xk, vk, yk, how);
    });
}

}  // namespace detail

/// \brief Retracts a stack of tangent vectors by QR.
/// \ingroup stiefel
///
/// As retract() with qr_retraction for one point, for all points of a stack at once, with the same
/// error: of order \f$ \epsilon\,(1 + \lVert v \rVert_2^2) \f$ point by point. A NaN or an infinity
/// spreads through its own point only.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p)^B \f$
/// \param[in]  x    n x (p B), B points side by side
/// \param[in]  v    n x (p B), tangent at x
/// \param[out] y    n x (p B), the new points; may be x, must not overlap v
/// \param[in]  how  selects QR
/// \throws shape_error   if x, v or y has another shape
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if m.count is negative or alpha is not above -1
/// \par Cost
/// 2 B n p^2 flops; n p + p^2 packs of scratch a thread for n p up to 4096, else that of one point.
/// \see \cite absil2008, section 4.1.1
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, power<stiefel> m, X const& x, V const& v, Y&& y, qr_retraction how = {}) {
  detail::retract_stack(ctx, m, x, v, y, how);
}

/// \brief The same with sizes known at compile time.
/// \ingroup stiefel
/// \param[in] ctx  where to run
/// \param[in] m  the manifold, its sizes constants of the type
/// \param[in] x  B points side by side
/// \param[in] v  tangent at x
/// \param[out] y  the new points; may be x, must not overlap v
/// \param[in] how  options
template <class Ctx, index_t N, index_t P, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, power<fixed_stiefel<N, P>> m, X const& x, V const& v, Y&& y,
             qr_retraction how = {}) {
  detail::retract_stack(ctx, m, x, v, y, how);
}

/// \brief Retracts a stack of tangent vectors by the polar factor.
/// \ingroup stiefel
///
/// As retract() with polar_retraction for one point, for all points of a stack at once. Small points
/// iterate in their own scalar and end with one Newton-Schulz step on the result, so the error is of
/// order \f$ \epsilon\,(1 + \lVert v \rVert_2^2) \f$; each stops iterating when it has converged.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p)^B \f$
/// \param[in]  x    n x (p B), B points side by side
/// \param[in]  v    n x (p B), tangent at x
/// \param[out] y    n x (p B), the new points; may be x, must not overlap v
/// \param[in]  how  iterations
/// \throws shape_error   if x, v or y has another shape
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if m.count is negative, alpha not above -1 or how.iterations below 1
/// \par Cost
/// \f$ B (6np^2 + 3p^3 k) \f$ flops for k iterations; 2 n p + 4 p^2 packs of scratch a thread for
/// n p up to 4096, else that of one point.
/// \see \cite absil2008, section 4.1.1, \cite higham2008
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, power<stiefel> m, X const& x, V const& v, Y&& y, polar_retraction how) {
  detail::expect_iterations(how);
  detail::retract_stack(ctx, m, x, v, y, how);
}

/// \brief The same with sizes known at compile time.
/// \ingroup stiefel
/// \param[in] ctx  where to run
/// \param[in] m  the manifold, its sizes constants of the type
/// \param[in] x  B points side by side
/// \param[in] v  tangent at x
/// \param[out] y  the new points; may be x, must not overlap v
/// \param[in] how  options
template <class Ctx, index_t N, index_t P, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, power<fixed_stiefel<N, P>> m, X const& x, V const& v, Y&& y,
             polar_retraction how) {
  detail::expect_iterations(how);
  detail::retract_stack(ctx, m, x, v, y, how);
}

/// \brief Retracts a stack of tangent vectors by the Cayley transform.
/// \ingroup stiefel
///
/// As retract() with cayley_retraction for one point, for all points of a stack at once. Small
/// points solve p x p systems instead of 2p x 2p ones (see stiefel_cayley_item). It is an isometry:
/// drift of x stays.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p)^B \f$
/// \param[in]  x    n x (p B), B points side by side
/// \param[in]  v    n x (p B), tangent at x
/// \param[out] y    n x (p B), the new points; may be x, must not overlap v
/// \param[in]  how  no options
/// \throws shape_error   if x, v or y has another shape
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if m.count is negative or alpha is not above -1
/// \par Cost
/// \f$ B (10np^2 + O(p^3)) \f$ flops; 3 n p + 4 p^2 packs of scratch a thread for n p up to 4096, else
/// that of one point.
/// \see \cite wen2013
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, power<stiefel> m, X const& x, V const& v, Y&& y, cayley_retraction how) {
  detail::retract_stack(ctx, m, x, v, y, how);
}

/// \brief The same with sizes known at compile time.
/// \ingroup stiefel
/// \param[in] ctx  where to run
/// \param[in] m  the manifold, its sizes constants of the type
/// \param[in] x  B points side by side
/// \param[in] v  tangent at x
/// \param[out] y  the new points; may be x, must not overlap v
/// \param[in] how  options
template <class Ctx, index_t N, index_t P, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, power<fixed_stiefel<N, P>> m, X const& x, V const& v, Y&& y,
             cayley_retraction how) {
  detail::retract_stack(ctx, m, x, v, y, how);
}

}  // namespace stiefelx
