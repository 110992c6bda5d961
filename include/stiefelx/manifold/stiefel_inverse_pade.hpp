// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_pade.hpp>
#include <stiefelx/orth/householder_qr.hpp>

namespace stiefelx {

namespace detail {

// Below, tangent vectors x a + q b and frames x m + q n are 2p x p coordinates [a; b], [m; n] in an
// orthonormal basis [x, q], in which W is the skew [[a, -b^H], [b, 0]].
template <class Ctx, class V, class W>
void turning_matrix(Ctx& ctx, V const& v, W&& w) {
  index_t const p = v.cols();
  auto side = w.middleCols(p, p);
  copy(ctx, v, w.middleCols(0, p));
  copy(ctx, v.middleRows(p, p).adjoint(), side.middleRows(0, p));
  scale(ctx, -1, side.middleRows(0, p));
  fill(ctx, 0, side.middleRows(p, p));
}

// y = the first columns of (I - W/2 + W^2/12)^-1 (I + W/2 + W^2/12).
template <class Ctx, class V, class Y>
void pade_of_coordinates(Ctx& ctx, V const& v, Y&& y) {
  index_t const p = v.cols();
  auto w = scratch<scalar_t<V>>(ctx, 2 * p, 2 * p);
  turning_matrix(ctx, v, w);
  auto below = clone(ctx, w);
  set_identity(ctx, below);
  multiply_add(ctx, 1.0 / 12, w, w, below);
  copy(ctx, below.middleCols(0, p), y);
  axpy(ctx, 0.5, v, y);
  axpy(ctx, -0.5, w, below);
  solve(ctx, below, y, no_status{});
}

// v = the inverse Cayley transform of y, then the angles it has made too long shortened again: an
// angle t of order-2 Pade comes as s = t / (1 - t^2/12), and s (1 + s^2/12) / (1 + s^2/6) is t to
// third order and grows with s.
template <class Ctx, class Y, class V, class Bits>
void pade_guess_of_coordinates(Ctx& ctx, Y const& y, double largest, V&& v, Bits& bits) {
  index_t const p = y.cols();
  auto b = scratch<scalar_t<Y>>(ctx, p, p);
  inverse_cayley(ctx, y.middleRows(0, p), largest, b, v.middleRows(0, p), bits);
  multiply(ctx, y.middleRows(p, p), b, v.middleRows(p, p));
  scale(ctx, 2, v.middleRows(p, p));
  auto w = scratch<scalar_t<Y>>(ctx, 2 * p, 2 * p);
  turning_matrix(ctx, v, w);
  auto const square = product(ctx, w, w);
  auto const longer = clone(ctx, v);
  multiply_add(ctx, -1.0 / 12, square, longer, v);
  set_identity(ctx, w);
  axpy(ctx, -1.0 / 6, square, w);
  solve(ctx, w, v, no_status{});
}

// v with pade_of_coordinates(v) = y by v <- v + guess(y) - guess(pade(v)); whether it converged.
template <class Ctx, class Y, class V, class Bits>
bool solve_pade_of_coordinates(Ctx& ctx, Y const& y, double largest, double eps, V&& v,
                               Bits& bits) {
  // Several times what a tangent vector within the documented range needs.
  constexpr int most = 60;
  using Real = real_t<V>;
  pade_guess_of_coordinates(ctx, y, largest, v, bits);
  auto const aim = clone(ctx, v);
  auto now = clone(ctx, y), guess = clone(ctx, v);
  auto sizes = scratch<Real>(ctx, 1, 2);
  auto unused = clear_status(ctx, 1);
  double const width = 32 * eps * std::sqrt(static_cast<double>(2 * v.cols()));
  for (int k = 0; k < most; ++k) {
    pade_of_coordinates(ctx, v, now);
    pade_guess_of_coordinates(ctx, now, largest, guess, unused);
    scale(ctx, -1, guess);
    axpy(ctx, 1, aim, guess);
    axpy(ctx, 1, guess, v);
    norm(ctx, guess, sizes.middleCols(0, 1));
    norm(ctx, v, sizes.middleCols(1, 1));
    auto const step = static_cast<double>(value(ctx, sizes.middleCols(0, 1)));
    auto const length = static_cast<double>(value(ctx, sizes.middleCols(1, 1)));
    if (step <= width * (1 + length)) return true;
    if (!(step - step == 0)) return false;
  }
  return false;
}

}  // namespace detail

/// \brief Inverse of the Pade retraction.
/// \ingroup stiefel
///
/// Order 1 has the closed form of the Cayley transform. Order 2 has none: with \f$ C(y) \f$ that
/// closed form, corrected so that it is right for turns of single planes to third order, the
/// iteration \f$ v \leftarrow v + C(y) - C(R_x(v)) \f$ starts at \f$ C(y) \f$. It runs in the wide
/// scalar on coordinates in \f$ [x, q],\ y - x\,x^{H} y = q r \f$.
///
/// It has converged in every case tried where W of rotation_factors() has a spectral norm up to 2: in 3
/// iterations at 0.1, 8 at 1 and about 30 at 2, in double. Beyond it may not: then status is `not_converged`, with
/// `rank_deficient` where -1 is an eigenvalue of \f$ x^{H} y \f$ and `not_finite` for a NaN or an
/// infinity, and v is NaN.
///
/// \param[in]     ctx     where to run; order 2 waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, a point
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in]     how     order
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error   if x, y or v is not n x p
/// \throws alias_error   if v overlaps x or y
/// \throws option_error  if how.order is neither 1 nor 2
/// \par Cost
/// \f$ 12np^2 \f$ flops and about \f$ 100p^3 \f$ an iteration; one n x p and some 2p x 2p scratch
/// matrices of the wide scalar.
/// \see \cite zhu2019
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void inverse_retract(Ctx& ctx, stiefel m, X const& x, Y const& y, V&& v, pade_retraction how,
                     Status&& status = {}) {
  using S = scalar_t<X>;
  using Wide = wide_t<S>;
  detail::expect_inverse_retraction(ctx, m, x, y, v);
  expect_option(how.order == 1 || how.order == 2, "inverse_retract", "pade_retraction::order",
                how.order, "1 or 2");
  if (how.order == 1) {
    inverse_retract(ctx, m, x, y, v, cayley_retraction{}, status);
    return;
  }
  index_t const p = m.p;
  auto const& point = dense(ctx, x);
  auto coordinates = scratch<S>(ctx, 2 * p, p);
  auto along = coordinates.middleRows(0, p), beside = coordinates.middleRows(p, p);
  multiply(ctx, point.adjoint(), y, along);
  copy(ctx, y, v);
  multiply_add(ctx, -1, point, along, v);
  auto q = clone(ctx, v);
  householder_qr(ctx, v, q, beside);
  auto bits = clear_status(ctx, 1);
  {
    auto const frame = widen(ctx, coordinates);
    auto found = scratch<Wide>(ctx, 2 * p, p);
    constexpr auto eps = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon());
    if (!detail::solve_pade_of_coordinates(ctx, frame, detail::largest_inverse<S>(m.n), eps, found,
                                           bits))
      raise(ctx, bits, not_converged);
    copy(ctx, found, coordinates);
  }
  detail::spoil_and_raise(ctx, bits, coordinates, status);
  multiply(ctx, point, along, v);
  multiply_add(ctx, 1, q, beside, v);
}

}  // namespace stiefelx
