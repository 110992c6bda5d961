// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// \brief What a manifold provides for points of type X in a context: the minimum interface.
/// \ingroup manifolds
///
/// A manifold is a small value, such as `stiefel{n, p}`, with free functions in its namespace:
/// `project(ctx, m, x, z, v)` takes an ambient matrix to the tangent space at x and may be called
/// with v = z; `retract(ctx, m, x, v, y)` moves from x along v and may be called with y = x;
/// `inner(ctx, m, x, u, v, s)` writes the metric to a 1 x 1 matrix. Everything else is deduced.
template <class M, class Ctx, class X>
concept ManifoldOn = requires(Ctx& ctx, M const& m, X& x, matrix_t<Ctx, real_t<X>>& s) {
  project(ctx, m, x, x, x);
  retract(ctx, m, x, x, x);
  inner(ctx, m, x, x, x, s);
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

}  // namespace stiefelx
