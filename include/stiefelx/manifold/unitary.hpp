// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/manifold/matrix_group.hpp>
#include <stiefelx/orth/polar.hpp>

namespace stiefelx {

/// \brief The unitary group: complex n x n matrices with \f$ x^H x = I \f$.
/// \ingroup manifolds
///
/// It has one component. exp(), log(), retractions, distance and transport are those of
/// MatrixGroup.
/// \see \cite edelman1998
struct unitary {
  static constexpr bool is_complex = true;        ///< points are complex
  static constexpr char const* name = "unitary";  ///< for messages

  index_t n;  ///< rows and columns
};

/// It is one.
/// \ingroup manifolds
template <>
inline constexpr bool is_matrix_group<unitary> = true;

/// \brief Dimension of the group as a real manifold.
/// \ingroup manifolds
/// \param[in] m  the group
/// \returns n^2
constexpr index_t dimension(unitary m) { return m.n * m.n; }

/// \brief The point nearest to a matrix: its unitary polar factor.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in]     z       n x n, of full rank
/// \param[out]    x       n x n, a point; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of polar()
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if x overlaps z without being z
template <class Ctx, PointOf<unitary> Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, unitary m, Z const& z, X&& x, Status&& status = {}) {
  detail::expect_nearest(ctx, m, z, x);
  polar(ctx, z, x, status);
}

/// \brief Draws a point from the Haar measure.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x n, a point
/// \throws shape_error  if x is not n x n
template <class Ctx, class X>
  requires OutputMatrix<X> && PointOf<X, unitary>
void random_point(Ctx& ctx, unitary m, random_stream& stream, X&& x) {
  expect_point("random_point", "x", m, x);
  random_point(ctx, stiefel{m.n, m.n}, stream, x);
}

}  // namespace stiefelx
