// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   peft_exchange IN OUT
//
// Reads the PEFT folder IN and writes its adapters to the folder OUT, for peft_folders.py to compare, and
// with them deltas.safetensors: the update s B A of every module, of every expert of a fused one. Fused
// parameters of one module are listed in IN in the order in which the model has them; modules NAME.0,
// NAME.1, ... go through a bank.

#include <cstddef>
#include <cstdio>
#include <deque>
#include <exception>
#include <string>
#include <string_view>
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

/// Parameters of the same module that come after the one with the factors of this name.
index_t wrapped(std::string_view name) {
  constexpr std::string_view wrapper = ".base_layer";
  index_t count = 0;
  for (; name.ends_with(wrapper); ++count) name.remove_suffix(wrapper.size());
  return count;
}

/// Experts that are modules of this name and a number.
index_t experts_in(stiefelx::peft_folder const& in, std::string const& prefix) {
  auto const is_there = [&](index_t e) {
    for (stiefelx::peft_module const& m : in.modules())
      if (m.name == prefix + std::to_string(e)) return true;
    return false;
  };
  index_t count = 0;
  while (is_there(count)) ++count;
  return count;
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
    std::string const prefix = m.name.substr(0, m.name.rfind('.') + 1);
    if (count > 1) {
      auto const layout = stiefelx::flat_layout::rank_major;
      auto const& parameters = in.config().target_parameters;
      index_t const after = wrapped(m.name);
      in.read_flat_experts(m.name, count, layout, down, up);
      out.add_flat_experts(parameters.at(parameters.size() - 1 - static_cast<std::size_t>(after)),
                           count, layout, down, up, after);
    } else if (index_t const experts = experts_in(in, prefix); experts > 0) {
      if (m.name == prefix + "0") {
        auto const bank_down = make(m.d_in, experts * rank),
                   bank_up = make(experts * rank, m.d_out);
        in.read_experts(prefix, experts, bank_down, bank_up);
        out.add_experts(prefix, experts, bank_down, bank_up);
      }
      in.read(m.name, down, up);
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
