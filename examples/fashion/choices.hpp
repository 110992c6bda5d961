// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "examples/fashion/methods.hpp"
#include "examples/support/arguments.hpp"

namespace example {

/// What the command line says.
struct choices {
  std::string data = "/usr/share/datasets/fashion-mnist";  ///< folder of the images
  std::string out = "train-output";                        ///< folder of the results
  std::string methods;                                     ///< names; empty for all
  std::string device = "cpu";                              ///< cpu or cuda
  std::uint64_t seed = 1;                                  ///< the first
  int seeds = 0;                                           ///< number of seeds, 0: as usual
  int steps = 0;                                           ///< of each run, 0: as usual
  int threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 2U));
  bool quick = false, quiet = false, resume = false, help = false;

  /// \returns number of seeds
  int seed_count() const { return seeds > 0 ? seeds : quick ? 1 : 3; }
  /// \returns steps of each run
  int step_count() const { return steps > 0 ? steps : quick ? 150 : 1000; }
  /// \returns steps of the pre-training: two epochs, six epochs
  int backbone_steps() const { return quick ? 469 : 1406; }
  /// \returns the file of an interrupted run
  std::filesystem::path checkpoint() const { return std::filesystem::path(out) / "checkpoint.bin"; }
  /// \returns what a checkpoint must agree on
  std::string fingerprint() const {
    return "backbone " + std::to_string(backbone_steps()) + ", steps " +
           std::to_string(step_count()) + ", seeds " + std::to_string(seed_count()) + " from " +
           std::to_string(seed) + ", methods " + (methods.empty() ? "all" : methods) +
           (device == "cpu" ? "" : ", device " + device);
  }
};

/// \param[in,out] c  variables of the options
/// \returns the parser of the command line
inline argument_parser make_parser(choices& c) {
  argument_parser parser(
      "fashion_moe_lora",
      "Compares adapters of one frozen network on eight contradictory tasks made "
      "from Fashion-MNIST.");
  parser.add("--data", "DIR", "folder of the four IDX files, gzipped or plain", &c.data);
  parser.add("--out", "DIR", "folder of the results (train-output)", &c.out);
  parser.add("--device", "NAME", "where to train: cpu (the default) or cuda", &c.device);
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

/// \param[in] names  with commas between them; empty for those of the comparison
/// \returns the methods, in the order of the table
/// \throws usage_error  on a name that is none
inline std::vector<method> chosen_methods(std::string const& names) {
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

}  // namespace example
