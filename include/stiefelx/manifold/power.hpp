// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/stack.hpp>
#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/manifold.hpp>

namespace stiefelx {

/// \brief The same manifold many times: a stack of points side by side.
/// \ingroup manifolds
///
/// With points of n x p, a point of the power is n x (p count), and so are its tangent vectors.
/// The metric is the sum over the stack. Any manifold will do, a user's own one too: the functions
/// here go point by point through `middleCols`, and exist where the manifold has them. stiefel has
/// faster ones for a stack of small points (stiefel_stack.hpp), which are preferred.
template <class M>
struct power {
  M manifold;     ///< where each point lives
  index_t count;  ///< number of points
};

/// \brief Throws unless a matrix has the columns of a stack of points.
/// \ingroup manifolds
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the power
/// \param[in] x         the matrix
/// \throws shape_error  if m.count is negative, or x's columns are not a multiple of it
template <class M, Matrix X>
void expect_point(char const* function, char const* argument, power<M> const& m, X const& x) {
  columns_of_each(function, argument, stack{m.count}, x);
}

namespace detail {

// f(xk, yk, ...) for the points of a stack, one after the other.
template <class M, class F, class X, class... Y>
void for_each_point(power<M> const& m, F const& f, X&& x, Y&&... y) {
  index_t const p = m.count == 0 ? 0 : x.cols() / m.count;
  for (index_t k = 0; k < m.count; ++k) f(x.middleCols(k * p, p), y.middleCols(k * p, p)...);
}

}  // namespace detail

/// \brief Dimension of the power of a real manifold.
/// \ingroup manifolds
/// \param[in] m  the power
/// \returns count times that of the manifold
template <class M>
constexpr index_t dimension(power<M> const& m) {
  return m.count * dimension(m.manifold);
}

/// \brief Dimension of the power of a complex manifold, as a real manifold.
/// \ingroup manifolds
/// \param[in] m  the power
/// \returns count times that of the manifold
template <class M>
constexpr index_t complex_dimension(power<M> const& m) {
  return m.count * complex_dimension(m.manifold);
}

/// \brief Longest tangent vector below which exp() is one to one, whatever its direction.
/// \ingroup manifolds
/// \param[in] m  the power
/// \returns that of the manifold
template <class M>
constexpr double injectivity_radius(power<M> const& m) {
  return injectivity_radius(m.manifold);
}

/// \brief Projects each matrix of a stack onto the tangent space at its point.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  z    of x's shape
/// \param[out] v    of x's shape, tangent at x; may be z, must not overlap x
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if v overlaps x, or z without being z
template <class Ctx, class M, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V>
void project(Ctx& ctx, power<M> const& m, X const& x, Z const& z, V&& v) {
  detail::expect_tangent_map(ctx, "project", m, x, "z", z, "v", v);
  detail::for_each_point(
      m, [&](auto&& xk, auto&& zk, auto&& vk) { project(ctx, m.manifold, xk, zk, vk); }, x, z, v);
}

/// \brief Riemannian gradient of each point, by gradient_or_project().
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  g    of x's shape, Euclidean gradient
/// \param[out] v    of x's shape, tangent at x; may be g, must not overlap x
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if v overlaps x, or g without being g
template <class Ctx, class M, Matrix X, Matrix G, class V>
  requires OutputMatrix<V>
void riemannian_gradient(Ctx& ctx, power<M> const& m, X const& x, G const& g, V&& v) {
  detail::expect_tangent_map(ctx, "riemannian_gradient", m, x, "g", g, "v", v);
  detail::for_each_point(
      m, [&](auto&& xk, auto&& gk, auto&& vk) { gradient_or_project(ctx, m.manifold, xk, gk, vk); },
      x, g, v);
}

/// \brief Riemannian Hessian of each point along v, for a cost that is a sum over the points.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  g    of x's shape, Euclidean gradient
/// \param[in]  h    of x's shape, Euclidean Hessian applied to v; the cost may couple the points
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] w    of x's shape, tangent at x; may be h, must not overlap x, g or v
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if w overlaps x, g or v, or h without being h
template <class Ctx, class M, Matrix X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && requires(Ctx& ctx, M const& m, X const& x, W& w) {
    riemannian_hessian(ctx, m, x, x, x, x, w);
  }
void riemannian_hessian(Ctx& ctx, power<M> const& m, X const& x, G const& g, H const& h, V const& v,
                        W&& w) {
  detail::expect_hessian(ctx, m, x, g, h, v, w);
  detail::for_each_point(
      m,
      [&](auto&& xk, auto&& gk, auto&& hk, auto&& vk, auto&& wk) {
        riemannian_hessian(ctx, m.manifold, xk, gk, hk, vk, wk);
      },
      x, g, h, v, w);
}

/// \brief The metric: the sum over the points.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  u    of x's shape, tangent at x
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, class M, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S>
void inner(Ctx& ctx, power<M> const& m, X const& x, U const& u, V const& v, S&& s) {
  detail::expect_pairing("inner", m, x, u, v, s);
  auto part = scratch<scalar_t<S>>(ctx, 1, 1);
  fill(ctx, 0, s);
  detail::for_each_point(
      m,
      [&](auto&& xk, auto&& uk, auto&& vk) {
        inner(ctx, m.manifold, xk, uk, vk, part);
        axpy(ctx, 1, part, s);
      },
      x, u, v);
}

/// \brief Length of a tangent vector: the root of its inner product with itself.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, class M, Matrix X, Matrix V, class S>
  requires OutputMatrix<S>
void norm(Ctx& ctx, power<M> const& m, X const& x, V const& v, S&& s) {
  detail::expect_number("norm", m, x, "v", v, s);
  inner(ctx, m, x, v, v, s);
  transform(ctx, square_root_element{}, outputs(s), inputs(s));
}

/// \brief Retracts each tangent vector of a stack.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] y    of x's shape, the new points; may be x, must not overlap v
/// \param[in]  how  options of the manifold's retraction, or nothing
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if y overlaps v, or x without being x
template <class Ctx, class M, Matrix X, Matrix V, class Y, class... How>
  requires OutputMatrix<Y>
void retract(Ctx& ctx, power<M> const& m, X const& x, V const& v, Y&& y, How const&... how) {
  detail::expect_step(ctx, "retract", m, x, v, y);
  detail::for_each_point(
      m, [&](auto&& xk, auto&& vk, auto&& yk) { retract(ctx, m.manifold, xk, vk, yk, how...); }, x,
      v, y);
}

/// \brief Follows the geodesic of each point for unit time.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] y    of x's shape, the new points; may be x, must not overlap v
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if y overlaps v, or x without being x
template <class Ctx, class M, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> &&
           requires(Ctx& ctx, M const& m, X const& x, Y& y) { exp(ctx, m, x, x, y); }
void exp(Ctx& ctx, power<M> const& m, X const& x, V const& v, Y&& y) {
  detail::expect_step(ctx, "exp", m, x, v, y);
  detail::for_each_point(
      m, [&](auto&& xk, auto&& vk, auto&& yk) { exp(ctx, m.manifold, xk, vk, yk); }, x, v, y);
}

/// \brief The shortest tangent vectors whose exp() are the points of y.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if the manifold's function does
/// \param[in]     m       the power
/// \param[in]     x       points side by side
/// \param[in]     y       of x's shape, other points
/// \param[out]    v       of x's shape, tangent at x; must not overlap x or y
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of all points together
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if v overlaps x or y
template <class Ctx, class M, Matrix X, Matrix Y, class V, class Status = no_status>
  requires OutputMatrix<V> &&
           requires(Ctx& ctx, M const& m, X const& x, V& v) { log(ctx, m, x, x, v); }
void log(Ctx& ctx, power<M> const& m, X const& x, Y const& y, V&& v, Status&& status = {}) {
  detail::expect_inverse_step(ctx, "log", m, x, y, v);
  detail::for_each_point(
      m, [&](auto&& xk, auto&& yk, auto&& vk) { log(ctx, m.manifold, xk, yk, vk, status); }, x, y,
      v);
}

/// \brief Length of the shortest geodesic: the norm of the distances of the points.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if the manifold's function does
/// \param[in]     m       the power
/// \param[in]     x       points side by side
/// \param[in]     y       of x's shape, other points
/// \param[out]    s       1 x 1, real
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of all points together
/// \throws shape_error  if a shape is wrong
template <class Ctx, class M, Matrix X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S> && requires(Ctx& ctx, M const& m, X const& x, S& s, Status& status) {
    distance(ctx, m, x, x, s, status);
  }
void distance(Ctx& ctx, power<M> const& m, X const& x, Y const& y, S&& s, Status&& status = {}) {
  detail::expect_number("distance", m, x, "y", y, s);
  auto parts = scratch<scalar_t<S>>(ctx, 1, m.count);
  index_t k = 0;
  detail::for_each_point(
      m,
      [&](auto&& xk, auto&& yk) {
        distance(ctx, m.manifold, xk, yk, parts.middleCols(k++, 1), status);
      },
      x, y);
  norm(ctx, parts, s);
}

/// \brief The points nearest to the matrices of a stack.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if the manifold's function does
/// \param[in]     m       the power
/// \param[in]     z       matrices side by side
/// \param[out]    x       of z's shape, points; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of all points together
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if x overlaps z without being z
template <class Ctx, class M, Matrix Z, class X, class Status = no_status>
  requires OutputMatrix<X> &&
           requires(Ctx& ctx, M const& m, Z const& z, X& x) { nearest_point(ctx, m, z, x); }
void nearest_point(Ctx& ctx, power<M> const& m, Z const& z, X&& x, Status&& status = {}) {
  detail::expect_nearest(ctx, m, z, x);
  detail::for_each_point(
      m, [&](auto&& zk, auto&& xk) { nearest_point(ctx, m.manifold, zk, xk, status); }, z, x);
}

/// \brief Transports each tangent vector of a stack, by transport_or_project().
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  y    of x's shape, other points
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] w    of x's shape, tangent at y; may be v, must not overlap y
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if w overlaps y, or v without being v
template <class Ctx, class M, Matrix X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W>
void transport(Ctx& ctx, power<M> const& m, X const& x, Y const& y, V const& v, W&& w) {
  detail::expect_transport(ctx, m, x, y, v, w);
  detail::for_each_point(
      m,
      [&](auto&& xk, auto&& yk, auto&& vk, auto&& wk) {
        transport_or_project(ctx, m.manifold, xk, yk, vk, wk);
      },
      x, y, v, w);
}

/// \brief Transports each tangent vector of a stack along its step.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless the manifold's function does
/// \param[in]  m    the power
/// \param[in]  x    points side by side
/// \param[in]  d    of x's shape, the steps
/// \param[in]  y    of x's shape, where they lead
/// \param[in]  v    of x's shape, tangent at x
/// \param[out] w    of x's shape, tangent at y; may be v, must not overlap x or d
/// \param[in]  how  options of the manifold's function, or nothing
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if w overlaps x or d, or v without being v
template <class Ctx, class M, Matrix X, Matrix D, Matrix Y, Matrix V, class W, class... How>
  requires OutputMatrix<W> && requires(Ctx& ctx, M const& m, X const& x, W& w, How const&... how) {
    transport_along(ctx, m, x, x, x, x, w, how...);
  }
void transport_along(Ctx& ctx, power<M> const& m, X const& x, D const& d, Y const& y, V const& v,
                     W&& w, How const&... how) {
  detail::expect_transport_along(ctx, m, x, d, y, v, w);
  detail::for_each_point(
      m,
      [&](auto&& xk, auto&& dk, auto&& yk, auto&& vk, auto&& wk) {
        transport_along(ctx, m.manifold, xk, dk, yk, vk, wk, how...);
      },
      x, d, y, v, w);
}

/// \brief Draws independent points.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits unless the manifold's function does
/// \param[in]     m       the power
/// \param[in,out] stream  advanced by one draw a point
/// \param[out]    x       points side by side
/// \throws shape_error  if a shape is wrong
template <class Ctx, class M, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, power<M> const& m, random_stream& stream, X&& x) {
  expect_point("random_point", "x", m, x);
  detail::for_each_point(m, [&](auto&& xk) { random_point(ctx, m.manifold, stream, xk); }, x);
}

/// \brief Draws a tangent vector of length one over the whole stack.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits unless the manifold's function does
/// \param[in]     m       the power
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       points side by side
/// \param[out]    v       of x's shape, tangent at x; must not overlap x
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if v overlaps x
template <class Ctx, class M, Matrix X, class V>
  requires OutputMatrix<V>
void random_tangent(Ctx& ctx, power<M> const& m, random_stream& stream, X const& x, V&& v) {
  detail::expect_random_tangent(ctx, m, x, v);
  detail::draw_tangent(ctx, m, stream, x, v);
}

}  // namespace stiefelx
