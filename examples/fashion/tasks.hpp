// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <Eigen/Core>

#include <stiefelx/core/random.hpp>

#include "examples/support/idx.hpp"

namespace example {

/// Number of tasks and of classes.
inline constexpr std::size_t task_count = 8;
inline constexpr std::size_t class_count = 10;  ///< classes of Fashion-MNIST

/// \brief Eight tasks that contradict each other on the same images.
///
/// Task k marks an image with a bright 4 x 4 cue in one of eight border positions and has its own
/// map of the labels: the identity for task 0, a derangement for the others. Nothing but the cue
/// tells the tasks apart. The maps are the same for every method and seed.
class task_set {
 public:
  /// Draws the seven derangements.
  task_set() {
    for (std::size_t k = 0; k < task_count; ++k) {
      for (std::size_t c = 0; c < class_count; ++c) maps_[k][c] = static_cast<int>(c);
      for (std::uint64_t draw = 0; k > 0 && !is_new_derangement(k); ++draw) {
        // Fisher and Yates; the stream is a function of the task and the attempt alone.
        for (std::size_t c = class_count - 1; c > 0; --c) {
          auto const w = stiefelx::philox(2501, 1000 * k + draw, c);
          std::swap(maps_[k][c], maps_[k][w[0] % (c + 1)]);
        }
      }
    }
  }

  /// \returns the label that task k gives to class c
  /// \param[in] k  task
  /// \param[in] c  class
  int label(std::size_t k, std::size_t c) const { return maps_[k][c]; }

  /// \brief Puts task k's cue on an image.
  /// \param[in]     k      task
  /// \param[in,out] image  28 x 28 normalised pixels, row after row
  template <class S>
  static void mark(std::size_t k, S* image) {
    constexpr std::array<std::array<std::size_t, 2>, task_count> corner{
        {{0, 0}, {0, 12}, {0, 24}, {12, 0}, {12, 24}, {24, 0}, {24, 12}, {24, 24}}};
    for (std::size_t i = 0; i < 4; ++i)
      for (std::size_t j = 0; j < 4; ++j) image[(corner[k][0] + i) * 28 + corner[k][1] + j] = S(3);
  }

 private:
  bool is_new_derangement(std::size_t k) const {
    for (std::size_t c = 0; c < class_count; ++c)
      if (maps_[k][c] == static_cast<int>(c)) return false;
    return std::find(maps_.begin(), maps_.begin() + static_cast<std::ptrdiff_t>(k), maps_[k]) ==
           maps_.begin() + static_cast<std::ptrdiff_t>(k);
  }

  std::array<std::array<int, class_count>, task_count> maps_{};
};

/// \brief Images as columns of normalised pixels, with the class of each.
struct pixel_columns {
  Eigen::MatrixXf pixels;    ///< 784 x N, mean 0 and deviation 1 over the training images
  std::vector<int> classes;  ///< N
};

/// Normalises images with the mean and deviation of Fashion-MNIST's training pixels.
/// \param[in] set  images and labels
/// \returns columns
inline pixel_columns normalise(labelled_images const& set) {
  constexpr float mean = 0.2860F, deviation = 0.3530F;
  auto const count = static_cast<Eigen::Index>(set.images.count);
  auto const size = static_cast<Eigen::Index>(set.images.rows * set.images.cols);
  pixel_columns out{Eigen::MatrixXf(size, count), {}};
  using bytes = Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic>;
  Eigen::Map<bytes const> const raw(set.images.pixels.data(), size, count);
  out.pixels = ((raw.cast<float>() / 255.0F).array() - mean) / deviation;
  out.classes.assign(set.labels.begin(), set.labels.end());
  return out;
}

/// A batch: an image a column, its label and its task.
struct batch {
  Eigen::MatrixXf x;                 ///< 784 x B
  Eigen::Matrix<int, 1, -1> labels;  ///< 1 x B
};

/// \brief Draws a batch: images with replacement and, when tasks are mixed, a task for each.
/// \param[in]  set    training images
/// \param[in]  tasks  label maps; null for the plain images and labels
/// \param[in]  seed   names the order of the batches
/// \param[in]  step   which batch: a batch is a function of seed and step alone
/// \param[out] out    its x has as many columns as the batch is to have
inline void draw_batch(pixel_columns const& set, task_set const* tasks, std::uint64_t seed,
                       std::uint64_t step, batch& out) {
  out.labels.resize(out.x.cols());
  for (Eigen::Index i = 0; i < out.x.cols(); ++i) {
    auto const w = stiefelx::philox(seed, step, static_cast<std::uint64_t>(i));
    auto const image = static_cast<Eigen::Index>(w[0] % set.classes.size());
    auto const c = static_cast<std::size_t>(set.classes[static_cast<std::size_t>(image)]);
    out.x.col(i) = set.pixels.col(image);
    out.labels(i) = static_cast<int>(c);
    if (tasks == nullptr) continue;
    std::size_t const k = w[1] % task_count;
    task_set::mark(k, out.x.col(i).data());
    out.labels(i) = tasks->label(k, c);
  }
}

}  // namespace example
