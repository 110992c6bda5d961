// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "examples/fashion/choices.hpp"
#include "examples/fashion/pretraining.hpp"
#include "examples/fashion/results.hpp"
#include "examples/fashion/run.hpp"
#include "examples/support/idx.hpp"

namespace example {

/// \brief Runs jobs on several threads; a run has its own context, so their number changes no result.
/// \param[in,out] runs     those that are finished stay as they are
/// \param[in]     shared   data of all
/// \param[in,out] show     where progress goes
/// \param[in]     threads  at least 1
/// \param[in]     stop     asked before every step
template <class Place, class Stop>
void advance_all(std::vector<run<Place>>& runs, study const& shared, progress_display& show,
                 int threads, Stop const& stop) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  auto const work = [&] {
    try {
      for (std::size_t i = next++; i < runs.size() && !stop(); i = next++)
        runs[i].advance(shared, show, stop);
    } catch (...) {
      std::lock_guard const lock(mutex);
      error = std::current_exception();
      next = runs.size();
    }
  };
  std::vector<std::thread> workers;
  for (int i = 1; i < threads; ++i) workers.emplace_back(work);
  work();
  for (auto& w : workers) w.join();
  if (error) std::rethrow_exception(error);
}

/// \brief Trains everything that was chosen.
/// \tparam Place  has `context`, and `open(threads)` that makes one
/// \param[in] c  from the command line
/// \returns the results; nothing after an interrupt, when there is a checkpoint instead
template <class Place>
std::optional<study_results> train(choices const& c) {
  double const begin = steady_seconds();
  auto const methods = chosen_methods(c.methods);
  auto const images = read_fashion_mnist(c.data);
  study shared{normalise(images.train), normalise(images.test), {}, {}, c.step_count()};
  std::string const checkpoint = c.checkpoint().string();

  pretraining<Place> backbone(c.backbone_steps(), c.threads);
  std::vector<run<Place>> runs;
  for (method const& m : methods)
    for (int i = 0; i < c.seed_count(); ++i)
      runs.emplace_back(m, c.seed + static_cast<std::uint64_t>(i));
  double before = 0;
  std::optional<checkpoint_reader> saved;
  if (c.resume) {
    saved.emplace(checkpoint);
    if (saved->text("choices") != c.fingerprint())
      throw usage_error(checkpoint + " was written with: " + saved->text("choices") +
                        "; expected: " + c.fingerprint());
    before = saved->values<double>("seconds").at(0);
    backbone.load(*saved);
  }
  std::filesystem::create_directories(c.out);

  interrupt_flag interrupt;
  auto const stop = [&] { return interrupt.interrupted(); };
  auto const style = choose_progress_style(stderr, c.quiet);
  auto const leave = [&](bool with_runs) {
    checkpoint_writer writer;
    writer.add("choices", std::string_view(c.fingerprint()));
    writer.add("seconds", std::array{before + steady_seconds() - begin});
    writer.add("with_runs", std::array{std::uint64_t{with_runs ? 1U : 0U}});
    backbone.save(writer);
    if (with_runs)
      for (auto& r : runs) r.save(writer);
    writer.write(checkpoint);
    std::cerr << "interrupted; " << checkpoint << " is written, --resume goes on\n";
    return std::nullopt;
  };

  {
    progress_display show(std::cerr, {.style = style, .width = terminal_width(stderr)});
    if (!backbone.advance(shared.train, show, stop)) return leave(false);
    show.finish();
  }
  shared.backbone = backbone.weights();
  if (saved && saved->values<std::uint64_t>("with_runs").at(0) != 0)
    for (auto& r : runs) r.load(*saved, shared);
  {
    double work = 0;
    for (auto const& r : runs) work += r.cost();
    progress_display show(
        std::cerr,
        {.style = style, .runs = runs.size(), .work = work, .width = terminal_width(stderr)});
    for (auto const& r : runs)
      if (r.result()) show.skip(1, r.cost());
    advance_all(runs, shared, show, c.threads, stop);
    if (stop()) return leave(true);
    show.finish();
  }

  study_results results;
  for (int i = 0; i < c.seed_count(); ++i)
    results.seeds.push_back(c.seed + static_cast<std::uint64_t>(i));
  for (std::size_t m = 0; m < methods.size(); ++m) {
    results.methods.push_back({methods[m], {}});
    for (std::size_t i = 0; i < results.seeds.size(); ++i)
      results.methods.back().by_seed.push_back(*runs[m * results.seeds.size() + i].result());
  }
  results.backbone_accuracy = backbone.accuracy(shared.test);
  results.seconds = before + steady_seconds() - begin;
  return results;
}

}  // namespace example
