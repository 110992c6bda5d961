// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/moe_lora_body.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/team/mixing.hpp>

namespace stiefelx {

/// \brief Low-rank factors of E experts, side by side.
/// \ingroup nn
///
/// Expert e has the columns e r .. e r + r - 1 of down and the same rows of up: its \f$ A_e^T \f$ and
/// \f$ B_e^T \f$. Made from lvalues, it refers to them.
template <class Down, class Up>
struct lora_experts {
  Down down;       ///< d_in x (E r)
  Up up;           ///< (E r) x d_out
  index_t count;   ///< E
  double scaling;  ///< \f$ s \f$, applied after the mixture
};

/// Refers to the matrices it is made from.
/// \ingroup nn
template <class Down, class Up>
lora_experts(Down&, Up&, index_t, double) -> lora_experts<Down&, Up&>;

/// How moe_lora_forward() mixes.
/// \ingroup nn
struct mixing_options {
  mixing kind = mixing::orthogonal;  ///< form of the mixture
  /// \f$ \tau \f$ of mixing_algebra: a remainder below this part of its output is guarded. 0 takes
  /// 1e-3 for float data and 1e-6 for double.
  double guard = 0;
};

/// \brief What moe_lora_forward() keeps for the backward pass.
/// \ingroup nn
template <class H, class A, class G, class C>
struct moe_lora_saved {
  H h;                     ///< (E r) x T, \f$ h_e = A_e x \f$
  A coefficients;          ///< k x T of double, a
  G token_grams;           ///< k^2 x T of double, each column a token's Gram matrix
  C moments;               ///< (E r) x (E r) of double, blocks \f$ B_i^T B_j \f$
  mixing_options options;  ///< with the guard that was used
};

namespace detail {

template <class S>
mixing_algebra algebra_of(mixing_options options) {
  double const standard = std::numeric_limits<S>::digits <= 24 ? 1e-3 : 1e-6;
  return {options.kind, options.guard > 0 ? options.guard : standard};
}

template <class Down, class Up, class Routing>
void expect_experts(char const* function, lora_experts<Down, Up> const& experts,
                    Routing const& routes, index_t d_in, index_t d_out, index_t tokens) {
  expect_option(experts.count >= 1, function, "experts.count", experts.count,
                "a number of at least 1");
  index_t const rank = experts.down.cols() / experts.count;
  expect_shape(function, "experts.down", experts.down, d_in, rank * experts.count);
  expect_shape(function, "experts.up", experts.up, experts.down.cols(), d_out);
  expect_shape(function, "routes.probabilities", routes.probabilities, experts.count, tokens);
  expect_shape(function, "routes.weights", routes.weights, routes.ids.rows(), tokens);
}

// up up^T in double: every product of two experts' factors, once a call.
template <class Ctx, class Up>
auto expert_moments(Ctx& ctx, Up const& up) {
  auto const wide = widen(ctx, up);
  return gram(ctx, wide.adjoint());
}

}  // namespace detail

/// \brief Adds a mixture of low-rank experts to the output of a frozen linear layer.
/// \ingroup nn
///
/// A token is a column. With \f$ h_e = A_e x \f$ and outputs \f$ e_i = B_i h_i \f$ of the experts that
/// the router listed, in that order, with weights c,
/// \f[ y \mathrel{+}= s \sum_i c_i v_i / n_i, \qquad v_i = e_i - \sum_{j<i} \frac{\langle e_i, v_j
///     \rangle}{\langle v_j, v_j \rangle} v_j, \f]
/// \f$ n_i = 1 \f$ for `orthogonal` and \f$ \lVert v_i \rVert \f$ for `orthonormal`; `none` has
/// \f$ v_i = e_i \f$. This is OMoE-LoRA \cite omoe2025.
///
/// The outputs are never formed. With \f$ G_{ij} = h_i^T (B_i^T B_j) h_j \f$ the sum is
/// \f$ \sum_i a_i B_i h_i \f$ for coefficients a that depend on G and c alone, so the layer costs what a
/// plain mixture costs and some k x k work a token. G, its factorization and a are computed in
/// double for every data type: in float the gradient would keep one digit for experts that differ
/// by a thousandth. Zero and dependent experts are defined (mixing_algebra): with B = 0 the
/// `orthogonal` mixture is the plain one, forward and backward, to the bit.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  E experts of rank r
/// \param[in]     routes   of route() on the same x
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     options  form of the mixture
/// \returns what moe_lora_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x
/// \throws option_error  if there is no expert, or the guard is outside [0, 1)
/// \par Cost
/// 2 E r (d_in + d_out) T flops for the products; orthogonalization adds 2 (E r)^2 d_out once and
/// about k^2 r^2 T, in double. Scratch (2 E r + k + k^2) T entries.
template <class Ctx, class Down, class Up, class Routing, RealMatrix X, class Y>
  requires OutputMatrix<Y> && SameScalar<Down, Up, X, Y>
auto moe_lora_forward(Ctx& ctx, lora_experts<Down, Up> const& experts, Routing const& routes,
                      X const& x, Y&& y, mixing_options options = {}) {
  using S = scalar_t<X>;
  char const* const name = "moe_lora_forward";
  index_t const tokens = x.cols(), k = routes.ids.rows();
  detail::expect_experts(name, experts, routes, x.rows(), y.rows(), tokens);
  expect_shape(name, "y", y, y.rows(), tokens);
  expect_option(options.guard >= 0 && options.guard < 1, name, "guard", options.guard,
                "a number in [0, 1)");
  expect_distinct(ctx, name, "y", y, "x", x);
  auto const algebra = detail::algebra_of<S>(options);
  options.guard = algebra.guard;
  bool const plain = options.kind == mixing::none;

  auto h = product(ctx, experts.down.adjoint(), x);
  auto coefficients = scratch<double>(ctx, k, tokens);
  auto token_grams = scratch<double>(ctx, plain ? 0 : k * k, tokens);
  auto moments = plain ? scratch<double>(ctx, 0, 0) : detail::expert_moments(ctx, experts.up);
  auto mixed = scratch<S>(ctx, h.rows(), tokens);
  index_t const rank = experts.down.cols() / experts.count;
  run_batch(ctx, tokens, mix_forward_body{algebra, k, rank}, std::as_const(h), routes.ids,
            routes.weights, moments, token_grams, coefficients, mixed);
  multiply_add(ctx, experts.scaling, experts.up.adjoint(), mixed, y);
  return moe_lora_saved<decltype(h), decltype(coefficients), decltype(token_grams),
                        decltype(moments)>{std::move(h), std::move(coefficients),
                                           std::move(token_grams), std::move(moments), options};
}

/// \brief Gradients of moe_lora_forward().
/// \ingroup nn
///
/// With \f$ z_i = B_i^T \bar y \f$, \f$ u_i = s \langle h_i, z_i \rangle \f$ and the adjoint \f$ (\bar c, W) \f$
/// of the k x k algebra: \f$ \bar h_i = s\,a_i z_i + \sum_j W_{ij} B_i^T B_j h_j \f$, \f$ \bar B_i
/// \mathrel{+}= s \sum_t \bar y\,(a_i h_i)^T + \sum_j B_j K_{ji} \f$ with \f$ K_{ji} = \sum_t W_{ij} h_j h_i^T
/// \f$, \f$ \bar A_i \mathrel{+}= \sum_t \bar h_i x^T \f$, \f$ \bar x = \beta \bar x + \sum_i A_i^T \bar h_i \f$.
///
/// Parameter gradients accumulate, dweights is overwritten, dx takes beta. experts, routes, saved and
/// x are those of the forward call; saved is used up, so this runs once a forward call.
///
/// \param[in]     ctx       where to run; nothing waits
/// \param[in]     experts   as in the forward call
/// \param[in]     routes    as in the forward call
/// \param[in,out] saved     what moe_lora_forward() returned; its Gram matrices are overwritten
/// \param[in]     x         d_in x T
/// \param[in]     dy        d_out x T
/// \param[in,out] ddown     d_in x (E r), accumulates
/// \param[in,out] dup       (E r) x d_out, accumulates
/// \param[out]    dweights  k x T, for gate_backward()
/// \param[in]     beta      factor of what dx holds; with 0 it is not read
/// \param[in,out] dx        d_in x T; must not overlap dy
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dx overlaps dy
/// \par Cost
/// 4 E r (d_in + d_out) T flops for the products; orthogonalization adds 2 (E r)^2 d_out once and
/// about 4 k^2 r^2 T. Scratch 3 E r T entries.
template <class Ctx, class Down, class Up, class Routing, class Saved, RealMatrix X, RealMatrix DY,
          class DDown, class DUp, class DW, class DX>
  requires OutputMatrix<DDown> && OutputMatrix<DUp> && OutputMatrix<DW> && OutputMatrix<DX> &&
           SameScalar<Down, Up, X, DY, DDown, DUp, DW, DX>
void moe_lora_backward(Ctx& ctx, lora_experts<Down, Up> const& experts, Routing const& routes,
                       Saved& saved, X const& x, DY const& dy, DDown&& ddown, DUp&& dup,
                       DW&& dweights, double beta, DX&& dx) {
  using S = scalar_t<X>;
  char const* const name = "moe_lora_backward";
  index_t const tokens = x.cols(), k = routes.ids.rows(), all = experts.down.cols();
  detail::expect_experts(name, experts, routes, x.rows(), dy.rows(), tokens);
  expect_shape(name, "saved.h", saved.h, all, tokens);
  expect_shape(name, "dy", dy, experts.up.cols(), tokens);
  expect_shape(name, "ddown", ddown, x.rows(), all);
  expect_shape(name, "dup", dup, all, experts.up.cols());
  expect_shape(name, "dweights", dweights, k, tokens);
  expect_shape(name, "dx", dx, x.rows(), tokens);
  expect_distinct(ctx, name, "dx", dx, "dy", dy);
  auto const algebra = detail::algebra_of<S>(saved.options);
  index_t const rank = all / experts.count;

  auto dh = product(ctx, experts.up, dy);
  auto mixed = scratch<S>(ctx, all, tokens);
  run_batch(ctx, tokens, mix_backward_body{algebra, k, rank, experts.scaling},
            std::as_const(saved.h), routes.ids, routes.weights, saved.moments, saved.token_grams,
            saved.coefficients, dh, mixed, dweights);
  multiply_add(ctx, experts.scaling, mixed, dy.adjoint(), dup);
  if (saved.options.kind != mixing::none) {
    auto cross = scratch<S>(ctx, all, all);
    run_batch(ctx, experts.count, cross_moments_body{k, rank}, std::as_const(saved.h), routes.ids,
              saved.token_grams, saved.moments, cross);
    multiply_add(ctx, 1, cross.adjoint(), experts.up, dup);
  }
  multiply_add(ctx, 1, x, dh.adjoint(), ddown);
  apply_beta(ctx, beta, dx);
  multiply_add(ctx, 1, experts.down, dh, dx);
}

}  // namespace stiefelx
