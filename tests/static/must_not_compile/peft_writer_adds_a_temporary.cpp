// expect: satisfaction of .*OutlivesTheCall<Up>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <Eigen/Core>

#include <stiefelx/io/peft_writer.hpp>

void misuse(stiefelx::peft_writer& writer, Eigen::MatrixXf const& down, Eigen::MatrixXf const& up) {
  writer.add("q", down, Eigen::MatrixXf(up.topRows(2)));
}
