// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   seeds FOLDER
//
// Writes the files that fuzzing starts with, sound and hostile ones, to a folder each for json, npy,
// safetensors, peft and checkpoint in FOLDER.

#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include <stiefelx/io/atomic_file.hpp>

#include "tests/io/checkpoint_samples.hpp"
#include "tests/io/json_samples.hpp"
#include "tests/io/npy_samples.hpp"
#include "tests/io/peft_samples.hpp"
#include "tests/io/safetensors_samples.hpp"

namespace {

void write_all(std::filesystem::path const& folder, std::vector<io_test::sample> const& all) {
  std::filesystem::create_directories(folder);
  for (io_test::sample const& s : all) {
    // Seeds are to be small; what is in these can be grown from the others.
    if (s.bytes.size() <= 4096) stiefelx::write_file((folder / s.name).string(), s.bytes);
  }
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) {
    std::fprintf(stderr, "usage: seeds FOLDER\n");
    return 2;
  }
  try {
    std::filesystem::path const folder = words[1];
    write_all(folder / "json", io_test::sound_json());
    write_all(folder / "json", io_test::hostile_json());
    write_all(folder / "npy", io_test::sound_npy());
    write_all(folder / "npy", io_test::hostile_npy());
    write_all(folder / "safetensors", io_test::sound_safetensors());
    write_all(folder / "safetensors", io_test::hostile_safetensors());
    write_all(folder / "peft", io_test::sound_peft());
    write_all(folder / "peft", io_test::hostile_peft());
    write_all(folder / "checkpoint", io_test::sound_checkpoint());
    write_all(folder / "checkpoint", io_test::hostile_checkpoint());
  } catch (std::exception const& error) {
    std::fprintf(stderr, "seeds: %s\n", error.what());
    return 1;
  }
  return 0;
}
