// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/polar_schedule.hpp>
#include <stiefelx/team/small_inverse_sqrt.hpp>

namespace stiefelx {

/// \brief Inverse square root of a positive definite matrix by a schedule of polynomials.
/// \ingroup orth
///
/// The coupled iteration \f$ Y_0 = g/s,\ Z_0 = I,\ T = h(Z Y),\ Y \leftarrow Y T,\ Z \leftarrow T Z
/// \f$ with \f$ h(w) = a + b w + c w^2 \f$, so that the singular values of \f$ (g/s)^{1/2} \f$ go
/// through the odd polynomials of the schedule \cite amsel2025. s is the largest sum of the moduli of
/// a column of g, which no eigenvalue exceeds; the schedule is for \f$ \sqrt{\lambda/s} \f$, with
/// \f$ \lambda \f$ any eigenvalue. Where the wide scalar is wider, the products are of g's scalar and
/// one correction \f$ Z \leftarrow Z + Z\,(I - Z g Z)/2 \f$, with the bracket in the wide scalar, ends it: it
/// squares what the schedule leaves and takes the rounding of the products away.
///
/// \param[in]  ctx       where to run; nothing waits
/// \param[in]  g         p x p, Hermitian, positive definite
/// \param[in]  schedule  polynomials of steps that bring \f$ \sqrt{\lambda/s} \f$ to one
/// \param[out] z         p x p, Hermitian up to rounding; must not overlap g
/// \throws shape_error  if g is not square or z has another shape
/// \throws alias_error  if z overlaps g
/// \par Cost
/// 8 p^3 flops a step of degree five, 6 p^3 of degree three; five p x p scratch matrices.
template <class Ctx, Matrix G, class Z>
  requires OutputMatrix<Z> && SameScalar<G, Z>
void inverse_sqrt(Ctx& ctx, G const& g, polar_schedule const& schedule, Z&& z) {
  using S = scalar_t<G>;
  expect_shape("inverse_sqrt", "g", g, g.cols(), g.cols());
  expect_shape("inverse_sqrt", "z", z, g.cols(), g.cols());
  expect_distinct(ctx, "inverse_sqrt", "z", z, "g", g);
  auto scaling = scratch<double>(ctx, 1, 2);
  auto y = clone(ctx, g);
  // With no smallest eigenvalue this scaling is by half the largest sum.
  run_batch(ctx, 1, newton_schulz_scaling_body{0}, y, scaling);
  scale(ctx, scaling.middleCols(0, 1), y);
  scale(ctx, 0.5, y);
  auto w = clone(ctx, y);
  auto t = clone(ctx, y);
  for (int k = 0; k < schedule.count; ++k) {
    odd_polynomial const& step = schedule[k];
    if (k > 0) multiply(ctx, z, y, w);
    set_identity(ctx, t);
    scale(ctx, step.a, t);
    axpy(ctx, step.b, w, t);
    if (step.c != 0) multiply_add(ctx, step.c, w, w, t);
    if (k + 1 < schedule.count) {
      multiply(ctx, y, t, w);
      copy(ctx, w, y);
    }
    if (k == 0) {
      copy(ctx, t, z);
    } else {
      multiply(ctx, t, z, w);
      copy(ctx, w, z);
    }
  }
  scale(ctx, scaling.middleCols(1, 1), z);
  scale(ctx, std::sqrt(0.5), z);
  if constexpr (!std::is_same_v<S, wide_t<S>>) {
    {
      auto const root = widen(ctx, z);
      auto const squared = product(ctx, widen(ctx, g), root);
      auto error = clone(ctx, root);
      set_identity(ctx, error);
      multiply_add(ctx, -1, root, squared, error);
      copy(ctx, error, t);
    }
    copy(ctx, z, w);
    multiply_add(ctx, 0.5, w, t, z);
  }
}

}  // namespace stiefelx
