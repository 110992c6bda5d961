// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   peft_exchange IN OUT
//
// Reads the PEFT folder IN and writes its adapters to the folder OUT, for peft_folders.py to compare, and
// with them deltas.safetensors: the update s B A of every module, of every expert of a fused one.

#include <cstddef>
#include <cstdio>
#include <deque>
#include <exception>
#include <string>
#include <vector>

#include <stiefelx/io/peft_folder.hpp>
#include <stiefelx/io/peft_writer.hpp>

namespace {

using stiefelx::index_t;
using stiefelx::matrix_ref;

/// A column-major matrix of zeros.
struct owned {
  owned(index_t rows, index_t cols)
      : memory(static_cast<std::size_t>(rows * cols)), view{memory.data(), rows, cols, rows} {}

  std::vector<double> memory;
  matrix_ref<double> view;
};

/// s B A with the r columns of down and rows of up that begin at first.
void update(double s, matrix_ref<double> down, matrix_ref<double> up, index_t first, index_t r,
            matrix_ref<double> w) {
  for (index_t i = 0; i < w.cols; ++i)
    for (index_t o = 0; o < w.rows; ++o)
      for (index_t q = first; q < first + r; ++q) w(o, i) += s * up(q, o) * down(i, q);
}

void exchange(std::string const& from, std::string const& to) {
  stiefelx::peft_folder const in(from);
  stiefelx::peft_config config = in.config();
  config.target_parameters.clear();
  stiefelx::peft_writer out(config);
  stiefelx::safetensors_writer deltas;
  std::deque<owned> kept;
  auto const make = [&](index_t rows, index_t cols) { return kept.emplace_back(rows, cols).view; };
  for (stiefelx::peft_module const& m : in.modules()) {
    index_t const rank = in.config().rank_of(m.name), count = m.rank / rank;
    double const s = in.config().scaling(m.name);
    auto const down = make(m.d_in, m.rank), up = make(m.rank, m.d_out);
    if (count > 1) {
      auto const layout = stiefelx::flat_layout::rank_major;
      in.read_flat_experts(m.name, count, layout, down, up);
      out.add_flat_experts(in.config().target_parameters.at(0), count, layout, down, up);
    } else {
      in.read(m.name, down, up);
      out.add(m.name, down, up);
    }
    if (m.magnitude) {
      auto const magnitude = make(1, m.d_out);
      in.read_magnitude(m.name, magnitude);
      out.add_magnitude(m.name, magnitude);
    }
    for (index_t e = 0; e < count; ++e) {
      auto const w = make(m.d_out, m.d_in);
      update(s, down, up, e * rank, rank, w);
      deltas.add_same_indices(m.name + "/" + std::to_string(e), w);
    }
  }
  out.write(to);
  deltas.write(to + "/deltas.safetensors");
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::fprintf(stderr, "usage: peft_exchange IN OUT\n");
    return 2;
  }
  try {
    exchange(words[1], words[2]);
  } catch (std::exception const& error) {
    std::fprintf(stderr, "peft_exchange: %s\n", error.what());
    return 1;
  }
  return 0;
}
