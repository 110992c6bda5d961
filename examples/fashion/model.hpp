// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <stiefelx/stiefelx.hpp>

#include "examples/fashion/parameter.hpp"

namespace example {

using namespace stiefelx;

/// How a frozen layer is adapted.
struct adapter_plan {
  enum class form { none, lora, mixture, stiefel } kind = form::none;
  index_t experts = 1;
  index_t rank = 4;
  router_options routing{};
  mixing mix = mixing::none;
  double balance = 0;         // coefficient of the balance loss
  bool uniform_gate = false;  // a router that stays at zero
  bool kept_apart = false;    // experts trained by the orthogonal optimizer
};

/// What is added to a frozen layer's output: a LoRA, a mixture of them, or factors on manifolds.
template <class S>
class adapter {
  using form = adapter_plan::form;
  using matrix = Eigen::Matrix<S, -1, -1>;

 public:
  adapter(host::context& ctx, adapter_plan plan, index_t d_in, index_t d_out, random_stream& random,
          std::string const& layer)
      : plan_(plan) {
    if (plan.kind == form::none) return;
    bool const orthonormal = plan.mix == mixing::orthonormal;
    index_t const all = plan.experts * plan.rank;
    // riemannian_adam's rate is the length of a whole matrix's step: 2e-2 a column.
    double const rate = plan.kind == form::lora      ? 5e-3
                        : plan.kind == form::stiefel ? 2e-2 * std::sqrt(static_cast<double>(all))
                                                     : 1e-2;
    double const bound = 1 / std::sqrt(static_cast<double>(d_in));
    if (orthonormal) scaling_ = 2 * std::sqrt(static_cast<double>(d_out));
    matrix down(d_in, all), up = matrix::Zero(all, d_out);
    fill_uniform(ctx, random, -bound, bound, down);
    if (orthonormal) fill_normal(ctx, random, 1 / std::sqrt(static_cast<double>(plan.rank)), up);
    if (plan.kind == form::stiefel) {
      up.resize(d_out, all);  // points have orthonormal columns, so this factor lies the other way
      random_point(ctx, stiefel{d_in, all}, random, down);
      random_point(ctx, stiefel{d_out, all}, random, up);
    }
    parameters_.emplace_back(ctx, layer + ".down", down, rate);
    parameters_.emplace_back(ctx, layer + ".up", up, rate);
    if (plan.kind == form::stiefel) {
      for (auto& p : parameters_) p.move_to_stiefel(ctx);
      parameters_.emplace_back(ctx, layer + ".middle", matrix::Zero(all, all), 2e-2);
    }
    if (plan.kind != form::mixture) return;
    if (plan.kept_apart) {
      // The mean inputs of a batch, for d_in inputs their strongest directions. Half of what an
      // expert saw is forgotten after seven steps.
      orthogonal_experts_options options{.projectors = {.policy = projector_policy::low_rank,
                                                        .decay = 0.9,
                                                        .rank = std::min<index_t>(16, d_in - 1)},
                                         .removes = removal::from_update};
      parameters_[0].keep_experts_apart(ctx, {plan.experts}, options);
      options.projectors.policy = projector_policy::joint;  // r x r
      parameters_[1].keep_experts_apart(ctx, {plan.experts, expert_layout::stacked}, options);
    }
    matrix router(d_in, plan.experts);
    fill_normal(ctx, random, plan.uniform_gate ? 0 : 0.02, router);
    parameters_.emplace_back(ctx, layer + ".router", router, plan.uniform_gate ? 0 : rate / 10);
    if (orthonormal)
      parameters_.emplace_back(ctx, layer + ".gain", matrix::Zero(plan.experts, 1), rate);
  }

  /// y += the adapter's output for x. Keeps what backward() needs.
  void forward(host::context& ctx, matrix const& x, matrix& y) {
    auto& p = parameters_;
    if (plan_.kind == form::none) return;
    if (plan_.kind == form::mixture) {
      forget();
      routes_.emplace(route(ctx, p[2].value, x, plan_.routing));
      ungained_ = routes_->weights;
      if (p.size() > 3) apply_gain(ctx, p[3].value, routes_->ids, routes_->weights);
      saved_.emplace(moe_lora_forward(ctx, experts(), *routes_, x, y, {.kind = plan_.mix}));
      return;
    }
    h_.resize(p[0].value.cols(), x.cols());
    if (plan_.kind == form::lora) {
      lora_forward(ctx, p[0].value, p[1].value, scaling_, x, y, h_);
    } else {
      multiply(ctx, p[0].value.adjoint(), x, h_);
      multiply_add(ctx, scaling_, p[1].value, product(ctx, p[2].value, h_), y);
    }
  }

  /// Adds to the parameters' gradients and to dx; returns the auxiliary loss.
  double backward(host::context& ctx, matrix const& x, matrix const& dy, matrix& dx) {
    auto& p = parameters_;
    if (plan_.kind == form::none) return 0;
    if (plan_.kind == form::lora) {
      lora_backward(ctx, p[0].value, p[1].value, scaling_, x, h_, dy, p[0].gradient, p[1].gradient,
                    1, dx);
      return 0;
    }
    if (plan_.kind == form::stiefel) {
      auto const z = product(ctx, p[1].value.adjoint(), dy);
      auto const dh = product(ctx, p[2].value.adjoint(), z);
      multiply_add(ctx, scaling_, dy, product(ctx, p[2].value, h_).adjoint(), p[1].gradient);
      multiply_add(ctx, scaling_, z, h_.adjoint(), p[2].gradient);
      multiply_add(ctx, scaling_, x, dh.adjoint(), p[0].gradient);
      multiply_add(ctx, scaling_, p[0].value, dh, dx);
      return 0;
    }
    if (plan_.kept_apart) {
      matrix const shares = expert_assignment(ctx, routes_->ids, routes_->weights, plan_.experts);
      p[0].observe(ctx, x, shares);
      p[1].observe(ctx, product(ctx, p[0].value.adjoint(), x), shares);
    }
    auto dweights = clone(ctx, routes_->weights);
    auto dscores = clone(ctx, routes_->probabilities);
    moe_lora_backward(ctx, experts(), *routes_, *saved_, x, dy, p[0].gradient, p[1].gradient,
                      dweights, 1, dx);
    if (p.size() > 3)
      apply_gain_backward(ctx, p[3].value, routes_->ids, ungained_, dweights, p[3].gradient);
    routes_->weights = ungained_;
    gate_backward(ctx, *routes_, dweights, dscores);
    Eigen::Matrix<double, 1, 1> loss(0.0);
    if (plan_.balance > 0) balance_loss(ctx, plan_.balance, *routes_, loss, dscores);
    router_backward(ctx, p[2].value, x, dscores, p[2].gradient, 1, dx);
    return loss(0, 0);
  }

  /// Mean absolute cosine between experts' outputs before and after mixing, and mean entropy of the
  /// router, for the last forward pass on x.
  std::optional<std::array<double, 3>> statistics(host::context& ctx, matrix const& x) {
    if (plan_.kind != form::mixture) return std::nullopt;
    Eigen::Matrix<double, 2, 1> s;
    expert_similarity(ctx, experts(), *routes_, x, {.kind = plan_.mix}, s);
    auto const p = routes_->probabilities.template cast<double>().array();
    return std::array{s(0), s(1), -(p * (p + 1e-300).log()).sum() / static_cast<double>(p.cols())};
  }

  std::vector<parameter<S>>& parameters() { return parameters_; }
  adapter_plan const& plan() const { return plan_; }
  /// Gives the scratch of the last forward pass back.
  void forget() {
    saved_.reset();
    routes_.reset();
  }

 private:
  auto experts() {
    return lora_experts{parameters_[0].value, parameters_[1].value, plan_.experts, scaling_};
  }
  using context = host::context&;
  using in = matrix const&;
  using routes = decltype(route(std::declval<context>(), std::declval<in>(), std::declval<in>()));
  using kept = decltype(moe_lora_forward(
      std::declval<context>(), std::declval<lora_experts<matrix&, matrix&>>(),
      std::declval<routes const&>(), std::declval<in>(), std::declval<matrix&>()));

  adapter_plan plan_;
  double scaling_ = 2;
  std::vector<parameter<S>> parameters_;
  matrix h_, ungained_;
  std::optional<routes> routes_;
  std::optional<kept> saved_;
};

/// A perceptron with exact GELU whose hidden layers can carry adapters. An image is a column.
template <class S>
class network {
 public:
  using matrix = Eigen::Matrix<S, -1, -1>;

  /// Weights uniform in +-1/sqrt(d_in), biases zero.
  network(host::context& ctx, std::vector<index_t> const& sizes, random_stream& random, double rate,
          double decay) {
    for (std::size_t l = 0; l + 1 < sizes.size(); ++l) {
      matrix w(sizes[l + 1], sizes[l]);
      double const bound = 1 / std::sqrt(static_cast<double>(sizes[l]));
      fill_uniform(ctx, random, -bound, bound, w);
      std::string const name = "layer" + std::to_string(l + 1);
      layers_.emplace_back(ctx, name + ".weight", w, rate, decay);
      layers_.emplace_back(ctx, name + ".bias", matrix::Zero(sizes[l + 1], 1), rate, 0);
    }
    inputs_.resize(depth());
    slopes_.resize(depth() - 1);
  }

  /// Puts an adapter on each hidden layer; the layers themselves are trained only when asked.
  void adapt(host::context& ctx, adapter_plan plan, random_stream& random, bool train) {
    for (std::size_t l = 0; l + 1 < depth(); ++l)
      adapters_.emplace_back(ctx, plan, weight(l).cols(), weight(l).rows(), random,
                             layers_[2 * l].name);
    train_layers_ = train;
  }

  /// Logits of a batch.
  matrix const& forward(host::context& ctx, matrix const& x) {
    inputs_[0] = x;
    for (std::size_t l = 0; l < depth(); ++l) {
      matrix& y = l + 1 < depth() ? inputs_[l + 1] : logits_;
      y.resize(weight(l).rows(), x.cols());
      multiply(ctx, weight(l), inputs_[l], y);
      y.colwise() += layers_[2 * l + 1].value.col(0);
      if (l + 1 == depth()) break;
      if (l < adapters_.size()) adapters_[l].forward(ctx, inputs_[l], y);
      slopes_[l].resize(y.rows(), y.cols());
      gelu(ctx, y, y, slopes_[l]);
    }
    return logits_;
  }

  /// Adds the gradients of the last batch's loss; returns the loss, auxiliary terms included.
  double backward(host::context& ctx, Eigen::Matrix<int, 1, -1> const& labels) {
    Eigen::Matrix<double, 1, 1> loss;
    dy_.resize(logits_.rows(), logits_.cols());
    cross_entropy(ctx, logits_, labels, loss, dy_);
    for (std::size_t l = depth(); l-- > 0;) {
      if (l + 1 < depth()) dy_.array() *= slopes_[l].array();
      if (train_layers_) {
        multiply_add(ctx, 1, dy_, inputs_[l].adjoint(), layers_[2 * l].gradient);
        layers_[2 * l + 1].gradient += dy_.rowwise().sum();
      }
      dx_.setZero(weight(l).cols(), dy_.cols());
      if (l > 0) multiply_add(ctx, 1, weight(l).adjoint(), dy_, dx_);
      if (l < adapters_.size()) loss(0) += adapters_[l].backward(ctx, inputs_[l], dy_, dx_);
      dx_.swap(dy_);
    }
    return loss(0);
  }

  /// What is trained: adapters, and the layers when they are.
  std::vector<parameter<S>*> trained() {
    std::vector<parameter<S>*> all;
    for (auto& a : adapters_)
      for (auto& p : a.parameters())
        if (p.rate > 0) all.push_back(&p);
    if (train_layers_)
      for (auto& p : layers_) all.push_back(&p);
    return all;
  }
  std::vector<parameter<S>>& layers() { return layers_; }
  std::vector<adapter<S>>& adapters() { return adapters_; }
  /// Input of layer l in the last forward pass.
  matrix const& input(std::size_t l) const { return inputs_[l]; }

 private:
  std::size_t depth() const { return layers_.size() / 2; }
  matrix const& weight(std::size_t l) const { return layers_[2 * l].value; }

  std::vector<parameter<S>> layers_;
  std::vector<adapter<S>> adapters_;
  bool train_layers_ = true;
  std::vector<matrix> inputs_, slopes_;
  matrix logits_, dy_, dx_;
};

}  // namespace example
