// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "examples/fashion/results.hpp"
#include "examples/support/json.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/text.hpp"

namespace example {

/// A mean over seeds and its standard error, when there are at least two.
struct estimate {
  double mean = 0;              ///< over the seeds
  std::optional<double> error;  ///< deviation over the root of the number of seeds

  /// \param[in] values  one a seed
  static estimate of(std::vector<double> const& values) {
    estimate e;
    auto const n = static_cast<double>(values.size());
    for (double v : values) e.mean += v / n;
    if (values.size() < 2) return e;
    double squares = 0;
    for (double v : values) squares += (v - e.mean) * (v - e.mean);
    e.error = std::sqrt(squares / (n - 1) / n);
    return e;
  }
};

/// Difference in accuracy between two methods, paired by seed.
/// \param[in] a  a method
/// \param[in] b  another with the same seeds
/// \returns a minus b
inline estimate paired_difference(method_results const& a, method_results const& b) {
  std::vector<double> d = a.accuracies();
  std::vector<double> const other = b.accuracies();
  for (std::size_t i = 0; i < d.size(); ++i) d[i] -= other[i];
  return estimate::of(d);
}

/// Methods that the table compares every other one with.
inline std::vector<std::string> reference_methods() { return {"moe-4", "lora"}; }

/// Prints the table.
/// \param[in,out] out      where to
/// \param[in]     results  all of them
inline void print_table(std::ostream& out, study_results const& results) {
  auto const percent = [](double v) { return to_fixed(100 * v, 2); };
  auto const padded = [](std::string text, std::size_t width) {
    return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
  };
  auto const with_error = [&](estimate const& e) {
    return percent(e.mean) + (e.error ? " +- " + percent(*e.error) : "");
  };
  auto const row = [&](std::string name, std::vector<std::string> const& cells) {
    name.resize(std::max<std::size_t>(name.size(), 27), ' ');
    out << name;
    std::size_t constexpr widths[] = {8, 15, 16, 16, 8, 8, 8, 7};
    for (std::size_t i = 0; i < cells.size(); ++i) out << padded(cells[i], widths[i]);
    out << '\n';
  };
  row("method",
      {"trained", "accuracy %", "minus moe-4", "minus lora", "cosine", "after", "entropy", "ms"});
  for (auto const& m : results.methods) {
    std::vector<std::string> cells{std::to_string(trainable_parameters(m.what, network_sizes())),
                                   with_error(estimate::of(m.accuracies()))};
    for (auto const& reference : reference_methods()) {
      auto const* other = results.find(reference);
      cells.push_back(other == nullptr || other == &m ? "-"
                                                      : with_error(paired_difference(m, *other)));
    }
    for (std::size_t i = 0; i < 3; ++i)
      cells.push_back(m.experts(i) ? to_fixed(*m.experts(i), 3) : "-");
    cells.push_back(m.ms_per_step() > 0 ? to_fixed(m.ms_per_step(), 1) : "-");
    row(m.what.name, cells);
  }
  out << "accuracy over eight tasks with " << results.seeds.size()
      << (results.seeds.size() == 1
              ? " seed"
              : " seeds; +- is the standard error, differences are paired by seed")
      << "\nbackbone on plain test images: " << percent(results.backbone_accuracy) << " %, "
      << to_fixed(results.seconds, 1) << " s in all\n";
}

/// \returns results.json
/// \param[in] results  all of them
inline std::string results_json(study_results const& results) {
  json_writer j;
  j.begin_object().key("methods").begin_array();
  for (auto const& m : results.methods) {
    auto const e = estimate::of(m.accuracies());
    std::vector<double> by_task(task_count, 0.0);
    std::vector<std::uint64_t> crc;
    for (auto const& r : m.by_seed) {
      crc.push_back(r.parameters_crc32);
      for (std::size_t k = 0; k < task_count; ++k)
        by_task[k] += r.accuracy_by_task[k] / static_cast<double>(m.by_seed.size());
    }
    j.begin_object()
        .member("name", m.what.name)
        .member("trainable_parameters", trainable_parameters(m.what, network_sizes()))
        .member("accuracy", e.mean)
        .member("accuracy_standard_error", e.error)
        .member("accuracy_by_task", by_task)
        .member("accuracy_by_seed", m.accuracies())
        .member("similarity_before", m.experts(0))
        .member("similarity_after", m.experts(1))
        .member("router_entropy", m.experts(2))
        .member("ms_per_step", m.ms_per_step())
        .member("parameters_crc32", crc);
    for (auto const& reference : reference_methods()) {
      auto const* other = results.find(reference);
      if (other == nullptr || other == &m) continue;
      auto const d = paired_difference(m, *other);
      j.key("minus_" + reference)
          .begin_object()
          .member("mean", d.mean)
          .member("standard_error", d.error)
          .end_object();
    }
    j.end_object();
  }
  j.end_array()
      .member("seeds", results.seeds)
      .member("backbone_accuracy", results.backbone_accuracy)
      .member("seconds", results.seconds)
      .end_object();
  return j.text();
}

/// \returns metrics.csv: a line a method, seed and moment
/// \param[in] results  all of them
inline std::string metrics_csv(study_results const& results) {
  std::string text = "method,seed,step,loss,rate,accuracy\n";
  for (auto const& m : results.methods)
    for (std::size_t i = 0; i < m.by_seed.size(); ++i)
      for (curve_point const& c : m.by_seed[i].curve)
        text += m.what.name + "," + std::to_string(results.seeds[i]) + "," + to_fixed(c.step, 0) +
                "," + to_shortest(c.loss) + "," + to_shortest(c.rate) + "," +
                to_shortest(c.accuracy) + "\n";
  return text;
}

/// \returns the picture of accuracy over steps
/// \param[in] results  all of them
inline std::string accuracy_picture(study_results const& results) {
  line_chart chart{.title = "Accuracy over eight contradictory tasks",
                   .x = {.label = "step"},
                   .y = {.label = "accuracy on 4,000 test images", .percent = true},
                   .series = {}};
  for (auto const& m : results.methods) {
    if (m.by_seed.front().curve.empty()) continue;
    chart_series line{.name = m.what.name, .x = {}, .y = {}, .error = {}};
    for (std::size_t i = 0; i < m.by_seed.front().curve.size(); ++i) {
      std::vector<double> values;
      for (auto const& r : m.by_seed) values.push_back(r.curve[i].accuracy);
      auto const e = estimate::of(values);
      line.x.push_back(m.by_seed.front().curve[i].step);
      line.y.push_back(e.mean);
      if (e.error) line.error.push_back(*e.error);
    }
    chart.series.push_back(line);
  }
  return draw(chart);
}

/// \returns the picture of the experts' similarity before and after orthogonalization
/// \param[in] results  all of them
inline std::string similarity_picture(study_results const& results) {
  bar_chart chart{.title = "Similarity of the experts' outputs",
                  .axis = {.label = "mean absolute cosine", .least = 0},
                  .categories = {},
                  .groups = {{.name = "before", .values = {}, .errors = {}},
                             {.name = "after orthogonalization", .values = {}, .errors = {}}}};
  for (auto const& m : results.methods) {
    if (!m.experts(0)) continue;
    chart.categories.push_back(m.what.name);
    chart.groups[0].values.push_back(m.experts(0));
    chart.groups[1].values.push_back(m.experts(1));
  }
  return draw(chart);
}

}  // namespace example
