// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/reductions.hpp>
#include <stiefelx/cuda/routed.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/cuda/transform.hpp>

#include "bench/cuda/matrices.hpp"
#include "bench/support/moe_lora_step.hpp"

namespace bench {

/// Sizes of a layer with a mixture of LoRA experts, and the work that it cannot avoid, counted as
/// cases::moe_lora_layer counts it.
struct layer_sizes {
  index_t tokens, width, experts = 8, chosen = 2, rank = 16;

  /// "T=2048,d=1024,E=8,k=2,r=16"
  std::string shape() const {
    return "T=" + std::to_string(tokens) + ",d=" + std::to_string(width) +
           ",E=" + std::to_string(experts) + ",k=" + std::to_string(chosen) +
           ",r=" + std::to_string(rank);
  }
  /// The frozen product alone.
  work base(bool backward) const {
    double const t = real(tokens), d = real(width), passes = backward ? 2 : 1;
    return {passes * 2 * t * d * d, (passes * 2 * t * d + d * d) * sizeof(float)};
  }
  /// One product of every slot with its expert's factor: x or y, the factor, and k r numbers a token.
  work routed() const {
    double const t = real(tokens), d = real(width), ranks = real(chosen * rank) * t;
    return {2 * d * ranks, (t * d + real(experts * rank) * d + ranks) * sizeof(float)};
  }
  /// Router, frozen product and adapters.
  work whole(bool backward, bool orthogonal) const {
    double const t = real(tokens), d = real(width), passes = backward ? 2 : 1;
    double const all = real(experts * rank), router = real(experts) * d;
    double const adapters = 2 * routed().flops * (backward ? 3 : 1);
    double const flops = base(backward).flops + adapters + (backward ? 6 : 2) * t * router +
                         (orthogonal ? all * all * d : 0);
    return {flops, (passes * (2 * t * d + 2 * all * d + router) + d * d) * sizeof(float)};
  }

 private:
  static double real(index_t n) { return static_cast<double>(n); }
};

/// Entries with a normal distribution, on the device.
struct normal_entries {
  /// A matrix of them.
  auto operator()(stiefelx::cuda::context& ctx, index_t rows, index_t cols, double deviation,
                  unsigned seed) const {
    return normal<float>(ctx, rows, cols, deviation, seed);
  }
};

/// \brief The step on the device, with a look at what it computes.
struct layer : moe_lora_step<stiefelx::cuda::context, layer_sizes, normal_entries> {
  using moe_lora_step::moe_lora_step;

  /// Looks at y: three tokens, computed on the host in double, with the output of each listed expert
  /// formed and orthogonalized.
  std::string output_fault();
  /// Looks at the gradients, by Euler's relation and with the device's own inner products.
  std::string gradient_fault();

 private:
  double inner_of(stiefelx::cuda::matrix<float> const& a, stiefelx::cuda::matrix<float> const& b) {
    auto s = stiefelx::cuda::scratch<float>(ctx, 1, 1);
    inner(ctx, a, b, s);
    return static_cast<double>(value(ctx, s));
  }
};

namespace detail {

// a^T v and a v of a column-major matrix with `rows` rows.
inline std::vector<double> adjoint_times(std::vector<float> const& a,
                                         std::vector<double> const& v) {
  std::vector<double> out(a.size() / v.size());
  for (std::size_t j = 0; j < out.size(); ++j)
    for (std::size_t i = 0; i < v.size(); ++i)
      out[j] += static_cast<double>(a[i + j * v.size()]) * v[i];
  return out;
}
inline std::vector<double> times(std::vector<float> const& a, std::vector<double> const& v) {
  std::vector<double> out(a.size() / v.size());
  for (std::size_t j = 0; j < v.size(); ++j)
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] += static_cast<double>(a[i + j * out.size()]) * v[j];
  return out;
}
inline double dot(std::vector<double> const& a, std::vector<double> const& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace detail

inline std::string layer::output_fault() {
  auto const w = on_host(ctx, frozen), a = on_host(ctx, down), b = on_host(ctx, up.adjoint());
  auto const choice = on_host(ctx, router);
  auto const r = static_cast<std::size_t>(size.rank), d = static_cast<std::size_t>(size.width);
  for (index_t const t : {index_t{0}, size.tokens / 2, size.tokens - 1}) {
    auto const column = on_host(ctx, x.middleCols(t, 1));
    std::vector<double> const token(column.begin(), column.end());
    auto expected = detail::times(w, token);
    // Softmax, the chosen ones, scaled to sum 1: the common denominator cancels.
    auto const scores = detail::adjoint_times(choice, token);
    std::vector<std::size_t> order(scores.size());
    for (std::size_t e = 0; e < order.size(); ++e) order[e] = e;
    std::sort(order.begin(), order.end(),
              [&](std::size_t i, std::size_t j) { return scores[i] > scores[j]; });
    order.resize(static_cast<std::size_t>(size.chosen));
    double total = 0;
    for (std::size_t const e : order) total += std::exp(scores[e] - scores[order[0]]);
    std::vector<std::vector<double>> outputs;
    for (std::size_t const e : order) {
      auto const h =
          detail::adjoint_times({a.begin() + static_cast<std::ptrdiff_t>(e * r * d),
                                 a.begin() + static_cast<std::ptrdiff_t>((e + 1) * r * d)},
                                token);
      auto v = detail::times({b.begin() + static_cast<std::ptrdiff_t>(e * r * d),
                              b.begin() + static_cast<std::ptrdiff_t>((e + 1) * r * d)},
                             h);
      if (kind == stiefelx::mixing::orthogonal)
        for (auto const& u : outputs) {
          double const along = detail::dot(v, u) / detail::dot(u, u);
          for (std::size_t i = 0; i < d; ++i) v[i] -= along * u[i];
        }
      double const weight = std::exp(scores[e] - scores[order[0]]) / total;
      for (std::size_t i = 0; i < d; ++i) expected[i] += scaling * weight * v[i];
      outputs.push_back(std::move(v));
    }
    auto const found = on_host(ctx, y.middleCols(t, 1));
    std::string const fault = difference_fault("the output of token " + std::to_string(t),
                                               {found.begin(), found.end()}, expected, 1e-4);
    if (!fault.empty()) return fault;
  }
  return "";
}

inline std::string layer::gradient_fault() {
  std::string fault;
  auto const look = [&](std::string const& what, auto const& gradient) {
    if (fault.empty()) fault = finiteness_fault(ctx, what, gradient);
  };
  look("dx", dx.middleCols(size.tokens - 1, 1));
  look("the gradient of down", ddown);
  look("the gradient of up", dup);
  look("the gradient of the router", drouter);
  if (!fault.empty()) return fault;

  // With fixed routes the mixture is homogeneous of degree one in x, in down and in up, so the inner
  // product of each with its gradient is that of the output with dy (Euler).
  auto const routes = route();
  fill(ctx, 0, y);
  clear_gradients();
  auto saved = add_forward(routes);
  add_backward(routes, saved, 0);
  double const expected = inner_of(y, dy);
  double const spread = std::sqrt(inner_of(y, y));
  struct pair {
    char const* name;
    stiefelx::cuda::matrix<float> const& value;
    stiefelx::cuda::matrix<float> const& gradient;
  };
  for (pair const& p : {pair{"x", x, dx}, pair{"down", down, ddown}, pair{"up", up, dup}}) {
    double const found = inner_of(p.value, p.gradient);
    if (!(std::abs(found - expected) <= 1e-3 * spread))
      return std::string("the derivative along ") + p.name + " is " + detail::number(found) +
             ", expected " + detail::number(expected);
  }
  return "";
}

}  // namespace bench
