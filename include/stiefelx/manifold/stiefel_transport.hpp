// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/manifold/stiefel.hpp>

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
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if w overlaps y, or v without being v
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

}  // namespace stiefelx
