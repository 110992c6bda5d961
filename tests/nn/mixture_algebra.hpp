// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <vector>

#include <nn/expert_layer.hpp>

/// Mixtures of every kind: the library's k x k algebra, which team/mixing_coefficients_test.cpp holds to its
/// definition, on outputs in long double.
namespace support {

using stiefelx::dependent_experts;
using stiefelx::mixing_algebra;

/// Every kind there is.
inline constexpr mixing all_kinds[] = {
    mixing::none,      mixing::orthogonal, mixing::orthonormal, mixing::norm_preserving,
    mixing::symmetric, mixing::partial,    mixing::anchored};
/// Every policy.
inline constexpr dependent_experts policies[] = {dependent_experts::keep, dependent_experts::drop,
                                                 dependent_experts::ridge};

/// Options in which every number matters.
inline mixing_options options_of(mixing kind, dependent_experts policy = dependent_experts::keep) {
  return {.kind = kind, .guard = 1e-3, .policy = policy, .ridge = 0.1, .part = 0.3};
}

/// A random layer in which token 1 lacks its last expert and token 2 has none.
template <class S>
expert_layer<S> layer_with_empty_slots(layer_sizes n, std::uint64_t seed) {
  expert_layer<S> l = random_layer<S>(n, seed);
  l.ids(n.chosen - 1, 1) = -1;
  l.weights(n.chosen - 1, 1) = S(0);
  for (index_t i = 0; i < n.chosen; ++i) {
    l.ids(i, 2) = -1;
    l.weights(i, 2) = S(0);
  }
  return l;
}

/// The algebra on Gram matrices of outputs in long double; incoming is the gradient of the sum.
inline token_mixture<long double> mix_by_algebra(matrix_x<long double> const& e,
                                                 matrix_x<long double> const& weights,
                                                 matrix_x<long double> const& incoming,
                                                 mixing_algebra const& algebra) {
  using T = long double;
  index_t const k = weights.rows();
  token_mixture<T> m{incoming, e, weights, {}, {}};
  std::vector<double> scratch(static_cast<std::size_t>(mixing_algebra::scratch_size(k)));
  auto const state = mixing_algebra::place(k, scratch.data());
  for (index_t t = 0; t < weights.cols(); ++t) {
    matrix_x<T> const own = e.middleCols(t * k, k), dy = incoming.col(t);
    matrix_x<double> const g = loop_cast<double>(loop_product(loop_adjoint(own), own));
    matrix_x<double> const u = loop_cast<double>(loop_product(loop_adjoint(own), dy));
    matrix_x<double> const c = loop_cast<double>(matrix_x<T>(weights.col(t)));
    matrix_x<double> a = c, dc = u, w = matrix_x<double>::Zero(k, k);
    if (algebra.kind != mixing::none) {
      algebra.factor(k, g.data(), state);
      algebra.coefficients(k, c.data(), state, a.data());
      algebra.pull_back(k, u.data(), state, dc.data());
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i < k; ++i) w(i, j) = state.w(i, j);
    }
    m.y.col(t) = loop_product(own, loop_cast<T>(a));
    m.dweights.col(t) = loop_cast<T>(dc);
    m.de.middleCols(t * k, k) =
        loop_product(dy, loop_adjoint(loop_cast<T>(a))) + loop_product(own, loop_cast<T>(w));
  }
  return m;
}

}  // namespace support
