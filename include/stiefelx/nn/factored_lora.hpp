// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/stored_weights.hpp>

namespace stiefelx {

/// \brief Adds an update of three factors to the output of a frozen linear layer.
/// \ingroup nn
///
/// \f[ h = V^T x, \qquad g = M h, \qquad y \mathrel{+}= s\,U g. \f]
/// down holds V, middle \f$ M^T \f$ and up \f$ U^T \f$. With V and U on the Stiefel manifold, kept there
/// by the optimizer `stella`, this is StelLA \cite li2025 : directions live in U and V and sizes in
/// M alone. It starts from random frames and M = I, so the update is not zero at the start.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     down     d_in x r
/// \param[in]     middle   r x r
/// \param[in]     up       r x d_out
/// \param[in]     scaling  \f$ s \f$
/// \param[in]     x        d_in x T, a token is a column
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[out]    h        r x T, saved for factored_lora_backward(); overlaps nothing else
/// \param[out]    g        r x T, saved likewise; overlaps nothing else
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if an output overlaps x or another output
/// \par Cost
/// 2 r (d_in + r + d_out) T flops.
template <class Ctx, RealWeight Down, RealWeight Middle, RealWeight Up, RealMatrix X, class Y,
          class H, class G>
  requires OutputMatrix<Y> && OutputMatrix<H> && OutputMatrix<G> && SameScalar<X, Y, H, G> &&
           StoredAs<scalar_t<X>, Down, Middle, Up>
void factored_lora_forward(Ctx& ctx, Down const& down, Middle const& middle, Up const& up,
                           double scaling, X const& x, Y&& y, H&& h, G&& g) {
  char const* const name = "factored_lora_forward";
  index_t const r = down.cols(), tokens = x.cols();
  expect_shape(name, "middle", middle, r, r);
  expect_shape(name, "up", up, r, y.rows());
  expect_shape(name, "x", x, down.rows(), y.cols());
  expect_shape(name, "h", h, r, tokens);
  expect_shape(name, "g", g, r, tokens);
  expect_distinct(ctx, name, "y", y, "x", x);
  expect_distinct(ctx, name, "h", h, "x", x);
  expect_distinct(ctx, name, "h", h, "y", y);
  expect_distinct(ctx, name, "g", g, "x", x);
  expect_distinct(ctx, name, "g", g, "y", y);
  expect_distinct(ctx, name, "g", g, "h", h);
  multiply(ctx, widened_weight(ctx, down).adjoint(), x, h);
  multiply(ctx, widened_weight(ctx, middle).adjoint(), h, g);
  multiply_add(ctx, scaling, widened_weight(ctx, up).adjoint(), g, y);
}

/// \brief Gradients of factored_lora_forward().
/// \ingroup nn
///
/// With \f$ \bar g = s\,U^T \bar y \f$ and \f$ \bar h = M^T \bar g \f$: \f$ \bar U^T \mathrel{+}= s\,g \bar y^T \f$,
/// \f$ \bar M^T \mathrel{+}= h \bar g^T \f$, \f$ \bar V \mathrel{+}= x \bar h^T \f$, \f$ \bar x = \beta \bar x + V
/// \bar h \f$. These are Euclidean gradients. Parameter gradients accumulate; dx takes beta. A parameter's
/// gradient overlaps neither the parameter nor x and dy, as in lora_backward(); dx may be x.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     down     d_in x r
/// \param[in]     middle   r x r
/// \param[in]     up       r x d_out
/// \param[in]     scaling  \f$ s \f$
/// \param[in]     x        d_in x T, of the forward call
/// \param[in]     h        r x T, of the forward call
/// \param[in]     g        r x T, of the forward call
/// \param[in]     dy       d_out x T
/// \param[in,out] ddown    d_in x r, accumulates; must not overlap down or x
/// \param[in,out] dmiddle  r x r, accumulates; must not overlap middle
/// \param[in,out] dup      r x d_out, accumulates; must not overlap up or dy
/// \param[in]     beta     factor of what dx holds; with 0 it is not read
/// \param[in,out] dx       d_in x T; must not overlap dy; may be x
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if an output overlaps what it must not
/// \par Cost
/// 4 r (d_in + r + d_out) T flops, two r x T scratch matrices.
template <class Ctx, RealWeight Down, RealWeight Middle, RealWeight Up, RealMatrix X, RealMatrix H,
          RealMatrix G, RealMatrix DY, class DDown, class DMiddle, class DUp, class DX>
  requires OutputMatrix<DDown> && OutputMatrix<DMiddle> && OutputMatrix<DUp> && OutputMatrix<DX> &&
           SameScalar<X, H, G, DY, DDown, DMiddle, DUp, DX> &&
           StoredAs<scalar_t<X>, Down, Middle, Up>
void factored_lora_backward(Ctx& ctx, Down const& down, Middle const& middle, Up const& up,
                            double scaling, X const& x, H const& h, G const& g, DY const& dy,
                            DDown&& ddown, DMiddle&& dmiddle, DUp&& dup, double beta, DX&& dx) {
  char const* const name = "factored_lora_backward";
  index_t const r = down.cols(), tokens = x.cols();
  expect_shape(name, "middle", middle, r, r);
  expect_shape(name, "x", x, down.rows(), tokens);
  expect_shape(name, "h", h, r, tokens);
  expect_shape(name, "g", g, r, tokens);
  expect_shape(name, "dy", dy, up.cols(), tokens);
  expect_shape(name, "up", up, r, dy.rows());
  expect_shape(name, "ddown", ddown, down.rows(), r);
  expect_shape(name, "dmiddle", dmiddle, r, r);
  expect_shape(name, "dup", dup, r, up.cols());
  expect_shape(name, "dx", dx, down.rows(), tokens);
  expect_distinct(ctx, name, "dx", dx, "dy", dy);
  expect_distinct(ctx, name, "dmiddle", dmiddle, "middle", middle);
  detail::expect_own_gradients(ctx, name, down, up, x, dy, ddown, dup);
  auto dg = product(ctx, widened_weight(ctx, up), dy);
  scale(ctx, scaling, dg);
  auto const dh = product(ctx, widened_weight(ctx, middle), dg);
  multiply_add(ctx, scaling, g, dy.adjoint(), dup);
  multiply_add(ctx, 1, h, dg.adjoint(), dmiddle);
  multiply_add(ctx, 1, x, dh.adjoint(), ddown);
  apply_beta(ctx, beta, dx);
  multiply_add(ctx, 1, widened_weight(ctx, down), dh, dx);
}

}  // namespace stiefelx
