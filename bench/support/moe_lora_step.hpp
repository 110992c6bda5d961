// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/expert_layer.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/router.hpp>

namespace bench {

/// \brief A step of a mixture of LoRA experts beside a frozen product, in float, where a context's
/// matrices lie.
/// \tparam Ctx     a context
/// \tparam Sizes   has tokens, width, experts, chosen and rank
/// \tparam Normal  `Normal{}(ctx, rows, cols, deviation, seed)` makes a matrix of Ctx
template <class Ctx, class Sizes, class Normal>
struct moe_lora_step {
  using matrix = stiefelx::matrix_t<Ctx, float>;
  using index_t = stiefelx::index_t;
  static constexpr double scaling = 2;  ///< of the mixture

  Ctx ctx;
  Sizes size;
  stiefelx::mixing kind;
  matrix x, dy, frozen, down, up, router;
  matrix y, dx, ddown, dup, drouter, dweights;

  /// \param[in] sizes    of the layer
  /// \param[in] form     how outputs are mixed
  /// \param[in] options  of the context
  template <class... Options>
  moe_lora_step(Sizes sizes, stiefelx::mixing form, Options const&... options)
      : ctx(options...),
        size(sizes),
        kind(form),
        x(Normal{}(ctx, size.width, size.tokens, 1, 1)),
        dy(Normal{}(ctx, size.width, size.tokens, 1, 2)),
        frozen(Normal{}(ctx, size.width, size.width, root(size.width), 3)),
        down(Normal{}(ctx, size.width, all(), root(size.width), 4)),
        up(Normal{}(ctx, all(), size.width, root(size.rank), 5)),
        router(Normal{}(ctx, size.width, size.experts, root(size.width), 6)),
        y(zeros_like(ctx, x)),
        dx(zeros_like(ctx, x)),
        ddown(zeros_like(ctx, down)),
        dup(zeros_like(ctx, up)),
        drouter(zeros_like(ctx, router)),
        dweights(size.chosen, size.tokens) {}

  /// Columns of down.
  index_t all() const { return size.experts * size.rank; }
  /// Where the router sends the tokens.
  auto route() { return stiefelx::route(ctx, router, x, {.top_k = size.chosen}); }
  /// Adds the mixture to y.
  template <class Routes>
  auto add_forward(Routes const& routes) {
    stiefelx::lora_experts const experts(down, up, size.experts, scaling);
    return stiefelx::moe_lora_forward(ctx, experts, routes, x, y, {.kind = kind});
  }
  /// Adds to the gradients, and to beta dx.
  template <class Routes, class Saved>
  void add_backward(Routes const& routes, Saved& saved, double beta) {
    stiefelx::lora_experts const experts(down, up, size.experts, scaling);
    stiefelx::moe_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dup, dweights, beta, dx);
  }
  /// The frozen product.
  void base(bool backward) {
    multiply(ctx, frozen, x, y);
    if (backward) multiply(ctx, frozen.adjoint(), dy, dx);
  }
  /// All of the layer. It starts y, and the frozen product is added: y is written once less.
  auto forward() {
    auto saved = expert_layer_forward(ctx, whole(), x, 0, y);
    multiply_add(ctx, 1, frozen, x, y);
    return saved;
  }
  /// The same with gradients of everything, dx as y before.
  void forward_backward() {
    auto saved = forward();
    clear_gradients();
    stiefelx::expert_layer_gradients const gradients(ddown, dup, drouter);
    expert_layer_backward(ctx, whole(), saved, x, dy, stiefelx::no_routing_loss{}, gradients, 0,
                          dx);
    multiply_add(ctx, 1, frozen.adjoint(), dy, dx);
  }
  /// Gradients of parameters accumulate, so a step starts them at zero.
  void clear_gradients() {
    for (auto* gradient : {&ddown, &dup, &drouter}) fill(ctx, 0, *gradient);
  }

 private:
  auto whole() {
    return stiefelx::expert_layer(stiefelx::lora_experts(down, up, size.experts, scaling), router,
                                  stiefelx::router_options{.top_k = size.chosen},
                                  stiefelx::mixing_options{.kind = kind});
  }
  static double root(index_t n) { return std::sqrt(1 / static_cast<double>(n)); }
};

}  // namespace bench
