// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_rotation.hpp>
#include <stiefelx/orth/lyapunov.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Transports a tangent vector by projection onto the new tangent space.
/// \ingroup stiefel
///
/// \f$ \mathcal{T}(v) = P_y(v) \f$. It is linear and associated with every retraction here; it
/// does not keep lengths.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, the point that v is tangent at
/// \param[in]  y    n x p, the point that w is tangent at
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap y
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps y, or v without being v
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// That of project().
/// \see \cite absil2008, section 8.1.3
template <class Ctx, Matrix X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, Y, V, W>
void transport(Ctx& ctx, stiefel m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_stiefel("transport", "x", m, x);
  expect_shape("transport", "y", y, m.n, m.p);
  expect_shape("transport", "v", v, m.n, m.p);
  expect_shape("transport", "w", w, m.n, m.p);
  expect_distinct(ctx, "transport", "w", w, "y", y);
  expect_same_or_distinct(ctx, "transport", "w", w, "v", v);
  project(ctx, m, y, v, w);
}

/// Selects the projection onto the new tangent space, transport().
/// \ingroup stiefel
struct projection_transport {};

/// Selects the rotation of the Cayley transform, which keeps lengths.
/// \ingroup stiefel
struct cayley_transport {};

/// \brief Selects the derivative of a retraction: \f$ \mathcal{T}(v) = \mathrm{D}R_x(d)[v] \f$.
/// \ingroup stiefel
///
/// `differentiated{qr_retraction{}}`, likewise polar_retraction and cayley_retraction.
template <class How>
struct differentiated {
  How how = {};  ///< the retraction
};

/// Deduces the retraction.
/// \ingroup stiefel
template <class How>
differentiated(How) -> differentiated<How>;

/// \brief Team text: the skew-Hermitian matrix with the strict lower part of another, and with the
/// imaginary part of its diagonal.
/// \ingroup stiefel
struct skew_of_lower_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes
  /// \param[in]  a     p x p
  /// \param[out] b     p x p
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S const> a,
                              matrix_ref<S> b) const {
    for (index_t j = team.rank(); j < a.cols; j += team.size())
      for (index_t i = 0; i < a.rows; ++i) {
        if (i > j)
          b(i, j) = a(i, j);
        else if (i < j)
          b(i, j) = -conjugate(a(j, i));
        else
          b(i, j) = a(i, j) - S(real_part(a(i, j)));
      }
  }
};

namespace detail {

template <class Ctx, class X, class D, class Y, class V, class W>
void expect_transport(Ctx& ctx, stiefel m, X const& x, D const& d, Y const& y, V const& v,
                      W const& w) {
  expect_stiefel("transport_along", "x", m, x);
  expect_shape("transport_along", "d", d, m.n, m.p);
  expect_shape("transport_along", "y", y, m.n, m.p);
  expect_shape("transport_along", "v", v, m.n, m.p);
  expect_shape("transport_along", "w", w, m.n, m.p);
  expect_distinct(ctx, "transport_along", "w", w, "x", x);
  expect_distinct(ctx, "transport_along", "w", w, "d", d);
  expect_distinct(ctx, "transport_along", "w", w, "y", y);
  expect_same_or_distinct(ctx, "transport_along", "w", w, "v", v);
}

// y^H (x + d), the triangle or the positive factor that the retraction took off.
template <class Ctx, class X, class D, class Y>
auto retraction_factor(Ctx& ctx, X const& x, D const& d, Y const& y) {
  auto sum = clone(ctx, x);
  axpy(ctx, 1, d, sum);
  return product(ctx, y.adjoint(), sum);
}

// [x, -d]^H v for a = [d, x].
template <class Ctx, class A, class V>
auto rotation_coefficients(Ctx& ctx, stiefel m, A const& a, V const& v) {
  auto c = scratch<scalar_t<V>>(ctx, 2 * m.p, m.p);
  multiply(ctx, a.middleCols(m.p, m.p).adjoint(), v, c.middleRows(0, m.p));
  multiply(ctx, a.middleCols(0, m.p).adjoint(), v, c.middleRows(m.p, m.p));
  scale(ctx, -1, c.middleRows(m.p, m.p));
  return c;
}

// v += s a (I - k / 2)^-1 c: what the inverse of I - W/2 adds, W = a b^H and k = b^H a.
template <class Ctx, class A, class K, class C, class V>
void add_cayley(Ctx& ctx, double s, A const& a, K const& k, C& c, V&& v) {
  auto system = clone(ctx, k);
  set_identity(ctx, system);
  axpy(ctx, -0.5, k, system);
  solve(ctx, system, c, no_status{});
  multiply_add(ctx, s, a, c, v);
}

}  // namespace detail

/// \brief Transports a tangent vector along a step by projection: transport().
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, tangent at x: the step
/// \param[in]  y    n x p, the point that the step leads to, by any retraction
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap x, d or y
/// \param[in]  how  no options
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps x, d or y, or v without being v
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// That of project().
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, stiefel m, X const& x, D const& d, Y const& y, V const& v, W&& w,
                     [[maybe_unused]] projection_transport how) {
  detail::expect_transport(ctx, m, x, d, y, v, w);
  project(ctx, m, y, v, w);
}

/// \brief Transports a tangent vector by the derivative of the QR retraction.
/// \ingroup stiefel
///
/// With \f$ x + d = y\,r \f$ and \f$ z = v\,r^{-1} \f$, \f$ \mathcal{T}(v) = z - y\,(y^H z -
/// \rho(y^H z)) \f$, where \f$ \rho \f$ keeps the strict lower part, subtracts its adjoint, and
/// keeps the imaginary part of the diagonal. Linear, and the velocity of \f$ R_x(d + tv) \f$.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, tangent at x: the step
/// \param[in]  y    n x p, \f$ R_x(d) \f$ by qr_retraction
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap x, d or y
/// \param[in]  how  no options
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps x, d or y, or v without being v
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// 7 n p^2 flops, one n x p and three p x p scratch matrices.
/// \see \cite absil2008, example 8.1.5
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, stiefel m, X const& x, D const& d, Y const& y, V const& v, W&& w,
                     [[maybe_unused]] differentiated<qr_retraction> how) {
  detail::expect_transport(ctx, m, x, d, y, v, w);
  auto const& point = dense(ctx, y);
  auto const r = detail::retraction_factor(ctx, x, d, point);
  copy(ctx, v, w);
  solve_right(ctx, r, w);
  auto a = product(ctx, point.adjoint(), w);
  auto skew = clone(ctx, a);
  run_batch(ctx, 1, skew_of_lower_body{}, std::as_const(a), skew);
  axpy(ctx, -1, skew, a);
  multiply_add(ctx, -1, point, a, w);
}

/// \brief Transports a tangent vector by the derivative of the polar retraction.
/// \ingroup stiefel
///
/// With \f$ x + d = y\,s \f$, s Hermitian and positive,
/// \f$ \mathcal{T}(v) = y\,l + (I - y y^H)\,v\,s^{-1} \f$, where
/// \f$ s\,l + l\,s = y^H v - v^H y \f$. Linear, and the velocity of \f$ R_x(d + tv) \f$.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, tangent at x: the step
/// \param[in]  y    n x p, \f$ R_x(d) \f$ by polar_retraction
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap x, d or y
/// \param[in]  how  the retraction's iterations do not matter here
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps x, d or y, or v without being v
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// \f$ 8np^2 + 220p^3 \f$ flops, two n x p and some p x p scratch matrices.
/// \see \cite absil2008, section 8.1.3, \cite higham2008
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, stiefel m, X const& x, D const& d, Y const& y, V const& v, W&& w,
                     [[maybe_unused]] differentiated<polar_retraction> how) {
  detail::expect_transport(ctx, m, x, d, y, v, w);
  auto const& point = dense(ctx, y);
  auto s = detail::retraction_factor(ctx, x, d, point);
  symmetrize(ctx, s);
  auto const z = clone(ctx, v);
  auto const a = product(ctx, point.adjoint(), z);
  auto twice = clone(ctx, a);
  axpy(ctx, -1, a.adjoint(), twice);
  auto inside = clone(ctx, a);
  // Eigenvalues of s are at least one, so a fixed number of iterations serves and nothing waits.
  lyapunov(ctx, s, twice, inside, no_status{}, {.iterations = 12});
  auto inverse = clone(ctx, s);
  set_identity(ctx, inverse);
  solve(ctx, s, inverse, no_status{});
  // w = z s^-1 + y (l - y^H z s^-1).
  multiply_add(ctx, -1, a, inverse, inside);
  multiply(ctx, z, inverse, w);
  multiply_add(ctx, 1, point, inside, w);
}

/// \brief Transports a tangent vector by the derivative of the Cayley retraction.
/// \ingroup stiefel
///
/// With W(v) the skew matrix of rotation_factors(), \f$ \mathcal{T}(v) = (I - \tfrac12 W(d))^{-1}\,
/// W(v)\,(x + y)/2 \f$, by the retraction's own 2p x 2p system. Linear, and the velocity of
/// \f$ R_x(d + tv) \f$.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, tangent at x: the step
/// \param[in]  y    n x p, \f$ R_x(d) \f$ by cayley_retraction
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap x, d or y
/// \param[in]  how  no options
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps x, d or y, or v without being v
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// \f$ 28np^2 + O(p^3) \f$ flops; one n x 2p, two n x p and some 2p x 2p scratch matrices.
/// \see \cite zhu2017
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, stiefel m, X const& x, D const& d, Y const& y, V const& v, W&& w,
                     [[maybe_unused]] differentiated<cayley_retraction> how) {
  using S = scalar_t<X>;
  detail::expect_transport(ctx, m, x, d, y, v, w);
  index_t const p = m.p;
  auto a = scratch<S>(ctx, m.n, 2 * p);
  auto k = scratch<S>(ctx, 2 * p, 2 * p);
  rotation_factors(ctx, m, x, d, a, k);
  auto const point = a.middleCols(p, p);
  auto middle = clone(ctx, point);
  axpy(ctx, 1, y, middle);
  scale(ctx, 0.5, middle);
  auto half = clone(ctx, v);
  {
    auto const along = product(ctx, point.adjoint(), half);
    multiply_add(ctx, -0.5, point, along, half);
  }
  auto const ahead = product(ctx, point.adjoint(), middle);
  auto const back = product(ctx, half.adjoint(), middle);
  multiply(ctx, half, ahead, w);
  multiply_add(ctx, -1, point, back, w);
  auto c = detail::rotation_coefficients(ctx, m, a, w);
  detail::add_cayley(ctx, 0.5, a, k, c, w);
}

/// \brief Transports a tangent vector by the rotation that the Cayley retraction applies to x.
/// \ingroup stiefel
///
/// \f$ \mathcal{T}(v) = (I - \tfrac12 W(d))^{-1} (I + \tfrac12 W(d))\,v \f$, with W of
/// rotation_factors(): an isometry of the Euclidean, the canonical and every other metric here, and
/// the inverse of the transport back, along \f$ -\mathcal{T}(d) \f$. By the retraction's own
/// 2p x 2p system. It is not the derivative of the retraction.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, tangent at x: the step
/// \param[in]  y    n x p, \f$ R_x(d) \f$ by cayley_retraction
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap x, d or y
/// \param[in]  how  no options
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps x, d or y, or v without being v
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// \f$ 16np^2 + O(p^3) \f$ flops; one n x 2p and some 2p x 2p scratch matrices.
/// \see \cite zhu2017
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, stiefel m, X const& x, D const& d, Y const& y, V const& v, W&& w,
                     [[maybe_unused]] cayley_transport how) {
  using S = scalar_t<X>;
  detail::expect_transport(ctx, m, x, d, y, v, w);
  auto a = scratch<S>(ctx, m.n, 2 * m.p);
  auto k = scratch<S>(ctx, 2 * m.p, 2 * m.p);
  rotation_factors(ctx, m, x, d, a, k);
  copy(ctx, v, w);
  auto c = detail::rotation_coefficients(ctx, m, a, w);
  detail::add_cayley(ctx, 1, a, k, c, w);
}

}  // namespace stiefelx
