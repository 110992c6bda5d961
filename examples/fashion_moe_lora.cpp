// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Adapts one frozen network to eight tasks that contradict each other on the same images, and
// compares ways to do it: a LoRA, mixtures of LoRA experts, orthogonal mixtures of them, LoRA with
// factors on Stiefel manifolds, and full fine-tuning. Gradients are written by hand: the network and
// its adapters are in fashion/model.hpp, the training step in fashion/training.hpp.

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "examples/fashion/pretraining.hpp"
#include "examples/fashion/report.hpp"
#include "examples/fashion/run.hpp"
#include "examples/support/arguments.hpp"

namespace {

using namespace example;

struct choices {
  std::string data = "/usr/share/datasets/fashion-mnist";
  std::string out = "train-output";
  std::string methods;
  std::uint64_t seed = 1;
  int seeds = 0, steps = 0;
  int threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 2U));
  bool quick = false, quiet = false, resume = false, help = false;

  int seed_count() const { return seeds > 0 ? seeds : quick ? 1 : 3; }
  int step_count() const { return steps > 0 ? steps : quick ? 150 : 1000; }
  int backbone_steps() const { return quick ? 469 : 1406; }  // two epochs, six epochs
  // What a checkpoint must agree on.
  std::string fingerprint() const {
    return "backbone " + std::to_string(backbone_steps()) + ", steps " +
           std::to_string(step_count()) + ", seeds " + std::to_string(seed_count()) + " from " +
           std::to_string(seed) + ", methods " + (methods.empty() ? "all" : methods);
  }
};

argument_parser make_parser(choices& c) {
  argument_parser parser(
      "fashion_moe_lora",
      "Compares adapters of one frozen network on eight contradictory tasks made "
      "from Fashion-MNIST.");
  parser.add("--data", "DIR", "folder of the four IDX files, gzipped or plain", &c.data);
  parser.add("--out", "DIR", "folder of the results (train-output)", &c.out);
  parser.add("--quick", "", "one seed and fewer steps", &c.quick);
  parser.add("--quiet", "", "no progress", &c.quiet);
  parser.add("--resume", "", "go on from the checkpoint in the output folder", &c.resume);
  parser.add("--seed", "N", "first seed (1)", &c.seed, {.least = 0, .most = 1'000'000});
  parser.add("--seeds", "N", "number of seeds (3; 1 with --quick)", &c.seeds,
             {.least = 1, .most = 100});
  parser.add("--steps", "N", "steps of each run (1000; 150 with --quick)", &c.steps,
             {.least = 10, .most = 1'000'000});
  parser.add("--threads", "N", "runs at a time (2, or the cores there are)", &c.threads,
             {.least = 1, .most = 256});
  parser.add("--methods", "LIST", "names of methods, separated by commas (all)", &c.methods);
  parser.add("--help", "", "print this", &c.help);
  return parser;
}

std::vector<method> chosen_methods(std::string const& names) {
  std::vector<method> const all = all_methods();
  std::vector<std::string> known;
  for (method const& m : all) known.push_back(m.name);
  std::vector<std::string> wanted;
  if (!names.empty()) wanted = parse_list("--methods", names, known);
  std::vector<method> chosen;
  for (method const& m : all)
    if (names.empty() ? !m.extra : std::find(wanted.begin(), wanted.end(), m.name) != wanted.end())
      chosen.push_back(m);
  return chosen;
}

// Runs jobs on several threads; a run has its own context, so their number changes no result.
template <class Stop>
void advance_all(std::vector<run>& runs, study const& shared, progress_display& show, int threads,
                 Stop const& stop) {
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

int train(choices const& c) {
  double const begin = steady_seconds();
  auto const methods = chosen_methods(c.methods);
  auto const images = read_fashion_mnist(c.data);
  study shared{normalise(images.train), normalise(images.test), {}, {}, c.step_count()};
  std::filesystem::path const out = c.out;
  std::string const checkpoint = (out / "checkpoint.bin").string();

  pretraining backbone(c.backbone_steps(), c.threads);
  std::vector<run> runs;
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
  std::filesystem::create_directories(out);

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
      for (run& r : runs) r.save(writer);
    writer.write(checkpoint);
    std::cerr << "interrupted; " << checkpoint << " is written, --resume goes on\n";
    return 130;
  };

  {
    progress_display show(std::cerr, {.style = style, .width = terminal_width(stderr)});
    if (!backbone.advance(shared.train, show, stop)) return leave(false);
    show.finish();
  }
  shared.backbone = backbone.weights();
  if (saved && saved->values<std::uint64_t>("with_runs").at(0) != 0)
    for (run& r : runs) r.load(*saved, shared);
  {
    double work = 0;
    for (run const& r : runs) work += r.cost();
    progress_display show(
        std::cerr,
        {.style = style, .runs = runs.size(), .work = work, .width = terminal_width(stderr)});
    for (run const& r : runs)
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
  write_text_file(out / "results.json", results_json(results));
  write_text_file(out / "metrics.csv", metrics_csv(results));
  write_text_file(out / "accuracy.svg", accuracy_picture(results));
  write_text_file(out / "similarity.svg", similarity_picture(results));
  std::filesystem::remove(checkpoint);
  print_table(std::cout, results);
  std::cout << "results.json, metrics.csv, accuracy.svg and similarity.svg are in " << c.out
            << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  choices c;
  argument_parser parser = make_parser(c);
  try {
    parser.parse(argc, argv);
    if (c.help) {
      std::cout << parser.usage();
      return 0;
    }
    return train(c);
  } catch (usage_error const& e) {
    std::cerr << "fashion_moe_lora: " << e.what() << "\n\n" << parser.usage();
    return 2;
  } catch (std::exception const& e) {
    std::cerr << "fashion_moe_lora: " << e.what() << '\n';
    return 2;
  }
}
