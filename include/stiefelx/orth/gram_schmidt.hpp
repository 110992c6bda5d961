// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/stack_arguments.hpp>
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

/// Options of gram_schmidt().
/// \ingroup orth
struct gram_schmidt_options {
  gram_schmidt_method method = gram_schmidt_method::cgs2;  ///< see gram_schmidt_method
};

/// \brief Orthonormalizes the columns of a matrix by Gram-Schmidt.
/// \ingroup orth
///
/// \f$ a = q\,r \f$ with \f$ q^H q = I \f$ and r upper triangular with a positive diagonal.
/// Columns are first scaled by powers of two, so huge, tiny and graded columns are as good as
/// others; below, \f$ \kappa \f$ is the condition number of a with its columns so scaled.
///
/// | method | loss of orthogonality, \f$ \lVert q^H q - I \rVert \f$ |
/// | --- | --- |
/// | `cgs2` | \f$ O(\epsilon) \f$ for every \f$ \kappa \f$ \cite giraud2005 |
/// | `mgs` | \f$ O(\kappa\,\epsilon) \f$, of order one from \f$ \kappa = 1/\epsilon \f$ on |
///
/// a - q r is of the order of the unit roundoff for both. A column that depends on the earlier ones
/// gives a zero column of q, a zero on r's diagonal and `rank_deficient`; a = q r still holds. A
/// NaN or an infinity sets `not_finite` and spreads to its own and the later columns.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     a        n x p, n >= p, any matrix or expression, real or complex
/// \param[out]    q        n x p, orthonormal columns; may be a
/// \param[out]    r        p x p, upper triangular; must not overlap a or q
/// \param[in,out] status   1 x 1 int, or no_status{}
/// \param[in]     options  the method
/// \throws shape_error  if a is wide, or q or r has another shape
/// \throws alias_error  if r overlaps a or q, or q overlaps a without being a
/// \par Cost
/// 4 n p^2 flops by `cgs2` and 2 n p^2 by `mgs`, in matrix-vector work; one team, so it is for p up
/// to some hundreds.
template <class Ctx, Matrix A, class Q, class R, class Status = no_status>
  requires OutputMatrix<Q> && OutputMatrix<R> && SameScalar<A, Q, R>
void gram_schmidt(Ctx& ctx, A const& a, Q&& q, R&& r, Status&& status = {},
                  gram_schmidt_options options = {}) {
  detail::expect_thin_qr(ctx, "gram_schmidt", a, q, r);
  auto const& input = dense(ctx, a);
  auto bits = clear_status(ctx, 1);
  run_batch(ctx, 1, gram_schmidt_body{a.cols(), options.method}, input, q, r, bits);
  raise(ctx, status, bits);
}

/// \brief Orthonormalizes the columns of every matrix of a stack by Gram-Schmidt.
/// \ingroup orth
///
/// Matrix k of the stack is columns k p, ..., k p + p - 1; each is factored, and gets its status,
/// as by the function of one matrix.
///
/// \param[in]     ctx      where to run, one team a matrix; nothing waits
/// \param[in]     s        how many matrices
/// \param[in]     a        n x (p count), n >= p, any matrix or expression, real or complex
/// \param[out]    q        n x (p count), orthonormal columns in each matrix; may be a
/// \param[out]    r        p x (p count), upper triangular; must not overlap a or q
/// \param[in,out] status   1 x count int, or no_status{}
/// \param[in]     options  the method
/// \throws shape_error  if a's columns are no multiple of the count, its matrices are wide, or q, r
///                      or status has another shape
/// \throws alias_error  if r overlaps a or q, or q overlaps a without being a
/// \par Cost
/// That of one matrix, count times.
template <class Ctx, Matrix A, class Q, class R, class Status = no_status>
  requires OutputMatrix<Q> && OutputMatrix<R> && SameScalar<A, Q, R>
void gram_schmidt(Ctx& ctx, stack s, A const& a, Q&& q, R&& r, Status&& status = {},
                  gram_schmidt_options options = {}) {
  index_t const p = detail::expect_stack_qr(ctx, "gram_schmidt", s, a, q, r, status);
  auto const& input = dense(ctx, a);
  auto bits = clear_status(ctx, s.count);
  run_batch(ctx, s.count, gram_schmidt_body{p, options.method}, input, q, r, bits);
  detail::raise_each(ctx, s, status, bits);
}

}  // namespace stiefelx
