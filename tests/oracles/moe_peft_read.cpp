// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   moe_peft_read FOLDER E OUT
//
// Reads the PEFT folder that examples/convert_moe_peft.py made of a mixture of E experts, for
// moe_peft.py to compare, and writes to OUT the update s B A of every module and expert, and every
// other tensor.

#include <cstddef>
#include <cstdio>
#include <deque>
#include <exception>
#include <string>
#include <vector>

#include <stiefelx/io/peft_folder.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

namespace {

using stiefelx::index_t;
using matrix = stiefelx::matrix_ref<double>;

class memory {
 public:
  matrix make(index_t rows, index_t cols) {
    auto& values = kept_.emplace_back(static_cast<std::size_t>(rows * cols));
    return {values.data(), rows, cols, rows};
  }

 private:
  std::deque<std::vector<double>> kept_;
};

void read(std::string const& folder, index_t count, std::string const& to) {
  stiefelx::peft_folder const in(folder);
  stiefelx::safetensors_writer out;
  memory all;
  for (stiefelx::peft_module const& m : in.modules()) {
    matrix const down = all.make(m.d_in, m.rank), up = all.make(m.rank, m.d_out);
    bool const fused = m.name.ends_with(".experts");
    if (fused)
      in.read_flat_experts(m.name, count, stiefelx::flat_layout::rank_major, down, up);
    else
      in.read(m.name, down, up);
    index_t const experts = fused ? count : 1, rank = m.rank / experts;
    for (index_t e = 0; e < experts; ++e) {
      matrix const w = all.make(m.d_out, m.d_in);
      for (index_t i = 0; i < w.cols; ++i)
        for (index_t o = 0; o < w.rows; ++o)
          for (index_t q = e * rank; q < (e + 1) * rank; ++q)
            w(o, i) += in.config().scaling(m.name) * up(q, o) * down(i, q);
      out.add_same_indices(m.name + "/" + std::to_string(e), w);
    }
  }
  for (std::string const& name : in.others()) {
    auto const size = size_with_rows_as_columns(in.file().at(name).shape);
    matrix const w = all.make(size.rows, size.cols);
    in.file().read_rows_as_columns(name, w);
    out.add_columns_as_rows(name, w);
  }
  out.write(to);
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) {
    std::fprintf(stderr, "usage: moe_peft_read FOLDER E OUT\n");
    return 2;
  }
  try {
    read(words[1], std::stoi(words[2]), words[3]);
  } catch (std::exception const& error) {
    std::fprintf(stderr, "moe_peft_read: %s\n", error.what());
    return 1;
  }
  return 0;
}
