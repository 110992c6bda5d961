// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/manifold/matrix_group.hpp>
#include <stiefelx/orth/polar.hpp>

namespace stiefelx {

/// \brief The orthogonal group: real n x n matrices with \f$ x^T x = I \f$.
/// \ingroup manifolds
///
/// **It has two components**, of determinant 1 and -1, and no curve leads from one to the other.
/// A descent that starts in the wrong one cannot reach its target: it ends at the best point of its
/// own component, with a gradient of zero. random_point() draws from both; move_to_component()
/// chooses one. Where only rotations are meant, use special_orthogonal. exp(), log(), retractions,
/// distance and transport are those of MatrixGroup; log() and distance() between the components
/// report `not_converged`.
/// \see \cite edelman1998
struct orthogonal {
  static constexpr bool is_complex = false;          ///< points are real
  static constexpr char const* name = "orthogonal";  ///< for messages

  index_t n;  ///< rows and columns
};

/// It is one.
/// \ingroup manifolds
template <>
inline constexpr bool is_matrix_group<orthogonal> = true;

/// \brief Dimension of the group.
/// \ingroup manifolds
/// \param[in] m  the group
/// \returns n (n - 1) / 2
constexpr index_t dimension(orthogonal m) { return m.n * (m.n - 1) / 2; }

/// \brief Team text: the sign of a determinant, by elimination with partial pivoting.
/// \ingroup manifolds
struct determinant_sign_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team  lanes
  /// \param[in,out] a     n x n, real; overwritten
  /// \param[out]    s     1 x 1: 1, -1, 0 for a zero pivot, NaN for NaN
  template <Team T, class Real, class Number>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<Real> a,
                              matrix_ref<Number> s) const {
    Number sign = 1;
    for (index_t k = 0; k < a.cols; ++k) {
      index_t pivot = k;
      for (index_t i = k + 1; i < a.rows; ++i)
        if (std::abs(a(i, k)) > std::abs(a(pivot, k))) pivot = i;
      Real const head = a(pivot, k);
      if (pivot != k) sign = -sign;
      if (head < Real(0)) sign = -sign;
      if (head == Real(0)) sign = 0;
      if (head != head) sign = static_cast<Number>(head);
      team.barrier();
      for (index_t j = k + team.rank(); j < a.cols; j += team.size()) {
        Real const top = a(pivot, j);
        a(pivot, j) = a(k, j);
        a(k, j) = top;
      }
      team.barrier();
      // A zero pivot leaves nothing below it to eliminate.
      Real const inverse = head == Real(0) ? Real(0) : Real(1) / head;
      for (index_t j = k + 1 + team.rank(); j < a.cols; j += team.size())
        for (index_t i = k + 1; i < a.rows; ++i) a(i, j) -= a(i, k) * inverse * a(k, j);
      team.barrier();
    }
    if (team.rank() == 0) s(0, 0) = sign;
  }
};

/// \brief Element text: the sign that a column is multiplied by to change a determinant's sign.
/// \ingroup manifolds
struct component_element {
  double wanted;  ///< 1 or -1

  /// \param[out] factor  1 where the determinant has the wanted sign, else -1
  /// \param[in]  sign    sign of the determinant
  template <class Real>
  STIEFELX_HD void operator()(Real& factor, Real const& sign) const {
    factor = static_cast<double>(sign) * wanted < 0 ? Real(-1) : Real(1);
  }
};

/// \brief Sign of the determinant of a real matrix.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  x    n x n, real
/// \param[out] s    1 x 1, real: 1, -1, or 0; NaN when x has one
/// \throws shape_error  if x is not square or s not 1 x 1
/// \par Cost
/// 2 n^3 / 3 flops by one team, one n x n scratch matrix.
template <class Ctx, RealMatrix X, class S>
  requires OutputMatrix<S>
void determinant_sign(Ctx& ctx, X const& x, S&& s) {
  expect_shape("determinant_sign", "x", x, x.cols(), x.cols());
  expect_shape("determinant_sign", "s", s, 1, 1);
  auto a = clone(ctx, x);
  run_batch(ctx, 1, determinant_sign_body{}, a, s);
}

/// \brief Brings a point to the component of a chosen determinant.
/// \ingroup manifolds
///
/// Negates the last column where the determinant has the other sign; a point drawn from the whole
/// group becomes one drawn from that component. Call it once, on the starting point.
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     m            the group, n >= 1
/// \param[in]     determinant  1 or -1
/// \param[in,out] x            n x n, a point
/// \throws shape_error   if x is not n x n
/// \throws option_error  if determinant is not 1 or -1
/// \par Cost
/// That of determinant_sign().
template <class Ctx, class X>
  requires OutputMatrix<X> && PointOf<X, orthogonal>
void move_to_component(Ctx& ctx, orthogonal m, int determinant, X&& x) {
  expect_point("move_to_component", "x", m, x);
  expect_option(determinant == 1 || determinant == -1, "move_to_component", "determinant",
                determinant, "1 or -1");
  if (m.n == 0) return;
  auto s = scratch<real_t<X>>(ctx, 1, 1);
  determinant_sign(ctx, x, s);
  transform(ctx, component_element{static_cast<double>(determinant)}, outputs(s), inputs(s));
  scale(ctx, s, x.middleCols(m.n - 1, 1));
}

/// \brief The point nearest to a matrix: its orthogonal polar factor.
/// \ingroup manifolds
///
/// Its determinant has the sign of z's.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in]     z       n x n, of full rank
/// \param[out]    x       n x n, a point; may be z
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of polar()
/// \throws shape_error  if a matrix is not n x n
/// \throws alias_error  if x overlaps z without being z
template <class Ctx, PointOf<orthogonal> Z, class X, class Status = no_status>
  requires OutputMatrix<X> && SameScalar<Z, X>
void nearest_point(Ctx& ctx, orthogonal m, Z const& z, X&& x, Status&& status = {}) {
  detail::expect_nearest(ctx, m, z, x);
  polar(ctx, z, x, status);
}

/// \brief Draws a point from the Haar measure: of either determinant with equal chance.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the group
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x n, a point
/// \throws shape_error  if x is not n x n
template <class Ctx, class X>
  requires OutputMatrix<X> && PointOf<X, orthogonal>
void random_point(Ctx& ctx, orthogonal m, random_stream& stream, X&& x) {
  expect_point("random_point", "x", m, x);
  random_point(ctx, stiefel{m.n, m.n}, stream, x);
}

}  // namespace stiefelx
