// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/skew_exponential.hpp>

namespace stiefelx {

/// How polar_light_retraction turns the frame within its own span.
/// \ingroup stiefel
enum class polar_light_rotation {
  exponential,  ///< the exponential of x^H v
  cayley,       ///< its Cayley transform: one p x p solve, and nothing else changes
};

/// Selects the polar-light retraction: a rotation within the span of x, a polar factor beyond it.
/// \ingroup stiefel
struct polar_light_retraction {
  polar_light_rotation rotation = polar_light_rotation::exponential;  ///< within the span of x
  int iterations = 14;  ///< as in polar_retraction, for the part of v outside the span of x
};

namespace detail {

// e = (I - a/2)^-1 (I + a/2).
template <class Ctx, class A, class E>
void cayley_rotation(Ctx& ctx, A const& a, E& e) {
  auto system = clone(ctx, a);
  set_identity(ctx, system);
  set_identity(ctx, e);
  axpy(ctx, -0.5, a, system);
  axpy(ctx, 0.5, a, e);
  solve(ctx, system, e, no_status{});
}

}  // namespace detail

/// \brief Retracts a tangent vector to the Stiefel manifold by the polar-light retraction.
/// \ingroup stiefel
///
/// With \f$ A = x^{H} v \f$, skew-Hermitian, and \f$ K = v - x A \f$, orthogonal to x,
/// \f[ R_x(v) = (x\,e^{A} + K)(I + K^{H} K)^{-1/2} , \f]
/// the polar factor of \f$ x\,e^{A} + K \f$. Unlike that of polar_retraction its inverse has a closed
/// form. \f$ e^{A} \f$ may be replaced by the Cayley transform of A.
///
/// Of second order for the Euclidean metric with both rotations: it follows that geodesic to an error
/// of third order. Of first order for every other metric. The Gram matrix is that of the sum itself,
/// so drift of x is repaired.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  rotation and iterations
/// \throws shape_error   if x, v or y is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if how.iterations is below 1
/// \par Cost
/// That of polar_retraction, \f$ 4np^2 \f$ flops more, and those of the rotation; one n x p and some
/// p x p scratch matrices.
/// \see \cite jensen2026
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, polar_light_retraction how) {
  detail::expect_retraction(ctx, m, x, v, y);
  expect_option(how.iterations >= 1, "retract", "polar_light_retraction::iterations",
                how.iterations, "a number of at least 1");
  auto const& point = dense(ctx, x);
  auto sum = clone(ctx, v);
  {
    auto a = product(ctx, point.adjoint(), sum);
    detail::make_skew(ctx, a);
    auto e = clone(ctx, a);
    if (how.rotation == polar_light_rotation::exponential)
      skew_exponential(ctx, a, e);
    else
      detail::cayley_rotation(ctx, a, e);
    axpy(ctx, -1, a, e);
    multiply_add(ctx, 1, point, e, sum);
  }
  detail::multiply_by_inverse_root(ctx, sum, how.iterations, y);
}

}  // namespace stiefelx
