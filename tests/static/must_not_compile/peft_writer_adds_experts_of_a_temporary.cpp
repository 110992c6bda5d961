// expect: satisfaction of .*OutlivesTheCall<Down>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <Eigen/Core>

#include <stiefelx/io/peft_writer.hpp>

void misuse(stiefelx::peft_writer& writer, Eigen::MatrixXf const& down, Eigen::MatrixXf const& up) {
  writer.add_flat_experts("mlp.experts.up", 2, stiefelx::flat_layout::rank_major,
                          Eigen::MatrixXf(down.leftCols(4)), up);
}
