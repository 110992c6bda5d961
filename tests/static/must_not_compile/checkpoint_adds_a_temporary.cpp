// expect: satisfaction of .*OutlivesTheCall<M>
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <Eigen/Core>

#include <stiefelx/io/checkpoint.hpp>

void misuse(stiefelx::checkpoint_writer& writer, Eigen::MatrixXf const& m) {
  writer.add("m", Eigen::MatrixXf(m.leftCols(2)));
}
