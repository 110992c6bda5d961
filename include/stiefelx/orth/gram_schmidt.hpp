// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/gram_schmidt.hpp>

namespace stiefelx {

namespace detail {

template <class Ctx, class A, class Q, class R>
void expect_thin_qr(Ctx& ctx, char const* function, A const& a, Q const& q, R const& r) {
  expect_tall(function, "a", a);
  expect_shape(function, "q", q, a.rows(), a.cols());
  expect_shape(function, "r", r, a.cols(), a.cols());
  expect_same_or_distinct(ctx, function, "q", q, "a", a);
  expect_distinct(ctx, function, "r", r, "a", a);
  expect_distinct(ctx, function, "r", r, "q", q);
}

}  // namespace detail

/// \brief Orthonormalizes the columns of a matrix by classical Gram-Schmidt, twice.
/// \ingroup orth
///
/// \f$ a = q\,r \f$ with \f$ q^H q = I \f$ and r upper triangular with a positive diagonal. With
/// re-orthogonalization the loss of orthogonality stays at the unit roundoff for every full-rank
/// input, whatever its condition \cite giraud2005. Columns are first scaled by powers of two, so
/// huge, tiny and graded columns are as good as others.
///
/// A column that depends on the earlier ones gives a zero column of q, a zero on r's diagonal and
/// `rank_deficient`; a = q r still holds. A NaN or an infinity sets `not_finite` and spreads to its
/// own and the later columns.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     a       n x p, n >= p, any matrix or expression, real or complex
/// \param[out]    q       n x p, orthonormal columns; may be a
/// \param[out]    r       p x p, upper triangular; must not overlap a or q
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a is wide, or q or r has another shape
/// \throws alias_error  if r overlaps a or q, or q overlaps a without being a
/// \par Cost
/// 4 n p^2 flops in matrix-vector work; one team, so it is for p up to some hundreds.
template <class Ctx, Matrix A, class Q, class R, class Status = no_status>
  requires OutputMatrix<Q> && OutputMatrix<R> && SameScalar<A, Q, R>
void gram_schmidt(Ctx& ctx, A const& a, Q&& q, R&& r, Status&& status = {}) {
  detail::expect_thin_qr(ctx, "gram_schmidt", a, q, r);
  auto const& input = dense(ctx, a);
  auto bits = clear_status(ctx, 1);
  run_batch(ctx, 1, gram_schmidt_body{a.cols()}, input, q, r, bits);
  raise(ctx, status, bits);
}

}  // namespace stiefelx
