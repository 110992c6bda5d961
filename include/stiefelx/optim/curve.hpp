// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>

/// \file
/// \brief What minimize() asks of a manifold: a retraction's curve, its velocity, and the metric.
/// \ingroup optim

namespace stiefelx {

/// Selects the retraction that a manifold has when none is named.
/// \ingroup optim
struct default_retraction {};

/// \brief y = R_x(v) by a named retraction, or by the manifold's own.
/// \ingroup optim
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    a point
/// \param[in]  v    tangent at x
/// \param[out] y    the new point
/// \param[in]  how  options of a retraction, or default_retraction{}
template <class Ctx, class M, class X, class V, class Y, class How>
void retract_by(Ctx& ctx, M const& m, X const& x, V const& v, Y&& y, How const& how) {
  if constexpr (std::is_same_v<How, default_retraction>)
    retract(ctx, m, x, v, y);
  else
    retract(ctx, m, x, v, y, how);
}

/// \brief w = D R_x(d)[v], the velocity of a retraction's curve, where the manifold has it; else
/// transport_or_project() of v.
/// \ingroup optim
///
/// A line search asks for the slope of the cost along the curve, which is exact with the first and
/// has the right sign and a relative error of \f$ O(\lVert d \rVert^2) \f$ with the projection. A
/// manifold's transport along a geodesic is not taken: a retraction does not end where exp() does,
/// so its result would not be tangent at y.
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    a point
/// \param[in]  d    the step
/// \param[in]  y    where it leads
/// \param[in]  v    tangent at x
/// \param[out] w    tangent at y; must not overlap the inputs
/// \param[in]  how  the retraction; default_retraction{} stands for the QR retraction on manifolds
///                  that have its derivative, because there it is the default
template <class Ctx, class M, class X, class D, class Y, class V, class W, class How>
void move_along_curve(Ctx& ctx, M const& m, X const& x, D const& d, Y const& y, V const& v, W&& w,
                      How const& how) {
  if constexpr (std::is_same_v<How, default_retraction>) {
    using curve = differentiated<qr_retraction>;
    if constexpr (requires { transport_along(ctx, m, x, d, y, v, w, curve{}); })
      transport_along(ctx, m, x, d, y, v, w, curve{});
    else
      transport_or_project(ctx, m, x, y, v, w);
  } else {
    if constexpr (requires { transport_along(ctx, m, x, d, y, v, w, differentiated{how}); })
      transport_along(ctx, m, x, d, y, v, w, differentiated{how});
    else
      transport_or_project(ctx, m, x, y, v, w);
  }
}

/// \brief The metric as a double: inner() of the manifold, by way of a number of the points' real
/// scalar where it takes no other.
/// \ingroup optim
///
/// Manifolds written for `Eigen::Ref` fix the scalar of their result.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    the manifold
/// \param[in]  x    a point
/// \param[in]  u    tangent at x
/// \param[in]  v    tangent at x
/// \param[out] s    1 x 1, double
template <class Ctx, class M, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S>
void inner_as_double(Ctx& ctx, M const& m, X const& x, U const& u, V const& v, S&& s) {
  if constexpr (requires { inner(ctx, m, x, u, v, s); }) {
    inner(ctx, m, x, u, v, s);
  } else {
    auto own = scratch<real_t<X>>(ctx, 1, 1);
    inner(ctx, m, x, u, v, own);
    copy(ctx, own, s);
  }
}

}  // namespace stiefelx
