// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/skew_exponential.hpp>

namespace stiefelx {

/// \brief Element text: status of a logarithm by the residual of its first square root.
/// \ingroup orth
struct root_status_element {
  double tolerance;  ///< largest residual that is rounding

  /// \param[out] bits    status
  /// \param[in]  defect  norm of u less the square of its root; a NaN is not converged
  /// \param[in]  finite  1 where u is finite, else 0
  STIEFELX_HD void operator()(int& bits, double const& defect, double const& finite) const {
    bits = (defect <= tolerance ? 0 : not_converged) | (finite == 0 ? not_finite : 0);
  }
};

namespace detail {

// x becomes its unitary polar factor by Newton's iteration x <- (x + x^-H) / 2, scaled by what the
// range of the singular values, [smallest, largest], can be after each step; the number of steps
// follows from the range alone.
template <class Ctx, class X>
void newton_polar(Ctx& ctx, X& x, double smallest, double largest) {
  auto adjoint = clone(ctx, x);
  auto inverse = clone(ctx, x);
  double factor = 1 / std::sqrt(smallest * largest);
  double ratio = largest / smallest;
  for (bool last = false; !last; factor = 1 / std::sqrt(ratio)) {
    // The error of a step is half the square of the one before.
    last = ratio < 1 + 1e-8;
    copy(ctx, x.adjoint(), adjoint);
    set_identity(ctx, inverse);
    solve(ctx, adjoint, inverse, no_status{});
    scale(ctx, factor / 2, x);
    axpy(ctx, 1 / (2 * factor), inverse, x);
    ratio = (std::sqrt(ratio) + 1 / std::sqrt(ratio)) / 2;
  }
}

// One step of Newton and Schulz towards the unitary factor of x.
template <class Ctx, class X>
void newton_schulz_step(Ctx& ctx, X& x) {
  auto t = clone(ctx, x);
  set_identity(ctx, t);
  scale(ctx, 1.5, t);
  auto const before = clone(ctx, x);
  multiply_add(ctx, -0.5, before.adjoint(), before, t);
  multiply(ctx, before, t, x);
}

// x becomes the square root of the unitary x: the polar factor of I + x. Angles are below
// `largest`.
template <class Ctx, class X>
void unitary_root(Ctx& ctx, X& x, double largest) {
  auto eye = clone(ctx, x);
  set_identity(ctx, eye);
  axpy(ctx, 1, eye, x);
  newton_polar(ctx, x, 2 * std::cos(largest / 2), 2);
}

// a = 2 atanh((x - I)(x + I)^-1) = log x for unitary x with angles up to pi / 4, by the series.
template <class Ctx, class X, class A>
void small_logarithm(Ctx& ctx, X const& x, A& a) {
  auto eye = clone(ctx, x);
  set_identity(ctx, eye);
  auto c = clone(ctx, x);
  axpy(ctx, -1, eye, c);
  {
    auto sum = clone(ctx, x);
    axpy(ctx, 1, eye, sum);
    solve(ctx, sum, c, no_status{});
  }
  auto const y = product(ctx, c, c);
  auto const y2 = product(ctx, y, y);
  auto const y3 = product(ctx, y2, y);
  // Singular values of y are at most tan(pi/8)^2 = 0.172, so 21 terms leave 1e-17: seven blocks of
  // three by Horner in y3.
  constexpr int blocks = 7;
  auto now = clone(ctx, y);
  auto next = clone(ctx, y);
  fill(ctx, 0, now);
  for (int k = blocks - 1; k >= 0; --k) {
    multiply(ctx, now, y3, next);
    axpy(ctx, 2.0 / (6 * k + 1), eye, next);
    axpy(ctx, 2.0 / (6 * k + 3), y, next);
    axpy(ctx, 2.0 / (6 * k + 5), y2, next);
    copy(ctx, next, now);
  }
  multiply(ctx, c, now, a);
}

}  // namespace detail

/// \brief Principal logarithm of a unitary matrix, a skew-Hermitian one.
/// \ingroup orth
///
/// The a with \f$ \exp(a) = u \f$ whose eigenvalues \f$ i\theta \f$ have \f$ |\theta| < \pi \f$.
/// Two square roots, each the polar factor of \f$ I + u \f$ by scaled Newton iteration, bring the
/// angles below \f$ \pi/4 \f$; the series of \f$ 2\,\mathrm{artanh}((u - I)(u + I)^{-1}) \f$ does
/// the rest \cite higham2008, chapters 8 and 11. The work is in the wide scalar.
///
/// Angles \f$ \theta \f$ and \f$ -\theta \f$ meet at \f$ \pi \f$, and the logarithm's condition is
/// \f$ 1/\cos(\theta/2) \f$ there: a loses that factor. Where the loss shows in \f$ \exp(a) \f$, as
/// it does at \f$ \pi \f$ itself, and for a real u of determinant -1, `not_converged` is set.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     u       p x p, unitary to working accuracy, real or complex
/// \param[out]    a       p x p, skew-Hermitian to the bit; may be u
/// \param[in,out] status  1 x 1 int, or no_status{}: `not_converged` for an angle of about
///                        \f$ \pi \f$, or u that is not unitary; `not_finite` as well for u
///                        with a NaN or an infinity
/// \throws shape_error  if u is not square or a has another shape
/// \throws alias_error  if a overlaps u without being u
/// \par Cost
/// About 65 p^3 flops, some p x p scratch matrices.
template <class Ctx, Matrix U, class A, class Status = no_status>
  requires OutputMatrix<A> && SameScalar<U, A>
void unitary_logarithm(Ctx& ctx, U const& u, A&& a, Status&& status = {}) {
  using S = scalar_t<U>;
  expect_shape("unitary_logarithm", "u", u, u.cols(), u.cols());
  expect_shape("unitary_logarithm", "a", a, u.cols(), u.cols());
  expect_same_or_distinct(ctx, "unitary_logarithm", "a", a, "u", u);
  auto given = widen(ctx, u);
  auto root = clone(ctx, given);
  // Rounding in a narrow scalar would be enlarged near pi like any other error.
  detail::newton_schulz_step(ctx, root);
  detail::newton_schulz_step(ctx, root);
  constexpr double pi = std::numbers::pi;
  detail::unitary_root(ctx, root, pi * (1 - 1e-6));
  {
    auto defect = scratch<double>(ctx, 1, 1), finite = scratch<double>(ctx, 1, 1);
    auto bits = scratch<int>(ctx, 1, 1);
    all_finite(ctx, given, finite);
    multiply_add(ctx, -1, root, root, given);
    norm(ctx, given, defect);
    double const rounding = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon()) * 64 *
                            static_cast<double>(u.cols() + 10);
    transform(ctx, root_status_element{rounding}, outputs(bits), inputs(defect, finite));
    raise(ctx, status, bits);
  }
  detail::unitary_root(ctx, root, pi / 2);
  detail::small_logarithm(ctx, root, given);
  scale(ctx, 4, given);
  detail::make_skew(ctx, given);
  copy(ctx, given, a);
}

}  // namespace stiefelx
