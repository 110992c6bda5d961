// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "examples/fashion/model.hpp"
#include "examples/fashion/tasks.hpp"

namespace example {

/// One step on one batch at a fraction of the peak rates; returns the loss.
template <class S>
double training_step(host::context& ctx, network<S>& net, Eigen::Matrix<S, -1, -1> const& x,
                     Eigen::Matrix<int, 1, -1> const& labels, double schedule, double clip) {
  std::vector<Eigen::Matrix<S, -1, -1>*> gradients;
  for (auto* p : net.trained()) {
    p->gradient.setZero();
    gradients.push_back(&p->gradient);
  }
  net.forward(ctx, x);
  double const loss = net.backward(ctx, labels);
  if (clip > 0) clip_by_global_norm(ctx, clip, std::span(std::as_const(gradients)));
  for (auto* p : net.trained()) p->step(ctx, schedule);
  return loss;
}

/// Share of right answers for each task on the first `count` images of a set.
inline std::array<double, task_count> evaluate(host::context& ctx, network<float>& net,
                                               pixel_columns const& set, task_set const& tasks,
                                               index_t count) {
  std::array<double, task_count> right{};
  for (std::size_t k = 0; k < task_count; ++k) {
    for (index_t first = 0; first < count; first += 1000) {
      Eigen::MatrixXf x = set.pixels.middleCols(first, std::min<index_t>(1000, count - first));
      for (index_t i = 0; i < x.cols(); ++i) task_set::mark(k, x.col(i).data());
      auto const& logits = net.forward(ctx, x);
      for (index_t i = 0; i < x.cols(); ++i) {
        index_t best = 0;
        logits.col(i).maxCoeff(&best);
        auto const c = static_cast<std::size_t>(set.classes[static_cast<std::size_t>(first + i)]);
        right[k] += best == tasks.label(k, c) ? 1 : 0;
      }
    }
    right[k] /= static_cast<double>(count);
  }
  return right;
}

}  // namespace example
