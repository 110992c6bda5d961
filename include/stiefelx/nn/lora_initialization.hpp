// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/orth/householder_qr.hpp>

/// \file
/// \brief First values of low-rank factors that do not look at the frozen weight.
/// \ingroup nn
///
/// B starts at zero with kaiming_lora() and gaussian_lora(), which draw A alone, so the layer starts as the
/// frozen one. Banks of experts are drawn in one call: what is random is independent from expert to
/// expert.

namespace stiefelx {

/// \brief Draws A as a linear layer is drawn: uniform on \f$ \pm 1/\sqrt{d_{in}} \f$.
/// \ingroup nn
///
/// Kaiming's uniform distribution with \f$ a = \sqrt 5 \f$, the default of PEFT.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in,out] stream  advanced by one draw
/// \param[out]    down    d_in x r, or a bank d_in x (E r)
/// \see \cite hu2022lora
template <class Ctx, class Down>
  requires OutputMatrix<Down> && RealMatrix<Down>
void kaiming_lora(Ctx& ctx, random_stream& stream, Down&& down) {
  if (down.rows() == 0) return;
  double const bound = 1 / std::sqrt(static_cast<double>(down.rows()));
  fill_uniform(ctx, stream, -bound, bound, down);
}

/// \brief Draws A normal with standard deviation 1/r.
/// \ingroup nn
/// \param[in]     ctx     where to run; nothing waits
/// \param[in,out] stream  advanced by one draw
/// \param[in]     rank    r of one expert, at least 1
/// \param[out]    down    d_in x r, or a bank d_in x (E r)
/// \throws option_error  if the rank is below 1
template <class Ctx, class Down>
  requires OutputMatrix<Down> && RealMatrix<Down>
void gaussian_lora(Ctx& ctx, random_stream& stream, index_t rank, Down&& down) {
  expect_option(rank >= 1, "gaussian_lora", "rank", rank, "a number of at least 1");
  fill_normal(ctx, stream, 1 / static_cast<double>(rank), down);
}

/// \brief Draws both factors so that B A = 0 and neither is zero.
/// \ingroup nn
///
/// A takes the odd rows of a random orthogonal r x r matrix and B the even ones:
/// \f$ A^T = \sigma N_A Q_{odd} \f$ and \f$ B = \sigma N_B Q_{even} \f$ with normal N. The layer starts as
/// the frozen one, and both factors have gradients from the first step on. For a bank call it once an
/// expert.
/// \param[in]     ctx     where to run; nothing waits
/// \param[in,out] stream  advanced by three draws
/// \param[in]     size    \f$ \sigma \f$; 0.1 is PEFT's
/// \param[out]    down    d_in x r, r even
/// \param[out]    up      r x d_out
/// \throws shape_error   if up has another number of rows than down has columns
/// \throws option_error  if r is odd
/// \par Cost
/// r^2 (d_in + d_out) flops; scratch (d_in + d_out) r / 2 and 2 r^2.
template <class Ctx, class Down, class Up>
  requires OutputMatrix<Down> && OutputMatrix<Up> && SameScalar<Down, Up> && RealMatrix<Down>
void orthogonal_lora(Ctx& ctx, random_stream& stream, double size, Down&& down, Up&& up) {
  using S = scalar_t<Down>;
  index_t const r = down.cols(), half = r / 2;
  expect_shape("orthogonal_lora", "up", up, r, up.cols());
  expect_option(r % 2 == 0, "orthogonal_lora", "the rank", r, "an even number");
  auto q = scratch<S>(ctx, r, r);
  auto triangle = scratch<S>(ctx, r, r);
  auto left = scratch<S>(ctx, down.rows(), half);
  auto right = scratch<S>(ctx, up.cols(), half);
  fill_normal(ctx, stream, 1, q);
  householder_qr(ctx, q, q, triangle);
  fill_normal(ctx, stream, size, left);
  fill_normal(ctx, stream, size, right);
  fill(ctx, 0, down);
  fill(ctx, 0, up);
  // Rank-one terms by rows of Q, whose columns are taken through its adjoint.
  auto const rows = q.adjoint();
  auto frame = clone(ctx, rows);
  for (index_t i = 0; i < half; ++i) {
    multiply_add(ctx, 1, left.middleCols(i, 1), frame.middleCols(2 * i, 1).adjoint(), down);
    multiply_add(ctx, 1, frame.middleCols(2 * i + 1, 1), right.middleCols(i, 1).adjoint(), up);
  }
}

}  // namespace stiefelx
