// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/fashion/methods.hpp"
#include "examples/fashion/tasks.hpp"
#include "examples/fashion/training.hpp"
#include "examples/support/checkpoint.hpp"
#include "examples/support/progress.hpp"

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
  double ms_per_step = 0;                             ///< median
  std::uint64_t parameters_crc32 = 0;                 ///< of the trained values
  std::vector<curve_point> curve;                     ///< in order

  /// \returns the mean over the tasks
  double accuracy() const {
    double sum = 0;
    for (double a : accuracy_by_task) sum += a;
    return sum / static_cast<double>(task_count);
  }
};

/// What all runs share.
struct study {
  pixel_columns train;                    ///< training images
  pixel_columns test;                     ///< test images
  task_set tasks;                         ///< the eight tasks
  std::vector<Eigen::MatrixXf> backbone;  ///< weights and biases of the pre-trained network
  index_t steps;                          ///< of each run
  index_t batch_size = 256;               ///< images a step
};

/// \brief One method with one seed: its network, how far it is, and its result.
class run {
 public:
  /// \param[in] chosen  the method
  /// \param[in] seed    changes adapters and batch order
  run(method chosen, std::uint64_t seed) : method_(std::move(chosen)), seed_(seed) {}

  /// \returns "NAME/SEED"
  std::string name() const { return method_.name + "/" + std::to_string(seed_); }
  method const& what() const { return method_; }  ///< \returns the method
  std::uint64_t seed() const { return seed_; }    ///< \returns the seed
  /// \returns the result, once the run is finished
  std::optional<run_result> const& result() const { return result_; }
  /// \returns the weight of this run in the progress, beside 1 for a whole training
  double cost() const { return method_.name == "frozen" ? 0.1 : 1; }

  /// \brief Trains to the end, or until stop() says so, and then evaluates.
  /// \param[in]     s     shared data
  /// \param[in,out] show  where progress goes
  /// \param[in]     stop  asked before every step
  template <class Stop>
  void advance(study const& s, progress_display& show, Stop const& stop) {
    if (result_) return;
    host::context ctx;
    if (!net_) build(ctx, s);
    bool const trains = !net_->trained().empty();
    stiefelx::cosine_schedule const schedule{1, s.steps, std::min<index_t>(50, s.steps / 4), 0.05};
    auto line = show.start(name(), static_cast<std::size_t>(s.steps),
                           static_cast<std::size_t>(step_), cost());
    batch data{Eigen::MatrixXf(s.train.pixels.rows(), s.batch_size), {}};
    index_t const interval = std::max<index_t>(1, s.steps / 10);
    for (; trains && step_ < s.steps; ++step_) {
      if (stop()) return forget();
      double const start = steady_seconds();
      draw_batch(s.train, &s.tasks, batch_stream + seed_, static_cast<std::uint64_t>(step_), data);
      double const loss = training_step(ctx, *net_, data.x, data.labels, schedule(step_), 1.0);
      milliseconds_.push_back((steady_seconds() - start) * 1e3);
      loss_sum_ += loss;
      line.update(static_cast<std::size_t>(step_ + 1), loss, schedule(step_));
      if ((step_ + 1) % interval != 0) continue;
      auto const part = evaluate(ctx, *net_, s.test, s.tasks, 500);
      curve_.push_back({static_cast<double>(step_ + 1), loss_sum_ / static_cast<double>(interval),
                        schedule(step_), mean(part)});
      loss_sum_ = 0;
    }
    finish(ctx, s);
    line.finish();
  }

  /// \brief Puts the run into a checkpoint.
  /// \param[in,out] out  the checkpoint
  void save(checkpoint_writer& out) {
    std::string const key = "run/" + name() + "/";
    auto const progress =
        std::array{static_cast<std::uint64_t>(step_), std::uint64_t{net_ ? 1U : 0U},
                   std::uint64_t{result_ ? 1U : 0U}};
    out.add(key + "progress", progress);
    out.add(key + "loss_sum", std::array{loss_sum_});
    out.add(key + "milliseconds", milliseconds_);
    std::vector<double> flat;
    for (curve_point const& c : curve_)
      flat.insert(flat.end(), {c.step, c.loss, c.rate, c.accuracy});
    out.add(key + "curve", flat);
    if (result_) {
      std::vector<double> experts;
      if (result_->experts) experts.assign(result_->experts->begin(), result_->experts->end());
      out.add(key + "accuracy", result_->accuracy_by_task);
      out.add(key + "experts", experts);
      out.add(key + "crc32", std::array{result_->parameters_crc32});
    }
    for_each_array([&](std::string const& part, auto const& m) {
      out.add(key + part, std::span(m.data(), static_cast<std::size_t>(m.size())));
    });
  }

  /// \brief Takes the run up where a checkpoint left it.
  /// \param[in] in  the checkpoint
  /// \param[in] s   shared data
  void load(checkpoint_reader const& in, study const& s) {
    std::string const key = "run/" + name() + "/";
    auto const progress = in.values<std::uint64_t>(key + "progress");
    step_ = static_cast<index_t>(progress.at(0));
    loss_sum_ = in.values<double>(key + "loss_sum").at(0);
    milliseconds_ = in.values<double>(key + "milliseconds");
    auto const flat = in.values<double>(key + "curve");
    for (std::size_t i = 0; i + 3 < flat.size(); i += 4)
      curve_.push_back({flat[i], flat[i + 1], flat[i + 2], flat[i + 3]});
    if (progress.at(2) != 0) {
      result_.emplace();
      in.get(key + "accuracy", std::span(result_->accuracy_by_task));
      auto const e = in.values<double>(key + "experts");
      if (e.size() == 3) result_->experts = {e[0], e[1], e[2]};
      result_->parameters_crc32 = in.values<std::uint64_t>(key + "crc32").at(0);
      summarise();
    }
    if (progress.at(1) == 0) return;
    host::context ctx;
    build(ctx, s);
    for_each_array([&](std::string const& part, auto& m) {
      in.get(key + part, std::span(m.data(), static_cast<std::size_t>(m.size())));
    });
  }

 private:
  // Adapters and batches draw from streams that no other seed uses.
  static constexpr std::uint64_t adapter_stream = 1'000'000, batch_stream = 2'000'000;

  static double mean(std::array<double, task_count> const& part) {
    double sum = 0;
    for (double a : part) sum += a / static_cast<double>(task_count);
    return sum;
  }

  void build(host::context& ctx, study const& s) {
    stiefelx::random_stream random{adapter_stream + seed_};
    net_.emplace(ctx, network_sizes(), random, 2e-3, 0.0);
    for (std::size_t i = 0; i < s.backbone.size(); ++i) net_->layers()[i].value = s.backbone[i];
    net_->adapt(ctx, method_.plan, random, method_.train_layers);
  }

  // The context of the last steps is about to end, and its scratch with it.
  void forget() {
    for (auto& a : net_->adapters()) a.forget();
  }

  template <class Visit>
  void for_each_array(Visit const& visit) {
    if (!net_) return;
    for (auto* p : net_->trained()) p->for_each_array(visit);
  }

  void finish(host::context& ctx, study const& s) {
    result_.emplace();
    result_->accuracy_by_task = evaluate(ctx, *net_, s.test, s.tasks, s.test.pixels.cols());
    measure_experts(ctx, s);
    auto crc = crc32(0, nullptr, 0);
    for (auto* p : net_->trained())
      crc = crc32(crc, reinterpret_cast<Bytef const*>(p->value.data()),
                  static_cast<uInt>(p->value.size()) * static_cast<uInt>(sizeof(float)));
    result_->parameters_crc32 = crc;
    summarise();
    forget();
    net_.reset();
  }

  // Means over the layers, on test images with the tasks mixed.
  void measure_experts(host::context& ctx, study const& s) {
    batch data{Eigen::MatrixXf(s.test.pixels.rows(), 2048), {}};
    draw_batch(s.test, &s.tasks, 0, 0, data);
    net_->forward(ctx, data.x);
    for (std::size_t l = 0; l < net_->adapters().size(); ++l) {
      auto const part = net_->adapters()[l].statistics(ctx, net_->input(l));
      if (!part) return;
      if (!result_->experts) result_->experts.emplace();
      for (std::size_t i = 0; i < 3; ++i)
        (*result_->experts)[i] += (*part)[i] / static_cast<double>(net_->adapters().size());
    }
  }

  void summarise() {
    result_->curve = curve_;
    std::vector<double> sorted = milliseconds_;
    std::sort(sorted.begin(), sorted.end());
    result_->ms_per_step = sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }

  method method_;
  std::uint64_t seed_;
  index_t step_ = 0;
  double loss_sum_ = 0;
  std::vector<double> milliseconds_;
  std::vector<curve_point> curve_;
  std::optional<network<float>> net_;
  std::optional<run_result> result_;
};

}  // namespace example
