// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// \brief How far the columns of a matrix are from orthonormal: \f$ \lVert x^H x - I \rVert_F \f$.
/// \ingroup orth
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  x    n x p, any matrix
/// \param[out] s    1 x 1, real; must not overlap x
/// \throws shape_error  if s is not 1 x 1
/// \par Cost
/// n p^2 flops, one p x p scratch matrix.
template <class Ctx, Matrix X, class S>
  requires OutputMatrix<S>
void orthonormality_error(Ctx& ctx, X const& x, S&& s) {
  expect_shape("orthonormality_error", "s", s, 1, 1);
  auto defect = gram(ctx, x);
  auto identity = clone(ctx, defect);
  set_identity(ctx, identity);
  axpy(ctx, -1, identity, defect);
  norm(ctx, defect, s);
}

}  // namespace stiefelx
