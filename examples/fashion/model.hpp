// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/cross_entropy.hpp>
#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/expert_similarity.hpp>
#include <stiefelx/nn/gate_backward.hpp>
#include <stiefelx/nn/gelu.hpp>
#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/optim/expert_assignment.hpp>

#include "examples/fashion/adapter_plan.hpp"
#include "examples/fashion/affine.hpp"
#include "examples/fashion/parameter.hpp"
#include "examples/fashion/start.hpp"

/// \file
/// \brief The network and its adapters, in verbs: the context's type says where they live and run.
///
/// Images come from the host's memory, a batch at a time. Nothing here reads a result but
/// adapter::statistics(); an upload may wait for the queue.

namespace example {

using namespace stiefelx;

/// What scratch() of a context returns.
template <class Ctx, class S>
using scratch_t =
    decltype(scratch<S>(std::declval<Ctx&>(), stiefelx::index_t(), stiefelx::index_t()));

/// What is added to a frozen layer's output: a LoRA, a mixture of them, or factors on manifolds.
template <class Ctx, class S>
class adapter {
  using form = adapter_plan::form;
  using activation = scratch_t<Ctx, S>;

 public:
  /// \param[in]     ctx     where it lives
  /// \param[in]     plan    its form
  /// \param[in]     d_in    rows of the layer's input
  /// \param[in]     d_out   rows of its output
  /// \param[in,out] random  stream of the start
  /// \param[in]     layer   name of the layer
  adapter(Ctx& ctx, adapter_plan plan, index_t d_in, index_t d_out, random_stream& random,
          std::string const& layer)
      : plan_(plan) {
    if (plan.kind == form::none) return;
    bool const orthonormal = plan.mix == mixing::orthonormal;
    index_t const all = plan.experts * plan.rank;
    // riemannian_adam's rate is the length of a whole matrix's step: 2e-2 a column.
    double const rate = plan.kind == form::lora      ? 5e-3
                        : plan.kind == form::stiefel ? 2e-2 * std::sqrt(static_cast<double>(all))
                                                     : 1e-2;
    if (orthonormal) scaling_ = 2 * std::sqrt(static_cast<double>(d_out));
    auto down = uniform_start<S>(ctx, random, 1 / std::sqrt(static_cast<double>(d_in)), d_in, all);
    if (plan.kind == form::stiefel) {
      // Points have orthonormal columns, so `up` lies the other way.
      down = orthonormal_start<S>(ctx, random, d_in, all);
      auto up = orthonormal_start<S>(ctx, random, d_out, all);
      parameters_.emplace_back(ctx, layer + ".down", std::move(down), rate);
      parameters_.emplace_back(ctx, layer + ".up", std::move(up), rate);
      for (auto& p : parameters_) p.move_to_stiefel(ctx);
      parameters_.emplace_back(ctx, layer + ".middle", zeros<S>(ctx, all, all), 2e-2);
      return;
    }
    double const size = 1 / std::sqrt(static_cast<double>(plan.rank));
    auto up =
        orthonormal ? normal_start<S>(ctx, random, size, all, d_out) : zeros<S>(ctx, all, d_out);
    parameters_.emplace_back(ctx, layer + ".down", std::move(down), rate);
    parameters_.emplace_back(ctx, layer + ".up", std::move(up), rate);
    if (plan.kind != form::mixture) return;
    if (plan.kept_apart) keep_experts_apart(ctx, d_in);
    parameters_.emplace_back(
        ctx, layer + ".router",
        normal_start<S>(ctx, random, plan.uniform_gate ? 0 : 0.02, d_in, plan.experts),
        plan.uniform_gate ? 0 : rate / 10);
    if (orthonormal)
      parameters_.emplace_back(ctx, layer + ".gain", zeros<S>(ctx, plan.experts, 1), rate);
  }

  /// y += the adapter's output for x. Keeps what backward() needs.
  void forward(Ctx& ctx, activation const& x, activation& y) {
    auto& p = parameters_;
    forget();
    if (plan_.kind == form::none) return;
    if (plan_.kind == form::mixture) {
      routes_.emplace(route(ctx, p[2].value, x, plan_.routing));
      if (p.size() > 3) {
        ungained_.emplace(clone(ctx, routes_->weights));
        apply_gain(ctx, p[3].value, routes_->ids, routes_->weights);
      }
      saved_.emplace(moe_lora_forward(ctx, experts(), *routes_, x, y, {.kind = plan_.mix}));
      return;
    }
    h_.emplace(scratch<S>(ctx, p[0].value.cols(), x.cols()));
    if (plan_.kind == form::lora) {
      lora_forward(ctx, p[0].value, p[1].value, scaling_, x, y, *h_);
    } else {
      multiply(ctx, p[0].value.adjoint(), x, *h_);
      multiply_add(ctx, scaling_, p[1].value, product(ctx, p[2].value, *h_), y);
    }
  }

  /// Adds to the parameters' gradients, to dx, and the auxiliary loss to the loss.
  template <class Loss>
  void backward(Ctx& ctx, activation const& x, activation const& dy, activation& dx, Loss& loss) {
    auto& p = parameters_;
    if (plan_.kind == form::none) return;
    if (plan_.kind == form::lora) {
      lora_backward(ctx, p[0].value, p[1].value, scaling_, x, *h_, dy, p[0].gradient, p[1].gradient,
                    1, dx);
      return;
    }
    if (plan_.kind == form::stiefel) {
      auto const z = product(ctx, p[1].value.adjoint(), dy);
      auto const dh = product(ctx, p[2].value.adjoint(), z);
      auto const mh = product(ctx, p[2].value, *h_);
      multiply_add(ctx, scaling_, dy, mh.adjoint(), p[1].gradient);
      multiply_add(ctx, scaling_, z, h_->adjoint(), p[2].gradient);
      multiply_add(ctx, scaling_, x, dh.adjoint(), p[0].gradient);
      multiply_add(ctx, scaling_, p[0].value, dh, dx);
      return;
    }
    if (plan_.kept_apart) {
      auto const shares = expert_assignment(ctx, routes_->ids, routes_->weights, plan_.experts);
      p[0].observe(ctx, x, shares);
      p[1].observe(ctx, product(ctx, p[0].value.adjoint(), x), shares);
    }
    auto dweights = clone(ctx, routes_->weights);
    auto dscores = clone(ctx, routes_->probabilities);
    moe_lora_backward(ctx, experts(), *routes_, *saved_, x, dy, p[0].gradient, p[1].gradient,
                      dweights, 1, dx);
    if (p.size() > 3) {
      apply_gain_backward(ctx, p[3].value, routes_->ids, *ungained_, dweights, p[3].gradient);
      copy(ctx, *ungained_, routes_->weights);
    }
    gate_backward(ctx, *routes_, dweights, dscores);
    if (plan_.balance > 0) {
      auto auxiliary = scratch<double>(ctx, 1, 1);
      balance_loss(ctx, plan_.balance, *routes_, auxiliary, dscores);
      axpy(ctx, 1, auxiliary, loss);
    }
    router_backward(ctx, p[2].value, x, dscores, p[2].gradient, 1, dx);
  }

  /// Mean absolute cosine between experts' outputs before and after mixing, and mean entropy of the
  /// router, for the last forward pass on x; waits.
  std::optional<std::array<double, 3>> statistics(Ctx& ctx, activation const& x) {
    if (plan_.kind != form::mixture) return std::nullopt;
    auto cosines = scratch<double>(ctx, 2, 1);
    expert_similarity(ctx, experts(), *routes_, x, {.kind = plan_.mix}, cosines);
    std::array<double, 3> found{};
    download(ctx, cosines, found.data());
    auto const& p = routes_->probabilities;
    std::vector<S> probabilities(static_cast<std::size_t>(p.rows() * p.cols()));
    download(ctx, p, probabilities.data());
    for (S q : probabilities)
      if (q > 0) found[2] -= static_cast<double>(q) * std::log(static_cast<double>(q));
    found[2] /= static_cast<double>(p.cols());
    return found;
  }

  /// \returns what is trained
  std::vector<parameter<Ctx, S>>& parameters() { return parameters_; }
  /// Gives the scratch of the last forward pass back.
  void forget() {
    saved_.reset();
    routes_.reset();
    ungained_.reset();
    h_.reset();
  }

 private:
  void keep_experts_apart(Ctx& ctx, index_t d_in) {
    // The mean inputs of a batch, for d_in inputs their strongest directions. Half of what an expert
    // saw is forgotten after seven steps.
    orthogonal_experts_options options{.projectors = {.policy = projector_policy::low_rank,
                                                      .decay = 0.9,
                                                      .rank = d_in > 16 ? 16 : d_in - 1},
                                       .removes = removal::from_update};
    parameters_[0].keep_experts_apart(ctx, {plan_.experts}, options);
    options.projectors.policy = projector_policy::joint;  // r x r
    parameters_[1].keep_experts_apart(ctx, {plan_.experts, expert_layout::stacked}, options);
  }
  auto experts() {
    return lora_experts{parameters_[0].value, parameters_[1].value, plan_.experts, scaling_};
  }
  using weights = matrix_t<Ctx, S>;
  using routes = decltype(route(std::declval<Ctx&>(), std::declval<weights const&>(),
                                std::declval<activation const&>()));
  using kept = decltype(moe_lora_forward(
      std::declval<Ctx&>(), std::declval<lora_experts<weights&, weights&>>(),
      std::declval<routes const&>(), std::declval<activation const&>(),
      std::declval<activation&>()));

  adapter_plan plan_;
  double scaling_ = 2;
  std::vector<parameter<Ctx, S>> parameters_;
  std::optional<activation> h_, ungained_;
  std::optional<routes> routes_;
  std::optional<kept> saved_;
};

/// A perceptron with exact GELU whose hidden layers can carry adapters. An image is a column.
///
/// Activations live in the context's scratch from one forward pass to the next, so the context
/// outlives the network or forget().
template <class Ctx, class S>
class network {
 public:
  using activation = scratch_t<Ctx, S>;  ///< outputs of a layer, a token a column

  /// Weights uniform in +-1/sqrt(d_in), biases zero.
  network(Ctx& ctx, std::vector<index_t> const& sizes, random_stream& random, double rate,
          double decay) {
    for (std::size_t l = 0; l + 1 < sizes.size(); ++l) {
      double const bound = 1 / std::sqrt(static_cast<double>(sizes[l]));
      std::string const name = "layer" + std::to_string(l + 1);
      layers_.emplace_back(ctx, name + ".weight",
                           uniform_start<S>(ctx, random, bound, sizes[l + 1], sizes[l]), rate,
                           decay);
      layers_.emplace_back(ctx, name + ".bias", zeros<S>(ctx, sizes[l + 1], 1), rate, 0);
    }
  }

  /// Puts an adapter on each hidden layer; the layers themselves are trained only when asked.
  void adapt(Ctx& ctx, adapter_plan plan, random_stream& random, bool train) {
    for (std::size_t l = 0; l + 1 < depth(); ++l)
      adapters_.emplace_back(ctx, plan, weight(l).cols(), weight(l).rows(), random,
                             layers_[2 * l].name);
    train_layers_ = train;
  }

  /// Logits of a batch.
  /// \param[in] ctx     where the network lives
  /// \param[in] images  columns in the host's memory
  /// \returns classes x images, until the next pass
  activation const& forward(Ctx& ctx, std::span<S const> images) {
    forget();
    index_t const tokens = static_cast<index_t>(images.size()) / weight(0).cols();
    outputs_.push_back(scratch<S>(ctx, weight(0).cols(), tokens));
    upload(ctx, images.data(), outputs_[0]);
    for (std::size_t l = 0; l < depth(); ++l) {
      outputs_.push_back(scratch<S>(ctx, weight(l).rows(), tokens));
      activation& y = outputs_[l + 1];
      multiply(ctx, weight(l), outputs_[l], y);
      add_bias(ctx, layers_[2 * l + 1].value, y);
      if (l + 1 == depth()) break;
      if (l < adapters_.size()) adapters_[l].forward(ctx, outputs_[l], y);
      slopes_.push_back(scratch<S>(ctx, y.rows(), tokens));
      gelu(ctx, y, y, slopes_[l]);
    }
    return outputs_.back();
  }

  /// Adds the gradients of the last batch's loss to the parameters'.
  /// \param[in]  ctx     where the network lives
  /// \param[in]  labels  of the images, in the host's memory
  /// \param[out] loss    1 x 1 of double, auxiliary terms included
  template <class Loss>
  void backward(Ctx& ctx, std::span<int const> labels, Loss& loss) {
    auto classes = scratch<int>(ctx, 1, static_cast<index_t>(labels.size()));
    upload(ctx, labels.data(), classes);
    gradients_.push_back(scratch<S>(ctx, outputs_.back().rows(), classes.cols()));
    cross_entropy(ctx, outputs_.back(), classes, loss, gradients_[0]);
    for (std::size_t l = depth(); l-- > 0;) {
      activation& dy = gradients_.back();
      if (l + 1 < depth()) transform(ctx, through_slope_element{}, outputs(dy), inputs(slopes_[l]));
      if (train_layers_) {
        multiply_add(ctx, 1, dy, outputs_[l].adjoint(), layers_[2 * l].gradient);
        add_bias_gradient(ctx, dy, layers_[2 * l + 1].gradient);
      }
      auto dx = scratch<S>(ctx, weight(l).cols(), dy.cols());
      fill(ctx, 0, dx);
      if (l > 0) multiply_add(ctx, 1, weight(l).adjoint(), dy, dx);
      if (l < adapters_.size()) adapters_[l].backward(ctx, outputs_[l], dy, dx, loss);
      gradients_.pop_back();
      gradients_.push_back(std::move(dx));
    }
    gradients_.clear();
  }

  /// What is trained: adapters, and the layers when they are.
  std::vector<parameter<Ctx, S>*> trained() {
    std::vector<parameter<Ctx, S>*> all;
    for (auto& a : adapters_)
      for (auto& p : a.parameters())
        if (p.rate > 0) all.push_back(&p);
    if (train_layers_)
      for (auto& p : layers_) all.push_back(&p);
    return all;
  }
  /// \returns weight and bias of each layer, in order
  std::vector<parameter<Ctx, S>>& layers() { return layers_; }
  /// \returns those of the hidden layers, in order
  std::vector<adapter<Ctx, S>>& adapters() { return adapters_; }
  /// \returns input of layer l in the last forward pass
  activation const& input(std::size_t l) const { return outputs_[l]; }
  /// Gives the scratch of the last pass back.
  void forget() {
    for (auto& a : adapters_) a.forget();
    gradients_.clear();
    slopes_.clear();
    outputs_.clear();
  }

 private:
  std::size_t depth() const { return layers_.size() / 2; }
  auto const& weight(std::size_t l) const { return layers_[2 * l].value; }

  std::vector<parameter<Ctx, S>> layers_;
  std::vector<adapter<Ctx, S>> adapters_;
  bool train_layers_ = true;
  // The images and what each layer makes of them; derivatives of the GELUs; gradients on their way.
  std::vector<activation> outputs_, slopes_, gradients_;
};

}  // namespace example
