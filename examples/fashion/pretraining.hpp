// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <stiefelx/optim/schedule.hpp>

#include "examples/fashion/host_arrays.hpp"
#include "examples/fashion/methods.hpp"
#include "examples/fashion/tasks.hpp"
#include "examples/fashion/training.hpp"
#include "examples/support/checkpoint.hpp"
#include "examples/support/progress.hpp"

namespace example {

/// \brief Phase 1: trains the network on the plain images, once for all methods and seeds.
/// \tparam Place  has `context`, and `open(threads)` that makes one
template <class Place>
class pretraining {
 public:
  /// \param[in] steps    batches of 256 images
  /// \param[in] threads  of the context; the result does not depend on it
  pretraining(index_t steps, int threads)
      : steps_(steps),
        ctx_(Place::open(threads)),
        net_(ctx_, network_sizes(), random_, 1e-3, 1e-2),
        loss_(zeros<double>(ctx_, 1, 1)) {}

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
    batch drawn(256);
    std::optional<double> seen;
    for (; step_ < steps_; ++step_) {
      if (stop()) return false;
      draw_batch(train, nullptr, 1, static_cast<std::uint64_t>(step_), drawn);
      training_step<context, float>(ctx_, net_, drawn.pixels, drawn.labels, schedule(step_), 0,
                                    loss_);
      if ((step_ + 1) % 20 == 0) seen = value(ctx_, loss_);
      if (seen) line.update(static_cast<std::size_t>(step_ + 1), *seen, schedule(step_));
    }
    line.finish();
    return true;
  }

  /// \returns weights and biases in order, in the host's memory; waits
  std::vector<std::vector<float>> weights() {
    std::vector<std::vector<float>> all;
    for (auto const& p : net_.layers()) all.push_back(entries(ctx_, p.value));
    return all;
  }

  /// Share of right answers on plain images.
  /// \param[in] test  images
  /// \returns from 0 to 1
  double accuracy(pixel_columns const& test) {
    double right = 0;
    auto const best = classify(ctx_, net_, test.pixels);
    for (std::size_t i = 0; i < best.size(); ++i) right += best[i] == test.classes[i] ? 1 : 0;
    return right / static_cast<double>(best.size());
  }

  /// Puts the network and its optimizers into a checkpoint.
  /// \param[in,out] out  the checkpoint
  void save(checkpoint_writer& out) {
    out.add("backbone/step", std::array{static_cast<std::uint64_t>(step_)});
    for (auto* p : net_.trained())
      p->for_each_array([&](std::string const& part, auto const& m) {
        example::save(ctx_, m, "backbone/" + part, out);
      });
  }

  /// Takes the training up where a checkpoint left it.
  /// \param[in] in  the checkpoint
  void load(checkpoint_reader const& in) {
    step_ = static_cast<index_t>(in.values<std::uint64_t>("backbone/step").at(0));
    for (auto* p : net_.trained())
      p->for_each_array([&](std::string const& part, auto& m) {
        example::load(ctx_, in, "backbone/" + part, m);
      });
  }

 private:
  using context = typename Place::context;

  index_t steps_, step_ = 0;
  stiefelx::random_stream random_{7};
  context ctx_;
  network<context, float> net_;
  stiefelx::matrix_t<context, double> loss_;
};

}  // namespace example
