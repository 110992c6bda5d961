// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Experts that are trained apart: a routed mixture of four linear experts whose steps leave alone
// what the other experts have learned, and the same for the two factors of LoRA experts.
#include <cmath>
#include <cstdio>

#include <Eigen/Core>

#include <stiefelx/stiefelx.hpp>

using namespace stiefelx;
using Eigen::MatrixXf;

// Largest entry of u_j^T (w_e - before_e) over experts e and the directions u_j of the others.
float seen_by_others(MatrixXf const& u, MatrixXf const& change, index_t count) {
  float worst = 0;
  index_t const outputs = change.cols() / count;
  for (index_t e = 0; e < count; ++e)
    for (index_t j = 0; j < count; ++j)
      if (j != e)
        worst = std::max(
            worst,
            (u.col(j).transpose() * change.middleCols(e * outputs, outputs)).cwiseAbs().maxCoeff());
  return worst;
}

int main() {
  constexpr index_t d = 16, outputs = 8, count = 4, tokens = 64, rank = 3;
  host::context ctx;
  random_stream stream{.seed = 7};

  // Every expert gets tokens along its own direction u_e.
  MatrixXf u(d, count), x(d, tokens), w(d, count * outputs), g(d, count * outputs);
  random_point(ctx, stiefel{d, count}, stream, u);
  Eigen::Matrix<int, 1, -1> ids(tokens);
  MatrixXf const gates = MatrixXf::Ones(1, tokens);
  for (index_t t = 0; t < tokens; ++t) {
    ids(t) = static_cast<int>(t % count);
    x.col(t) = float(1 + t % 5) * u.col(t % count);
  }
  fill_normal(ctx, stream, 0.1, w);

  //! [dense]
  // Four experts side by side: the weight of expert e is d x outputs, its output for x is w_e^T x.
  adamw base(ctx, w, {.learning_rate = 1e-2, .weight_decay = 0.1});
  orthogonal_experts optimizer(
      ctx, base, w, expert_bank{count},
      {.projectors = {.policy = projector_policy::low_rank, .alpha = 0, .rank = 8},
       .removes = removal::from_update},
      phase_schedule{.accumulating = 1, .orthogonal = 1});
  //! [dense]

  bool plain_step_touches = true, orthogonal_step_does_not = true;
  for (int step = 0; step < 10; ++step) {
    fill_normal(ctx, stream, 1, g);  // in a program, the gradient of the loss
    MatrixXf const before = w;
    //! [step]
    // What each expert counts a token for: its gate weight, 0 where it was not routed to it.
    optimizer.observe(ctx, x, expert_assignment(ctx, ids, gates, count));
    optimizer.step(ctx, w, g);
    //! [step]
    float const seen = seen_by_others(u, w - before, count);
    if (step % 2 == 0 && !(seen > 1e-3F)) plain_step_touches = false;
    if (step % 2 == 1 && !(seen < 1e-6F)) orthogonal_step_does_not = false;
  }
  std::printf("accumulating steps move outputs of other experts' tokens: %s\n",
              plain_step_touches ? "yes" : "no");
  std::printf("orthogonal steps do not: %s\n", orthogonal_step_does_not ? "yes" : "no");
  //! [retained]
  Eigen::RowVectorXd const retained = optimizer.retained();  // one number an expert
  std::printf("part of the update that was kept, between 0 and 1: %s\n",
              retained.minCoeff() > 0 && retained.maxCoeff() < 1 ? "yes" : "no");
  //! [retained]

  MatrixXf down(d, count * rank), up(count * rank, outputs), ddown(d, count * rank),
      dup(count * rank, outputs);
  fill_normal(ctx, stream, 0.2, down);
  fill(ctx, 0, up);
  fill_normal(ctx, stream, 1, ddown);
  fill_normal(ctx, stream, 1, dup);
  //! [lora]
  // The factors of LoRA experts: the tokens are the inputs of down, h = A x those of up.
  orthogonal_experts down_optimizer(
      ctx, adamw(ctx, down), down, expert_bank{count},
      {.projectors = {.policy = projector_policy::low_rank, .decay = 0.9, .rank = 8}});
  orthogonal_experts up_optimizer(
      ctx, adamw(ctx, up), up, expert_bank{count, expert_layout::stacked},
      {.projectors = {.policy = projector_policy::joint, .decay = 0.9}});  // r x r each

  MatrixXf const h = down.transpose() * x;
  MatrixXf const shares = expert_assignment(ctx, ids, gates, count);
  down_optimizer.observe(ctx, x, shares);
  up_optimizer.observe(ctx, h, shares);
  down_optimizer.step(ctx, down, ddown);
  up_optimizer.step(ctx, up, dup);
  //! [lora]
  std::printf("LoRA factors are finite: %s\n", down.allFinite() && up.allFinite() ? "yes" : "no");

  //! [memory]
  // Exact projectors of 4096 inputs for 16 experts would take 2 GiB.
  try {
    orthogonal_experts large(ctx, adamw(ctx, w), MatrixXf(4096, 0), expert_bank{16});
  } catch (option_error const& error) {
    std::printf("%s\n", error.what());
  }
  //! [memory]
}
