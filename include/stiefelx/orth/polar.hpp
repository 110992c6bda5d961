// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/residual.hpp>

namespace stiefelx {

/// Options of polar().
/// \ingroup orth
struct polar_options {
  /// Newton-Schulz iterations, at least 1; 0 takes what the scalar's range needs (30 for float, 56
  /// for double).
  int iterations = 0;
};

/// \brief Team text: one exponent for a whole matrix, and the scaling by it.
/// \ingroup orth
struct equilibrate_whole_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes
  /// \param[in]  a       n x p
  /// \param[out] b       n x p, its largest column of size about one; may be a
  /// \param[out] status  1 x 1
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S const> a,
                              matrix_ref<S> b, matrix_ref<int> status) const {
    bool is_finite = true, found = false;
    int largest = 0;
    for (index_t j = 0; j < a.cols; ++j) {
      bool finite = true;
      int const exponent = column_exponent(team, a.column(j), a.rows, finite);
      is_finite = is_finite && finite;
      bool const zero = exponent == 0 && column_squared_norm(team, a.column(j), a.rows) == 0;
      if (zero) continue;
      if (!found || exponent > largest) largest = exponent;
      found = true;
    }
    for (index_t j = 0; j < a.cols; ++j)
      scale_by_power(team, a.column(j), a.rows, -largest, b.column(j));
    if (team.rank() == 0) status(0, 0) = is_finite ? 0 : not_finite;
  }
};

/// \brief Team text: raises `not_converged` unless a defect is small.
/// \ingroup orth
struct convergence_body {
  double tolerance;  ///< largest defect that counts as converged

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     defect  1 x 1
  /// \param[in,out] status  1 x 1
  template <Team T, class Real>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<Real> defect,
                              matrix_ref<int> status) const {
    if (team.rank() == 0 && !(static_cast<double>(defect(0, 0)) <= tolerance))
      status(0, 0) |= not_converged;
  }
};

namespace detail {

// x becomes its own polar factor, for a square x.
template <class Ctx, class X>
void newton_schulz_polar(Ctx& ctx, X& x, int iterations) {
  auto length = scratch<real_t<X>>(ctx, 1, 1);
  auto inverse = scratch<real_t<X>>(ctx, 1, 1);
  norm(ctx, x, length);
  transform(ctx, reciprocal_element{}, outputs(inverse), inputs(length));
  scale(ctx, inverse, x);
  auto t = clone(ctx, x);
  auto next = clone(ctx, x);
  for (int k = 0; k < iterations; ++k) {
    set_identity(ctx, t);
    scale(ctx, 1.5, t);
    multiply_add(ctx, -0.5, x.adjoint(), x, t);
    multiply(ctx, x, t, next);
    copy(ctx, next, x);
  }
}

}  // namespace detail

/// \brief Orthogonal polar factor of a tall matrix of full rank, by products only.
/// \ingroup orth
///
/// \f$ q = a\,(a^H a)^{-1/2} \f$, the nearest matrix with orthonormal columns. householder_qr()
/// leaves a p x p triangle, whose factor the Newton-Schulz iteration \f$ x \leftarrow x\,(3 I - x^H
/// x)/2 \f$ finds in the wide scalar. No Gram matrix of a is formed, so no condition number is
/// squared: q is the factor of a matrix within rounding of a. A singular value below one grows by
/// half in an iteration and its error is squared once it is near one, so the iteration converges
/// for condition numbers up to about 1e3 in float and 1e7 in double; beyond, or for a deficient or
/// not finite input, `not_converged` is set.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     a        n x p, n >= p, full rank; any matrix or expression, real or complex
/// \param[out]    q        n x p, orthonormal columns; may be a
/// \param[in,out] status   1 x 1 int, or no_status{}
/// \param[in]     options  iterations
/// \throws shape_error   if a is wide or q has another shape
/// \throws option_error  if iterations is negative
/// \throws alias_error   if q overlaps a without being a
/// \par Cost
/// 6 n p^2 flops and 4 p^3 an iteration; two n x p and some p x p scratch matrices.
/// \see \cite higham2008, chapter 8
template <class Ctx, Matrix A, class Q, class Status = no_status>
  requires OutputMatrix<Q> && SameScalar<A, Q>
void polar(Ctx& ctx, A const& a, Q&& q, Status&& status = {}, polar_options options = {}) {
  using S = scalar_t<A>;
  expect_tall("polar", "a", a);
  expect_shape("polar", "q", q, a.rows(), a.cols());
  expect_option(options.iterations >= 0, "polar", "iterations", options.iterations,
                "a number of at least 0");
  expect_same_or_distinct(ctx, "polar", "q", q, "a", a);
  bool const is_float = std::numeric_limits<real_of_t<S>>::digits <= 24;
  int const iterations = options.iterations > 0 ? options.iterations : is_float ? 30 : 56;
  auto const& input = dense(ctx, a);
  auto bits = clear_status(ctx, 1);
  auto frame = clone(ctx, q);
  auto r = scratch<S>(ctx, a.cols(), a.cols());
  run_batch(ctx, 1, equilibrate_whole_body{}, input, frame, bits);
  householder_qr(ctx, frame, frame, r);
  {
    auto x = widen(ctx, r);
    detail::newton_schulz_polar(ctx, x, iterations);
    copy(ctx, x, r);
  }
  multiply(ctx, frame, r, q);
  auto defect = scratch<real_of_t<S>>(ctx, 1, 1);
  orthonormality_error(ctx, q, defect);
  double const rounding = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon()) *
                          static_cast<double>(a.rows() + 10 * a.cols());
  run_batch(ctx, 1, convergence_body{rounding}, defect, bits);
  raise(ctx, status, bits);
}

}  // namespace stiefelx
