// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/manifold/orthogonal.hpp>
#include <stiefelx/orth/svd.hpp>

namespace stiefelx {

/// \brief The special orthogonal group: rotations, real n x n matrices with \f$ x^T x = I \f$ and
/// determinant 1.
/// \ingroup manifolds
///
/// One component of orthogonal, and a type of its own: random_point() and nearest_point() give
/// rotations only. exp(), log(), retractions, distance and transport are those of MatrixGroup and
/// keep the determinant. A point that comes in with determinant -1 goes out with -1: nothing here
/// measures it; determinant_sign() does.
/// \see \cite edelman1998
struct special_orthogonal {
  static constexpr bool is_complex = false;                  ///< points are real
  static constexpr char const* name = "special_orthogonal";  ///< for messages

  index_t n;  ///< rows and columns
};

/// It is one.
/// \ingroup manifolds
template <>
inline constexpr bool is_matrix_group<special_orthogonal> = true;

/// \brief Dimension of the group.
/// \ingroup manifolds
/// \param[in] m  the group
/// \returns n (n - 1) / 2
constexpr index_t dimension(special_orthogonal m) { return m.n * (m.n - 1) / 2; }

/// \brief The rotation nearest to a matrix.
/// \ingroup manifolds
///
/// With \f$ z = u\,\mathrm{diag}(w)\,v^T \f$, \f$ x = u\,\mathrm{diag}(1, \dots, 1, \det(u
/// v^T))\,v^T \f$: where the polar factor is a reflection, the direction of the smallest singular
/// value turns round. This solves the Procrustes problem over rotations, \f$ \min_x \lVert a\,x - b
/// \rVert_F \f$ with \f$ z = a^T b \f$.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in]     z       n x n
/// \param[out]    x       n x n, a point; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of svd()
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if x overlaps z without being z
/// \par Cost
/// One svd(), one determinant_sign() and 4 n^3 flops; three n x n scratch matrices.
template <class Ctx, PointOf<special_orthogonal> Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, special_orthogonal m, Z const& z, X&& x, Status&& status = {}) {
  using S = scalar_t<Z>;
  detail::expect_nearest(ctx, m, z, x);
  if (m.n == 0) return;
  auto u = scratch<S>(ctx, m.n, m.n), v = scratch<S>(ctx, m.n, m.n);
  auto w = scratch<S>(ctx, 1, m.n), s = scratch<S>(ctx, 1, 1);
  svd(ctx, z, u, w, v, status);
  multiply(ctx, u, v.adjoint(), x);
  determinant_sign(ctx, x, s);
  transform(ctx, component_element{1}, outputs(s), inputs(s));
  scale(ctx, s, u.middleCols(m.n - 1, 1));
  multiply(ctx, u, v.adjoint(), x);
}

/// \brief Draws a rotation from the Haar measure.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x n, a point of determinant 1
/// \throws shape_error  if x is not n x n
template <class Ctx, class X>
  requires OutputMatrix<X> && PointOf<X, special_orthogonal>
void random_point(Ctx& ctx, special_orthogonal m, random_stream& stream, X&& x) {
  expect_point("random_point", "x", m, x);
  random_point(ctx, stiefel{m.n, m.n}, stream, x);
  move_to_component(ctx, orthogonal{m.n}, 1, x);
}

}  // namespace stiefelx
