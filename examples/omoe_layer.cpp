// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A frozen linear layer with four orthogonalized low-rank experts, trained on made-up data: forward,
// backward and optimizer step. Tokens are in plain arrays, as a framework has them.
#include <cmath>
#include <cstdio>
#include <vector>

#include <Eigen/Core>

#include <stiefelx/stiefelx.hpp>

using namespace stiefelx;
using Eigen::MatrixXf;

int main() {
  constexpr index_t d_in = 24, d_out = 16, tokens = 256, count = 4, rank = 3;
  constexpr double scaling = 2;  // alpha / r
  host::context ctx({.threads = 2});
  random_stream stream{.seed = 5};

  //! [map]
  // Row-major tensors [tokens, d_in] and [tokens, d_out]. The same bytes are matrices whose columns
  // are tokens, so nothing is copied.
  std::vector<float> x_memory(tokens * d_in), y_memory(tokens * d_out);
  Eigen::Map<MatrixXf> x(x_memory.data(), d_in, tokens);
  Eigen::Map<MatrixXf> y(y_memory.data(), d_out, tokens);
  //! [map]

  //! [parameters]
  MatrixXf w(d_in, d_out);  // frozen: elsewhere a row-major [d_out, d_in]
  MatrixXf down(d_in, count * rank), up(count * rank, d_out), router(d_in, count);
  double const bound = 1 / std::sqrt(double{d_in});
  fill_normal(ctx, stream, bound, w);
  fill_uniform(ctx, stream, -bound, bound, down);
  fill(ctx, 0, up);  // the layer starts as the frozen one
  fill_normal(ctx, stream, 0.02, router);
  lora_experts const experts{down, up, count, scaling};  // refers to down and up
  //! [parameters]

  // Targets: one matrix where the first input is positive, another where it is not.
  MatrixXf target(d_out, tokens), a(d_in, 4), b(4, d_out);
  fill_normal(ctx, stream, 1, x);
  fill_normal(ctx, stream, 1, a);
  fill_normal(ctx, stream, 0.3, b);
  for (index_t t = 0; t < tokens; ++t) {
    index_t const kind = x(0, t) > 0 ? 0 : 2;
    MatrixXf const change = a.middleCols(kind, 2) * b.middleRows(kind, 2);
    target.col(t) = (w + change).transpose() * x.col(t);
  }

  multiply(ctx, w.adjoint(), x, y);
  MatrixXf const frozen = y;
  moe_lora_forward(ctx, experts, route(ctx, router, x), x, y);
  std::printf("with B = 0 the layer is the frozen one: %s\n", y == frozen ? "yes" : "no");
  float const loss_before = (y - target).squaredNorm();

  MatrixXf dy(d_out, tokens), dx(d_in, tokens), dweights(count, tokens), dscores(count, tokens);
  MatrixXf ddown(d_in, count * rank), dup(count * rank, d_out), drouter(d_in, count);
  //! [state]
  adamw_options const options{.learning_rate = 1e-2};
  adamw down_optimizer(ctx, down, options), up_optimizer(ctx, up, options),
      router_optimizer(ctx, router, options);
  //! [state]
  for (int step = 0; step < 300; ++step) {
    //! [forward]
    multiply(ctx, w.adjoint(), x, y);                           // the frozen layer
    auto const routes = route(ctx, router, x);                  // who gets which token
    auto saved = moe_lora_forward(ctx, experts, routes, x, y);  // y += the mixture
    //! [forward]
    dy = (y - target) / float{tokens};
    //! [backward]
    fill(ctx, 0, ddown);  // gradients of parameters accumulate
    fill(ctx, 0, dup);
    fill(ctx, 0, drouter);
    multiply(ctx, w, dy, dx);  // the frozen layer's part of dx; beta = 1 adds the others to it
    moe_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dup, dweights, 1, dx);
    gate_backward(ctx, routes, dweights, dscores);
    router_backward(ctx, router, x, dscores, drouter, 1, dx);
    //! [backward]
    //! [step]
    clip_by_global_norm(ctx, 1, ddown, dup, drouter);
    down_optimizer.step(ctx, down, ddown);
    up_optimizer.step(ctx, up, dup);
    router_optimizer.step(ctx, router, drouter);
    //! [step]
  }
  float const ratio = (y - target).squaredNorm() / loss_before;
  std::printf("loss below a fifth of its start: %s\n", ratio < 0.2F ? "yes" : "no");

  //! [similarity]
  Eigen::Vector2d cosine;  // mean absolute cosine between the experts' outputs
  expert_similarity(ctx, experts, route(ctx, router, x), x, mixing_options{}, cosine);
  std::printf("before Gram-Schmidt above 0.1: %s\n", cosine(0) > 0.1 ? "yes" : "no");
  std::printf("after it below 1e-9: %s\n", cosine(1) < 1e-9 ? "yes" : "no");
  //! [similarity]
}
