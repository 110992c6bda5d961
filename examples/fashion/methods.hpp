// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "examples/fashion/adapter_plan.hpp"

namespace example {

using stiefelx::index_t;

/// One way to adapt the frozen network.
struct method {
  std::string name;           ///< as on the command line and in every result
  adapter_plan plan;          ///< what each hidden layer carries
  bool train_layers = false;  ///< whether the network itself is trained
  bool extra = false;         ///< run only when it is named
};

/// Layer sizes of the network.
inline std::vector<index_t> network_sizes() { return {784, 256, 256, 10}; }

/// \brief Numbers that a method trains.
/// \param[in] m      the method
/// \param[in] sizes  of the network
/// \returns entries of all trained matrices, routers included
inline index_t trainable_parameters(method const& m, std::vector<index_t> const& sizes) {
  using form = adapter_plan::form;
  adapter_plan const& plan = m.plan;
  index_t const all = plan.experts * plan.rank;
  index_t count = 0;
  for (std::size_t l = 0; l + 1 < sizes.size(); ++l) {
    index_t const d_in = sizes[l], d_out = sizes[l + 1];
    if (m.train_layers) count += d_out * (d_in + 1);
    if (l + 2 == sizes.size() || plan.kind == form::none) continue;
    count += all * (d_in + d_out);
    if (plan.kind == form::stiefel) count += all * all;
    if (plan.kind != form::mixture) continue;
    if (!plan.uniform_gate) count += d_in * plan.experts;
    if (plan.mix == stiefelx::mixing::orthonormal) count += plan.experts;
  }
  return count;
}

/// \brief Gives a method the rank whose parameter count is nearest to another method's.
/// \param[in] m      the method; its rank is replaced
/// \param[in] other  the method to match
/// \param[in] sizes  of the network
/// \returns the method
inline method matched(method m, method const& other, std::vector<index_t> const& sizes) {
  index_t const target = trainable_parameters(other, sizes);
  index_t best = 1;
  auto const distance = [&](index_t rank) {
    m.plan.rank = rank;
    return std::abs(trainable_parameters(m, sizes) - target);
  };
  for (index_t rank = 2; rank <= sizes.back() * 10; ++rank)
    if (distance(rank) < distance(best)) best = rank;
  m.plan.rank = best;
  return m;
}

/// \brief Every method of the comparison, in the order of the table.
/// \returns the ten of the comparison, then the controls that run only when they are named
inline std::vector<method> all_methods() {
  using form = adapter_plan::form;
  using stiefelx::mixing;
  auto const mixture = [](std::string name, index_t experts, mixing mix) {
    return method{std::move(name), {.kind = form::mixture, .experts = experts, .mix = mix}};
  };
  auto const sizes = network_sizes();
  method const omoe4 = mixture("omoe-4", 4, mixing::orthogonal);
  method top2 = mixture("moe-8-top2", 8, mixing::none);
  top2.plan.routing = {.top_k = 2, .renormalize = true};
  top2.plan.balance = 1e-2;
  method apart = mixture("moe-4-orthogonal-optimizer", 4, mixing::none);
  apart.plan.kept_apart = true;
  method full{"full", {}, true};
  std::vector<method> all{{"frozen", {}},
                          matched({"lora", {.kind = form::lora}}, omoe4, sizes),
                          mixture("moe-4", 4, mixing::none),
                          apart,
                          top2,
                          mixture("omoe-2", 2, mixing::orthogonal),
                          omoe4,
                          mixture("omoe-4-orthonormal", 4, mixing::orthonormal),
                          matched({"stiefel-lora", {.kind = form::stiefel}}, omoe4, sizes),
                          full};
  for (mixing mix : {mixing::none, mixing::orthogonal}) {
    method control = mixture(mix == mixing::none ? "moe-4-uniform" : "omoe-4-uniform", 4, mix);
    control.plan.uniform_gate = true;
    control.extra = true;
    all.push_back(control);
  }
  return all;
}

}  // namespace example
