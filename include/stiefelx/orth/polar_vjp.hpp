// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/lyapunov.hpp>
#include <stiefelx/orth/qr_vjp.hpp>
#include <stiefelx/orth/stack_arguments.hpp>

namespace stiefelx {

/// \brief Element text: whether a matrix has an inverse to working accuracy.
/// \ingroup orth
struct condition_element {
  double largest;  ///< condition number from which on it has none

  /// \param[in,out] bits     status; `rank_deficient` when it has none
  /// \param[in]     size     norm of the matrix
  /// \param[in]     inverse  norm of its inverse, or NaN
  template <class Real>
  STIEFELX_HD void operator()(int& bits, Real const& size, Real const& inverse) const {
    if (!(static_cast<double>(size) * static_cast<double>(inverse) < largest))
      bits |= rank_deficient;
  }
};

namespace detail {

template <class Ctx, class A, class Q, class DQ, class DA>
void expect_polar_vjp(Ctx& ctx, A const& a, Q const& q, DQ const& dq, DA const& da) {
  expect_shape("polar_vjp", "q", q, a.rows(), a.cols());
  expect_shape("polar_vjp", "dq", dq, a.rows(), a.cols());
  expect_shape("polar_vjp", "da", da, a.rows(), a.cols());
  expect_same_or_distinct(ctx, "polar_vjp", "da", da, "dq", dq);
  expect_distinct(ctx, "polar_vjp", "da", da, "a", a);
  expect_distinct(ctx, "polar_vjp", "da", da, "q", q);
}

}  // namespace detail

/// \brief Reverse rule of the orthogonal polar factor.
/// \ingroup orth
///
/// For \f$ a = q\,h \f$ with h Hermitian and positive definite, and the cotangent \f$ \bar q \f$ of
/// q, the cotangent of a is \f[ \bar a = (I - q q^H)\,\bar q\,h^{-1} + q\,s, \qquad h s + s h = q^H
/// \bar q - \bar q^H q . \f] The Lyapunov equation divides by sums of two singular values of a,
/// never by a difference: equal singular values need no care. For a square a the first term is
/// zero, and one singular value of a real a may be tiny. A cotangent c of a matrix y stands for
/// the derivative \f$ \mathrm{Re\,tr}(c^H \delta y) \f$ of a real loss.
///
/// h is computed from q and a. `rank_deficient` is set when its condition number is at least 1 /
/// rank_tolerance() and n > p, `not_converged` when two singular values are zero to working
/// accuracy, and `not_finite` when da has an entry that is not finite.
///
/// The rule is also that of the polar retraction, with a = x + v: da is the cotangent of x and of v
/// alike.
///
/// \param[in]     ctx      where to run; waits unless options.iterations is given: see lyapunov()
/// \param[in]     a        n x p, n >= p, full rank
/// \param[in]     q        n x p, its polar factor
/// \param[in]     dq       n x p, cotangent of q
/// \param[out]    da       n x p, cotangent of a; may be dq, must not overlap a or q
/// \param[in,out] status   1 x 1 int, or no_status{}
/// \param[in]     options  of the Lyapunov equation, whose matrix h is Hermitian and positive
/// \throws shape_error   if a is wide, or q, dq or da has another shape
/// \throws option_error  if options.iterations is negative
/// \throws alias_error   if da overlaps a or q, or dq without being dq
/// \par Cost
/// 10 n p^2 flops and the cost of lyapunov(); one n x p and some p x p scratch matrices.
/// \see \cite higham2008, chapter 8
template <class Ctx, Matrix A, Matrix Q, Matrix DQ, class DA, class Status = no_status>
  requires OutputMatrix<DA> && SameScalar<A, Q, DQ, DA>
void polar_vjp(Ctx& ctx, A const& a, Q const& q, DQ const& dq, DA&& da, Status&& status = {},
               lyapunov_options options = {}) {
  expect_tall("polar_vjp", "a", a);
  detail::expect_polar_vjp(ctx, a, q, dq, da);
  auto const& frame = dense(ctx, q);
  auto slope = clone(ctx, dq);
  auto h = product(ctx, frame.adjoint(), a);
  symmetrize(ctx, h);
  auto along = product(ctx, frame.adjoint(), slope);
  auto s = clone(ctx, along);
  {
    auto skew = clone(ctx, along);
    copy(ctx, along.adjoint(), s);
    axpy(ctx, -1, s, skew);
    lyapunov(ctx, h, skew, s, status, options);
    // The solution is skew: its Hermitian part is rounding, and would be the larger part of the
    // error where one singular value is tiny.
    copy(ctx, s.adjoint(), skew);
    axpy(ctx, -1, skew, s);
    scale(ctx, 0.5, s);
  }
  if (a.rows() == a.cols()) {
    multiply(ctx, frame, s, da);
  } else {
    // The inverse of h from its Cholesky factor: h^-1 = z z^H with z = r^-1.
    auto z = clone(ctx, h);
    auto size = scratch<real_t<A>>(ctx, 1, 1), inverse_size = scratch<real_t<A>>(ctx, 1, 1);
    norm(ctx, h, size);
    set_identity(ctx, z);
    cholesky(ctx, h, no_status{});
    solve_right(ctx, h, z);
    auto const inverse = gram(ctx, z.adjoint());
    norm(ctx, inverse, inverse_size);
    auto bits = clear_status(ctx, 1);
    double const limit = 1 / static_cast<double>(rank_tolerance<scalar_t<A>>(a.rows()));
    transform(ctx, condition_element{limit}, outputs(bits), inputs(size, inverse_size));
    multiply_add(ctx, -1, frame, along, slope);
    multiply(ctx, slope, inverse, da);
    multiply_add(ctx, 1, frame, s, da);
    raise(ctx, status, bits);
  }
  detail::raise_unless_finite(ctx, da, status);
}

/// \brief Reverse rule of the orthogonal polar factor for every matrix of a stack.
/// \ingroup orth
///
/// Each matrix has the rule, and gets the status, as by the function of one matrix.
///
/// \param[in]     ctx      where to run; waits as the function of one matrix does
/// \param[in]     s        how many matrices
/// \param[in]     a        n x (p count), n >= p, matrices of full rank
/// \param[in]     q        n x (p count), their polar factors
/// \param[in]     dq       n x (p count), cotangents of q
/// \param[out]    da       n x (p count), cotangents of a; may be dq, must not overlap a or q
/// \param[in,out] status   1 x count int, one an item, or no_status{}
/// \param[in]     options  of the Lyapunov equations
/// \throws shape_error   if the matrices are wide, or q, dq, da or status has another shape
/// \throws option_error  if options.iterations is negative
/// \throws alias_error   if da overlaps a or q, or dq without being dq
/// \par Cost
/// That of one matrix, count times, one after the other.
template <class Ctx, Matrix A, Matrix Q, Matrix DQ, class DA, class Status = no_status>
  requires OutputMatrix<DA> && SameScalar<A, Q, DQ, DA>
void polar_vjp(Ctx& ctx, stack s, A const& a, Q const& q, DQ const& dq, DA&& da,
               Status&& status = {}, lyapunov_options options = {}) {
  index_t const p = detail::expect_tall_stack("polar_vjp", "a", s, a);
  detail::expect_polar_vjp(ctx, a, q, dq, da);
  detail::expect_statuses("polar_vjp", s, status);
  for (index_t k = 0; k < s.count; ++k) {
    auto const of = [&](auto&& m) { return m.middleCols(k * p, p); };
    if constexpr (std::is_same_v<std::remove_cvref_t<Status>, no_status>)
      polar_vjp(ctx, of(a), of(q), of(dq), of(da), no_status{}, options);
    else
      polar_vjp(ctx, of(a), of(q), of(dq), of(da), status.middleCols(k, 1), options);
  }
}

}  // namespace stiefelx
