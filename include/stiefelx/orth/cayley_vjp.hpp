// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/qr_vjp.hpp>
#include <stiefelx/orth/stack_arguments.hpp>

namespace stiefelx {

namespace detail {

template <class Ctx, class X, class V, class Y, class DY, class DV, class DX>
void expect_cayley_vjp(Ctx& ctx, X const& x, V const& v, Y const& y, DY const& dy, DV const& dv,
                       DX const& dx) {
  constexpr char const* name = "cayley_vjp";
  index_t const n = x.rows(), p = x.cols();
  expect_shape(name, "v", v, n, p);
  expect_shape(name, "y", y, n, p);
  expect_shape(name, "dy", dy, n, p);
  expect_shape(name, "dv", dv, n, p);
  expect_shape(name, "dx", dx, n, p);
  expect_same_or_distinct(ctx, name, "dv", dv, "dy", dy);
  expect_distinct(ctx, name, "dv", dv, "x", x);
  expect_distinct(ctx, name, "dv", dv, "v", v);
  expect_distinct(ctx, name, "dv", dv, "y", y);
  expect_distinct(ctx, name, "dx", dx, "x", x);
  expect_distinct(ctx, name, "dx", dx, "v", v);
  expect_distinct(ctx, name, "dx", dx, "y", y);
  expect_distinct(ctx, name, "dx", dx, "dy", dy);
  expect_distinct(ctx, name, "dx", dx, "dv", dv);
}

}  // namespace detail

/// \brief Reverse rule of the Cayley retraction, for the tangent vector and for the point.
/// \ingroup orth
///
/// \f$ y = (I - W/2)^{-1} (I + W/2)\,x \f$ with \f$ W = d x^H - x d^H \f$ and \f$ d = v - \tfrac12
/// x\,x^H v \f$. With the cotangent \f$ \bar y \f$, \f$ z = (I + W/2)^{-1} \bar y \f$ and \f$ \bar
/// W = \tfrac12 (z\,(x + y)^H - (x + y)\,z^H) \f$, \f[ \bar d = \bar W x, \qquad \bar v = \bar d -
/// \tfrac12 x\,x^H \bar d, \qquad \bar x = 2 z - \bar y - \bar W d - \tfrac12 (\bar d\,v^H x +
/// v\,\bar d^H x) . \f] No n x n matrix is formed: the inverse is a 2p x 2p system, as in the
/// retraction.
///
/// Both are cotangents of the formula as a function of any x and v. For v at a fixed point, take
/// dv. For a tangent v that moves with x, \f$ v = P_x(u) \f$, add to dx what dv gives through the
/// projection. A cotangent c of a matrix y stands for the derivative \f$ \mathrm{Re\,tr}(c^H \delta
/// y) \f$ of a real loss. `not_finite` is set when dv or dx has an entry that is not finite.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     x       n x p, a point
/// \param[in]     v       n x p, tangent at x
/// \param[in]     y       n x p, where `retract(ctx, m, x, v, y, cayley_retraction{})` went
/// \param[in]     dy      n x p, cotangent of y
/// \param[out]    dv      n x p, cotangent of v; may be dy, must not overlap another argument
/// \param[out]    dx      n x p, cotangent of x; must not overlap another argument
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if x is wide, or an argument has another shape
/// \throws alias_error  if dv or dx overlaps another argument, but for dv being dy
/// \par Cost
/// About 32 n p^2 flops and one LU of order 2p; four n x p and some p x p scratch matrices.
/// \see \cite wen2013
template <class Ctx, Matrix X, Matrix V, Matrix Y, Matrix DY, class DV, class DX,
          class Status = no_status>
  requires OutputMatrix<DV> && OutputMatrix<DX> && SameScalar<X, V, Y, DY, DV, DX>
void cayley_vjp(Ctx& ctx, X const& x, V const& v, Y const& y, DY const& dy, DV&& dv, DX&& dx,
                Status&& status = {}) {
  using S = scalar_t<X>;
  index_t const n = x.rows(), p = x.cols();
  expect_tall("cayley_vjp", "x", x);
  detail::expect_cayley_vjp(ctx, x, v, y, dy, dv, dx);
  auto a = scratch<S>(ctx, n, 2 * p);
  auto d = a.middleCols(0, p), point = a.middleCols(p, p);
  copy(ctx, v, d);
  copy(ctx, x, point);
  auto const xv = product(ctx, point.adjoint(), d);
  multiply_add(ctx, -0.5, point, xv, d);
  auto z = clone(ctx, dy);
  {
    // z = dy - A (I + B^H A / 2)^-1 B^H dy / 2 with A = [d, x] and B = [x, -d].
    auto const g = gram(ctx, a);
    auto system = scratch<S>(ctx, 2 * p, 2 * p);
    set_identity(ctx, system);
    axpy(ctx, 0.5, g.middleRows(p, p), system.middleRows(0, p));
    axpy(ctx, -0.5, g.middleRows(0, p), system.middleRows(p, p));
    auto right = scratch<S>(ctx, 2 * p, p);
    multiply(ctx, point.adjoint(), z, right.middleRows(0, p));
    multiply(ctx, d.adjoint(), z, right.middleRows(p, p));
    scale(ctx, -1, right.middleRows(p, p));
    solve(ctx, system, right, no_status{});
    copy(ctx, z, dx);
    multiply_add(ctx, -0.5, a, right, z);
  }
  scale(ctx, -1, dx);
  axpy(ctx, 2, z, dx);
  auto sum = clone(ctx, y);
  axpy(ctx, 1, point, sum);
  // c += t Wbar b / 2, where Wbar is never formed.
  auto const apply = [&](double t, auto const& b, auto& c) {
    auto const first = product(ctx, sum.adjoint(), b);
    auto const second = product(ctx, z.adjoint(), b);
    multiply_add(ctx, 0.5 * t, z, first, c);
    multiply_add(ctx, -0.5 * t, sum, second, c);
  };
  auto slope = clone(ctx, z);
  fill(ctx, 0, slope);
  apply(1, point, slope);
  apply(-1, d, dx);
  auto const across = product(ctx, point.adjoint(), slope);
  multiply_add(ctx, -0.5, slope, xv.adjoint(), dx);
  copy(ctx, v, d);
  multiply_add(ctx, -0.5, d, across.adjoint(), dx);
  copy(ctx, slope, dv);
  multiply_add(ctx, -0.5, point, across, dv);
  detail::raise_unless_finite(ctx, dv, status);
  detail::raise_unless_finite(ctx, dx, status);
}

/// \brief Reverse rule of the Cayley retraction for every point of a stack.
/// \ingroup orth
///
/// Each point has the rule, and gets the status, as by the function of one point.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     s       how many points
/// \param[in]     x       n x (p count), points
/// \param[in]     v       n x (p count), tangent at x
/// \param[in]     y       n x (p count), where the retraction went
/// \param[in]     dy      n x (p count), cotangents of y
/// \param[out]    dv      n x (p count), cotangents of v; may be dy, else overlaps no argument
/// \param[out]    dx      n x (p count), cotangents of x; must not overlap another argument
/// \param[in,out] status  1 x count int, one an item, or no_status{}
/// \throws shape_error  if the points are wide, or an argument has another shape
/// \throws alias_error  if dv or dx overlaps another argument, but for dv being dy
/// \par Cost
/// That of one point, count times, one after the other.
template <class Ctx, Matrix X, Matrix V, Matrix Y, Matrix DY, class DV, class DX,
          class Status = no_status>
  requires OutputMatrix<DV> && OutputMatrix<DX> && SameScalar<X, V, Y, DY, DV, DX>
void cayley_vjp(Ctx& ctx, stack s, X const& x, V const& v, Y const& y, DY const& dy, DV&& dv,
                DX&& dx, Status&& status = {}) {
  index_t const p = detail::expect_tall_stack("cayley_vjp", "x", s, x);
  detail::expect_cayley_vjp(ctx, x, v, y, dy, dv, dx);
  detail::expect_statuses("cayley_vjp", s, status);
  for (index_t k = 0; k < s.count; ++k) {
    auto const of = [&](auto&& m) { return m.middleCols(k * p, p); };
    if constexpr (std::is_same_v<std::remove_cvref_t<Status>, no_status>)
      cayley_vjp(ctx, of(x), of(v), of(y), of(dy), of(dv), of(dx));
    else
      cayley_vjp(ctx, of(x), of(v), of(y), of(dy), of(dv), of(dx), status.middleCols(k, 1));
  }
}

}  // namespace stiefelx
