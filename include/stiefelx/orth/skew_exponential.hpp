// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cmath>

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// Options of skew_exponential().
/// \ingroup orth
struct skew_exponential_options {
  /// Squarings at most, at least 0. Angles (moduli of eigenvalues) up to \f$ 5 \cdot 2^k \f$ are
  /// right to rounding: 80 radians with the default of 4.
  int squarings = 4;
};

/// \brief Element text: how often a matrix is halved before its exponential is approximated.
/// \ingroup orth
struct halvings_element {
  int most;      ///< halvings at most
  double reach;  ///< largest angle that the approximation serves

  /// \param[out] second  \f$ 4^{-s} \f$, the scaling of the square
  /// \param[out] first   \f$ 2^{-s} \f$
  /// \param[out] count   s
  /// \param[out] bits    status: out of range, or not finite
  /// \param[in]  fourth  norm of the fourth power, which bounds the fourth power of the angle
  STIEFELX_HD void operator()(double& second, double& first, double& count, int& bits,
                              double const& fourth) const {
    double angle = std::sqrt(std::sqrt(fourth));
    bits = fourth - fourth == 0 ? 0 : not_finite;
    count = 0;
    first = 1;
    for (int s = 0; s < most && angle > reach; ++s) {
      angle /= 2;
      first /= 2;
      count += 1;
    }
    if (angle > reach) bits |= not_converged;
    second = first * first;
  }
};

/// Element text: 1 where a squaring is due, else 0.
/// \ingroup orth
struct squaring_element {
  int number;  ///< of the squaring, from 0

  /// \param[out] due    1 or 0
  /// \param[in]  count  squarings that are due
  STIEFELX_HD void operator()(double& due, double const& count) const {
    due = number < count ? 1 : 0;
  }
};

namespace detail {

// a becomes its skew-Hermitian part, to the bit: halving is exact.
template <class Ctx, class A>
void make_skew(Ctx& ctx, A&& a) {
  scale(ctx, 0.5, a);
  auto const half = clone(ctx, a);
  axpy(ctx, -1, half.adjoint(), a);
}

inline constexpr int pade_degree = 13;

// Coefficients of the numerator of the diagonal Pade approximant of exp, lowest first.
constexpr std::array<double, pade_degree + 1> pade_coefficients() {
  std::array<double, pade_degree + 1> b{};
  b[0] = 1;
  for (int j = 1; j <= pade_degree; ++j)
    b[static_cast<std::size_t>(j)] = b[static_cast<std::size_t>(j - 1)] * (pade_degree - j + 1) /
                                     (j * (2.0 * pade_degree - j + 1));
  return b;
}

// even + odd is the numerator of the approximant of exp(a), even - odd its denominator; a2, a4 and
// a6 are powers of a.
template <class Ctx, class A, class P, class V, class U>
void pade_parts(Ctx& ctx, A const& a, P const& a2, P const& a4, P const& a6, V& even, U& odd) {
  constexpr auto b = pade_coefficients();
  auto bracket = clone(ctx, a6);
  auto eye = clone(ctx, a6);
  set_identity(ctx, eye);
  scale(ctx, b[12], bracket);
  axpy(ctx, b[10], a4, bracket);
  axpy(ctx, b[8], a2, bracket);
  multiply(ctx, a6, bracket, even);
  axpy(ctx, b[6], a6, even);
  axpy(ctx, b[4], a4, even);
  axpy(ctx, b[2], a2, even);
  axpy(ctx, b[0], eye, even);
  copy(ctx, a6, bracket);
  scale(ctx, b[13], bracket);
  axpy(ctx, b[11], a4, bracket);
  axpy(ctx, b[9], a2, bracket);
  auto factor = product(ctx, a6, bracket);
  axpy(ctx, b[7], a6, factor);
  axpy(ctx, b[5], a4, factor);
  axpy(ctx, b[3], a2, factor);
  axpy(ctx, b[1], eye, factor);
  multiply(ctx, a, factor, odd);
}

}  // namespace detail

/// \brief Exponential of a skew-Hermitian matrix, a unitary one.
/// \ingroup orth
///
/// Scaling and squaring of the diagonal Padé approximant of degree 13 \cite higham2008, chapter 10.
/// For a skew-Hermitian argument the denominator is the numerator's adjoint, so the approximant is
/// unitary, whatever its error. The number of squarings follows the data without waiting: all of
/// them are computed, those that are due are kept. The work is in the wide scalar.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     a        p x p, real or complex; only its skew-Hermitian part counts
/// \param[out]    e        p x p, \f$ e^H e = I \f$; may be a
/// \param[in,out] status   1 x 1 int, or no_status{}: `not_converged` when angles may be beyond
///                         the range of the options, up to \f$ p^{1/8} \f$ below its end (e is
///                         unitary all the same); `not_finite`
/// \param[in]     options  squarings
/// \throws shape_error   if a is not square or e has another shape
/// \throws option_error  if squarings is negative
/// \throws alias_error   if e overlaps a without being a
/// \par Cost
/// \f$ (16 + 2k)\,p^3 \f$ flops with k squarings, some p x p scratch matrices.
template <class Ctx, Matrix A, class E, class Status = no_status>
  requires OutputMatrix<E> && SameScalar<A, E>
void skew_exponential(Ctx& ctx, A const& a, E&& e, Status&& status = {},
                      skew_exponential_options options = {}) {
  expect_shape("skew_exponential", "a", a, a.cols(), a.cols());
  expect_shape("skew_exponential", "e", e, a.cols(), a.cols());
  expect_option(options.squarings >= 0, "skew_exponential", "squarings", options.squarings,
                "a number of at least 0");
  expect_same_or_distinct(ctx, "skew_exponential", "e", e, "a", a);
  auto w = widen(ctx, a);
  detail::make_skew(ctx, w);
  auto a2 = product(ctx, w, w);
  auto a4 = product(ctx, a2, a2);
  auto numbers = scratch<double>(ctx, 1, 5);
  auto second = numbers.middleCols(0, 1), first = numbers.middleCols(1, 1);
  auto count = numbers.middleCols(2, 1), fourth = numbers.middleCols(3, 1);
  auto due = numbers.middleCols(4, 1);
  auto bits = clear_status(ctx, 1);
  norm(ctx, a4, fourth);
  transform(ctx, halvings_element{options.squarings, 5}, outputs(second, first, count, bits),
            inputs(fourth));
  raise(ctx, status, bits);
  scale(ctx, first, w);
  scale(ctx, second, a2);
  scale(ctx, second, a4);
  scale(ctx, second, a4);
  auto const a6 = product(ctx, a2, a4);
  auto even = clone(ctx, a6);
  auto odd = clone(ctx, a6);
  detail::pade_parts(ctx, w, a2, a4, a6, even, odd);
  // Numerator and denominator in place of the powers, which are not needed any more.
  copy(ctx, even, a2);
  axpy(ctx, -1, odd, a2);
  axpy(ctx, 1, odd, even);
  solve(ctx, a2, even, no_status{});
  for (int k = 0; k < options.squarings; ++k) {
    transform(ctx, squaring_element{k}, outputs(due), inputs(count));
    multiply(ctx, even, even, odd);
    copy_if(ctx, due, odd, even);
  }
  copy(ctx, even, e);
}

}  // namespace stiefelx
