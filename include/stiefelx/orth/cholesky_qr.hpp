// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/householder_qr.hpp>

namespace stiefelx {

/// How cholesky_qr() factors.
/// \ingroup orth
enum class cholesky_qr_method {
  automatic,      ///< one or two passes by a pivot test, Householder when both fail; waits
  one_pass,       ///< loss of orthogonality grows as the squared condition number
  two_passes,     ///< unit roundoff up to condition \f$ \epsilon^{-1/2} \f$ \cite yamamoto2015
  shifted_three,  ///< unit roundoff up to condition of order \f$ \epsilon^{-1} \f$ \cite fukaya2020
};

/// Options of cholesky_qr().
/// \ingroup orth
struct cholesky_qr_options {
  cholesky_qr_method method = cholesky_qr_method::automatic;  ///< see cholesky_qr_method
};

/// \brief Team text: the smallest ratio of a squared pivot to its diagonal entry.
/// \ingroup orth
///
/// \f$ \min_j r_{jj}^2 / g_{jj} \f$ is 1 for orthogonal columns and falls as the inverse squared
/// condition number. Below a half, or NaN, one pass does not suffice.
struct pivot_ratio_body {
  /// No scratch.
  index_t scratch_size() const { return 0; }

  /// \param[in]  team   lanes
  /// \param[in]  r      p x p, the factor of g = r^H r
  /// \param[out] ratio  1 x 1, double
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> r,
                              matrix_ref<double> ratio) const {
    double smallest = 1;
    for (index_t j = 0; j < r.cols; ++j) {
      double const whole = column_squared_norm(team, r.column(j), j + 1);
      double const pivot = static_cast<double>(real_part(r(j, j)));
      double const now = pivot * pivot / whole;
      if (!(now >= smallest)) smallest = now;
    }
    if (team.rank() == 0) ratio(0, 0) = smallest;
  }
};

/// \brief Team text: adds the shift of shifted CholeskyQR to a Gram matrix.
/// \ingroup orth
struct gram_shift_body {
  index_t rows;  ///< n of the matrix behind the Gram matrix

  /// No scratch.
  index_t scratch_size() const { return 0; }

  /// \param[in]     team  lanes
  /// \param[in,out] g     p x p; 11 (n p + p (p + 1)) u trace(g) is added to its diagonal
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> g) const {
    using Real = real_of_t<S>;
    Real trace = 0;
    for (index_t j = 0; j < g.cols; ++j) trace += real_part(g(j, j));
    auto const p = static_cast<Real>(g.cols);
    Real const unit = std::numeric_limits<Real>::epsilon() / 2;
    Real const shift = 11 * (static_cast<Real>(rows) * p + p * (p + 1)) * unit * trace;
    team.barrier();
    for (index_t j = team.rank(); j < g.cols; j += team.size()) g(j, j) += shift;
  }
};

namespace detail {

// q = q r^-1 with the factor r of q's Gram matrix; the ratio tells how good q now is.
template <class Ctx, class Q, class R, class Ratio, class Bits>
void cholesky_pass(Ctx& ctx, Q&& q, R&& r, Ratio& ratio, Bits& bits, bool shifted = false) {
  {
    auto g = gram(ctx, q);
    if (shifted) run_batch(ctx, 1, gram_shift_body{q.rows()}, g);
    copy(ctx, g, r);
  }
  cholesky(ctx, r, bits);
  run_batch(ctx, 1, pivot_ratio_body{}, r, ratio);
  solve_right(ctx, r, q);
}

// One more pass: r takes the product of both factors.
template <class Ctx, class Q, class R, class Ratio, class Bits>
void cholesky_repeat(Ctx& ctx, Q&& q, R&& r, Ratio& ratio, Bits& bits) {
  auto next = clone(ctx, r);
  cholesky_pass(ctx, q, next, ratio, bits);
  auto const before = clone(ctx, r);
  multiply(ctx, next, before, r);
}

}  // namespace detail

/// \brief Factors a tall matrix through the Cholesky factor of its Gram matrix.
/// \ingroup orth
///
/// \f$ a = q\,r \f$ with \f$ q^H q = I \f$ and r upper triangular with a positive diagonal: with
/// \f$ g = a^H a = r^H r \f$, \f$ q = a\,r^{-1} \f$. All large work is products, so it is the fast
/// method for n much larger than p. Columns are first scaled by powers of two, so graded input
/// costs no accuracy.
///
/// The default method looks at the smallest pivot ratio \f$ r_{jj}^2 / g_{jj} \f$. At a half or
/// more one pass is as good as Householder. Otherwise a second pass runs and sets `refined`; when
/// its own ratio is a half or more the first result was close enough to orthonormal for it to
/// repair. When not, householder_qr() factors a.
///
/// The fixed methods never wait. Beyond their range they set `rank_deficient` when a pivot is not
/// positive, and `not_converged` is not needed to tell: orthonormality_error() measures q.
///
/// \param[in]     ctx     where to run; the method `automatic` waits
/// \param[in]     a       n x p, n >= p, any matrix or expression, real or complex
/// \param[out]    q       n x p, orthonormal columns; may be a with a fixed method
/// \param[out]    r       p x p, upper triangular; must not overlap a or q
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \param[in]     options  the method
/// \throws shape_error  if a is wide, or q or r has another shape
/// \throws alias_error  if r overlaps a or q, or q overlaps a without being a
/// \par Cost
/// 2 n p^2 flops a pass with the symmetry of the Gram matrix used; p x p scratch, and n x p when q
/// is a and the method is automatic.
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
  auto ratio = scratch<double>(ctx, 1, 1);
  auto const method = options.method;
  bool const chooses = method == cholesky_qr_method::automatic;

  run_batch(ctx, p, equilibrate_body{}, input, q, exponents, finite);
  if (chooses) {
    // The scaled input is kept for the fallback: q may be a.
    auto const scaled = clone(ctx, q);
    detail::cholesky_pass(ctx, q, r, ratio, bits);
    if (!(value(ctx, ratio) >= 0.5)) {
      raise(ctx, status, refined);
      if (value(ctx, bits) == 0) detail::cholesky_repeat(ctx, q, r, ratio, bits);
      if (value(ctx, bits) != 0 || !(value(ctx, ratio) >= 0.5)) {
        copy(ctx, scaled, q);
        detail::householder_factor(ctx, q, r, bits);
      }
    }
  } else {
    detail::cholesky_pass(ctx, q, r, ratio, bits, method == cholesky_qr_method::shifted_three);
    if (method != cholesky_qr_method::one_pass) detail::cholesky_repeat(ctx, q, r, ratio, bits);
    if (method == cholesky_qr_method::shifted_three)
      detail::cholesky_repeat(ctx, q, r, ratio, bits);
  }
  run_batch(ctx, p, rescale_triangle_body{}, r, exponents);
  raise(ctx, status, finite);
  raise(ctx, status, bits);
}

}  // namespace stiefelx
