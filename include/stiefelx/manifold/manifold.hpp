// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/element/scalar.hpp>

/// \file
/// \brief The minimum that a manifold provides, and what is deduced from it.
/// \ingroup manifolds
///
/// A deduced function is called `name_or_substitute`: it calls the manifold's own `name`, found by
/// its namespace, and where there is none what the second half says.
///
/// | deduced | own function | substitute |
/// | --- | --- | --- |
/// | gradient_or_project() | `riemannian_gradient(ctx, m, x, g, v)` | projects g |
/// | transport_or_project() | `transport(ctx, m, x, y, v, w)` | projects v at y |
/// | transport_along_or_project() | `transport_along(ctx, m, x, d, y, v, w)` | transports |
/// | norm_or_inner() | `norm(ctx, m, x, v, s)` | root of the inner product |
/// | distance_or_chord() | `distance(ctx, m, x, y, s, status)` | length of y - x |
/// | random_tangent_or_project() | `random_tangent(ctx, m, stream, x, v)` | projects numbers |
///
/// retract_and_transport() calls both for one step.

namespace stiefelx {

/// \brief What a manifold provides for points of type X in a context: the minimum interface.
/// \ingroup manifolds
///
/// A manifold is a small value, such as `stiefel{n, p}`, with free functions in its namespace:
/// `project(ctx, m, x, z, v)` takes an ambient matrix to the tangent space at x and may be called
/// with v = z; `retract(ctx, m, x, v, y)` moves from x along v and may be called with y = x;
/// `inner(ctx, m, x, u, v, s)` writes the metric to a 1 x 1 matrix. Everything else is deduced.
///
/// The functions may be templates over every matrix, templates over `Eigen::MatrixBase`, or plain
/// functions that take `Eigen::Ref`; the matrices of X's type in this concept stand for views and
/// scratch as well, which Eigen converts. Plain functions fix the scalar, and outputs of a
/// `MatrixBase` template are `const&` that are cast, as Eigen's manual has it.
/// \see example custom_manifold.cpp
template <class M, class Ctx, class X>
concept ManifoldOn = requires(Ctx& ctx, M const& m, X& x, matrix_t<Ctx, real_t<X>>& s) {
  project(ctx, m, x, x, x);
  retract(ctx, m, x, x, x);
  inner(ctx, m, x, x, x, s);
};

/// \brief Element text: y = sqrt(x).
/// \ingroup manifolds
struct square_root_element {
  /// \param[out] y  root
  /// \param[in]  x  at least 0, less the rounding of a sum of squares
  template <class Y, class X>
  STIEFELX_HD void operator()(Y& y, X const& x) const {
    y = x < X(0) ? Y(0) : static_cast<Y>(std::sqrt(x));
  }
};

/// \brief Moves a tangent vector by the manifold's transport, or by projection where it has none.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    the point that v is tangent at
/// \param[in]  y    the point that w is tangent at
/// \param[in]  v    tangent at x
/// \param[out] w    tangent at y; may be v
template <class Ctx, class M, Matrix X, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W>
void transport_or_project(Ctx& ctx, M const& m, X const& x, Y const& y, V const& v, W&& w) {
  if constexpr (requires { transport(ctx, m, x, y, v, w); })
    transport(ctx, m, x, y, v, w);
  else
    project(ctx, m, y, v, w);
}

/// \brief Moves a tangent vector along a step by the manifold's transport_along(), or by
/// transport_or_project() where it has none.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    the point that d and v are tangent at
/// \param[in]  d    the step
/// \param[in]  y    where it leads
/// \param[in]  v    tangent at x
/// \param[out] w    tangent at y; may be v
template <class Ctx, class M, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W>
void transport_along_or_project(Ctx& ctx, M const& m, X const& x, D const& d, Y const& y,
                                V const& v, W&& w) {
  if constexpr (requires { transport_along(ctx, m, x, d, y, v, w); })
    transport_along(ctx, m, x, d, y, v, w);
  else
    transport_or_project(ctx, m, x, y, v, w);
}

/// \brief One step: y = R_x(d), and a tangent vector taken along by transport_or_project().
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    a point
/// \param[in]  d    the step, tangent at x
/// \param[in]  v    tangent at x
/// \param[out] y    the new point; must not overlap x, d or v
/// \param[out] w    tangent at y; may be v, must not overlap y
/// \param[in]  how  options of the retraction, or nothing
template <class Ctx, class M, Matrix X, Matrix D, Matrix V, class Y, class W, class... How>
  requires OutputMatrix<Y> && OutputMatrix<W>
void retract_and_transport(Ctx& ctx, M const& m, X const& x, D const& d, V const& v, Y&& y, W&& w,
                           How const&... how) {
  retract(ctx, m, x, d, y, how...);
  transport_or_project(ctx, m, x, y, v, w);
}

/// \brief Riemannian gradient by the manifold's own function, or by projection where it has none.
/// \ingroup manifolds
///
/// Projection is right for every manifold with the metric of the space around it.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    a point
/// \param[in]  g    Euclidean gradient at x
/// \param[out] v    tangent at x; may be g
template <class Ctx, class M, Matrix X, Matrix G, class V>
  requires OutputMatrix<V>
void gradient_or_project(Ctx& ctx, M const& m, X const& x, G const& g, V&& v) {
  if constexpr (requires { riemannian_gradient(ctx, m, x, g, v); })
    riemannian_gradient(ctx, m, x, g, v);
  else
    project(ctx, m, x, g, v);
}

/// \brief Length of a tangent vector by the manifold's norm(), or as the root of its inner product.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    a point
/// \param[in]  v    tangent at x
/// \param[out] s    1 x 1, real
template <class Ctx, class M, Matrix X, Matrix V, class S>
  requires OutputMatrix<S>
void norm_or_inner(Ctx& ctx, M const& m, X const& x, V const& v, S&& s) {
  if constexpr (requires { norm(ctx, m, x, v, s); }) {
    norm(ctx, m, x, v, s);
  } else {
    inner(ctx, m, x, v, v, s);
    transform(ctx, square_root_element{}, outputs(s), inputs(s));
  }
}

/// \brief Distance by the manifold's own function, or the length of the chord y - x in the space
/// around.
/// \ingroup manifolds
///
/// On a manifold with the metric of the space around it the chord is the shorter one, and agrees
/// with the distance to third order for near points: enough for a test of convergence.
/// \param[in]     ctx     where to run; waits if the manifold's function does
/// \param[in]     m       the manifold
/// \param[in]     x       a point
/// \param[in]     y       another
/// \param[out]    s       1 x 1, real
/// \param[in,out] status  1 x 1 int, or no_status{}
template <class Ctx, class M, Matrix X, Matrix Y, class S, class Status = no_status>
  requires OutputMatrix<S>
void distance_or_chord(Ctx& ctx, M const& m, X const& x, Y const& y, S&& s, Status&& status = {}) {
  if constexpr (requires { distance(ctx, m, x, y, s, status); }) {
    distance(ctx, m, x, y, s, status);
  } else {
    auto chord = clone(ctx, y);
    axpy(ctx, -1, x, chord);
    norm(ctx, chord, s);
  }
}

namespace detail {

// v = a projected normal matrix, brought to length one.
template <class Ctx, class M, class X, class V>
void draw_tangent(Ctx& ctx, M const& m, random_stream& stream, X const& x, V&& v) {
  fill_normal(ctx, stream, 1, v);
  project(ctx, m, x, v, v);
  auto length = scratch<real_t<X>>(ctx, 1, 1);
  auto inverse = scratch<real_t<X>>(ctx, 1, 1);
  norm_or_inner(ctx, m, x, v, length);
  transform(ctx, reciprocal_element{}, outputs(inverse), inputs(length));
  scale(ctx, inverse, v);
  // A second projection removes the rounding that the first one left on a large normal matrix.
  project(ctx, m, x, v, v);
}

}  // namespace detail

/// \brief Draws a tangent vector of length one by the manifold's own function, or by projecting a
/// normal matrix.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       a point
/// \param[out]    v       tangent at x, of length one; zero where there is no direction
template <class Ctx, class M, Matrix X, class V>
  requires OutputMatrix<V>
void random_tangent_or_project(Ctx& ctx, M const& m, random_stream& stream, X const& x, V&& v) {
  if constexpr (requires { random_tangent(ctx, m, stream, x, v); })
    random_tangent(ctx, m, stream, x, v);
  else
    detail::draw_tangent(ctx, m, stream, x, v);
}

}  // namespace stiefelx
