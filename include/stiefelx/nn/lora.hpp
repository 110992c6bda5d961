// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/stored_weights.hpp>

namespace stiefelx {

namespace detail {

// What a backward call reads after it has written gradients of parameters. Two such gradients may be
// the same matrix: both accumulate.
template <class Ctx, class Down, class Up, class X, class DY, class DDown, class DUp>
void expect_own_gradients(Ctx& ctx, char const* function, Down const& down, Up const& up,
                          X const& x, DY const& dy, DDown const& ddown, DUp const& dup) {
  expect_distinct(ctx, function, "dup", dup, "up", up);
  expect_distinct(ctx, function, "dup", dup, "dy", dy);
  expect_distinct(ctx, function, "ddown", ddown, "down", down);
  expect_distinct(ctx, function, "ddown", ddown, "x", x);
}

}  // namespace detail

/// \brief Adds a low-rank update to the output of a frozen linear layer.
/// \ingroup nn
///
/// \f[ h = A x, \qquad y \mathrel{+}= s\,B h . \f]
/// down holds \f$ A^T \f$ and up holds \f$ B^T \f$: a row-major PEFT `lora_A` of shape [r, d_in] is a
/// column-major d_in x r matrix.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     down     d_in x r
/// \param[in]     up       r x d_out
/// \param[in]     scaling  \f$ s = \alpha / r \f$
/// \param[in]     x        d_in x T, a token is a column
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[out]    h        r x T, saved for lora_backward(); must not overlap x or y
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if y overlaps x, or h overlaps x or y
/// \par Cost
/// 2 r (d_in + d_out) T flops. Factors of two bytes an entry are widened, in scratch.
/// \see \cite hu2022lora
template <class Ctx, RealWeight Down, RealWeight Up, RealMatrix X, class Y, class H>
  requires OutputMatrix<Y> && OutputMatrix<H> && SameScalar<X, Y, H> &&
           StoredAs<scalar_t<X>, Down, Up>
void lora_forward(Ctx& ctx, Down const& down, Up const& up, double scaling, X const& x, Y&& y,
                  H&& h) {
  expect_shape("lora_forward", "up", up, down.cols(), y.rows());
  expect_shape("lora_forward", "x", x, down.rows(), y.cols());
  expect_shape("lora_forward", "h", h, down.cols(), x.cols());
  expect_distinct(ctx, "lora_forward", "y", y, "x", x);
  expect_distinct(ctx, "lora_forward", "h", h, "x", x);
  expect_distinct(ctx, "lora_forward", "h", h, "y", y);
  multiply(ctx, widened_weight(ctx, down).adjoint(), x, h);
  multiply_add(ctx, scaling, widened_weight(ctx, up).adjoint(), h, y);
}

/// \brief Gradients of lora_forward().
/// \ingroup nn
///
/// With \f$ \bar h = s\,B^T \bar y \f$: \f$ \bar B^T \mathrel{+}= s\,h\,\bar y^T \f$, \f$ \bar A^T
/// \mathrel{+}= x\,\bar h^T \f$, \f$ \bar x = \beta \bar x + A^T \bar h \f$. Parameter gradients
/// accumulate; dx takes beta. x and h are those of the forward call. Gradients of parameters are written
/// before parameters, x and dy were read for the last time, so they overlap none of these; dx may be x.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     down     d_in x r
/// \param[in]     up       r x d_out
/// \param[in]     scaling  \f$ s \f$
/// \param[in]     x        d_in x T
/// \param[in]     h        r x T
/// \param[in]     dy       d_out x T
/// \param[in,out] ddown    d_in x r, accumulates; must not overlap down or x
/// \param[in,out] dup      r x d_out, accumulates; must not overlap up or dy
/// \param[in]     beta     factor of what dx holds; with 0 it is not read
/// \param[in,out] dx       d_in x T; must not overlap dy; may be x
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if an output overlaps what it must not
/// \par Cost
/// 4 r (d_in + d_out) T flops, one r x T scratch matrix. Factors of two bytes are widened as before.
template <class Ctx, RealWeight Down, RealWeight Up, RealMatrix X, RealMatrix H, RealMatrix DY,
          class DDown, class DUp, class DX>
  requires OutputMatrix<DDown> && OutputMatrix<DUp> && OutputMatrix<DX> &&
           SameScalar<X, H, DY, DDown, DUp, DX> && StoredAs<scalar_t<X>, Down, Up>
void lora_backward(Ctx& ctx, Down const& down, Up const& up, double scaling, X const& x, H const& h,
                   DY const& dy, DDown&& ddown, DUp&& dup, double beta, DX&& dx) {
  index_t const tokens = x.cols();
  expect_shape("lora_backward", "x", x, down.rows(), tokens);
  expect_shape("lora_backward", "h", h, down.cols(), tokens);
  expect_shape("lora_backward", "dy", dy, up.cols(), tokens);
  expect_shape("lora_backward", "up", up, down.cols(), dy.rows());
  expect_shape("lora_backward", "ddown", ddown, down.rows(), down.cols());
  expect_shape("lora_backward", "dup", dup, up.rows(), up.cols());
  expect_shape("lora_backward", "dx", dx, down.rows(), tokens);
  expect_distinct(ctx, "lora_backward", "dx", dx, "dy", dy);
  detail::expect_own_gradients(ctx, "lora_backward", down, up, x, dy, ddown, dup);
  auto dh = product(ctx, widened_weight(ctx, up), dy);
  scale(ctx, scaling, dh);
  multiply_add(ctx, scaling, h, dy.adjoint(), dup);
  multiply_add(ctx, 1, x, dh.adjoint(), ddown);
  apply_beta(ctx, beta, dx);
  multiply_add(ctx, 1, widened_weight(ctx, down), dh, dx);
}

}  // namespace stiefelx
