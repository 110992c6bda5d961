// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/nn/lora.hpp>

namespace stiefelx {

/// \brief lora_forward() of an input with dropout.
/// \ingroup nn
///
/// \f$ h = A\,(m \circ x)/(1 - p) \f$ and \f$ y \mathrel{+}= s\,B h \f$: the adapter sees the dropped
/// input, the frozen layer the whole one.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     down     d_in x r
/// \param[in]     up       r x d_out
/// \param[in]     scaling  \f$ s \f$
/// \param[in]     mask     which mask; rate 0 is lora_forward()
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[out]    h        r x T, saved for lora_backward(); must not overlap x or y
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x, or h overlaps x or y
/// \throws option_error  if the rate is outside [0, 1)
/// \par Cost
/// That of lora_forward() and dropout(), one d_in x T scratch matrix.
template <class Ctx, RealWeight Down, RealWeight Up, RealMatrix X, class Y, class H>
  requires OutputMatrix<Y> && OutputMatrix<H> && SameScalar<X, Y, H> &&
           StoredAs<scalar_t<X>, Down, Up>
void lora_forward(Ctx& ctx, Down const& down, Up const& up, double scaling,
                  dropout_mask const& mask, X const& x, Y&& y, H&& h) {
  expect_distinct(ctx, "lora_forward", "y", y, "x", x);
  expect_distinct(ctx, "lora_forward", "h", h, "x", x);
  auto seen = scratch<scalar_t<X>>(ctx, x.rows(), x.cols());
  dropout(ctx, mask, x, seen);
  lora_forward(ctx, down, up, scaling, seen, y, h);
}

/// \brief Gradients of lora_forward() with dropout.
/// \ingroup nn
///
/// The mask is made again: \f$ \bar A^T \mathrel{+}= (m \circ x)\,\bar h^T/(1 - p) \f$ and \f$ \bar x = \beta
/// \bar x + m \circ (A^T \bar h)/(1 - p) \f$, the rest as without. Parameter gradients accumulate; dx
/// takes beta.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     down     d_in x r
/// \param[in]     up       r x d_out
/// \param[in]     scaling  \f$ s \f$
/// \param[in]     mask     that of the forward call
/// \param[in]     x        d_in x T, of the forward call
/// \param[in]     h        r x T, of the forward call
/// \param[in]     dy       d_out x T
/// \param[in,out] ddown    d_in x r, accumulates
/// \param[in,out] dup      r x d_out, accumulates
/// \param[in]     beta     factor of what dx holds; with 0 it is not read
/// \param[in,out] dx       d_in x T; must not overlap dy or x
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if dx overlaps dy or x
/// \throws option_error  if the rate is outside [0, 1)
/// \par Cost
/// That of lora_backward() and two dropout(), two d_in x T scratch matrices.
template <class Ctx, RealWeight Down, RealWeight Up, RealMatrix X, RealMatrix H, RealMatrix DY,
          class DDown, class DUp, class DX>
  requires OutputMatrix<DDown> && OutputMatrix<DUp> && OutputMatrix<DX> &&
           SameScalar<X, H, DY, DDown, DUp, DX> && StoredAs<scalar_t<X>, Down, Up>
void lora_backward(Ctx& ctx, Down const& down, Up const& up, double scaling,
                   dropout_mask const& mask, X const& x, H const& h, DY const& dy, DDown&& ddown,
                   DUp&& dup, double beta, DX&& dx) {
  expect_shape("lora_backward", "dx", dx, x.rows(), x.cols());
  expect_distinct(ctx, "lora_backward", "dx", dx, "dy", dy);
  expect_distinct(ctx, "lora_backward", "dx", dx, "x", x);
  auto seen = scratch<scalar_t<X>>(ctx, x.rows(), x.cols());
  auto dseen = scratch<scalar_t<X>>(ctx, x.rows(), x.cols());
  dropout(ctx, mask, x, seen);
  lora_backward(ctx, down, up, scaling, seen, h, dy, ddown, dup, 0, dseen);
  dropout(ctx, mask, dseen, dseen);
  apply_beta(ctx, beta, dx);
  axpy(ctx, 1, dseen, dx);
}

}  // namespace stiefelx
