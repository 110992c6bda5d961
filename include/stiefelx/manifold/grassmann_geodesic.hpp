// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/manifold/grassmann.hpp>
#include <stiefelx/manifold/great_circle.hpp>
#include <stiefelx/orth/svd.hpp>

namespace stiefelx {

/// \brief Element text: the angle of a principal direction, and its ratio to the sine.
/// \ingroup manifolds
struct principal_direction_element {
  double orthogonal;  ///< cosines up to this count as zero

  /// \param[out] factor  angle / sine
  /// \param[out] status  `not_converged` at a right angle, `not_finite`
  /// \param[in]  cosine  cosine of the angle
  /// \param[in]  sine    its sine, at least 0
  template <class Real>
  STIEFELX_HD void operator()(double& factor, int& status, Real const& cosine,
                              double const& sine) const {
    auto const c = static_cast<double>(cosine);
    double const angle = std::atan2(sine, c);
    factor = sine == 0 ? 1 : angle / sine;
    status = angle != angle ? not_finite : c <= orthogonal ? not_converged : 0;
  }
};

/// \brief Team text: angles in ascending order from cosines and sines, each in descending order.
/// \ingroup manifolds
struct principal_angles_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes
  /// \param[in]  cosines  1 x p
  /// \param[in]  sines    1 x p
  /// \param[out] angles   1 x p
  template <Team T, class Real, class Angle>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<Real> cosines,
                              matrix_ref<Real> sines, matrix_ref<Angle> angles) const {
    for (index_t j = team.rank(); j < angles.cols; j += team.size())
      angles(0, j) = static_cast<Angle>(std::atan2(
          static_cast<double>(sines(0, angles.cols - 1 - j)), static_cast<double>(cosines(0, j))));
  }
};

namespace detail {

// rest = y - x x^H y, twice: the part of y outside of the span of x. c = x^H y.
template <class Ctx, class X, class Y, class C, class Rest>
void split_by_span(Ctx& ctx, X const& x, Y const& y, C&& c, Rest&& rest) {
  multiply(ctx, x.adjoint(), y, c);
  copy(ctx, y, rest);
  multiply_add(ctx, -1, x, c, rest);
  remove_span(ctx, x, rest);
}

// s = r diag(w) r^H.
template <class Ctx, class R, class W, class S>
void spectral_sum(Ctx& ctx, R const& r, W const& w, S&& s) {
  auto scaled = clone(ctx, r);
  scale_columns(ctx, w, scaled);
  multiply(ctx, scaled, r.adjoint(), s);
}

}  // namespace detail

/// \brief Principal angles between two subspaces, in ascending order.
/// \ingroup manifolds
///
/// Angle j has its cosine among the singular values of \f$ x^H y \f$ and its sine among those of
/// \f$ (I - x x^H) y \f$; both enter, so that small angles are as accurate as large ones: to the
/// unit roundoff, not to its root.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another
/// \param[out]    w       1 x p, real: angles in \f$ [0, \pi/2] \f$
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_finite`
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// 8 n p^2 flops and two svd(), one of n x p; two n x p and some p x p scratch matrices.
template <class Ctx, Matrix X, Matrix Y, class W, class Status = no_status>
  requires OutputMatrix<W> && SameScalar<X, Y>
void principal_angles(Ctx& ctx, grassmann m, X const& x, Y const& y, W&& w, Status&& status = {}) {
  using S = scalar_t<X>;
  expect_point("principal_angles", "x", m, x);
  expect_shape("principal_angles", "y", y, m.n, m.p);
  expect_shape("principal_angles", "w", w, 1, m.p);
  index_t const p = m.p;
  auto const& point = dense(ctx, x);
  auto rest = scratch<S>(ctx, m.n, p), c = scratch<S>(ctx, p, p), right = scratch<S>(ctx, p, p);
  auto cosines = scratch<real_of_t<S>>(ctx, 1, p), sines = scratch<real_of_t<S>>(ctx, 1, p);
  detail::split_by_span(ctx, point, y, c, rest);
  auto bits = clear_status(ctx, 1);
  // Equal subspaces leave a rest of zero, which svd() calls deficient; here it is an answer.
  svd(ctx, rest, rest, sines, right, no_status{});
  svd(ctx, c, c, cosines, right, no_status{});
  run_batch(ctx, 1, principal_angles_body{}, cosines, sines, w);
  auto finite = scratch<double>(ctx, 1, 1);
  all_finite(ctx, cosines, finite);
  transform(ctx, not_finite_element{}, outputs(bits), inputs(finite));
  raise(ctx, status, bits);
}

/// \brief Length of the shortest geodesic: the norm of the principal angles.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another
/// \param[out]    s       1 x 1, real
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_finite`
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// That of principal_angles().
/// \see \cite edelman1998, section 4.3
template <class Ctx, Matrix X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S> && SameScalar<X, Y>
void distance(Ctx& ctx, grassmann m, X const& x, Y const& y, S&& s, Status&& status = {}) {
  detail::expect_number("distance", m, x, "y", y, s);
  auto angles = scratch<double>(ctx, 1, m.p);
  principal_angles(ctx, m, x, y, angles, status);
  norm(ctx, angles, s);
}

/// \brief Follows the geodesic from x with velocity v for unit time.
/// \ingroup manifolds
///
/// With \f$ v = u\,\mathrm{diag}(w)\,r^H \f$, \f$ y = x\,r \cos(w)\,r^H + v\,r
/// \tfrac{\sin w}{w}\,r^H \f$; no singular vector u is needed. A Newton-Schulz step removes what
/// rounding and drift of x leave.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x, of any length
/// \param[out] y    n x p, the representative that x moves to; may be x, must not overlap v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
/// \par Cost
/// 8 n p^2 flops and one svd() of n x p; two n x p and some p x p scratch matrices.
/// \see \cite edelman1998, theorem 2.3
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void exp(Ctx& ctx, grassmann m, X const& x, V const& v, Y&& y) {
  using S = scalar_t<X>;
  detail::expect_step(ctx, "exp", m, x, v, y);
  index_t const p = m.p;
  auto const& velocity = dense(ctx, v);
  auto r = scratch<S>(ctx, p, p), s = scratch<S>(ctx, p, p);
  auto angles = scratch<real_of_t<S>>(ctx, 1, p);
  auto length = scratch<double>(ctx, 1, p), point = scratch<double>(ctx, 1, p),
       along = scratch<double>(ctx, 1, p);
  auto frame = scratch<S>(ctx, m.n, p);
  svd(ctx, velocity, frame, angles, r, no_status{});
  copy(ctx, angles, length);
  transform(ctx, arc_element{}, outputs(point, along), inputs(length));
  detail::spectral_sum(ctx, r, point, s);
  multiply(ctx, x, s, frame);
  detail::spectral_sum(ctx, r, along, s);
  multiply_add(ctx, 1, velocity, s, frame);
  detail::newton_schulz_repair(ctx, frame, y);
}

/// \brief The shortest tangent vector at x whose exp() is the subspace of y.
/// \ingroup manifolds
///
/// The same for every representative of y. With \f$ x^H y = a \cos(w)\,b^H \f$ the columns of \f$
/// (y
/// - x x^H y)\,b \f$ have lengths \f$ \sin w \f$, and \f$ v = (y - x x^H y)\,b\,\tfrac{w}{\sin
///   w}\,a^H \f$. Angles come from both, so near subspaces lose no digits.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     x       n x p, a point
/// \param[in]     y       n x p, another
/// \param[out]    v       n x p, tangent at x; must not overlap x or y
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_converged` at a principal angle of \f$
///                        \pi/2 \f$, where the shortest way is not unique, `not_finite`
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x or y
/// \par Cost
/// 14 n p^2 flops and one svd() of p x p; one n x p and some p x p scratch matrices.
/// \see \cite bendokat2024
template <class Ctx, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> && SameScalar<X, Y, V>
void log(Ctx& ctx, grassmann m, X const& x, Y const& y, V&& v, Status&& status = {}) {
  using S = scalar_t<X>;
  detail::expect_inverse_step(ctx, "log", m, x, y, v);
  index_t const p = m.p;
  auto const& point = dense(ctx, x);
  auto c = scratch<S>(ctx, p, p), b = scratch<S>(ctx, p, p);
  auto rest = scratch<S>(ctx, m.n, p);
  auto cosines = scratch<real_of_t<S>>(ctx, 1, p);
  auto sines = scratch<double>(ctx, 1, p), factor = scratch<double>(ctx, 1, p);
  auto bits = clear_status(ctx, p);
  detail::split_by_span(ctx, point, y, c, rest);
  svd(ctx, c, c, cosines, b, no_status{});
  multiply(ctx, rest, b, v);
  detail::each_column::measure(ctx, v, sines);
  double const eps = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon());
  transform(ctx, principal_direction_element{32 * eps}, outputs(factor, bits),
            inputs(cosines, sines));
  scale_columns(ctx, factor, v);
  multiply(ctx, v, c.adjoint(), rest);
  detail::remove_span(ctx, point, rest);
  copy(ctx, rest, v);
  raise(ctx, status, bits);
}

/// \brief Parallel transport along the geodesic that exp() follows: an isometry.
/// \ingroup manifolds
///
/// With \f$ d = u\,\mathrm{diag}(w)\,r^H \f$ and \f$ b = u^H v \f$, \f$ w \leftarrow v + u (\cos w
/// - 1)\,b - x\,r \sin(w)\,b \f$, written with d r in place of \f$ u\,\mathrm{diag}(w) \f$, which
/// needs no direction for a zero singular value.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, tangent at x, of any length
/// \param[in]  y    n x p, exp(x, d), that representative
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap x or d
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps x or d, or v without being v
/// \par Cost
/// 10 n p^2 flops and one svd() of n x p; two n x p and some p x p scratch matrices.
/// \see \cite edelman1998, theorem 2.4
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, grassmann m, X const& x, D const& d, Y const& y, V const& v, W&& w) {
  using S = scalar_t<X>;
  detail::expect_transport_along(ctx, m, x, d, y, v, w);
  index_t const p = m.p;
  auto const& velocity = dense(ctx, d);
  auto const& point = dense(ctx, x);
  auto r = scratch<S>(ctx, p, p), turned = scratch<S>(ctx, p, p);
  auto angles = scratch<real_of_t<S>>(ctx, 1, p);
  auto length = scratch<double>(ctx, 1, p), one = scratch<double>(ctx, 1, p),
       along = scratch<double>(ctx, 1, p), back = scratch<double>(ctx, 1, p);
  auto frame = scratch<S>(ctx, m.n, p);
  svd(ctx, velocity, frame, angles, r, no_status{});
  copy(ctx, angles, length);
  fill(ctx, 1, one);
  // (cos w - 1) / w^2 and -sin w / w.
  transform(ctx, turn_element{}, outputs(along, back), inputs(length, one));
  multiply(ctx, velocity, r, frame);
  auto const b = product(ctx, frame.adjoint(), v);
  copy(ctx, v, w);
  scale_columns(ctx, along, frame);
  multiply_add(ctx, 1, frame, b, w);
  scale_columns(ctx, back, r);
  multiply(ctx, r, b, turned);
  multiply_add(ctx, 1, point, turned, w);
}

}  // namespace stiefelx
