// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/team/cholesky_qr.hpp>

namespace stiefelx {

/// Options of cholesky_qr().
/// \ingroup orth
struct cholesky_qr_options {
  cholesky_qr_method method = cholesky_qr_method::automatic;  ///< see cholesky_qr_method
};

namespace detail {

// What a pass does beside q = q r^-1 with the factor r of q's Gram matrix.
enum class pass_check { none, shift, last };

template <class Ctx, class Q, class R, class Bits>
void cholesky_pass(Ctx& ctx, Q&& q, R&& r, Bits& bits, pass_check check = pass_check::none) {
  {
    auto g = gram(ctx, q);
    if (check == pass_check::shift) run_batch(ctx, 1, gram_shift_body{q.rows()}, g);
    if (check == pass_check::last) run_batch(ctx, 1, near_identity_body{}, g, bits);
    copy(ctx, g, r);
  }
  cholesky(ctx, r, bits);
  solve_right(ctx, r, q);
}

// One more pass: r takes the product of both factors, next is left with the second.
template <class Ctx, class Q, class R, class Next, class Bits>
void cholesky_repeat(Ctx& ctx, Q&& q, R&& r, Next& next, Bits& bits,
                     pass_check check = pass_check::none) {
  cholesky_pass(ctx, q, next, bits, check);
  auto const before = clone(ctx, r);
  multiply(ctx, next, before, r);
}

// Whether a pass by the factor r gave orthonormal columns; waits. A repeated pass starts from
// columns that should be orthonormal.
template <class Ctx, class R, class Bits>
bool is_accurate_pass(Ctx& ctx, R const& r, Bits const& bits, bool repeated) {
  if (value(ctx, bits) != 0) return false;
  auto factor = clone(ctx, r);
  auto inverse = clone(ctx, r);
  set_identity(ctx, inverse);
  solve_right(ctx, factor, inverse);
  auto smallest = scratch<double>(ctx, 1, 1);
  run_batch(ctx, 1, independence_body{repeated}, factor, inverse, smallest);
  return value(ctx, smallest) >= 0.5;
}

}  // namespace detail

/// \brief Factors a tall matrix through the Cholesky factor of its Gram matrix.
/// \ingroup orth
///
/// \f$ a = q\,r \f$ with \f$ q^H q = I \f$ and r upper triangular with a positive diagonal: with
/// \f$ g = a^H a = r^H r \f$, \f$ q = a\,r^{-1} \f$. All large work is products, so it is the fast
/// method for n much larger than p. Columns are first scaled by powers of two, so graded input
/// costs no accuracy; \f$ \kappa \f$ is the condition number of the scaled matrix, and \f$
/// \epsilon \f$ 1.2e-7 for float and 2.2e-16 for double.
///
/// | method | loss of orthogonality, \f$ \lVert q^H q - I \rVert \f$ | range |
/// | --- | --- | --- |
/// | `automatic` | \f$ O(\epsilon) \f$ | every matrix |
/// | `one_pass` | \f$ O(\kappa^2 \epsilon) \f$ | \f$ \kappa < \epsilon^{-1/2} \f$: 2.9e3, 6.7e7 |
/// | `two_passes` | \f$ O(\epsilon) \f$ \cite yamamoto2015 | the same |
/// | `shifted_three` | \f$O(\epsilon)\f$ \cite fukaya2020 | \f$\kappa < 1/(\epsilon\sqrt s)\f$ |
///
/// Here \f$ s = 11\,(n p + p (p + 1)) \f$ is the shift in units of rounding.
///
/// The default method asks how much of each column the others leave unexplained (see
/// independence_body). The threshold is a half for every scalar type: with that for every column,
/// \f$ \kappa \le p \sqrt 2 \f$, and one pass is as good as Householder. Otherwise a second pass
/// runs and sets `refined`; when the first one's result passes the same test, the second has
/// repaired it. That holds up to \f$ \kappa \f$ near \f$ \epsilon^{-1/2} \f$: some 1e3 in float,
/// 1e7 in double. Beyond, or when a pivot is not positive, householder_qr() factors a, and
/// `rank_deficient` is its verdict.
///
/// The fixed methods never wait. A pivot that is not positive or is lost in rounding sets
/// `rank_deficient`: below \f$ 2 \sqrt{\max(4, p)\,\epsilon} \f$ of its column (1.4e-3 in float and
/// 6e-8 in double for p = 4), and with the shift below max(4, n) \f$ \epsilon \f$. When the last of
/// several passes does not start near orthonormal columns, `not_converged` is set. After either q
/// is of no use, but for `rank_deficient` alone after `shifted_three`: then q is orthonormal.
///
/// \param[in]     ctx     where to run; the method `automatic` waits
/// \param[in]     a       n x p, n >= p, any matrix or expression, real or complex
/// \param[out]    q       n x p, orthonormal columns; may be a
/// \param[out]    r       p x p, upper triangular; must not overlap a or q
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \param[in]     options  the method
/// \throws shape_error  if a is wide, or q or r has another shape
/// \throws alias_error  if r overlaps a or q, or q overlaps a without being a
/// \par Cost
/// 2 n p^2 flops a pass with the symmetry of the Gram matrix used, and p^3 for the choice of the
/// method `automatic`; p x p scratch, and n x p for that method.
/// \see \cite yamamoto2015, \cite fukaya2020
template <class Ctx, Matrix A, class Q, class R, class Status = no_status>
  requires OutputMatrix<Q> && OutputMatrix<R> && SameScalar<A, Q, R>
void cholesky_qr(Ctx& ctx, A const& a, Q&& q, R&& r, Status&& status = {},
                 cholesky_qr_options options = {}) {
  detail::expect_thin_qr(ctx, "cholesky_qr", a, q, r);
  index_t const p = a.cols();
  auto const& input = dense(ctx, a);
  auto exponents = scratch<int>(ctx, 1, p);
  auto finite = clear_status(ctx, p);
  auto bits = clear_status(ctx, 1);
  auto next = scratch<scalar_t<A>>(ctx, p, p);
  auto const method = options.method;

  run_batch(ctx, p, equilibrate_body{}, input, q, exponents, finite);
  if (method == cholesky_qr_method::automatic) {
    // The scaled input is kept for the fallback: q may be a.
    auto const scaled = clone(ctx, q);
    detail::cholesky_pass(ctx, q, r, bits);
    if (!detail::is_accurate_pass(ctx, r, bits, false)) {
      raise(ctx, status, refined);
      if (value(ctx, bits) == 0) detail::cholesky_repeat(ctx, q, r, next, bits);
      if (!detail::is_accurate_pass(ctx, next, bits, true)) {
        copy(ctx, scaled, q);
        detail::householder_factor(ctx, q, r, bits);
      }
    }
  } else {
    using detail::pass_check;
    bool const shifted = method == cholesky_qr_method::shifted_three;
    detail::cholesky_pass(ctx, q, r, bits, shifted ? pass_check::shift : pass_check::none);
    lost_pivot_body const pivots{pivot_tolerance<scalar_t<A>>(method, a.rows(), p)};
    if (!shifted) run_batch(ctx, 1, pivots, r, bits);
    if (shifted) detail::cholesky_repeat(ctx, q, r, next, bits);
    if (method != cholesky_qr_method::one_pass)
      detail::cholesky_repeat(ctx, q, r, next, bits, pass_check::last);
    if (shifted) run_batch(ctx, 1, pivots, r, bits);
  }
  run_batch(ctx, p, rescale_triangle_body{}, r, exponents);
  raise(ctx, status, finite);
  raise(ctx, status, bits);
}

/// \brief Factors every matrix of a stack through the Cholesky factor of its Gram matrix.
/// \ingroup orth
///
/// Matrix k of the stack is columns k p, ..., k p + p - 1; each is factored, and gets its status,
/// as by the function of one matrix. The method `automatic` chooses for each matrix.
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
/// 2 n p^2 flops a pass and matrix; 4 p^2 + 3 p doubles of scratch a team, and for the method
/// `automatic` a copy of a.
template <class Ctx, Matrix A, class Q, class R, class Status = no_status>
  requires OutputMatrix<Q> && OutputMatrix<R> && SameScalar<A, Q, R>
void cholesky_qr(Ctx& ctx, stack s, A const& a, Q&& q, R&& r, Status&& status = {},
                 cholesky_qr_options options = {}) {
  index_t const p = detail::expect_stack_qr(ctx, "cholesky_qr", s, a, q, r, status);
  auto bits = clear_status(ctx, s.count);
  small_cholesky_qr_body const body{p, options.method};
  if (options.method == cholesky_qr_method::automatic) {
    // The input is kept for the fallback: q may be a.
    auto const input = clone(ctx, a);
    run_batch(ctx, s.count, body, input, q, r, bits);
  } else {
    auto const& input = dense(ctx, a);
    run_batch(ctx, s.count, body, input, q, r, bits);
  }
  detail::raise_each(ctx, s, status, bits);
}

}  // namespace stiefelx
