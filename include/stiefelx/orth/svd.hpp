// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/team/jacobi_svd.hpp>

namespace stiefelx {

namespace detail {

// Cosine of two columns that count as orthogonal: that of the scalar's rounding, somewhat
// tightened where the work is in a wider scalar, since its last sweep costs little more.
template <class S>
double jacobi_tolerance(index_t p) {
  constexpr auto eps = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon());
  constexpr auto wide_eps =
      static_cast<double>(std::numeric_limits<real_of_t<wide_t<S>>>::epsilon());
  double const length = std::sqrt(static_cast<double>(p < 1 ? 1 : p));
  return eps > wide_eps ? eps / 64 : wide_eps * length;
}

template <class Ctx, class A, class U, class W, class V>
void expect_svd(Ctx& ctx, char const* function, A const& a, U const& u, W const& w, V const& v,
                index_t count) {
  index_t const p = count == 0 ? 0 : a.cols() / count;
  expect_shape(function, "u", u, a.rows(), a.cols());
  expect_shape(function, "w", w, 1, a.cols());
  expect_shape(function, "v", v, p, a.cols());
  expect_same_or_distinct(ctx, function, "u", u, "a", a);
  expect_distinct(ctx, function, "w", w, "a", a);
  expect_distinct(ctx, function, "w", w, "u", u);
  expect_distinct(ctx, function, "v", v, "a", a);
  expect_distinct(ctx, function, "v", v, "u", u);
  expect_distinct(ctx, function, "v", v, "w", w);
}

}  // namespace detail

/// \brief Singular value decomposition of a tall matrix by QR and one-sided Jacobi rotations.
/// \ingroup orth
///
/// \f$ a = u\,\mathrm{diag}(w)\,v^H \f$ with \f$ u^H u = v^H v = I \f$ and \f$ w_1 \ge \dots \ge
/// w_p \ge 0 \f$. Householder reflections leave a triangle, which jacobi_svd_body decomposes in the
/// wide scalar. Columns are scaled by powers of two on the way: when \f$ a = b\,d \f$ with a
/// diagonal d, each singular value has a relative error of order \f$ \kappa(b)\,\epsilon \f$,
/// whatever d is, and u and v are orthonormal to the unit roundoff for every input.
/// \cite demmel1992
///
/// With a Hermitian positive definite a, u (or v) has the eigenvectors and w the eigenvalues.
///
/// A column that depends on the earlier ones, or a singular value below 2^-480 of the largest,
/// sets `rank_deficient`; u is orthonormal all the same, and \f$ u\,v^H \f$ is one of the nearest
/// matrices with orthonormal columns. A NaN or an infinity fills every output with NaN and sets
/// `not_finite`. `not_converged`, after 30 sweeps, has not been met.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     a       n x p, n >= p, any matrix or expression, real or complex
/// \param[out]    u       n x p, left singular vectors; may be a
/// \param[out]    w       1 x p, real, singular values; must not overlap another argument
/// \param[out]    v       p x p, right singular vectors; must not overlap another argument
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if a is wide, or u, w or v has another shape
/// \throws alias_error  if an output overlaps another argument, but for u being a
/// \par Cost
/// 6 n p^2 flops, and about 8 p^3 a sweep with 5 to 10 sweeps, by one team; two n x p scratch
/// matrices and two p x p ones of the wide scalar.
template <class Ctx, Matrix A, class U, class W, class V, class Status = no_status>
  requires OutputMatrix<U> && OutputMatrix<W> && OutputMatrix<V> && SameScalar<A, U, V>
void svd(Ctx& ctx, A const& a, U&& u, W&& w, V&& v, Status&& status = {}) {
  using S = scalar_t<A>;
  static_assert(std::is_same_v<scalar_t<W>, real_of_t<S>>, "w has the real type of a's scalar");
  expect_tall("svd", "a", a);
  detail::expect_svd(ctx, "svd", a, u, w, v, 1);
  index_t const p = a.cols();
  auto const& input = dense(ctx, a);
  auto exponents = scratch<int>(ctx, 1, p);
  auto finite = clear_status(ctx, p);
  auto deficient = clear_status(ctx, 1);
  auto bits = clear_status(ctx, 1);
  auto frame = clone(ctx, u);
  run_batch(ctx, p, equilibrate_body{}, input, frame, exponents, finite);
  {
    auto r = scratch<S>(ctx, p, p);
    detail::householder_factor(ctx, frame, r, deficient);
    auto x = widen(ctx, r);
    auto turn = scratch<wide_t<S>>(ctx, p, p);
    run_batch(ctx, 1, jacobi_svd_body{p, detail::jacobi_tolerance<S>(p)}, x, exponents, w, turn,
              bits);
    copy(ctx, turn, v);
    copy(ctx, x, r);
    multiply(ctx, frame, r, u);
  }
  raise(ctx, status, finite);
  raise(ctx, status, deficient);
  raise(ctx, status, bits);
}

/// \brief Singular value decomposition of every matrix of a stack.
/// \ingroup orth
///
/// Matrix k of the stack is columns k p, ..., k p + p - 1; each is decomposed, and gets its status,
/// as by the function of one matrix. The triangle's grading is kept as far as the wide scalar goes.
///
/// \param[in]     ctx     where to run, one team a matrix; nothing waits
/// \param[in]     s       how many matrices
/// \param[in]     a       n x (p count), n >= p, any matrix or expression, real or complex
/// \param[out]    u       n x (p count), left singular vectors; may be a
/// \param[out]    w       1 x (p count), real, singular values; must not overlap another argument
/// \param[out]    v       p x (p count), right singular vectors; must not overlap another argument
/// \param[in,out] status  1 x count int, or no_status{}
/// \throws shape_error  if a's columns are no multiple of the count, its matrices are wide, or u,
///                      w, v or status has another shape
/// \throws alias_error  if an output overlaps another argument, but for u being a
/// \par Cost
/// That of one matrix, count times, in matrix-vector work.
template <class Ctx, Matrix A, class U, class W, class V, class Status = no_status>
  requires OutputMatrix<U> && OutputMatrix<W> && OutputMatrix<V> && SameScalar<A, U, V>
void svd(Ctx& ctx, stack s, A const& a, U&& u, W&& w, V&& v, Status&& status = {}) {
  using S = scalar_t<A>;
  static_assert(std::is_same_v<scalar_t<W>, real_of_t<S>>, "w has the real type of a's scalar");
  index_t const p = detail::expect_tall_stack("svd", "a", s, a), all = a.cols();
  detail::expect_svd(ctx, "svd", a, u, w, v, s.count);
  detail::expect_statuses("svd", s, status);
  auto const& input = dense(ctx, a);
  auto exponents = scratch<int>(ctx, 1, all);
  auto finite = clear_status(ctx, all);
  auto deficient = clear_status(ctx, s.count);
  auto bits = clear_status(ctx, s.count);
  auto frame = clone(ctx, u);
  auto r = scratch<S>(ctx, p, all);
  run_batch(ctx, all, equilibrate_body{}, input, frame, exponents, finite);
  auto const scaled = dense(ctx, frame);
  run_batch(ctx, s.count, small_householder_body{p}, scaled, frame, r, deficient);
  {
    auto x = widen(ctx, r);
    auto turn = scratch<wide_t<S>>(ctx, p, all);
    run_batch(ctx, s.count, jacobi_svd_body{p, detail::jacobi_tolerance<S>(p)}, x, exponents, w,
              turn, bits);
    copy(ctx, turn, v);
    run_batch(ctx, s.count, small_product_body{p}, frame, x, u);
  }
  detail::raise_each(ctx, s, status, finite, p);
  detail::raise_each(ctx, s, status, deficient);
  detail::raise_each(ctx, s, status, bits);
}

}  // namespace stiefelx
