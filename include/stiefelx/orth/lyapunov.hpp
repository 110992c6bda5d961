// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// Options of lyapunov().
/// \ingroup orth
struct lyapunov_options {
  /// Newton iterations, at least 1, after which nothing waits; 0 stops by a test that waits. For a
  /// Hermitian positive m, 12 reach rounding up to a condition number of 1e12.
  int iterations = 0;
};

/// \brief Element text: the two coefficients of a scaled Newton step for the matrix sign.
/// \ingroup orth
struct sign_scaling_element {
  /// \param[out] ahead    c / 2 with \f$ c^2 = \lVert a^{-1} \rVert / \lVert a \rVert \f$
  /// \param[out] back     1 / (2 c)
  /// \param[in]  size     norm of a
  /// \param[in]  inverse  norm of its inverse
  template <class Real>
  STIEFELX_HD void operator()(Real& ahead, Real& back, Real const& size,
                              Real const& inverse) const {
    Real const c = std::sqrt(inverse / size);
    ahead = c / 2;
    back = 1 / (2 * c);
  }
};

/// \brief Element text: status of a solution by its residual.
/// \ingroup orth
struct backward_error_element {
  /// Largest residual, relative to the terms that it is a difference of. Where these are larger
  /// than c by its inverse, a residual at rounding says nothing of the solution.
  double tolerance;

  /// \param[in,out] bits      status
  /// \param[in]     defect    distance of m's sign from the identity
  /// \param[in]     residual  norm of c - m s - s m^H
  /// \param[in]     m         norm of m
  /// \param[in]     s         norm of s
  /// \param[in]     c         norm of c
  template <class Real>
  STIEFELX_HD void operator()(int& bits, Real const& defect, Real const& residual, Real const& m,
                              Real const& s, Real const& c) const {
    double const left = tolerance * static_cast<double>(2 * m * s), right = static_cast<double>(c);
    if (!(m + c - (m + c) == 0))
      bits |= not_finite;
    else if (!(defect < Real(0.5)) ||
             !(static_cast<double>(residual) <= left + tolerance * right) || !(left <= right))
      bits |= not_converged;
  }
};

namespace detail {

// More iterations than any matrix that has a solution to working accuracy needs.
inline constexpr int sign_iterations = 60;

// s = the solution of m s + s m^H = c: half of the upper right block of the sign of [m c; 0 -m^H];
// defect = the distance of m's sign from the identity.
template <class Ctx, class M, class C, class S, class Defect>
void sign_lyapunov(Ctx& ctx, M const& m, C const& c, S& s, Defect& defect, int iterations) {
  using Scalar = scalar_t<M>;
  using Real = real_t<M>;
  index_t const p = m.cols();
  auto ahead = scratch<Real>(ctx, 1, 1), back = scratch<Real>(ctx, 1, 1);
  auto size = scratch<Real>(ctx, 1, 1), inverse_size = scratch<Real>(ctx, 1, 1);
  auto a = clone(ctx, m);
  auto factors = clone(ctx, m);
  auto right = scratch<Scalar>(ctx, p, 2 * p);
  auto inverse = right.middleCols(0, p), half = right.middleCols(p, p);
  copy(ctx, c, s);
  bool near = false;
  for (int k = 0; k < (iterations > 0 ? iterations : sign_iterations); ++k) {
    bool const last = near;
    copy(ctx, a, factors);
    set_identity(ctx, inverse);
    copy(ctx, s, half);
    solve(ctx, factors, right, no_status{});
    norm(ctx, a, size);
    norm(ctx, inverse, inverse_size);
    transform(ctx, sign_scaling_element{}, outputs(ahead, back), inputs(size, inverse_size));
    scale(ctx, ahead, s);
    auto const both = product(ctx, half, inverse.adjoint());
    axpy(ctx, back, both, s);
    copy(ctx, a, factors);
    scale(ctx, ahead, a);
    axpy(ctx, back, inverse, a);
    if (iterations > 0) continue;
    if (last) break;
    // The error is squared from here on, so one more iteration ends it.
    axpy(ctx, -1, a, factors);
    norm(ctx, factors, size);
    norm(ctx, a, inverse_size);
    auto const change = static_cast<double>(value(ctx, size));
    auto const whole = static_cast<double>(value(ctx, inverse_size));
    if (!(whole - whole == 0)) break;
    near = change <= std::sqrt(static_cast<double>(std::numeric_limits<Real>::epsilon())) * whole;
  }
  scale(ctx, 0.5, s);
  set_identity(ctx, factors);
  axpy(ctx, -1, a, factors);
  norm(ctx, factors, defect);
}

// rest = c - m s - s m^H, and what status that makes by backward_error_element.
template <class Ctx, class M, class C, class S, class Defect, class Rest, class Bits>
void lyapunov_residual(Ctx& ctx, M const& m, C const& c, S const& s, Defect const& defect,
                       double tolerance, Rest& rest, Bits& bits) {
  copy(ctx, c, rest);
  multiply_add(ctx, -1, m, s, rest);
  multiply_add(ctx, -1, s, m.adjoint(), rest);
  auto sizes = scratch<real_t<M>>(ctx, 1, 4);
  auto residual = sizes.middleCols(0, 1), size_m = sizes.middleCols(1, 1);
  auto size_s = sizes.middleCols(2, 1), size_c = sizes.middleCols(3, 1);
  norm(ctx, rest, residual);
  norm(ctx, m, size_m);
  norm(ctx, s, size_s);
  norm(ctx, c, size_c);
  fill(ctx, 0, bits);
  transform(ctx, backward_error_element{tolerance}, outputs(bits),
            inputs(defect, residual, size_m, size_s, size_c));
}

}  // namespace detail

/// \brief Solves the Lyapunov equation \f$ m s + s m^H = c \f$.
/// \ingroup orth
///
/// For m whose eigenvalues have positive real parts, Hermitian or not, the matrix \f$
/// \begin{pmatrix} m & c \\ 0 & -m^H \end{pmatrix} \f$ has the sign \f$ \begin{pmatrix} I & 2s \\ 0
/// & -I \end{pmatrix} \f$ \cite roberts1980. Newton's iteration for it, \f$ a \leftarrow (\mu a +
/// a^{-1}/\mu)/2,\ c \leftarrow (\mu c + a^{-1} c\,a^{-H}/\mu)/2 \f$ with \f$ \mu^2 = \lVert a^{-1}
/// \rVert_F / \lVert a \rVert_F \f$ \cite higham2008, section 5.5, needs products and LU alone: no
/// eigenvalues, so equal ones do no harm. It runs in the wide scalar. In double, steps of iterative
/// refinement by the same iteration follow where the residual is not at rounding: at most two, and
/// exactly one when options.iterations is given. s is Hermitian, or skew, to rounding when c is.
///
/// `not_converged` says that an eigenvalue of m is not in the right half plane, or so near to its
/// edge that the residual is not at rounding or s has no correct digit. `not_finite` says that m or
/// c has an entry that is not finite.
///
/// \param[in]     ctx      where to run; waits, unless options.iterations is given
/// \param[in]     m        p x p, eigenvalues with positive real parts; real or complex
/// \param[in]     c        p x p, any matrix
/// \param[out]    s        p x p; must not overlap m or c
/// \param[in,out] status   1 x 1 int, or no_status{}
/// \param[in]     options  iterations
/// \throws shape_error   if m is not square, or c or s has another shape
/// \throws option_error  if options.iterations is negative
/// \throws alias_error   if s overlaps m or c
/// \par Cost
/// 9 p^3 flops an iteration, about ten p x p scratch matrices. Hermitian positive m take 7 to 10
/// iterations, an eigenvalue at angle \f$ \delta \f$ from the imaginary axis about \f$
/// \log_2(36/\delta) \f$; a refinement takes as many again.
template <class Ctx, Matrix M, Matrix C, class S, class Status = no_status>
  requires OutputMatrix<S> && SameScalar<M, C, S>
void lyapunov(Ctx& ctx, M const& m, C const& c, S&& s, Status&& status = {},
              lyapunov_options options = {}) {
  using Scalar = scalar_t<M>;
  index_t const p = m.cols();
  expect_shape("lyapunov", "m", m, p, p);
  expect_shape("lyapunov", "c", c, p, p);
  expect_shape("lyapunov", "s", s, p, p);
  expect_option(options.iterations >= 0, "lyapunov", "iterations", options.iterations,
                "a number of at least 0");
  expect_distinct(ctx, "lyapunov", "s", s, "m", m);
  expect_distinct(ctx, "lyapunov", "s", s, "c", c);
  if (p == 0) return;
  constexpr double eps = std::numeric_limits<real_of_t<Scalar>>::epsilon();
  constexpr bool may_refine = std::is_same_v<Scalar, wide_t<Scalar>>;
  auto const a = widen(ctx, m);
  auto const right = widen(ctx, c);
  auto x = clone(ctx, right);
  auto rest = clone(ctx, right);
  auto bits = clear_status(ctx, 1);
  auto defect = scratch<real_of_t<wide_t<Scalar>>>(ctx, 1, 1);
  auto late = scratch<real_of_t<wide_t<Scalar>>>(ctx, 1, 1);
  detail::sign_lyapunov(ctx, a, right, x, defect, options.iterations);
  for (int pass = 0; may_refine && pass < (options.iterations > 0 ? 1 : 2); ++pass) {
    detail::lyapunov_residual(ctx, a, right, x, defect, 4 * eps, rest, bits);
    if (options.iterations == 0 && value(ctx, bits) == 0) break;
    auto correction = clone(ctx, rest);
    detail::sign_lyapunov(ctx, a, rest, correction, late, options.iterations);
    axpy(ctx, 1, correction, x);
  }
  // Sums of p terms, and what is left above them is no rounding.
  detail::lyapunov_residual(ctx, a, right, x, defect, eps * static_cast<double>(p + 10), rest,
                            bits);
  copy(ctx, x, s);
  raise(ctx, status, bits);
}

}  // namespace stiefelx
