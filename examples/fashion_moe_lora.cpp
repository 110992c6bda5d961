// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Adapts one frozen network to eight tasks that contradict each other on the same images, and
// compares ways to do it: a LoRA, mixtures of LoRA experts, orthogonal mixtures of them, LoRA with
// factors on Stiefel manifolds, and full fine-tuning. Gradients are written by hand: the network and
// its adapters are in fashion/model.hpp, the training step in fashion/training.hpp. The same text
// trains on the host and, in fashion/device.cu, on a CUDA device.

#include <exception>
#include <filesystem>
#include <iostream>

#include <stiefelx/stiefelx.hpp>

#include "examples/fashion/device.hpp"
#include "examples/fashion/report.hpp"
#include "examples/fashion/study.hpp"

namespace {

using namespace example;

struct on_host {
  using context = host::context;
  static context open(int threads) { return context({.threads = threads}); }
};

int report(choices const& c, study_results const& results) {
  std::filesystem::path const out = c.out;
  write_text_file(out / "results.json", results_json(results));
  write_text_file(out / "metrics.csv", metrics_csv(results));
  write_text_file(out / "accuracy.svg", accuracy_picture(results));
  write_text_file(out / "similarity.svg", similarity_picture(results));
  std::filesystem::remove(c.checkpoint());
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
    if (c.device != "cpu" && c.device != "cuda")
      throw usage_error("option --device knows cpu, cuda, not '" + c.device + "'");
    auto const results = c.device == "cuda" ? train_on_device(c) : train<on_host>(c);
    return results ? report(c, *results) : 130;
  } catch (usage_error const& e) {
    std::cerr << "fashion_moe_lora: " << e.what() << "\n\n" << parser.usage();
    return 2;
  } catch (device_error const& e) {
    std::cerr << "fashion_moe_lora: " << e.what() << '\n';
    return 1;
  } catch (std::exception const& e) {
    std::cerr << "fashion_moe_lora: " << e.what() << '\n';
    return 2;
  }
}
