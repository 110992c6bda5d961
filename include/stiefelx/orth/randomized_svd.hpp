// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/svd.hpp>

namespace stiefelx {

/// Choices of randomized_svd().
/// \ingroup orth
struct randomized_svd_options {
  index_t iterations = 4;    ///< passes of subspace iteration, at least 0
  index_t oversampling = 0;  ///< vectors beyond the k wanted ones; 0 takes k of them
};

/// \brief Leading singular values and vectors by subspace iteration from a random start.
/// \ingroup orth
///
/// The range of \f$ (A A^T)^q A\,\Omega \f$, \f$ \Omega \f$ normal with k + l columns and every product
/// orthonormalized, holds the leading left vectors up to factors
/// \f$ (\sigma_{k+l+1} / \sigma_j)^{2q+1} \f$; a small SVD in it gives the triples \cite halko2011. When
/// k + l reaches the smaller side of A, the result is the exact decomposition and no iteration is
/// made.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in,out] stream   advanced by one draw, or by none where the start is not random
/// \param[in]     a        m x n, any shape, real
/// \param[out]    u        m x k, k at most min(m, n), orthonormal columns
/// \param[out]    w        1 x k, falling
/// \param[out]    v        n x k, orthonormal columns
/// \param[in]     options  iterations and oversampling
/// \throws shape_error   if a shape does not fit, or k is above min(m, n)
/// \throws alias_error   if an output overlaps a or another output
/// \throws option_error  if a number is below 0
/// \par Cost
/// 4 (q + 1) m n (k + l) flops, QR factorizations of as many tall matrices, one svd() of
/// n x (k + l); scratch 2 (m + n)(k + l).
template <class Ctx, RealMatrix A, class U, class W, class V>
  requires OutputMatrix<U> && OutputMatrix<W> && OutputMatrix<V> && SameScalar<A, U, W, V>
void randomized_svd(Ctx& ctx, random_stream& stream, A const& a, U&& u, W&& w, V&& v,
                    randomized_svd_options options = {}) {
  using S = scalar_t<A>;
  char const* const name = "randomized_svd";
  index_t const m = a.rows(), n = a.cols(), k = w.cols(), least = m < n ? m : n;
  expect_shape(name, "w", w, 1, k < least ? k : least);
  expect_shape(name, "u", u, m, k);
  expect_shape(name, "v", v, n, k);
  expect_distinct(ctx, name, "u", u, "a", a);
  expect_distinct(ctx, name, "v", v, "a", a);
  expect_distinct(ctx, name, "u", u, "v", v);
  expect_option(options.iterations >= 0, name, "iterations", options.iterations,
                "a number of at least 0");
  expect_option(options.oversampling >= 0, name, "oversampling", options.oversampling,
                "a number of at least 0");
  index_t const beyond = options.oversampling > 0 ? options.oversampling : k;
  index_t const width = k + beyond < least ? k + beyond : least;
  auto const& matrix = dense(ctx, a);
  auto left = scratch<S>(ctx, m, width);
  auto right = scratch<S>(ctx, n, width);
  auto triangle = scratch<S>(ctx, width, width);
  bool const whole = width == least;
  // All of a tall matrix is its own best start.
  if (whole && n <= m) {
    copy(ctx, matrix, left);
  } else {
    fill_normal(ctx, stream, 1, right);
    multiply(ctx, matrix, right, left);
  }
  householder_qr(ctx, left, left, triangle);
  index_t const passes = whole ? 0 : options.iterations;
  for (index_t pass = 0; pass < passes; ++pass) {
    multiply(ctx, matrix.adjoint(), left, right);
    householder_qr(ctx, right, right, triangle);
    multiply(ctx, matrix, right, left);
    householder_qr(ctx, left, left, triangle);
  }
  // A^T Q = v diag(w) t^T, so A = (Q t) diag(w) v^T in the range of Q.
  multiply(ctx, matrix.adjoint(), left, right);
  auto values = scratch<S>(ctx, 1, width);
  auto turn = scratch<S>(ctx, width, width);
  svd(ctx, right, right, values, turn);
  multiply(ctx, left, turn.middleCols(0, k), u);
  copy(ctx, values.middleCols(0, k), w);
  copy(ctx, right.middleCols(0, k), v);
}

}  // namespace stiefelx
