// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <stiefelx/orth/stack_arguments.hpp>
#include <stiefelx/team/householder_qr.hpp>
#include <stiefelx/team/small_qr.hpp>

namespace stiefelx {

namespace detail {

// Panels this wide keep the reflections' own work small beside the block updates.
inline constexpr index_t householder_panel = 16;

// q = the orthonormal factor of q, r = the triangular one; q's columns are already scaled.
template <class Ctx, class Q, class R, class Bits>
void householder_factor(Ctx& ctx, Q&& q, R&& r, Bits& bits) {
  using S = scalar_t<Q>;
  index_t const n = q.rows(), p = q.cols();
  auto v = scratch<S>(ctx, n, p);
  auto t = scratch<S>(ctx, householder_panel, p);
  fill(ctx, 0, v);
  for (index_t k = 0; k < p; k += householder_panel) {
    index_t const b = std::min(householder_panel, p - k), rest = p - k - b;
    auto panel = q.middleCols(k, b).middleRows(k, n - k);
    auto vk = v.middleCols(k, b).middleRows(k, n - k);
    auto tk = t.middleCols(k, b).middleRows(0, b);
    run_batch(ctx, 1, householder_panel_body{}, panel, vk, tk);
    if (rest == 0) continue;
    auto trailing = q.middleCols(k + b, rest).middleRows(k, n - k);
    auto const w = product(ctx, vk.adjoint(), trailing);
    auto const tw = product(ctx, tk.adjoint(), w);
    multiply_add(ctx, -1, vk, tw, trailing);
  }
  copy(ctx, q.middleRows(0, p), r);
  set_identity(ctx, q);
  // The identity fills up from its last panel, so earlier columns are still unit vectors.
  for (index_t k = (p - 1) / householder_panel * householder_panel; k >= 0 && p > 0;
       k -= householder_panel) {
    index_t const b = std::min(householder_panel, p - k);
    auto vk = v.middleCols(k, b).middleRows(k, n - k);
    auto tk = t.middleCols(k, b).middleRows(0, b);
    auto block = q.middleCols(k, p - k).middleRows(k, n - k);
    auto const w = product(ctx, vk.adjoint(), block);
    auto const tw = product(ctx, tk, w);
    multiply_add(ctx, -1, vk, tw, block);
  }
  run_batch(ctx, 1, positive_diagonal_body{}, q, r, bits);
}

}  // namespace detail

/// \brief Factors a matrix by Householder reflections.
/// \ingroup orth
///
/// \f$ a = q\,r \f$ with r upper triangular with a positive diagonal \cite golub2013. The loss of
/// orthogonality \f$ \lVert q^H q - I \rVert \f$ is \f$ O(\epsilon) \f$ for every condition number,
/// and for deficient input too. The reference among the methods here, and the fallback of
/// cholesky_qr(). Columns are first scaled by powers of two.
///
/// A column that depends on the earlier ones sets `rank_deficient` and may leave a zero on r's
/// diagonal; q is orthonormal all the same. A NaN or an infinity sets `not_finite` and spreads.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     a       n x p, n >= p, any matrix or expression, real or complex
/// \param[out]    q       n x p, orthonormal columns; may be a
/// \param[out]    r       p x p, upper triangular; must not overlap a or q
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a is wide, or q or r has another shape
/// \throws alias_error  if r overlaps a or q, or q overlaps a without being a
/// \par Cost
/// 4 n p^2 - 4/3 p^3 flops in blocked form, one n x p scratch matrix.
template <class Ctx, Matrix A, class Q, class R, class Status = no_status>
  requires OutputMatrix<Q> && OutputMatrix<R> && SameScalar<A, Q, R>
void householder_qr(Ctx& ctx, A const& a, Q&& q, R&& r, Status&& status = {}) {
  detail::expect_thin_qr(ctx, "householder_qr", a, q, r);
  auto const& input = dense(ctx, a);
  auto exponents = scratch<int>(ctx, 1, a.cols());
  auto finite = clear_status(ctx, a.cols());
  auto bits = clear_status(ctx, 1);
  run_batch(ctx, a.cols(), equilibrate_body{}, input, q, exponents, finite);
  detail::householder_factor(ctx, q, r, bits);
  run_batch(ctx, a.cols(), rescale_triangle_body{}, r, exponents);
  raise(ctx, status, finite);
  raise(ctx, status, bits);
}

/// \brief Factors every matrix of a stack by Householder reflections.
/// \ingroup orth
///
/// Matrix k of the stack is columns k p, ..., k p + p - 1; each is factored, and gets its status,
/// as by the function of one matrix.
///
/// \param[in]     ctx     where to run, one team a matrix; nothing waits
/// \param[in]     s       how many matrices
/// \param[in]     a       n x (p count), n >= p, any matrix or expression, real or complex
/// \param[out]    q       n x (p count), orthonormal columns in each matrix; may be a
/// \param[out]    r       p x (p count), upper triangular; must not overlap a or q
/// \param[in,out] status  1 x count int, or no_status{}
/// \throws shape_error  if a's columns are no multiple of the count, its matrices are wide, or q, r
///                      or status has another shape
/// \throws alias_error  if r overlaps a or q, or q overlaps a without being a
/// \par Cost
/// 4 n p^2 - 4/3 p^3 flops a matrix in matrix-vector work, 2 p doubles of scratch a team.
template <class Ctx, Matrix A, class Q, class R, class Status = no_status>
  requires OutputMatrix<Q> && OutputMatrix<R> && SameScalar<A, Q, R>
void householder_qr(Ctx& ctx, stack s, A const& a, Q&& q, R&& r, Status&& status = {}) {
  index_t const p = detail::expect_stack_qr(ctx, "householder_qr", s, a, q, r, status);
  auto const& input = dense(ctx, a);
  auto bits = clear_status(ctx, s.count);
  run_batch(ctx, s.count, small_householder_body{p}, input, q, r, bits);
  detail::raise_each(ctx, s, status, bits);
}

}  // namespace stiefelx
