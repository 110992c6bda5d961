// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <stiefelx/core/random.hpp>

#include "examples/support/images.hpp"

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

/// Pixels of an image.
inline constexpr std::size_t pixel_count = 784;

/// \brief Images as columns of normalised pixels, with the class of each, in the host's memory.
struct pixel_columns {
  std::vector<float> pixels;  ///< 784 x N, mean 0 and deviation 1 over the training images
  std::vector<int> classes;   ///< N

  /// \returns number of images
  std::size_t count() const { return classes.size(); }
  /// \returns the first pixel of image i
  /// \param[in] i  from 0 to count()
  float const* image(std::size_t i) const { return pixels.data() + i * pixel_count; }
};

/// Normalises images with the mean and deviation of Fashion-MNIST's training pixels.
/// \param[in] set  images and labels
/// \returns columns
inline pixel_columns normalise(labelled_images const& set) {
  constexpr float mean = 0.2860F, deviation = 0.3530F;
  pixel_columns out{std::vector<float>(set.images.pixels.size()), {}};
  for (std::size_t i = 0; i < out.pixels.size(); ++i)
    out.pixels[i] = (static_cast<float>(set.images.pixels[i]) / 255.0F - mean) / deviation;
  out.classes.assign(set.labels.begin(), set.labels.end());
  return out;
}

/// A batch: an image a column, and its label.
struct batch {
  std::vector<float> pixels;  ///< 784 x B
  std::vector<int> labels;    ///< B

  /// \param[in] size  B
  explicit batch(std::size_t size) : pixels(pixel_count * size), labels(size) {}
};

/// \brief Draws a batch: images with replacement and, when tasks are mixed, a task for each.
/// \param[in]  set    images
/// \param[in]  tasks  label maps; null for the plain images and labels
/// \param[in]  seed   names the order of the batches
/// \param[in]  step   which batch: a batch is a function of seed and step alone
/// \param[out] out    of the size that the batch is to have
inline void draw_batch(pixel_columns const& set, task_set const* tasks, std::uint64_t seed,
                       std::uint64_t step, batch& out) {
  for (std::size_t i = 0; i < out.labels.size(); ++i) {
    auto const w = stiefelx::philox(seed, step, i);
    std::size_t const image = w[0] % set.count();
    auto const c = static_cast<std::size_t>(set.classes[image]);
    float* const column = out.pixels.data() + i * pixel_count;
    std::copy_n(set.image(image), pixel_count, column);
    out.labels[i] = static_cast<int>(c);
    if (tasks == nullptr) continue;
    std::size_t const k = w[1] % task_count;
    task_set::mark(k, column);
    out.labels[i] = tasks->label(k, c);
  }
}

}  // namespace example
