// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// Element text of swiglu().
/// \ingroup nn
struct swiglu_element {
  /// \param[out] a  g sigmoid(g) u
  /// \param[in]  g  gate
  /// \param[in]  u  linear
  template <class S>
  STIEFELX_HD void operator()(S& a, S const& g, S const& u) const {
    a = g / (S(1) + std::exp(-g)) * u;
  }
};

/// Element text of swiglu_backward().
/// \ingroup nn
struct swiglu_backward_element {
  /// \param[in,out] g   the gate; becomes its gradient
  /// \param[in,out] u   the linear; becomes its gradient
  /// \param[in]     da  gradient of the result
  template <class S>
  STIEFELX_HD void operator()(S& g, S& u, S const& da) const {
    S const sigmoid = S(1) / (S(1) + std::exp(-g));
    S const slope = sigmoid * (S(1) + g * (S(1) - sigmoid));
    S const incoming = da;
    S const linear = u;
    u = incoming * g * sigmoid;
    g = incoming * linear * slope;
  }
};

/// \brief The gated activation of feed-forward blocks, \f$ a = g\,\sigma(g)\,u \f$.
/// \ingroup nn
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  g    any shape, the gate's scores
/// \param[in]  u    of g's shape, the values
/// \param[out] a    of g's shape; may be g or u
/// \throws shape_error  if a shape differs
/// \throws alias_error  if a overlaps g or u without being it
/// \see \cite shazeer2020
template <class Ctx, RealMatrix G, RealMatrix U, class A>
  requires OutputMatrix<A> && SameScalar<G, U, A>
void swiglu(Ctx& ctx, G const& g, U const& u, A&& a) {
  expect_shape("swiglu", "u", u, g.rows(), g.cols());
  expect_shape("swiglu", "a", a, g.rows(), g.cols());
  expect_same_or_distinct(ctx, "swiglu", "a", a, "g", g);
  expect_same_or_distinct(ctx, "swiglu", "a", a, "u", u);
  transform(ctx, swiglu_element{}, outputs(a), inputs(g, u));
}

/// \brief Gradients of swiglu(), in place.
/// \ingroup nn
///
/// \f$ \bar u = \bar a\,g\,\sigma \f$ and \f$ \bar g = \bar a\,u\,\sigma\,(1 + g (1 - \sigma)) \f$.
/// \param[in]     ctx  where to run; nothing waits
/// \param[in]     da   gradient of the result
/// \param[in,out] g    of da's shape, as in the forward call; becomes its gradient
/// \param[in,out] u    of da's shape, as in the forward call; becomes its gradient
/// \throws shape_error  if a shape differs
/// \throws alias_error  if two arguments overlap
template <class Ctx, RealMatrix DA, class G, class U>
  requires OutputMatrix<G> && OutputMatrix<U> && SameScalar<DA, G, U>
void swiglu_backward(Ctx& ctx, DA const& da, G&& g, U&& u) {
  expect_shape("swiglu_backward", "g", g, da.rows(), da.cols());
  expect_shape("swiglu_backward", "u", u, da.rows(), da.cols());
  expect_distinct(ctx, "swiglu_backward", "g", g, "da", da);
  expect_distinct(ctx, "swiglu_backward", "u", u, "da", da);
  expect_distinct(ctx, "swiglu_backward", "u", u, "g", g);
  transform(ctx, swiglu_backward_element{}, outputs(g, u), inputs(da));
}

}  // namespace stiefelx
