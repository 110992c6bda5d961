// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "examples/fashion/methods.hpp"
#include "examples/fashion/tasks.hpp"

namespace example {

/// A moment of a training run.
struct curve_point {
  double step;      ///< steps done
  double loss;      ///< mean since the moment before
  double rate;      ///< fraction of the peak learning rate
  double accuracy;  ///< mean over the tasks, on the first test images
};

/// What a finished run gives.
struct run_result {
  std::array<double, task_count> accuracy_by_task{};  ///< on all test images
  std::optional<std::array<double, 3>> experts;       ///< cosine before, after, router entropy
  double ms_per_step = 0;                             ///< median of means over 20 steps
  std::uint64_t parameters_crc32 = 0;                 ///< of the trained values
  std::vector<curve_point> curve;                     ///< in order

  /// \returns the mean over the tasks
  double accuracy() const {
    double sum = 0;
    for (double a : accuracy_by_task) sum += a;
    return sum / static_cast<double>(task_count);
  }
};

/// One method's results, one entry a seed.
struct method_results {
  method what;                      ///< the method
  std::vector<run_result> by_seed;  ///< in the order of the seeds

  /// \returns accuracies, one a seed
  std::vector<double> accuracies() const {
    std::vector<double> all;
    for (auto const& r : by_seed) all.push_back(r.accuracy());
    return all;
  }
  /// \param[in] i  0 cosine before, 1 cosine after, 2 router entropy
  /// \returns the mean over seeds, nothing where there are no experts
  std::optional<double> experts(std::size_t i) const {
    double sum = 0;
    for (auto const& r : by_seed) {
      if (!r.experts) return std::nullopt;
      sum += (*r.experts)[i] / static_cast<double>(by_seed.size());
    }
    return sum;
  }
  /// \returns the median over seeds of the median step
  double ms_per_step() const {
    std::vector<double> all;
    for (auto const& r : by_seed) all.push_back(r.ms_per_step);
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  }
};

/// All results of a study.
struct study_results {
  std::vector<method_results> methods;  ///< in the order of the table
  std::vector<std::uint64_t> seeds;     ///< as run
  double seconds = 0;                   ///< the program's own time
  double backbone_accuracy = 0;         ///< on the plain test images

  /// \param[in] name  a method
  /// \returns its results, null when it was not run
  method_results const* find(std::string_view name) const {
    for (auto const& m : methods)
      if (m.what.name == name) return &m;
    return nullptr;
  }
};

}  // namespace example
