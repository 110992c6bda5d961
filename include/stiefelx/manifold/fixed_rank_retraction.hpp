// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/manifold/fixed_rank.hpp>
#include <stiefelx/orth/svd.hpp>

namespace stiefelx {

namespace detail {

// t = the right singular vectors of the r largest singular values of a.
template <class Ctx, class A, class T, class Status>
void leading_right_vectors(Ctx& ctx, A const& a, T&& t, Status& status) {
  using S = scalar_t<A>;
  index_t const n = a.rows(), k = a.cols(), r = t.cols();
  index_t const least = n < k ? n : k;
  auto w = scratch<real_of_t<S>>(ctx, 1, least);
  auto bits = clear_status(ctx, 1);
  if (n >= k) {
    auto u = scratch<S>(ctx, n, k), v = scratch<S>(ctx, k, k);
    svd(ctx, a, u, w, v, bits);
    copy(ctx, v.middleCols(0, r), t);
  } else {
    auto u = scratch<S>(ctx, k, n), v = scratch<S>(ctx, n, n);
    svd(ctx, a.adjoint(), u, w, v, bits);
    copy(ctx, u.middleCols(0, r), t);
  }
  // Of 2 r singular values the smaller half may vanish.
  auto finite = scratch<double>(ctx, 1, 1);
  all_finite(ctx, w, finite);
  transform(ctx, not_finite_element{}, outputs(bits), inputs(finite));
  raise(ctx, status, bits);
}

}  // namespace detail

/// \brief Moves from W along a tangent vector to the nearest matrix of rank r: the truncated
/// singular value decomposition of \f$ W + \xi \f$.
/// \ingroup manifolds
///
/// \f$ W + \xi = [b + \dot b,\ b\,s^H]\,[q,\ q_2]^H \f$ with \f$ \dot q = q_2 s \f$, of rank at
/// most 2 r. With the leading right singular vectors t of the left factor, turned so that the new q
/// is as near as may be to \f$ q + \dot q \f$, the point is y = [\f$ [b + \dot b,\ b s^H]\,t;\ [q,\,
/// q_2]\,t \f$]. Second order for matrices; in the factors y = x + v up to second order, so
/// coordinates of other tangent vectors keep their meaning. The drift of q is repaired without a
/// change of W.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     x       (rows + cols) x r, a point
/// \param[in]     v       of x's shape, tangent at x
/// \param[out]    y       of x's shape, the new point; may be x, must not overlap v
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_finite`
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if y overlaps v, or x without being x
/// \par Cost
/// About \f$ 32\,\mathrm{rows}\,r^2 + 12\,\mathrm{cols}\,r^2 \f$ flops and one svd() of 2
/// r columns; some scratch matrices of 2 r columns.
/// \see \cite vandereycken2013, section 3, \cite absil2012
template <class Ctx, Matrix X, Matrix V, class Y, class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, fixed_rank m, X const& x, V const& v, Y&& y, Status&& status = {}) {
  using S = scalar_t<X>;
  detail::expect_step(ctx, "retract", m, x, v, y);
  index_t const r = m.rank;
  if (r == 0) return;
  auto const& point = dense(ctx, x);
  auto const& step = dense(ctx, v);
  auto wide = scratch<S>(ctx, m.rows, 2 * r), tall = scratch<S>(ctx, m.cols, 2 * r);
  auto t = scratch<S>(ctx, 2 * r, r), turned = scratch<S>(ctx, 2 * r, r);
  auto s = scratch<S>(ctx, r, r), c = scratch<S>(ctx, r, r), turn = scratch<S>(ctx, r, r);

  auto q = tall.middleCols(0, r), q2 = tall.middleCols(r, r);
  copy(ctx, right_factor(m, point), q);
  copy(ctx, right_factor(m, step), q2);
  householder_qr(ctx, q2, q2, s);
  // Columns that no direction of the step needs are arbitrary, and must not lie along q.
  detail::remove_span(ctx, q, q2);
  copy(ctx, left_factor(m, point), wide.middleCols(0, r));
  axpy(ctx, 1, left_factor(m, step), wide.middleCols(0, r));
  multiply(ctx, left_factor(m, point), s.adjoint(), wide.middleCols(r, r));
  detail::leading_right_vectors(ctx, wide, t, status);

  // c = t^H [I; s], whose unitary factor turns t.
  copy(ctx, t.middleRows(0, r).adjoint(), c);
  multiply_add(ctx, 1, t.middleRows(r, r).adjoint(), s, c);
  {
    auto sigma = scratch<real_of_t<S>>(ctx, 1, r);
    auto right = scratch<S>(ctx, r, r);
    svd(ctx, c, c, sigma, right, no_status{});
    multiply(ctx, c, right.adjoint(), turn);
  }
  multiply(ctx, t, turn, turned);

  // q (3 I - g) / 2 is orthonormal to second order of its drift, and b (I + g) / 2 makes up for it.
  auto const lower = product(ctx, tall, turned);
  auto const upper = product(ctx, wide, turned);
  auto const g = gram(ctx, lower);
  set_identity(ctx, c);
  scale(ctx, 1.5, c);
  axpy(ctx, -0.5, g, c);
  multiply(ctx, lower, c, right_factor(m, y));
  set_identity(ctx, c);
  axpy(ctx, 1, g, c);
  scale(ctx, 0.5, c);
  multiply(ctx, upper, c, left_factor(m, y));
}

}  // namespace stiefelx
