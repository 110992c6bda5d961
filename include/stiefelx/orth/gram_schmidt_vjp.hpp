// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/stack.hpp>
#include <stiefelx/orth/qr_vjp.hpp>
#include <stiefelx/orth/stack_arguments.hpp>
#include <stiefelx/team/gram_schmidt_vjp.hpp>

namespace stiefelx {

namespace detail {

template <class Ctx, class Q, class R, class DQ, class DR, class DA, class Bits>
void gram_schmidt_columns_vjp(Ctx& ctx, index_t count, index_t p, Q const& q, R const& r,
                              DQ const& dq, DR const& dr, DA&& da, Bits& bits) {
  auto const& frame = dense(ctx, q);
  auto const& triangle = dense(ctx, r);
  auto const& slope = dense(ctx, dr);
  auto left = clone(ctx, dq);
  auto column = scratch<scalar_t<Q>>(ctx, q.rows(), count);
  index_t const k = std::min(q.rows(), p);
  run_batch(ctx, count, gram_schmidt_vjp_body{p, k}, frame, triangle, slope, left, column, da,
            bits);
}

template <class Ctx, class Q, class R, class DQ, class DR, class DA, class Status>
void gram_schmidt_stack_vjp(Ctx& ctx, char const* function, stack s, Q const& q, R const& r,
                            DQ const& dq, DR const& dr, DA&& da, Status&& status) {
  index_t const p = expect_qr_vjp(ctx, function, s, q, r, dq, dr, da);
  expect_statuses(function, s, status);
  auto bits = clear_status(ctx, s.count);
  gram_schmidt_columns_vjp(ctx, s.count, p, q, r, dq, dr, da, bits);
  raise_each(ctx, s, status, bits);
}

}  // namespace detail

/// \brief Reverse rule of gram_schmidt().
/// \ingroup orth
///
/// A matrix of full rank has the rule of qr_vjp(), of every shape, found here column by column. A
/// column that gram_schmidt() dropped is served as well: it has \f$ q_j = 0,\ r_{jj} = 0 \f$ and
/// \f$ r_{ij} = q_i^H a_j \f$, which is differentiated as if the column stayed dropped; its own
/// \f$ \bar q_j \f$ and \f$ \bar r_{jj} \f$ count for nothing. `rank_deficient` is set where \f$
/// r_{jj} \f$ is at most rank_tolerance() of the norm of r's column j, dropped or not; `not_finite`
/// where da has an entry that is not finite.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     q       n x k, k = min(n, p): orthonormal or zero columns
/// \param[in]     r       k x p, upper triangular with a nonnegative diagonal
/// \param[in]     dq      n x k, cotangent of q
/// \param[in]     dr      k x p, cotangent of r; what it has below the diagonal counts for nothing
/// \param[out]    da      n x p, cotangent of a; may be dq, must not overlap q, r or dr
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if the shapes are not these
/// \throws alias_error  if da overlaps q, r or dr, or dq without being dq
/// \par Cost
/// 8 n k p flops in matrix-vector work by one team; scratch of dq's size and a column.
template <class Ctx, Matrix Q, Matrix R, Matrix DQ, Matrix DR, class DA, class Status = no_status>
  requires OutputMatrix<DA> && SameScalar<Q, R, DQ, DR, DA>
void gram_schmidt_vjp(Ctx& ctx, Q const& q, R const& r, DQ const& dq, DR const& dr, DA&& da,
                      Status&& status = {}) {
  detail::expect_qr_vjp(ctx, "gram_schmidt_vjp", stack{1}, q, r, dq, dr, da);
  auto bits = clear_status(ctx, 1);
  detail::gram_schmidt_columns_vjp(ctx, 1, da.cols(), q, r, dq, dr, da, bits);
  raise(ctx, status, bits);
}

/// \brief Reverse rule of gram_schmidt() for every matrix of a stack.
/// \ingroup orth
///
/// Each matrix has the rule, and gets the status, as by the function of one matrix.
///
/// \param[in]     ctx     where to run, one team a matrix; nothing waits
/// \param[in]     s       how many matrices
/// \param[in]     q       n x (k count), k = min(n, p): orthonormal or zero columns
/// \param[in]     r       k x (p count), upper triangular with nonnegative diagonals
/// \param[in]     dq      n x (k count), cotangents of q
/// \param[in]     dr      k x (p count), cotangents of r; below the diagonals it counts for nothing
/// \param[out]    da      n x (p count), cotangents of a; may be dq, must not overlap q, r or dr
/// \param[in,out] status  1 x count int, or no_status{}
/// \throws shape_error  if the shapes are not these
/// \throws alias_error  if da overlaps q, r or dr, or dq without being dq
/// \par Cost
/// That of one matrix, count times.
template <class Ctx, Matrix Q, Matrix R, Matrix DQ, Matrix DR, class DA, class Status = no_status>
  requires OutputMatrix<DA> && SameScalar<Q, R, DQ, DR, DA>
void gram_schmidt_vjp(Ctx& ctx, stack s, Q const& q, R const& r, DQ const& dq, DR const& dr,
                      DA&& da, Status&& status = {}) {
  detail::gram_schmidt_stack_vjp(ctx, "gram_schmidt_vjp", s, q, r, dq, dr, da, status);
}

/// \brief Reverse rule of the QR factorization for every matrix of a stack.
/// \ingroup orth
///
/// That of gram_schmidt_vjp(): for matrices of full rank the factors, and so the rule, do not
/// depend on the method.
///
/// \param[in]     ctx     where to run, one team a matrix; nothing waits
/// \param[in]     s       how many matrices
/// \param[in]     q       n x (k count), k = min(n, p): orthonormal columns
/// \param[in]     r       k x (p count), upper triangular with positive diagonals
/// \param[in]     dq      n x (k count), cotangents of q
/// \param[in]     dr      k x (p count), cotangents of r
/// \param[out]    da      n x (p count), cotangents of a; may be dq, must not overlap q, r or dr
/// \param[in,out] status  1 x count int, or no_status{}
/// \throws shape_error  if the shapes are not these
/// \throws alias_error  if da overlaps q, r or dr, or dq without being dq
/// \par Cost
/// That of gram_schmidt_vjp().
template <class Ctx, Matrix Q, Matrix R, Matrix DQ, Matrix DR, class DA, class Status = no_status>
  requires OutputMatrix<DA> && SameScalar<Q, R, DQ, DR, DA>
void qr_vjp(Ctx& ctx, stack s, Q const& q, R const& r, DQ const& dq, DR const& dr, DA&& da,
            Status&& status = {}) {
  detail::gram_schmidt_stack_vjp(ctx, "qr_vjp", s, q, r, dq, dr, da, status);
}

}  // namespace stiefelx
