// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/expert_scaling.hpp>
#include <stiefelx/nn/gram_losses.hpp>
#include <stiefelx/nn/mixing_options.hpp>
#include <stiefelx/nn/moe_lora_passes.hpp>
#include <stiefelx/nn/moe_lora_saved.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/nn/stored_weights.hpp>
#include <stiefelx/team/mixing.hpp>

namespace stiefelx {

/// \brief Low-rank factors of E experts, side by side.
/// \ingroup nn
///
/// Expert e has the columns e r .. e r + r - 1 of down and the same rows of up: its \f$ A_e^T \f$ and
/// \f$ B_e^T \f$. Made from lvalues, it refers to them.
///
/// With one number s the mixture is multiplied by it. With a 1 x E matrix every expert has a factor of
/// its own, and its output is \f$ s_e B_e A_e x \f$ before the mixture (nn/expert_scaling.hpp says what
/// that changes).
template <class Down, class Up, class Scaling = double>
struct lora_experts {
  Down down;        ///< d_in x (E r); may have two bytes an entry (nn/stored_weights.hpp)
  Up up;            ///< (E r) x d_out, likewise
  index_t count;    ///< E
  Scaling scaling;  ///< \f$ s \f$, applied after the mixture; or 1 x E, real, applied before it
};

/// Refers to the matrices it is made from.
/// \ingroup nn
template <class Down, class Up, class Number>
  requires std::is_arithmetic_v<Number>
lora_experts(Down&, Up&, index_t, Number) -> lora_experts<Down&, Up&, double>;

/// Refers to the matrices it is made from, the factors too.
/// \ingroup nn
template <class Down, class Up, RealMatrix Scaling>
lora_experts(Down&, Up&, index_t, Scaling&) -> lora_experts<Down&, Up&, Scaling&>;

namespace detail {

// The experts that ids may name. A router with null experts has more probabilities than these.
template <class Routing>
index_t expert_count(Routing const& routes) {
  if constexpr (requires { routes.experts; })
    return routes.experts;
  else
    return routes.probabilities.rows();
}

template <class Down, class Up, class Scaling, class Routing>
void expect_experts(char const* function, lora_experts<Down, Up, Scaling> const& experts,
                    Routing const& routes, index_t d_in, index_t d_out, index_t tokens) {
  expect_option(experts.count >= 1, function, "experts.count", experts.count,
                "a number of at least 1");
  index_t const rank = experts.down.cols() / experts.count;
  expect_shape(function, "experts.down", experts.down, d_in, rank * experts.count);
  expect_shape(function, "experts.up", experts.up, experts.down.cols(), d_out);
  expect_scaling(function, "experts.scaling", experts.scaling, experts.count);
  expect_option(expert_count(routes) == experts.count, function, "routes.experts",
                expert_count(routes), "the number of experts");
  expect_shape(function, "routes.ids", routes.ids, routes.ids.rows(), tokens);
  expect_shape(function, "routes.weights", routes.weights, routes.ids.rows(), tokens);
}

template <class T>
inline constexpr bool is_moe_lora_saved = false;
template <class... M>
inline constexpr bool is_moe_lora_saved<moe_lora_saved<M...>> = true;

// What a forward call keeps, in scratch, for E r = all.
template <class S, class Ctx>
auto saved_in_scratch(Ctx& ctx, index_t k, index_t rank, index_t all, index_t tokens,
                      mixing_options const& options) {
  bool const plain = algebra_of<S>(options).is_plain(k);
  auto h = scratch<S>(ctx, k * rank, tokens);
  auto coefficients = scratch<double>(ctx, k, tokens);
  auto token_grams = scratch<double>(ctx, plain ? 0 : k * k, tokens);
  auto moments = scratch<double>(ctx, plain ? 0 : all, plain ? 0 : all);
  return moe_lora_saved<decltype(h), decltype(coefficients), decltype(token_grams),
                        decltype(moments)>{std::move(h), std::move(coefficients),
                                           std::move(token_grams), std::move(moments),
                                           settled<S>(options)};
}

}  // namespace detail

/// \brief Adds a mixture of low-rank experts to the output of a frozen linear layer.
/// \ingroup nn
///
/// A token is a column. With \f$ h_e = A_e x \f$ and outputs \f$ e_i = B_i h_i \f$ of the experts that
/// the router listed, in that order, with weights c,
/// \f[ y \mathrel{+}= s \sum_i c_i v_i / n_i, \qquad v_i = e_i - \sum_{j<i} \frac{\langle e_i, v_j
///     \rangle}{\langle v_j, v_j \rangle} v_j, \f]
/// \f$ n_i = 1 \f$ for `orthogonal`, which is OMoE-LoRA \cite omoe2025. The other forms are those of
/// \ref mixing; `none` has \f$ v_i = e_i \f$. A slot that names no expert is empty: it adds
/// nothing (\ref routing says which ids those are).
///
/// The outputs are never formed. With \f$ G_{ij} = h_i^T (B_i^T B_j) h_j \f$ every form is
/// \f$ \sum_i a_i B_i h_i \f$ for coefficients a that depend on G and c alone, so the layer costs what a
/// plain mixture costs and some k x k work a token. G, its factorization and a are computed in
/// double for every data type: in float the gradient would keep one digit for experts that differ
/// by a thousandth. Zero and dependent experts are defined (\ref dependent_experts): with B = 0 every
/// form is the plain mixture, forward and backward, to the bit, unless guarded experts are dropped.
///
/// Tokens are multiplied with the experts that they chose, or, where E r is at most
/// dense_expert_columns() and all experts have one scaling, with every expert (\ref
/// decision_dense_rank_space). Results differ by rounding.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  E experts of rank r
/// \param[in]     routes   of route() on the same x; weights of empty slots are not read
/// \param[in]     x        d_in x T
/// \param[in]     beta     factor of what y holds. With 0 it is not read, and the frozen layer's product
///                         is added afterwards: that saves a pass over y
/// \param[in,out] y        d_out x T, with beta 1 the frozen layer's output; must not overlap x
/// \param[out]    saved    a moe_lora_saved over the caller's matrices, for the backward call; h must
///                         not overlap x or y
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}; gets `rank_deficient` where an expert is guarded
///                         and `not_finite` where G is not finite. A plain mixture has no G
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x, or saved.h overlaps x or y
/// \throws option_error  if there is no expert, routes has another number of them, or an option is
///                        outside its range
/// \par Cost
/// 2 k r (d_in + d_out) T flops for the products, E in place of k where every expert is multiplied;
/// orthogonalization adds 2 (E r)^2 d_out once and about k^2 r^2 T, in double. Scratch:
/// workspace_bytes().
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class Y,
          class Saved, class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, Y> && StoredAs<scalar_t<X>, Down, Up> &&
           detail::is_moe_lora_saved<std::remove_cvref_t<Saved>>
void moe_lora_forward(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                      Routing const& routes, X const& x, double beta, Y&& y, Saved&& saved,
                      mixing_options options = {}, Status&& status = {}) {
  using S = scalar_t<X>;
  char const* const name = "moe_lora_forward";
  index_t const tokens = x.cols(), k = routes.ids.rows(), all = experts.down.cols();
  detail::expect_experts(name, experts, routes, x.rows(), y.rows(), tokens);
  index_t const rank = all / experts.count;
  expect_shape(name, "y", y, y.rows(), tokens);
  detail::expect_mixing(name, options);
  auto const algebra = detail::algebra_of<S>(options);
  bool const plain = algebra.is_plain(k);
  expect_shape(name, "saved.h", saved.h, k * rank, tokens);
  expect_shape(name, "saved.coefficients", saved.coefficients, k, tokens);
  if (!plain) {
    expect_shape(name, "saved.token_grams", saved.token_grams, k * k, tokens);
    expect_shape(name, "saved.moments", saved.moments, all, all);
  }
  expect_distinct(ctx, name, "y", y, "x", x);
  expect_distinct(ctx, name, "saved.h", saved.h, "x", x);
  expect_distinct(ctx, name, "saved.h", saved.h, "y", y);
  saved.options = detail::settled<S>(options);

  auto const& down = widened_weight(ctx, experts.down);
  auto const& up = widened_weight(ctx, experts.up);
  if (detail::takes_every_expert<Scaling>(ctx, all)) {
    detail::add_dense_mixture(ctx, down, up, detail::common_scaling(experts.scaling), rank, routes,
                              x, saved, beta, y, status);
    return;
  }
  routed_multiply(ctx, routes.ids, down, x, saved.h);
  detail::add_mixture(ctx, up, experts.scaling, rank, routes, saved, beta, y, status);
}

/// \brief The same with beta 1: added to the frozen layer's output.
/// \ingroup nn
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  E experts of rank r
/// \param[in]     routes   of route() on the same x
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[out]    saved    a moe_lora_saved over the caller's matrices
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class Y,
          class Saved, class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, Y> && StoredAs<scalar_t<X>, Down, Up> &&
           detail::is_moe_lora_saved<std::remove_cvref_t<Saved>>
void moe_lora_forward(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                      Routing const& routes, X const& x, Y&& y, Saved&& saved,
                      mixing_options options = {}, Status&& status = {}) {
  moe_lora_forward(ctx, experts, routes, x, 1, y, saved, options, status);
}

/// \brief The same, with what is saved in scratch.
/// \ingroup nn
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  E experts of rank r
/// \param[in]     routes   of route() on the same x
/// \param[in]     x        d_in x T
/// \param[in]     beta     factor of what y holds; with 0 it is not read
/// \param[in,out] y        d_out x T, with beta 1 the frozen layer's output; must not overlap x
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}
/// \returns a moe_lora_saved that lives until the backward call has used it
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class Y,
          class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, Y> && StoredAs<scalar_t<X>, Down, Up>
auto moe_lora_forward(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                      Routing const& routes, X const& x, double beta, Y&& y,
                      mixing_options options = {}, Status&& status = {}) {
  using S = scalar_t<X>;
  index_t const tokens = x.cols(), k = routes.ids.rows(), all = experts.down.cols();
  index_t const rank = experts.count > 0 ? all / experts.count : 0;
  auto saved = detail::saved_in_scratch<S>(ctx, k, rank, all, tokens, options);
  moe_lora_forward(ctx, experts, routes, x, beta, y, saved, options, status);
  return saved;
}

/// \brief The same with beta 1: added to the frozen layer's output.
/// \ingroup nn
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  E experts of rank r
/// \param[in]     routes   of route() on the same x
/// \param[in]     x        d_in x T
/// \param[in,out] y        d_out x T; starts as the frozen layer's output; must not overlap x
/// \param[in]     options  form of the mixture, guard and policy
/// \param[in,out] status   1 x 1 int or no_status{}
/// \returns a moe_lora_saved that lives until the backward call has used it
template <class Ctx, class Down, class Up, class Scaling, class Routing, RealMatrix X, class Y,
          class Status = no_status>
  requires OutputMatrix<Y> && SameScalar<X, Y> && StoredAs<scalar_t<X>, Down, Up>
auto moe_lora_forward(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                      Routing const& routes, X const& x, Y&& y, mixing_options options = {},
                      Status&& status = {}) {
  return moe_lora_forward(ctx, experts, routes, x, 1, y, options, status);
}

namespace detail {

// A gradient that accumulates where its own factors come from would change them on the way.
template <class Ctx, class Experts, class X, class DY, class DDown, class DUp>
void expect_apart_from_inputs(Ctx& ctx, char const* function, Experts const& experts, X const& x,
                              DY const& dy, DDown const& ddown, DUp const& dup) {
  expect_distinct(ctx, function, "ddown", ddown, "experts.down", experts.down);
  expect_distinct(ctx, function, "ddown", ddown, "x", x);
  expect_distinct(ctx, function, "dup", dup, "experts.up", experts.up);
  expect_distinct(ctx, function, "dup", dup, "dy", dy);
}

template <class Ctx, class Experts, class Routing, class Saved, class X, class DY, class DDown,
          class DUp, class DW, class DX>
void expect_moe_lora_backward(Ctx& ctx, Experts const& experts, Routing const& routes,
                              Saved const& saved, X const& x, DY const& dy, DDown const& ddown,
                              DUp const& dup, DW const& dweights, DX const& dx) {
  char const* const name = "moe_lora_backward";
  index_t const tokens = x.cols(), k = routes.ids.rows(), all = experts.down.cols();
  expect_experts(name, experts, routes, x.rows(), dy.rows(), tokens);
  expect_shape(name, "saved.h", saved.h, k * (all / experts.count), tokens);
  expect_shape(name, "dy", dy, experts.up.cols(), tokens);
  expect_shape(name, "ddown", ddown, x.rows(), all);
  expect_shape(name, "dup", dup, all, experts.up.cols());
  expect_shape(name, "dweights", dweights, k, tokens);
  expect_shape(name, "dx", dx, x.rows(), tokens);
  expect_distinct(ctx, name, "dx", dx, "dy", dy);
  expect_apart_from_inputs(ctx, name, experts, x, dy, ddown, dup);
}

template <class GramLosses, class Scaling, class Ctx>
bool goes_back_by_expert(Ctx& ctx, index_t all) {
  if constexpr (has_gram_losses<GramLosses>)
    return false;
  else
    return takes_every_expert<Scaling>(ctx, all);
}

// The way back to the gradient of A x, which is returned, and which knows the weights of the router.
template <class Ctx, class Down, class Up, class Scaling, class Routing, class Saved, class DY,
          class DUp, class DW, class GramLosses>
auto moe_lora_backward_to_ranks(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                                Routing const& routes, Saved& saved, DY const& dy, DUp&& dup,
                                DW&& dweights, GramLosses const& gram_losses) {
  auto const& up = widened_weight(ctx, experts.up);
  if (goes_back_by_expert<GramLosses, Scaling>(ctx, experts.up.rows()))
    return dense_mixture_backward(ctx, up, experts.count, common_scaling(experts.scaling), routes,
                                  saved, dy, dup, dweights);
  return mixture_backward(ctx, up, experts.count, experts.scaling, routes, saved, dy, dup, dweights,
                          gram_losses);
}

// From there to the gradients of A and x.
template <class GramLosses, class Ctx, class Down, class Up, class Scaling, class Routing, class X,
          class DH, class DDown, class DX>
void moe_lora_backward_from_ranks(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                                  Routing const& routes, X const& x, DH const& dh, DDown&& ddown,
                                  double beta, DX&& dx) {
  auto const& down = widened_weight(ctx, experts.down);
  if (goes_back_by_expert<GramLosses, Scaling>(ctx, experts.down.cols())) {
    multiply_add(ctx, 1, x, dh.adjoint(), ddown);
    multiply_with_beta(ctx, 1, down, dh, beta, dx);
  } else {
    routed_outer_add(ctx, 1, routes.ids, x, dh, ddown);
    combine_with_beta(ctx, 1, routes.ids, down, dh, beta, dx);
  }
}

}  // namespace detail

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
/// Losses on the Gram matrices of the outputs add their gradients on the way:
/// `gram_losses(routes, token_grams, change)` is called once with two k^2 x T matrices of double, reads
/// the first and adds W, which is symmetric, to the second, as gram_orthogonality_loss() does. These
/// are the outputs before a common s. A plain mixture forms the Gram matrices for it here.
///
/// \param[in]     ctx       where to run; nothing waits
/// \param[in]     experts   as in the forward call
/// \param[in]     routes    as in the forward call
/// \param[in,out] saved     of moe_lora_forward(); its Gram matrices are overwritten
/// \param[in]     x         d_in x T
/// \param[in]     dy        d_out x T
/// \param[in,out] ddown     d_in x (E r), accumulates; must not overlap the experts, x or dy
/// \param[in,out] dup       (E r) x d_out, accumulates; likewise
/// \param[out]    dweights  k x T, for gate_backward(); 0 in empty slots
/// \param[in]     beta      factor of what dx holds; with 0 it is not read
/// \param[in,out] dx        d_in x T; may be x, must not overlap dy
/// \param[in]     gram_losses  callable(routes, token_grams, change), or no_gram_loss{}
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dx overlaps dy, ddown the experts' down or x, or dup their up or dy
/// \par Cost
/// 4 k r (d_in + d_out) T flops for the products, E in place of k where every expert is multiplied,
/// which losses exclude; orthogonalization adds 2 (E r)^2 d_out once and about 2 k^2 r^2 T. Losses add
/// k^2 r^2 T, and k^2 T doubles of scratch; for a plain mixture also what orthogonalization adds.
/// Scratch: workspace_bytes().
template <class Ctx, class Down, class Up, class Scaling, class Routing, class Saved, RealMatrix X,
          RealMatrix DY, class DDown, class DUp, class DW, class DX,
          class GramLosses = no_gram_loss>
  requires OutputMatrix<DDown> && OutputMatrix<DUp> && OutputMatrix<DW> && OutputMatrix<DX> &&
           SameScalar<X, DY, DDown, DUp, DW, DX> && StoredAs<scalar_t<X>, Down, Up>
void moe_lora_backward(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts,
                       Routing const& routes, Saved& saved, X const& x, DY const& dy, DDown&& ddown,
                       DUp&& dup, DW&& dweights, double beta, DX&& dx,
                       GramLosses const& gram_losses = {}) {
  detail::expect_moe_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dup, dweights, dx);
  auto const dh = detail::moe_lora_backward_to_ranks(ctx, experts, routes, saved, dy, dup, dweights,
                                                     gram_losses);
  detail::moe_lora_backward_from_ranks<GramLosses>(ctx, experts, routes, x, dh, ddown, beta, dx);
}

}  // namespace stiefelx
