// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/householder_qr.hpp>

namespace stiefelx {

/// How cholesky_qr() factors.
/// \ingroup orth
enum class cholesky_qr_method {
  automatic,      ///< one or two passes by a test of the factor, Householder when both fail; waits
  one_pass,       ///< loss of orthogonality grows as the squared condition number
  two_passes,     ///< unit roundoff up to condition \f$ \epsilon^{-1/2} \f$ \cite yamamoto2015
  shifted_three,  ///< unit roundoff up to condition of order \f$ \epsilon^{-1} \f$ \cite fukaya2020
};

/// Options of cholesky_qr().
/// \ingroup orth
struct cholesky_qr_options {
  cholesky_qr_method method = cholesky_qr_method::automatic;  ///< see cholesky_qr_method
};

/// \brief Team text: how far columns are from depending on each other.
/// \ingroup orth
///
/// \f$ 1 / (g_{jj} (g^{-1})_{jj}) \f$ is the part of column j's squared norm that all the others
/// leave unexplained: 1 for orthogonal columns, 0 for dependent ones. When it is at least a half
/// for every column, the condition number of the matrix with its columns brought to norm one is at
/// most \f$ p \sqrt 2 \f$, since the trace of its inverse Gram matrix is at most 2p. Squared pivots
/// alone bound nothing of the kind: each may be half of its column's norm while the condition
/// number grows as \f$ e^{2 \sqrt p} \f$.
///
/// For columns that should be orthonormal already, the least of \f$ 1/g_{jj} \f$ and \f$ 1 /
/// (g^{-1})_{jj} \f$ says the same, and also finds a column that has become small: the remainder of
/// a dependent one, which is rounding.
struct independence_body {
  bool orthonormal;  ///< the columns should be orthonormal already

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team      lanes
  /// \param[in]  r         p x p, the factor of g = r^H r
  /// \param[in]  inverse   p x p, its inverse
  /// \param[out] smallest  1 x 1, the least part of any column; NaN when r or inverse has one
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> r,
                              matrix_ref<S> inverse, matrix_ref<double> smallest) const {
    double least = 1;
    // A NaN is kept once it is there.
    auto const keep_least = [&](double part) {
      if (part < least || part != part) least = part;
    };
    for (index_t j = 0; j < r.cols; ++j) {
      double rest = 0;
      for (index_t k = j + team.rank(); k < r.cols; k += team.size()) {
        double const size = static_cast<double>(modulus(inverse(j, k)));
        rest += size * size;
      }
      rest = team.sum(rest);
      double const whole = column_squared_norm(team, r.column(j), j + 1);
      keep_least(1 / (orthonormal ? rest : rest * whole));
      if (orthonormal) keep_least(1 / whole);
    }
    if (team.rank() == 0) smallest(0, 0) = least;
  }
};

/// \brief Team text: adds the shift of shifted CholeskyQR to a Gram matrix.
/// \ingroup orth
struct gram_shift_body {
  index_t rows;  ///< n of the matrix behind the Gram matrix

  /// \returns 0: no scratch
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

// q = q r^-1 with the factor r of q's Gram matrix.
template <class Ctx, class Q, class R, class Bits>
void cholesky_pass(Ctx& ctx, Q&& q, R&& r, Bits& bits, bool shifted = false) {
  {
    auto g = gram(ctx, q);
    if (shifted) run_batch(ctx, 1, gram_shift_body{q.rows()}, g);
    copy(ctx, g, r);
  }
  cholesky(ctx, r, bits);
  solve_right(ctx, r, q);
}

// One more pass: r takes the product of both factors, next is left with the second.
template <class Ctx, class Q, class R, class Next, class Bits>
void cholesky_repeat(Ctx& ctx, Q&& q, R&& r, Next& next, Bits& bits) {
  cholesky_pass(ctx, q, next, bits);
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
/// costs no accuracy.
///
/// The default method asks how much of each column the others leave unexplained (see
/// independence_body). At a half or more for every column one pass is as good as Householder.
/// Otherwise a second pass runs and sets `refined`; when the first one's result was so near to
/// orthonormal, the second has repaired it. When not, or when a pivot is not positive, householder_qr() factors
/// a, and `rank_deficient` is its verdict.
///
/// The fixed methods never wait. Beyond their range they set `rank_deficient` when a pivot is not
/// positive, and `not_converged` is not needed to tell: orthonormality_error() measures q.
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
    detail::cholesky_pass(ctx, q, r, bits, method == cholesky_qr_method::shifted_three);
    if (method != cholesky_qr_method::one_pass) detail::cholesky_repeat(ctx, q, r, next, bits);
    if (method == cholesky_qr_method::shifted_three) detail::cholesky_repeat(ctx, q, r, next, bits);
  }
  run_batch(ctx, p, rescale_triangle_body{}, r, exponents);
  raise(ctx, status, finite);
  raise(ctx, status, bits);
}

}  // namespace stiefelx
