// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

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

/// \brief Phase 1: trains the network on the plain images, once for all methods and seeds.
class pretraining {
 public:
  /// \param[in] steps    batches of 256 images
  /// \param[in] threads  of the context; the result does not depend on it
  pretraining(index_t steps, int threads)
      : steps_(steps),
        ctx_({.threads = threads}),
        net_(ctx_, network_sizes(), random_, 1e-3, 1e-2) {}

  /// \brief Trains to the end or until stop() says so.
  /// \param[in]     train  training images
  /// \param[in,out] show   where progress goes
  /// \param[in]     stop   asked before every step
  /// \returns whether it is finished
  template <class Stop>
  bool advance(pixel_columns const& train, progress_display& show, Stop const& stop) {
    stiefelx::cosine_schedule const schedule{1, steps_, steps_ / 20, 0};
    auto line = show.start("backbone", static_cast<std::size_t>(steps_),
                           static_cast<std::size_t>(step_), 1);
    batch data{Eigen::MatrixXf(train.pixels.rows(), 256), {}};
    for (; step_ < steps_; ++step_) {
      if (stop()) return false;
      draw_batch(train, nullptr, 1, static_cast<std::uint64_t>(step_), data);
      double const loss = training_step(ctx_, net_, data.x, data.labels, schedule(step_), 0);
      line.update(static_cast<std::size_t>(step_ + 1), loss, schedule(step_));
    }
    line.finish();
    return true;
  }

  /// \returns weights and biases in order
  std::vector<Eigen::MatrixXf> weights() {
    std::vector<Eigen::MatrixXf> all;
    for (auto const& p : net_.layers()) all.push_back(p.value);
    return all;
  }

  /// Share of right answers on plain images.
  /// \param[in] test  images
  /// \returns from 0 to 1
  double accuracy(pixel_columns const& test) {
    double right = 0;
    auto const& logits = net_.forward(ctx_, test.pixels);
    for (index_t i = 0; i < logits.cols(); ++i) {
      index_t best = 0;
      logits.col(i).maxCoeff(&best);
      right += best == test.classes[static_cast<std::size_t>(i)] ? 1 : 0;
    }
    return right / static_cast<double>(logits.cols());
  }

  /// Puts the network and its optimizers into a checkpoint.
  /// \param[in,out] out  the checkpoint
  void save(checkpoint_writer& out) {
    out.add("backbone/step", std::array{static_cast<std::uint64_t>(step_)});
    for (auto* p : net_.trained())
      p->for_each_array([&](std::string const& part, auto const& m) {
        out.add("backbone/" + part, std::span(m.data(), static_cast<std::size_t>(m.size())));
      });
  }

  /// Takes the training up where a checkpoint left it.
  /// \param[in] in  the checkpoint
  void load(checkpoint_reader const& in) {
    step_ = static_cast<index_t>(in.values<std::uint64_t>("backbone/step").at(0));
    for (auto* p : net_.trained())
      p->for_each_array([&](std::string const& part, auto& m) {
        in.get("backbone/" + part, std::span(m.data(), static_cast<std::size_t>(m.size())));
      });
  }

 private:
  index_t steps_, step_ = 0;
  stiefelx::random_stream random_{7};
  host::context ctx_;
  network<float> net_;
};

}  // namespace example
