// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>

namespace stiefelx {

/// \brief All n x p matrices. Every optimizer on it is its ordinary, unconstrained self.
/// \ingroup manifolds
struct euclidean {
  index_t n;  ///< rows
  index_t p;  ///< columns
};

/// Dimension as a real manifold of real matrices: n p.
/// \ingroup manifolds
/// \param[in] m  the manifold
/// \returns n p
constexpr index_t dimension(euclidean m) { return m.n * m.p; }

/// v = z: every direction is tangent.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  z    n x p
/// \param[out] v    n x p; may be z
/// \throws shape_error  if a matrix is not n x p
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, euclidean m, X const& x, Z const& z, V&& v) {
  expect_shape("project", "x", x, m.n, m.p);
  expect_shape("project", "z", z, m.n, m.p);
  expect_shape("project", "v", v, m.n, m.p);
  expect_same_or_distinct(ctx, "project", "v", v, "z", z);
  copy(ctx, z, v);
}

/// y = x + v.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p
/// \param[out] y    n x p; may be x, must not overlap v
/// \throws shape_error  if a matrix is not n x p
/// \throws alias_error  if y overlaps v, or x without being x
template <class Ctx, Matrix X, Matrix V, class Y>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, euclidean m, X const& x, V const& v, Y&& y) {
  expect_shape("retract", "x", x, m.n, m.p);
  expect_shape("retract", "v", v, m.n, m.p);
  expect_shape("retract", "y", y, m.n, m.p);
  expect_same_or_distinct(ctx, "retract", "y", y, "x", x);
  expect_distinct(ctx, "retract", "y", y, "v", v);
  auto const& step = dense(ctx, v);
  copy(ctx, x, y);
  axpy(ctx, 1, step, y);
}

/// s = Re tr(u^H v).
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  m    the manifold
/// \param[in]  x    n x p, a point
/// \param[in]  u    n x p
/// \param[in]  v    n x p
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, Matrix X, Matrix U, Matrix V, class S>
  requires OutputMatrix<S>
void inner(Ctx& ctx, euclidean m, X const& x, U const& u, V const& v, S&& s) {
  expect_shape("inner", "x", x, m.n, m.p);
  expect_shape("inner", "u", u, m.n, m.p);
  expect_shape("inner", "v", v, m.n, m.p);
  expect_shape("inner", "s", s, 1, 1);
  inner(ctx, u, v, s);
}

/// Normal entries of deviation one.
/// \ingroup manifolds
/// \param[in]     ctx     where to run
/// \param[in]     m       the manifold
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x p
/// \throws shape_error  if x is not n x p
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, euclidean m, random_stream& stream, X&& x) {
  expect_shape("random_point", "x", x, m.n, m.p);
  fill_normal(ctx, stream, 1, x);
}

}  // namespace stiefelx
