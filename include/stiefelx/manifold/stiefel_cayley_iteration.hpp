// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_rotation.hpp>

namespace stiefelx {

/// Selects the fixed-point iteration for the Cayley transform: products alone, and inexact.
/// \ingroup stiefel
struct cayley_iteration_retraction {
  int iterations = 5;  ///< fixed-point steps, at least 0; 0 is the straight step x + v
  /// Newton-Schulz steps on the result, at least 0. 0 is the bare iteration, which leaves the
  /// manifold; each step squares the orthonormality error and repairs drift of x with it.
  int newton_schulz_steps = 1;
};

/// \brief Retracts a tangent vector towards the Stiefel manifold by an iterated Cayley transform.
/// \ingroup stiefel
///
/// The Cayley transform y solves \f$ y = x + W (x + y)/2 \f$, with the skew W of
/// rotation_factors(). From \f$ y_0 = x + v \f$, k steps \f$ y \leftarrow x + W (x + y)/2 \f$ leave
/// \f[ y_k - y = -(W/2)^{k+1}\,(I - W/2)^{-1} v, \qquad \lVert y_k - y \rVert_F \le
/// (\lVert W \rVert_2 / 2)^{k+1}\, \lVert v \rVert_F . \f]
/// So it converges for \f$ \lVert W \rVert_2 < 2 \f$, where \f$ \lVert W \rVert_2 \le \tfrac{2}{\sqrt
/// 3} \lVert v \rVert_F \f$, and diverges beyond.
///
/// **The result is not on the manifold.** The bare iteration leaves \f$ \lVert y^{H} y - I \rVert_2
/// \le 4\,(\lVert W \rVert_2/2)^{2j} \f$ with \f$ 2j \f$ the even one of k + 2 and k + 3, so that
/// only every second step improves it. One Newton-Schulz step \f$ y \leftarrow y\,(3 I - y^{H} y)/2
/// \f$ takes a defect \f$ \delta \f$ to \f$ \tfrac34 \delta^2 + O(\delta^3) \f$. With 5 steps and
/// \f$ \lVert W \rVert_2 = 0.25 \f$ the defect is 2e-7, and at rounding after one clean-up. The exact
/// transform costs only a 2p x 2p solve more: this one is for places without a solver.
///
/// The steps run on the 2p x p coefficients of y in the factors of W, so their number hardly
/// changes the cost. Of second order for the canonical metric from one step on.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; may be x, must not overlap v
/// \param[in]  how  fixed-point and clean-up steps
/// \throws shape_error   if x, v or y is not n x p
/// \throws alias_error   if y overlaps v, or x without being x
/// \throws option_error  if a number of steps is negative
/// \par Cost
/// \f$ 12np^2 \f$ flops and \f$ 8p^3 \f$ a step, \f$ 3np^2 \f$ a Newton-Schulz step; one n x 2p, one
/// n x p and some 2p x 2p scratch matrices.
/// \see \cite li2020
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, cayley_iteration_retraction how) {
  using S = scalar_t<X>;
  detail::expect_retraction(ctx, m, x, v, y);
  expect_option(how.iterations >= 0, "retract", "cayley_iteration_retraction::iterations",
                how.iterations, "a number of at least 0");
  expect_option(how.newton_schulz_steps >= 0, "retract",
                "cayley_iteration_retraction::newton_schulz_steps", how.newton_schulz_steps,
                "a number of at least 0");
  index_t const p = m.p;
  auto a = scratch<S>(ctx, m.n, 2 * p);
  auto k = scratch<S>(ctx, 2 * p, 2 * p);
  rotation_factors(ctx, m, x, v, a, k);
  // y = x + A c turns the step into c <- c_0 + K c / 2, with c_0 = B^H x from y_0 = x + v on.
  auto const start = k.middleCols(p, p);
  auto c = clone(ctx, start);
  auto next = clone(ctx, start);
  for (int step = 0; step < how.iterations; ++step) {
    copy(ctx, start, next);
    multiply_add(ctx, 0.5, k, c, next);
    copy(ctx, next, c);
  }
  copy(ctx, a.middleCols(p, p), y);
  multiply_add(ctx, 1, a, c, y);
  auto sum = a.middleCols(0, p);
  for (int step = 0; step < how.newton_schulz_steps; ++step) {
    copy(ctx, y, sum);
    auto const g = gram(ctx, sum);
    auto t = clone(ctx, g);
    set_identity(ctx, t);
    scale(ctx, 1.5, t);
    axpy(ctx, -0.5, g, t);
    multiply(ctx, sum, t, y);
  }
}

}  // namespace stiefelx
