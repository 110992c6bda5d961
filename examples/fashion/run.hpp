// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <stiefelx/optim/schedule.hpp>

#include "examples/fashion/host_arrays.hpp"
#include "examples/fashion/methods.hpp"
#include "examples/fashion/results.hpp"
#include "examples/fashion/tasks.hpp"
#include "examples/fashion/training.hpp"
#include "examples/support/checkpoint.hpp"
#include "examples/support/progress.hpp"

namespace example {

/// What all runs share, in the host's memory.
struct study {
  pixel_columns train;                       ///< training images
  pixel_columns test;                        ///< test images
  task_set tasks;                            ///< the eight tasks
  std::vector<std::vector<float>> backbone;  ///< weights and biases of the pre-trained network
  index_t steps;                             ///< of each run
  std::size_t batch_size = 256;              ///< images a step
};

/// \brief One method with one seed: its network, how far it is, and its result.
/// \tparam Place  has `context`, and `open(threads)` that makes one
template <class Place>
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
  ///
  /// Between two looks at the loss, twenty steps apart, no result is read; the upload of a batch may
  /// wait for the queue.
  /// \param[in]     s     shared data
  /// \param[in,out] show  where progress goes
  /// \param[in]     stop  asked before every step
  template <class Stop>
  void advance(study const& s, progress_display& show, Stop const& stop) {
    if (result_) return;
    if (!live_) build(s);
    context& ctx = live_->ctx;
    bool const trains = !live_->net.trained().empty();
    stiefelx::cosine_schedule const schedule{1, s.steps, std::min<index_t>(50, s.steps / 4), 0.05};
    auto line = show.start(name(), static_cast<std::size_t>(s.steps),
                           static_cast<std::size_t>(step_), cost());
    batch drawn(s.batch_size);
    index_t const interval = std::max<index_t>(1, s.steps / 10);
    index_t const glance = std::min<index_t>(interval, 20);
    std::optional<double> seen;
    index_t timed = step_;
    double start = steady_seconds();
    for (; trains && step_ < s.steps; ++step_) {
      if (stop()) return;
      draw_batch(s.train, &s.tasks, batch_stream + seed_, static_cast<std::uint64_t>(step_), drawn);
      training_step<context, float>(ctx, live_->net, drawn.pixels, drawn.labels, schedule(step_),
                                    1.0, live_->loss);
      axpy(ctx, 1, live_->loss, live_->loss_sum);
      index_t const done = step_ + 1;
      if (done % glance == 0) {
        seen = value(ctx, live_->loss);
        milliseconds_.push_back((steady_seconds() - start) * 1e3 /
                                static_cast<double>(done - timed));
      }
      if (seen) line.update(static_cast<std::size_t>(done), *seen, schedule(step_));
      if (done % interval == 0) {
        double const sum = value(ctx, live_->loss_sum);
        auto const part = evaluate(ctx, live_->net, s.test, s.tasks, 500);
        curve_.push_back({static_cast<double>(done), sum / static_cast<double>(interval),
                          schedule(step_), mean(part)});
        fill(ctx, 0, live_->loss_sum);
      }
      if (done % glance == 0 || done % interval == 0) {
        timed = done;
        start = steady_seconds();
      }
    }
    finish(s);
    line.finish();
  }

  /// \brief Puts the run into a checkpoint.
  /// \param[in,out] out  the checkpoint
  void save(checkpoint_writer& out) {
    std::string const key = "run/" + name() + "/";
    auto const progress =
        std::array{static_cast<std::uint64_t>(step_), std::uint64_t{live_ ? 1U : 0U},
                   std::uint64_t{result_ ? 1U : 0U}};
    out.add(key + "progress", progress);
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
      example::save(live_->ctx, m, key + part, out);
    });
  }

  /// \brief Takes the run up where a checkpoint left it.
  /// \param[in] in  the checkpoint
  /// \param[in] s   shared data
  void load(checkpoint_reader const& in, study const& s) {
    std::string const key = "run/" + name() + "/";
    auto const progress = in.values<std::uint64_t>(key + "progress");
    step_ = static_cast<index_t>(progress.at(0));
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
    build(s);
    for_each_array(
        [&](std::string const& part, auto& m) { example::load(live_->ctx, in, key + part, m); });
  }

 private:
  using context = typename Place::context;

  // What exists while a run is neither new nor finished.
  struct running {
    running(method const& m, random_stream random)
        : ctx(Place::open(1)),
          net(ctx, network_sizes(), random, 2e-3, 0.0),
          loss(zeros<double>(ctx, 1, 1)),
          loss_sum(zeros<double>(ctx, 1, 1)) {
      net.adapt(ctx, m.plan, random, m.train_layers);
    }
    context ctx;
    network<context, float> net;
    stiefelx::matrix_t<context, double> loss, loss_sum;  // of the last step; since the last moment
  };

  // Adapters and batches draw from streams that no other seed uses.
  static constexpr std::uint64_t adapter_stream = 1'000'000, batch_stream = 2'000'000;

  static double mean(std::array<double, task_count> const& part) {
    double sum = 0;
    for (double a : part) sum += a / static_cast<double>(task_count);
    return sum;
  }

  void build(study const& s) {
    live_ = std::make_unique<running>(method_, random_stream{adapter_stream + seed_});
    for (std::size_t i = 0; i < s.backbone.size(); ++i)
      upload(live_->ctx, s.backbone[i].data(), live_->net.layers()[i].value);
  }

  template <class Visit>
  void for_each_array(Visit const& visit) {
    if (!live_) return;
    visit("loss_sum", live_->loss_sum);
    for (auto* p : live_->net.trained()) p->for_each_array(visit);
  }

  void finish(study const& s) {
    context& ctx = live_->ctx;
    result_.emplace();
    result_->accuracy_by_task = evaluate(ctx, live_->net, s.test, s.tasks, s.test.count());
    measure_experts(s);
    auto crc = crc32(0, nullptr, 0);
    for (auto* p : live_->net.trained()) {
      auto const all = entries(ctx, p->value);
      crc = crc32(crc, reinterpret_cast<Bytef const*>(all.data()),
                  static_cast<uInt>(all.size() * sizeof(float)));
    }
    result_->parameters_crc32 = crc;
    summarise();
    live_.reset();
  }

  // Means over the layers, on test images with the tasks mixed.
  void measure_experts(study const& s) {
    batch drawn(2048);
    draw_batch(s.test, &s.tasks, 0, 0, drawn);
    auto& net = live_->net;
    net.forward(live_->ctx, drawn.pixels);
    for (std::size_t l = 0; l < net.adapters().size(); ++l) {
      auto const part = net.adapters()[l].statistics(live_->ctx, net.input(l));
      if (!part) return;
      if (!result_->experts) result_->experts.emplace();
      for (std::size_t i = 0; i < 3; ++i)
        (*result_->experts)[i] += (*part)[i] / static_cast<double>(net.adapters().size());
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
  std::vector<double> milliseconds_;
  std::vector<curve_point> curve_;
  std::unique_ptr<running> live_;
  std::optional<run_result> result_;
};

}  // namespace example
