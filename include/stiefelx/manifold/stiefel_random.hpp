// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/orth/householder_qr.hpp>

namespace stiefelx {

/// \brief Draws a point from the Haar measure: the one that no rotation changes.
/// \ingroup stiefel
///
/// The Q factor of a normal matrix, with R's diagonal positive; without that sign convention the
/// distribution would depend on the QR algorithm \cite mezzadri2007.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x p, orthonormal columns
/// \throws shape_error   if x is not n x p
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// That of householder_qr().
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, stiefel m, random_stream& stream, X&& x) {
  detail::expect_stiefel("random_point", "x", m, x);
  fill_normal(ctx, stream, 1, x);
  auto r = scratch<scalar_t<X>>(ctx, m.p, m.p);
  householder_qr(ctx, x, x, r);
}

/// \brief Draws a tangent vector of length one in the metric, with no preferred direction there.
/// \ingroup stiefel
///
/// The projection of a normal matrix, its skew part multiplied by \f$ \sqrt{2(\alpha + 1)} \f$,
/// divided by its length: coordinates in any basis that is orthonormal in the metric are uniform on
/// the sphere.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in,out] stream  advanced by one draw
/// \param[in]     x       n x p, a point
/// \param[out]    v       n x p, tangent at x, of length one (zero where the space is a point);
///                        must not overlap x
/// \throws shape_error   if x or v is not n x p
/// \throws alias_error   if v overlaps x
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// Twice that of project(), and 6 n p^2 flops more when the metric is not the Euclidean one.
template <class Ctx, Matrix X, class V>
  requires OutputMatrix<V> && SameScalar<X, V>
void random_tangent(Ctx& ctx, stiefel m, random_stream& stream, X const& x, V&& v) {
  detail::expect_stiefel("random_tangent", "x", m, x);
  expect_shape("random_tangent", "v", v, m.n, m.p);
  expect_distinct(ctx, "random_tangent", "v", v, "x", x);
  fill_normal(ctx, stream, 1, v);
  project(ctx, m, x, v, v);
  if (m.alpha != euclidean_metric) {
    auto const& point = dense(ctx, x);
    auto const skew = product(ctx, point.adjoint(), v);
    multiply_add(ctx, 1 / std::sqrt(detail::metric_weight(m)) - 1, point, skew, v);
  }
  auto length = scratch<real_t<X>>(ctx, 1, 1);
  auto inverse = scratch<real_t<X>>(ctx, 1, 1);
  norm(ctx, m, x, v, length);
  transform(ctx, reciprocal_element{}, outputs(inverse), inputs(length));
  scale(ctx, inverse, v);
  // A second projection removes the rounding that the first one left on a large normal matrix.
  project(ctx, m, x, v, v);
}

}  // namespace stiefelx
