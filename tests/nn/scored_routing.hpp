// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include <stiefelx/nn/router_options.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

/// Routings for tests of losses: scores and lists are given, so that scores can move while the
/// choice stays.
namespace support {

using stiefelx::score_kind;

/// Both backends and both scalars, where every pair of them would say no more.
using mixed_cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, double>>;

/// A routing before it is on a backend.
struct scored_routing {
  index_t experts;          ///< true experts, at most the rows of the scores
  matrix_x<double> scores;  ///< N x T
  matrix_x<int> ids;        ///< k x T, -1 in an empty slot
  score_kind kind = score_kind::softmax;
  index_t taken = 0;  ///< experts a token takes where these are more than its slots

  /// Experts that a token takes, null ones included.
  index_t choices() const { return std::max(taken, ids.rows()); }

  /// N x T, in long double.
  matrix_x<long double> probabilities() const {
    matrix_x<long double> p(scores.rows(), scores.cols());
    for (index_t t = 0; t < p.cols(); ++t) {
      long double sum = 0;
      for (index_t e = 0; e < p.rows(); ++e)
        sum += std::exp(static_cast<long double>(scores(e, t)));
      for (index_t e = 0; e < p.rows(); ++e) {
        long double const x = std::exp(static_cast<long double>(scores(e, t)));
        p(e, t) = kind == score_kind::softmax ? x / sum : x / (1 + x);
      }
    }
    return p;
  }

  /// The tokens of a list, in its order.
  scored_routing tokens(std::vector<index_t> const& list) const {
    auto const n = static_cast<index_t>(list.size());
    scored_routing r{experts, matrix_x<double>(scores.rows(), n), matrix_x<int>(ids.rows(), n),
                     kind, taken};
    for (index_t t = 0; t < n; ++t) {
      r.scores.col(t) = scores.col(list[static_cast<std::size_t>(t)]);
      r.ids.col(t) = ids.col(list[static_cast<std::size_t>(t)]);
    }
    return r;
  }

  /// Tokens first to end - 1.
  scored_routing range(index_t first, index_t end) const {
    std::vector<index_t> list(static_cast<std::size_t>(end - first));
    std::iota(list.begin(), list.end(), first);
    return tokens(list);
  }
};

/// Normal scores and the k largest of them; of `nulls` null experts, chosen ones leave empty slots.
inline scored_routing random_scores(index_t experts, index_t nulls, index_t tokens, index_t k,
                                    std::uint64_t seed) {
  scored_routing r{experts, random_matrix<double>(experts + nulls, tokens, seed),
                   matrix_x<int>::Constant(std::min(k, experts), tokens, -1)};
  r.taken = k;
  std::vector<int> order(static_cast<std::size_t>(experts + nulls));
  for (index_t t = 0; t < tokens; ++t) {
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return r.scores(a, t) > r.scores(b, t); });
    index_t slot = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(k); ++i)
      if (order[i] < experts) r.ids(slot++, t) = order[i];
  }
  return r;
}

/// What the losses read of a routing's options.
struct given_gates {
  stiefelx::gate_rule rule;
  stiefelx::choice_rule rest;
  stiefelx::gate_rule gates() const { return rule; }
  stiefelx::choice_rule choice(index_t) const { return rest; }
};

/// A routing on a backend.
template <class P, class W, class I>
struct placed_routing {
  P probabilities;
  W weights;
  I ids;
  given_gates options;
  index_t experts;
};

/// Puts a routing on a backend; gate weights are the probabilities.
template <class Case>
auto routing_on(place<Case>& p, scored_routing const& r) {
  using S = typename Case::scalar;
  auto const q = r.probabilities();
  matrix_x<S> weights = matrix_x<S>::Zero(r.ids.rows(), r.ids.cols());
  for (index_t t = 0; t < r.ids.cols(); ++t)
    for (index_t i = 0; i < r.ids.rows(); ++i)
      if (r.ids(i, t) >= 0) weights(i, t) = static_cast<S>(q(r.ids(i, t), t));
  matrix_x<S> rounded(q.rows(), q.cols());
  for (index_t t = 0; t < q.cols(); ++t)
    for (index_t e = 0; e < q.rows(); ++e) rounded(e, t) = static_cast<S>(q(e, t));
  auto a = p.up(rounded);
  auto b = p.up(weights);
  auto c = p.up(r.ids);
  return placed_routing<decltype(a), decltype(b), decltype(c)>{
      std::move(a),
      std::move(b),
      std::move(c),
      {{r.kind, false, 1}, {r.choices(), 1, stiefelx::expert_order::by_score, r.experts}},
      r.experts};
}

/// Value and gradient of a loss.
struct loss_and_gradient {
  double loss;
  matrix_x<double> gradient;
};

/// \brief Runs a loss that accumulates onto a gradient of the given shape.
///
/// The gradient starts at one, which is taken off again, and the loss at NaN.
/// \param call  call(ctx, loss, gradient)
template <class Case, class F>
loss_and_gradient run_loss(place<Case>& p, index_t rows, index_t cols, F const& call) {
  using S = typename Case::scalar;
  auto loss = p.up(matrix_x<double>::Constant(1, 1, std::nan("")));
  auto gradient = p.up(matrix_x<S>::Ones(rows, cols));
  call(p.ctx, loss, gradient);
  matrix_x<double> g = p.down(gradient).template cast<double>();
  g.array() -= 1;
  return {p.down(loss)(0, 0), g};
}

/// Weights of tokens in (0, 2).
inline matrix_x<double> random_weights(index_t tokens, std::uint64_t seed) {
  numbers draw(seed);
  matrix_x<double> w(1, tokens);
  for (index_t t = 0; t < tokens; ++t) w(0, t) = 2 * draw.uniform();
  return w;
}

}  // namespace support
