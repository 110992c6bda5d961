// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <stiefelx/optim/clip.hpp>

#include "examples/fashion/model.hpp"
#include "examples/fashion/tasks.hpp"

namespace example {

/// \brief One step on one batch at a fraction of the peak rates. No result is read.
///
/// The batch is uploaded in each step: 0.8 MB of 256 images, which are drawn and marked on the host
/// by one text for every device.
/// \param[in]     ctx       where the network lives
/// \param[in,out] net       trained
/// \param[in]     images    columns in the host's memory
/// \param[in]     labels    as many
/// \param[in]     schedule  fraction of the peak rates
/// \param[in]     clip      bound on the gradients' joint norm; 0: none
/// \param[out]    loss      1 x 1 of double, of this batch before the step
template <class Ctx, class S, class Loss>
void training_step(Ctx& ctx, network<Ctx, S>& net, std::span<S const> images,
                   std::span<int const> labels, double schedule, double clip, Loss& loss) {
  std::vector<stiefelx::matrix_t<Ctx, S>*> gradients;
  auto const trained = net.trained();
  for (auto* p : trained) {
    fill(ctx, 0, p->gradient);
    gradients.push_back(&p->gradient);
  }
  net.forward(ctx, images);
  net.backward(ctx, labels, loss);
  if (clip > 0) clip_by_global_norm(ctx, clip, std::span(std::as_const(gradients)));
  for (auto* p : trained) p->step(ctx, schedule);
}

/// \brief The class that a network gives each image; waits.
/// \param[in]     ctx     where the network lives
/// \param[in,out] net     runs forward
/// \param[in]     images  columns in the host's memory
/// \returns the row of the largest logit, the first of equal ones
template <class Ctx>
std::vector<int> classify(Ctx& ctx, network<Ctx, float>& net, std::span<float const> images) {
  auto const& logits = net.forward(ctx, images);
  auto const rows = static_cast<std::size_t>(logits.rows());
  std::vector<float> found(rows * static_cast<std::size_t>(logits.cols()));
  download(ctx, logits, found.data());
  std::vector<int> best;
  for (auto column = found.begin(); column != found.end();) {
    auto const end = column + static_cast<std::ptrdiff_t>(rows);
    best.push_back(static_cast<int>(std::max_element(column, end) - column));
    column = end;
  }
  return best;
}

/// \brief Share of right answers for each task on the first `count` images of a set; waits.
/// \param[in]     ctx    where the network lives
/// \param[in,out] net    runs forward
/// \param[in]     set    images without cues
/// \param[in]     tasks  their label maps
/// \param[in]     count  of images
/// \returns from 0 to 1
template <class Ctx>
std::array<double, task_count> evaluate(Ctx& ctx, network<Ctx, float>& net,
                                        pixel_columns const& set, task_set const& tasks,
                                        std::size_t count) {
  std::array<double, task_count> right{};
  std::vector<float> images;
  for (std::size_t k = 0; k < task_count; ++k) {
    for (std::size_t first = 0; first < count; first += 1000) {
      std::size_t const size = std::min<std::size_t>(1000, count - first);
      images.assign(set.image(first), set.image(first + size));
      for (std::size_t i = 0; i < size; ++i) task_set::mark(k, images.data() + i * pixel_count);
      auto const best = classify(ctx, net, images);
      for (std::size_t i = 0; i < size; ++i) {
        auto const c = static_cast<std::size_t>(set.classes[first + i]);
        right[k] += best[i] == tasks.label(k, c) ? 1 : 0;
      }
    }
    right[k] /= static_cast<double>(count);
  }
  return right;
}

}  // namespace example
