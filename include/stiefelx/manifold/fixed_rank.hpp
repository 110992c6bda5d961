// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <string>

#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/grassmann.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/orth/householder_qr.hpp>

namespace stiefelx {

/// \brief Matrices of a fixed rank, as products \f$ W = b\,q^H \f$: the updates of LoRA.
/// \ingroup manifolds
///
/// W is `rows` x `cols` of rank r and is never formed. A point is one matrix x of (rows + cols) x
/// r: b above, of full rank, and below it q with \f$ q^H q = I \f$ (\ref decision_fixed_rank).
/// left_factor() and right_factor() are its views. A tangent vector has the same shape, v = [\f$
/// \dot b;\ \dot q \f$] with \f$ q^H \dot q = 0 \f$, and stands for \f$ \xi = \dot b\,q^H + b\,\dot
/// q^H \f$. x and [b w; q w] with a unitary w are the same W.
///
/// **Gradients are those of the two factors**, g = [\f$ G q;\ G^H b \f$] for the gradient G of the
/// cost by W: what a backward pass through the product gives. The metric is that of the space
/// around W, written in the factors: \f$ \mathrm{Re\,tr}(\dot b_1^H \dot b_2) +
/// \mathrm{Re\,tr}(\dot q_1^H \dot q_2\,b^H b) \f$. So riemannian_gradient() is \f$ P_W(G) \f$, and
/// steps do not depend on how W is factored.
///
/// With a `damping` \f$ \lambda > 0 \f$, \f$ b^H b + \lambda I \f$ takes the place of \f$ b^H b \f$
/// in the metric. Then b may be deficient, even zero, as it is when LoRA begins. retract() is in
/// fixed_rank_retraction.hpp.
/// \see \cite vandereycken2013, \cite absil2008
struct fixed_rank {
  index_t rows;        ///< of W
  index_t cols;        ///< of W
  index_t rank;        ///< r, at most rows and cols
  double damping = 0;  ///< \f$ \lambda \ge 0 \f$
};

/// \brief Throws unless a matrix has the shape of a point.
/// \ingroup manifolds
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the manifold
/// \param[in] x         the matrix
/// \throws shape_error   unless 0 <= rank <= rows, cols and x is (rows + cols) x rank
/// \throws option_error  if the damping is negative
template <Matrix X>
void expect_point(char const* function, char const* argument, fixed_rank m, X const& x) {
  if (m.rank < 0 || m.rank > m.rows || m.rank > m.cols)
    throw shape_error(std::string(function) + ": the manifold is fixed_rank{" +
                      std::to_string(m.rows) + ", " + std::to_string(m.cols) + ", " +
                      std::to_string(m.rank) + "}, expected a rank up to rows and cols");
  expect_option(m.damping >= 0, function, "fixed_rank::damping", m.damping,
                "a number of at least 0");
  expect_shape(function, argument, x, m.rows + m.cols, m.rank);
}

/// \brief View of the upper part of a point, a tangent vector or a gradient.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \param[in] x  (rows + cols) x r
/// \returns its first rows: b
template <class X>
auto left_factor(fixed_rank m, X&& x) {
  return x.middleRows(0, m.rows);
}

/// \brief View of the lower part of a point, a tangent vector or a gradient.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \param[in] x  (rows + cols) x r
/// \returns its last rows: q
template <class X>
auto right_factor(fixed_rank m, X&& x) {
  return x.middleRows(m.rows, m.cols);
}

/// \brief Dimension for real points.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns (rows + cols - r) r
constexpr index_t dimension(fixed_rank m) { return (m.rows + m.cols - m.rank) * m.rank; }

/// \brief Dimension for complex points, as a real manifold.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns 2 (rows + cols - r) r
constexpr index_t complex_dimension(fixed_rank m) { return 2 * dimension(m); }

namespace detail {

// Scratch b^H b + damping I.
template <class Ctx, class X>
auto factor_metric(Ctx& ctx, fixed_rank m, X const& x) {
  auto k = gram(ctx, left_factor(m, x));
  if (m.damping > 0) {
    auto eye = clone(ctx, k);
    set_identity(ctx, eye);
    axpy(ctx, m.damping, eye, k);
  }
  return k;
}

// z = z (b^H b + damping I)^-1. The small system is solved in the wide scalar.
template <class Ctx, class X, class Z>
void divide_by_metric(Ctx& ctx, fixed_rank m, X const& x, Z&& z) {
  auto k = factor_metric(ctx, m, x);
  {
    auto system = widen(ctx, k);
    auto inverse = clone(ctx, system);
    set_identity(ctx, inverse);
    solve(ctx, system, inverse, no_status{});
    symmetrize(ctx, inverse);
    copy(ctx, inverse, k);
  }
  auto const before = clone(ctx, z);
  multiply(ctx, before, k, z);
}

}  // namespace detail

/// \brief Projects a pair of matrices onto the tangent space: \f$ \dot q = (I - q q^H) z_q \f$.
/// \ingroup manifolds
///
/// In the coordinates of the factors; orthogonal in the metric. For the projection of a gradient
/// of W see riemannian_gradient(), for that of a tangent vector elsewhere transport().
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    (rows + cols) x r, a point
/// \param[in]  z    of x's shape
/// \param[out] v    of x's shape, tangent at x; may be z, must not overlap x
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if v overlaps x, or z without being z
/// \par Cost
/// 4 cols r^2 flops, one r x r scratch matrix.
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, fixed_rank m, X const& x, Z const& z, V&& v) {
  detail::expect_tangent_map(ctx, "project", m, x, "z", z, "v", v);
  auto const& point = dense(ctx, x);
  copy(ctx, z, v);
  detail::remove_span(ctx, right_factor(m, point), right_factor(m, v));
}

/// \brief Riemannian gradient from the gradients by the factors.
/// \ingroup manifolds
///
/// \f$ \dot b = g_b,\ \dot q = (I - q q^H)\,g_q\,(b^H b + \lambda I)^{-1} \f$. With \f$ g = [G q;\,
/// G^H b] \f$ and no damping it stands for \f$ P_W(G) = P_b G + G P_q - P_b G P_q \f$, the
/// orthogonal projection of G onto the tangent space, for any rows x cols matrix G.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    (rows + cols) x r, a point
/// \param[in]  g    of x's shape: gradients by b and by q
/// \param[out] v    of x's shape, tangent at x; may be g, must not overlap x
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if v overlaps x, or g without being g
/// \par Cost
/// 2 rows r^2 + 6 cols r^2 flops; one cols x r and some r x r scratch matrices.
/// \see \cite vandereycken2013, section 2.1
template <class Ctx, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, fixed_rank m, X const& x, G const& g, V&& v) {
  detail::expect_tangent_map(ctx, "riemannian_gradient", m, x, "g", g, "v", v);
  auto const& point = dense(ctx, x);
  copy(ctx, g, v);
  auto lower = right_factor(m, v);
  detail::remove_span(ctx, right_factor(m, point), lower);
  detail::divide_by_metric(ctx, m, point, lower);
  // What the division by a badly conditioned b^H b has enlarged.
  detail::remove_span(ctx, right_factor(m, point), lower);
}

/// \brief The metric: that of the space around W, or the damped one.
/// \ingroup manifolds
///
/// \f$ s = \mathrm{Re\,tr}(\dot b_u^H \dot b_v) + \mathrm{Re\,tr}(\dot q_u^H \dot q_v (b^H b +
/// \lambda I)) \f$.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    (rows + cols) x r, a point
/// \param[in]  u    of x's shape, tangent at x
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, U, V>
void inner(Ctx& ctx, fixed_rank m, X const& x, U const& u, V const& v, S&& s) {
  detail::expect_pairing("inner", m, x, u, v, s);
  auto part = scratch<scalar_t<S>>(ctx, 1, 1);
  auto const k = detail::factor_metric(ctx, m, dense(ctx, x));
  auto const weighted = product(ctx, right_factor(m, v), k);
  inner(ctx, right_factor(m, u), weighted, part);
  inner(ctx, left_factor(m, u), left_factor(m, v), s);
  axpy(ctx, 1, part, s);
}

/// \brief Length of a tangent vector.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    (rows + cols) x r, a point
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void norm(Ctx& ctx, fixed_rank m, X const& x, V const& v, S&& s) {
  detail::expect_number("norm", m, x, "v", v, s);
  inner(ctx, m, x, v, v, s);
  transform(ctx, square_root_element{}, outputs(s), inputs(s));
}

/// \brief The point of a product \f$ z_b z_q^H \f$ of any two factors, such as those of LoRA.
/// \ingroup manifolds
///
/// With \f$ z_q = q\,r \f$, x = [\f$ z_b r^H;\ q \f$]: the same W.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in]     z       (rows + cols) x r, the factors one above the other, the lower one of full
///                        rank
/// \param[out]    x       of z's shape, a point; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of householder_qr()
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if x overlaps z without being z
template <class Ctx, Matrix Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, fixed_rank m, Z const& z, X&& x, Status&& status = {}) {
  detail::expect_nearest(ctx, m, z, x);
  auto r = scratch<scalar_t<Z>>(ctx, m.rank, m.rank);
  copy(ctx, z, x);
  auto lower = right_factor(m, x);
  householder_qr(ctx, lower, lower, r, status);
  auto const upper = clone(ctx, left_factor(m, x));
  multiply(ctx, upper, r.adjoint(), left_factor(m, x));
}

/// \brief Transports a tangent vector by the orthogonal projection of \f$ \xi \f$ onto the tangent
/// space at y.
/// \ingroup manifolds
///
/// \f$ \dot b = \xi q_y,\ \dot q = (I - q_y q_y^H)\,\xi^H b_y\,(b_y^H b_y)^{-1} \f$ by products of
/// thin matrices. It does not depend on how x and y are factored. With damping, b may be deficient;
/// then the factors' own derivatives are kept and \f$ \dot q \f$ is projected at y.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    (rows + cols) x r, the point that v is tangent at
/// \param[in]  y    of x's shape, the point that w is tangent at
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] w    of x's shape, tangent at y; may be v, must not overlap y
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if w overlaps y, or v without being v
/// \par Cost
/// \f$ 8 (\mathrm{rows} + \mathrm{cols}) r^2 \f$ flops; one scratch matrix of v's shape
/// and some r x r ones.
/// \see \cite vandereycken2013, section 2.3
template <class Ctx, Matrix X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, Y, V, W>
void transport(Ctx& ctx, fixed_rank m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_transport(ctx, m, x, y, v, w);
  if (m.damping > 0) {
    project(ctx, m, y, v, w);
    return;
  }
  auto const& from = dense(ctx, x);
  auto const& to = dense(ctx, y);
  auto moved = scratch<scalar_t<X>>(ctx, m.rows + m.cols, m.rank);
  auto const accumulate = [&](auto const& a, auto const& b, auto const& c, auto const& d,
                              auto const& e, auto&& out) {
    // out = a b^H e + c d^H e.
    auto const first = product(ctx, b.adjoint(), e), second = product(ctx, d.adjoint(), e);
    multiply(ctx, a, first, out);
    multiply_add(ctx, 1, c, second, out);
  };
  auto const b = left_factor(m, from), q = right_factor(m, from);
  auto const& tangent = dense(ctx, v);
  auto const db = left_factor(m, tangent), dq = right_factor(m, tangent);
  accumulate(db, q, b, dq, right_factor(m, to), left_factor(m, moved));
  accumulate(q, db, dq, b, left_factor(m, to), right_factor(m, moved));
  riemannian_gradient(ctx, m, to, moved, w);
}

/// \brief Draws a point: normal b, and q from the Haar measure.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by two draws
/// \param[out]    x       (rows + cols) x r
/// \throws shape_error  if x has another shape
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, fixed_rank m, random_stream& stream, X&& x) {
  expect_point("random_point", "x", m, x);
  fill_normal(ctx, stream, 1, left_factor(m, x));
  random_point(ctx, stiefel{m.cols, m.rank}, stream, right_factor(m, x));
}

/// \brief Draws a tangent vector of length one in the metric.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       (rows + cols) x r, a point
/// \param[out]    v       of x's shape, tangent at x; must not overlap x
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if v overlaps x
template <class Ctx, Matrix X, class V>
  requires OutputMatrix<V> && SameScalar<X, V>
void random_tangent(Ctx& ctx, fixed_rank m, random_stream& stream, X const& x, V&& v) {
  detail::expect_random_tangent(ctx, m, x, v);
  detail::draw_tangent(ctx, m, stream, x, v);
}

}  // namespace stiefelx
