// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <vector>

#include <Eigen/LU>

#include <stiefelx/optim/projector_policy.hpp>
#include <support/backends.hpp>

/// The projectors of the orthogonal expert optimizer by their definitions, in double.
namespace support {

/// (I + S / alpha)^-1 of the columns of a, in double.
inline matrix_x<double> exact_projector(matrix_x<double> const& a, double alpha) {
  matrix_x<double> const inverse =
      matrix_x<double>::Identity(a.rows(), a.rows()) + a * a.transpose() / alpha;
  return inverse.inverse();
}

/// What a policy applies for expert e, when expert j had the columns of inputs[j].
inline matrix_x<double> exact_removal(stiefelx::projector_policy policy,
                                      std::vector<matrix_x<double>> const& inputs, std::size_t e,
                                      double alpha) {
  index_t const d = inputs[0].rows();
  auto const one = matrix_x<double>::Identity(d, d);
  std::vector<matrix_x<double>> others;
  matrix_x<double> sum = matrix_x<double>::Zero(d, d), all(d, 0);
  for (std::size_t j = 0; j < inputs.size(); ++j) {
    if (j == e) continue;
    others.push_back(exact_projector(inputs[j], alpha));
    sum += others.back();
    matrix_x<double> const before = all;
    all.resize(d, before.cols() + inputs[j].cols());
    all << before, inputs[j];
  }
  if (policy == stiefelx::projector_policy::mean) return sum / static_cast<double>(others.size());
  if (policy != stiefelx::projector_policy::product) return exact_projector(all, alpha);
  matrix_x<double> left = one;
  for (std::size_t j = 0; j + 1 < others.size(); ++j) left = left * others[j];
  return left * others.back() * left.transpose();
}

}  // namespace support
