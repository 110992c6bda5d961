// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Team text: the scaling that centres a positive definite matrix for Newton-Schulz.
/// \ingroup orth
struct newton_schulz_scaling_body {
  double smallest;  ///< lower bound of the eigenvalues; 0 when none is known

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes
  /// \param[in]  g        p x p, Hermitian, positive definite
  /// \param[out] scaling  1 x 2: 1 / c and 1 / sqrt(c), c = (smallest + largest row sum) / 2
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> g,
                              matrix_ref<double> scaling) const {
    double largest = 0;
    for (index_t j = 0; j < g.cols; ++j) {
      double sum = 0;
      for (index_t i = 0; i < g.rows; ++i) sum += static_cast<double>(modulus(g(i, j)));
      if (!(sum <= largest)) largest = sum;
    }
    double const c = largest > 0 || largest != largest ? (smallest + largest) / 2 : 1;
    if (team.rank() == 0) {
      scaling(0, 0) = 1 / c;
      scaling(0, 1) = 1 / std::sqrt(c);
    }
  }
};

/// \brief Inverse square root of a positive definite matrix by the coupled Newton-Schulz iteration.
/// \ingroup orth
///
/// With \f$ Y_0 = g/c,\ Z_0 = I \f$ and \f$ T = (3 I - Z Y)/2 \f$, \f$ Y \leftarrow Y T,\ Z
/// \leftarrow T Z \f$ converge to the square root and its inverse \cite higham2008, section 6.7.
/// c centres the spectrum, so every eigenvalue of g/c lies in (0, 2]. An eigenvalue \f$ \sigma^2 \f$
/// has its error squared once \f$ \sigma \f$ is near one, and grows by half before: double precision
/// takes about \f$ 5 + \log_{1.5}(1/\sigma) \f$ iterations. Products only, so it runs anywhere.
///
/// \param[in]  ctx         where to run; nothing waits
/// \param[in]  g           p x p, Hermitian, positive definite
/// \param[in]  smallest    lower bound of g's eigenvalues, or 0
/// \param[in]  iterations  how many, at least 1
/// \param[out] z           p x p; must not overlap g
/// \throws shape_error   if g is not square or z has another shape
/// \throws option_error  if iterations is below 1
/// \throws alias_error   if z overlaps g
/// \par Cost
/// 6 p^3 flops an iteration, three p x p scratch matrices.
template <class Ctx, Matrix G, class Z>
  requires OutputMatrix<Z> && SameScalar<G, Z>
void inverse_sqrt(Ctx& ctx, G const& g, double smallest, int iterations, Z&& z) {
  expect_shape("inverse_sqrt", "g", g, g.cols(), g.cols());
  expect_shape("inverse_sqrt", "z", z, g.cols(), g.cols());
  expect_option(iterations >= 1, "inverse_sqrt", "iterations", iterations,
                "a number of at least 1");
  expect_distinct(ctx, "inverse_sqrt", "z", z, "g", g);
  auto scaling = scratch<double>(ctx, 1, 2);
  auto y = clone(ctx, g);
  run_batch(ctx, 1, newton_schulz_scaling_body{smallest}, y, scaling);
  scale(ctx, scaling.middleCols(0, 1), y);
  set_identity(ctx, z);
  auto t = clone(ctx, y);
  auto next = clone(ctx, y);
  for (int k = 0; k < iterations; ++k) {
    set_identity(ctx, t);
    scale(ctx, 1.5, t);
    multiply_add(ctx, -0.5, z, y, t);
    multiply(ctx, y, t, next);
    copy(ctx, next, y);
    multiply(ctx, t, z, next);
    copy(ctx, next, z);
  }
  scale(ctx, scaling.middleCols(1, 1), z);
  symmetrize(ctx, z);
}

}  // namespace stiefelx
