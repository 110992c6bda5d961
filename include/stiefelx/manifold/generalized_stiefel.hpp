// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <type_traits>

#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/orth/lyapunov.hpp>

namespace stiefelx {

/// \brief Applies a matrix that the caller keeps: the callable form of B for generalized_stiefel.
/// \ingroup manifolds
/// \tparam B  a matrix type
template <class B>
class by_matrix {
 public:
  /// \param[in] b  n x n, Hermitian, positive definite; must outlive this object
  explicit by_matrix(B const& b) : b_(&b) {}

  /// bx = b x.
  /// \param[in]  ctx  where to run
  /// \param[in]  x    n x p
  /// \param[out] bx   n x p
  template <class Ctx, class X, class Bx>
  void operator()(Ctx& ctx, X const& x, Bx& bx) const {
    multiply(ctx, *b_, x, bx);
  }

 private:
  B const* b_;
};

/// Says that no solver with B is given.
/// \ingroup manifolds
struct no_solve {};

/// \brief Generalized Stiefel manifold: n x p matrices with \f$ x^H B x = I \f$.
/// \ingroup manifolds
///
/// B is n x n, Hermitian and positive definite, real or complex, and is given by what it does:
/// `apply(ctx, x, bx)` sets bx = B x for n x p matrices. A matrix b becomes such a callable by
/// `by_matrix(b)`. Nothing here is n x n. The tangent space at x is \f$ \{ v : x^H B v + v^H B x =
/// 0 \} \f$.
///
/// **The metric depends on what is given.**
/// - `generalized_stiefel{n, p, apply}` has the metric of the space around, \f$ \mathrm{Re\,tr}(u^H
///   v) \f$. Gradients need no solver; a projection takes a p x p Lyapunov equation.
/// - `generalized_stiefel{n, p, apply, solve}` has the metric of B, \f$ \mathrm{Re\,tr}(u^H B v)
///   \f$, with `solve(ctx, g, y)` setting \f$ y = B^{-1} g \f$. It is the pull-back of stiefel by
///   the root of B: steps do not depend on the condition of B, and projections are cheap.
///
/// Retractions and nearest_point() are the same for both: generalized_stiefel_retraction.hpp.
/// \tparam Apply  callable(ctx, x, bx)
/// \tparam Solve  callable(ctx, g, y), or no_solve
/// \see \cite absil2008, \cite edelman1998
template <class Apply, class Solve = no_solve>
struct generalized_stiefel {
  static constexpr bool has_solve = !std::is_same_v<Solve, no_solve>;  ///< the metric is that of B

  index_t n;        ///< rows
  index_t p;        ///< columns, at most n
  Apply apply_b;    ///< bx = B x
  Solve solve_b{};  ///< y = B^-1 g, or nothing
};

/// Without a solver.
/// \ingroup manifolds
template <class Apply>
generalized_stiefel(index_t, index_t, Apply) -> generalized_stiefel<Apply, no_solve>;

/// With a solver.
/// \ingroup manifolds
template <class Apply, class Solve>
generalized_stiefel(index_t, index_t, Apply, Solve) -> generalized_stiefel<Apply, Solve>;

/// \brief Throws unless a matrix has the shape of a point.
/// \ingroup manifolds
/// \param[in] function  name of the public function, for the text
/// \param[in] argument  name of its argument, for the text
/// \param[in] m         the manifold
/// \param[in] x         the matrix
/// \throws shape_error  unless 0 <= m.p <= m.n and x is n x p
template <class Apply, class Solve, Matrix X>
void expect_point(char const* function, char const* argument,
                  generalized_stiefel<Apply, Solve> const& m, X const& x) {
  if (m.p > m.n || m.p < 0)
    throw shape_error(std::string(function) + ": the manifold is generalized_stiefel{" +
                      std::to_string(m.n) + ", " + std::to_string(m.p) + "}, expected 0 <= p <= n");
  expect_shape(function, argument, x, m.n, m.p);
}

namespace detail {

// Scratch B x.
template <class Ctx, class M, class X>
auto times_b(Ctx& ctx, M const& m, X const& x) {
  auto bx = scratch<scalar_t<X>>(ctx, x.rows(), x.cols());
  m.apply_b(ctx, x, bx);
  return bx;
}

// Scratch y^H B y, Hermitian to the bit.
template <class Ctx, class M, class Y>
auto gram_b(Ctx& ctx, M const& m, Y const& y) {
  auto const by = times_b(ctx, m, y);
  auto g = product(ctx, y.adjoint(), by);
  symmetrize(ctx, g);
  return g;
}

// s = the Hermitian matrix for which z - n s is tangent at x: n = x or B x by the metric.
template <class M, class Ctx, class Bx, class Z>
auto normal_part(Ctx& ctx, Bx const& bx, Z const& z) {
  auto s = product(ctx, bx.adjoint(), z);
  symmetrize(ctx, s);
  if constexpr (!M::has_solve) {
    scale(ctx, 2, s);
    auto const c = clone(ctx, s);
    auto const g = gram(ctx, bx);
    // A number of iterations that serves every B of condition up to 1e6 keeps this from waiting.
    lyapunov(ctx, g, c, s, no_status{}, {.iterations = 14});
    symmetrize(ctx, s);
  }
  return s;
}

// v = v - n s.
template <class Ctx, class M, class X, class V>
void remove_normal(Ctx& ctx, M const& m, X const& x, V&& v) {
  auto const bx = times_b(ctx, m, x);
  auto const s = normal_part<M>(ctx, bx, v);
  if constexpr (M::has_solve)
    multiply_add(ctx, -1, x, s, v);
  else
    multiply_add(ctx, -1, bx, s, v);
}

}  // namespace detail

/// \brief Dimension for real points.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns n p - p (p + 1) / 2
template <class Apply, class Solve>
constexpr index_t dimension(generalized_stiefel<Apply, Solve> const& m) {
  return m.n * m.p - m.p * (m.p + 1) / 2;
}

/// \brief Dimension for complex points, as a real manifold.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns 2 n p - p^2
template <class Apply, class Solve>
constexpr index_t complex_dimension(generalized_stiefel<Apply, Solve> const& m) {
  return 2 * m.n * m.p - m.p * m.p;
}

/// \brief Projects onto the tangent space, orthogonally in the metric of m.
/// \ingroup manifolds
///
/// With a solver \f$ v = z - x\,\mathrm{sym}(x^H B z) \f$; without one \f$ v = z - B x\,s \f$,
/// where \f$ g s + s g = x^H B z + z^H B x \f$ and \f$ g = x^H B^2 x \f$. Neither calls the solver.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  z    n x p, any matrix or expression
/// \param[out] v    n x p, tangent at x; may be z, must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x, or z without being z
/// \par Cost
/// One product with B, 4 n p^2 flops, and 2 n p^2 and lyapunov() of p x p without a
/// solver; one n x p scratch matrix.
template <class Ctx, class Apply, class Solve, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, X const& x, Z const& z, V&& v) {
  detail::expect_tangent_map(ctx, "project", m, x, "z", z, "v", v);
  auto const& point = dense(ctx, x);
  copy(ctx, z, v);
  detail::remove_normal(ctx, m, point, v);
}

/// \brief Riemannian gradient for the metric of m.
/// \ingroup manifolds
///
/// With a solver \f$ v = B^{-1} g - x\,\mathrm{sym}(x^H g) \f$; without one the projection of g.
/// \param[in]  ctx  where to run; waits if the solver does
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[out] v    n x p, tangent at x; may be g, must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x, or g without being g
/// \par Cost
/// One solution with B and 4 n p^2 flops; or that of project().
template <class Ctx, class Apply, class Solve, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, X const& x,
                         G const& g, V&& v) {
  detail::expect_tangent_map(ctx, "riemannian_gradient", m, x, "g", g, "v", v);
  auto const& point = dense(ctx, x);
  if constexpr (generalized_stiefel<Apply, Solve>::has_solve) {
    auto const& gradient = dense(ctx, g);
    auto s = product(ctx, point.adjoint(), gradient);
    symmetrize(ctx, s);
    auto solved = scratch<scalar_t<X>>(ctx, m.n, m.p);
    m.solve_b(ctx, gradient, solved);
    copy(ctx, solved, v);
    multiply_add(ctx, -1, point, s, v);
  } else {
    copy(ctx, g, v);
    detail::remove_normal(ctx, m, point, v);
  }
}

/// \brief Riemannian Hessian along v for the metric of m.
/// \ingroup manifolds
///
/// With a solver \f$ w = P_x(B^{-1} h - v\,\mathrm{sym}(x^H g)) \f$; without one \f$ w = P_x(h - B
/// v\,s) \f$ with the s of the projection of g.
/// \param[in]  ctx  where to run; waits if the solver does
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  g    n x p, Euclidean gradient at x
/// \param[in]  h    n x p, Euclidean Hessian at x applied to v
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at x; may be h, must not overlap x, g or v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps x, g or v, or h without being h
template <class Ctx, class Apply, class Solve, Matrix X, Matrix G, Matrix H, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, G, H, V, W>
void riemannian_hessian(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, X const& x,
                        G const& g, H const& h, V const& v, W&& w) {
  using M = generalized_stiefel<Apply, Solve>;
  detail::expect_hessian(ctx, m, x, g, h, v, w);
  auto const& point = dense(ctx, x);
  auto const& direction = dense(ctx, v);
  auto moved = scratch<scalar_t<X>>(ctx, m.n, m.p);
  if constexpr (M::has_solve) {
    m.solve_b(ctx, dense(ctx, h), moved);
    copy(ctx, moved, w);
    auto s = product(ctx, point.adjoint(), g);
    symmetrize(ctx, s);
    multiply_add(ctx, -1, direction, s, w);
  } else {
    copy(ctx, h, w);
    auto const bx = detail::times_b(ctx, m, point);
    auto const s = detail::normal_part<M>(ctx, bx, g);
    m.apply_b(ctx, direction, moved);
    multiply_add(ctx, -1, moved, s, w);
  }
  detail::remove_normal(ctx, m, point, w);
}

/// \brief The metric: \f$ s = \mathrm{Re\,tr}(u^H B v) \f$ with a solver, \f$ \mathrm{Re\,tr}(u^H
/// v) \f$ without.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  u    n x p, tangent at x
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, class Apply, class Solve, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, U, V>
void inner(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, X const& x, U const& u, V const& v,
           S&& s) {
  detail::expect_pairing("inner", m, x, u, v, s);
  if constexpr (generalized_stiefel<Apply, Solve>::has_solve) {
    auto const bv = detail::times_b(ctx, m, dense(ctx, v));
    inner(ctx, u, bv, s);
  } else {
    inner(ctx, u, v, s);
  }
}

/// \brief Length of a tangent vector in the metric of m.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, class Apply, class Solve, Matrix X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void norm(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, X const& x, V const& v, S&& s) {
  detail::expect_number("norm", m, x, "v", v, s);
  inner(ctx, m, x, v, v, s);
  transform(ctx, square_root_element{}, outputs(s), inputs(s));
}

/// \brief Transports a tangent vector by projection onto the new tangent space.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, the point that v is tangent at
/// \param[in]  y    n x p, the point that w is tangent at
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap y
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps y, or v without being v
template <class Ctx, class Apply, class Solve, Matrix X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, Y, V, W>
void transport(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, X const& x, Y const& y,
               V const& v, W&& w) {
  detail::expect_transport(ctx, m, x, y, v, w);
  project(ctx, m, y, v, w);
}

/// \brief Draws a point: normal columns, made orthonormal in the product of B.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x p, a point
/// \throws shape_error  if x is not n x p
/// \par Cost
/// Two products with B, householder_qr() and 6 n p^2 flops.
template <class Ctx, class Apply, class Solve, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, random_stream& stream,
                  X&& x) {
  expect_point("random_point", "x", m, x);
  random_point(ctx, stiefel{m.n, m.p}, stream, x);
  // The first pass loses the condition of B; the second one starts near orthonormal columns.
  for (int pass = 0; pass < 2; ++pass) {
    auto r = detail::gram_b(ctx, m, dense(ctx, x));
    cholesky(ctx, r, no_status{});
    solve_right(ctx, r, x);
  }
}

/// \brief Draws a tangent vector of length one in the metric of m.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       n x p, a point
/// \param[out]    v       n x p, tangent at x; must not overlap x
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if v overlaps x
template <class Ctx, class Apply, class Solve, Matrix X, class V>
  requires OutputMatrix<V> && SameScalar<X, V>
void random_tangent(Ctx& ctx, generalized_stiefel<Apply, Solve> const& m, random_stream& stream,
                    X const& x, V&& v) {
  detail::expect_random_tangent(ctx, m, x, v);
  detail::draw_tangent(ctx, m, stream, x, v);
}

}  // namespace stiefelx
