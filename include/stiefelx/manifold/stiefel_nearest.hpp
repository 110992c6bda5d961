// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_space.hpp>
#include <stiefelx/orth/polar.hpp>

namespace stiefelx {

/// \brief The point nearest to a matrix, in the Frobenius norm and in every unitarily invariant
/// one.
/// \ingroup stiefel
///
/// \f[ x = \arg\min_{y^H y = I} \lVert z - y \rVert_F = z\,(z^H z)^{-1/2} , \f]
/// the unitary polar factor \cite higham2008, chapter 8. The residual is normal at x:
/// \f$ x^H z \f$ is Hermitian and positive. It is unique for z of full rank; polar() says what
/// another z gives. The metric of m plays no part.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     m        \f$ \mathrm{St}(n, p) \f$
/// \param[in]     z        n x p of full rank, any matrix or expression
/// \param[out]    x        n x p, the point; may be z
/// \param[in,out] status   1 x 1 int, or no_status{}: the bits of polar()
/// \param[in]     options  those of polar()
/// \throws shape_error   if z or x is not n x p
/// \throws alias_error   if x overlaps z without being z
/// \throws option_error  if m.alpha is not above -1, or polar() refuses the options
/// \par Cost
/// That of polar().
template <class Ctx, Matrix Z, class X, class Status = no_status, class Options = polar_options>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, stiefel m, Z const& z, X&& x, Status&& status = {},
                   Options const& options = {}) {
  detail::expect_stiefel("nearest_point", "z", m, z);
  expect_shape("nearest_point", "x", x, m.n, m.p);
  expect_same_or_distinct(ctx, "nearest_point", "x", x, "z", z);
  polar(ctx, z, x, status, options);
}

}  // namespace stiefelx
