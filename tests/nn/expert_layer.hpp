// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include <stiefelx/nn/moe_lora.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/thrown.hpp>

/// A mixture of low-rank experts: its data, its run on a backend, and its definition in plain loops.
namespace support {

using stiefelx::mixing;
using stiefelx::mixing_options;

/// Every form of the mixture.
inline constexpr mixing kinds[] = {mixing::none, mixing::orthogonal, mixing::orthonormal};

/// Everything a call of the layer reads. Ids and weights are given, so no router is needed; an id of
/// -1 is an empty slot.
template <class S>
struct expert_layer {
  index_t experts, rank;
  double scaling;
  matrix_x<S> down, up;  ///< d_in x (E r) and (E r) x d_out
  matrix_x<S> x, dy;     ///< d_in x T and d_out x T
  matrix_x<int> ids;     ///< k x T
  matrix_x<S> weights;   ///< k x T
};

/// Sizes of a random layer.
struct layer_sizes {
  index_t experts, chosen, rank, d_in, d_out, tokens;
};

/// Independent normal experts and tokens; weights around 1/k; ids a rotation of 0 .. E - 1.
template <class S>
expert_layer<S> random_layer(layer_sizes n, std::uint64_t seed) {
  numbers draw(seed);
  expert_layer<S> l{n.experts, n.rank, 1.5, {}, {}, {}, {}, {}, {}};
  auto const normal = [&](index_t rows, index_t cols, double size) {
    matrix_x<S> a(rows, cols);
    for (index_t j = 0; j < cols; ++j)
      for (index_t i = 0; i < rows; ++i) a(i, j) = static_cast<S>(size * draw.normal());
    return a;
  };
  l.down = normal(n.d_in, n.experts * n.rank, 1 / std::sqrt(static_cast<double>(n.d_in)));
  l.up = normal(n.experts * n.rank, n.d_out,
                1 / std::sqrt(static_cast<double>(std::max<index_t>(n.rank, 1))));
  l.x = normal(n.d_in, n.tokens, 1);
  l.dy = normal(n.d_out, n.tokens, 1);
  l.weights = normal(n.chosen, n.tokens, 1);
  l.ids = matrix_x<int>(n.chosen, n.tokens);
  for (index_t t = 0; t < n.tokens; ++t)
    for (index_t i = 0; i < n.chosen; ++i) {
      l.ids(i, t) = static_cast<int>((i + (n.chosen < n.experts ? t : 0)) % n.experts);
      l.weights(i, t) = static_cast<S>((1 + 0.4 * static_cast<double>(l.weights(i, t))) /
                                       static_cast<double>(n.chosen));
    }
  return l;
}

/// Output and gradients of a layer that starts from zero.
template <class T>
struct layer_result {
  matrix_x<T> y, ddown, dup, dweights, dx;
};

/// The routing of a layer on a backend.
template <class Case, class S>
auto routing_of(place<Case>& p, expert_layer<S> const& l) {
  auto probabilities = p.up(matrix_x<S>::Zero(l.experts, l.x.cols()));
  auto weights = p.up(l.weights);
  auto ids = p.up(l.ids);
  return stiefelx::routing<decltype(probabilities), decltype(weights), decltype(ids)>{
      std::move(probabilities), std::move(weights), std::move(ids), {}};
}

/// moe_lora_forward() and moe_lora_backward().
template <class Case>
layer_result<typename Case::scalar> run_layer(expert_layer<typename Case::scalar> const& l,
                                              mixing_options options) {
  using S = typename Case::scalar;
  place<Case> p;
  auto down = p.up(l.down);
  auto up = p.up(l.up);
  stiefelx::lora_experts const experts(down, up, l.experts, l.scaling);
  auto const routes = routing_of(p, l);
  auto const x = p.up(l.x);
  auto y = p.up(matrix_x<S>::Zero(l.up.cols(), l.x.cols()));
  auto saved = moe_lora_forward(p.ctx, experts, routes, x, y, options);

  S const nan = std::numeric_limits<S>::quiet_NaN();
  auto ddown = zeros_like(p.ctx, down);
  auto dup = zeros_like(p.ctx, up);
  auto dweights = p.up(matrix_x<S>::Constant(l.weights.rows(), l.weights.cols(), nan));
  auto dx = p.up(matrix_x<S>::Constant(l.x.rows(), l.x.cols(), nan));
  moe_lora_backward(p.ctx, experts, routes, saved, x, p.up(l.dy), ddown, dup, dweights, 0, dx);
  return {p.down(y), p.down(ddown), p.down(dup), p.down(dweights), p.down(dx)};
}

// --- the definition ------------------------------------------------------------------------------

/// The outputs of the chosen experts, d_out x (k T), token after token; zero for an empty slot.
template <class T, class S>
matrix_x<T> expert_outputs(expert_layer<S> const& l) {
  index_t const k = l.ids.rows(), tokens = l.x.cols();
  matrix_x<T> const h = loop_product(loop_adjoint(loop_cast<T>(l.down)), loop_cast<T>(l.x));
  matrix_x<T> e = matrix_x<T>::Zero(l.up.cols(), k * tokens);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < k; ++i)
      for (index_t row = 0; row < e.rows() && l.ids(i, t) >= 0; ++row)
        for (index_t a = l.ids(i, t) * l.rank; a < (l.ids(i, t) + 1) * l.rank; ++a)
          e(row, t * k + i) += static_cast<T>(l.up(a, row)) * h(a, t);
  return e;
}

/// Mixture of outputs and its gradients, and how well they are determined.
template <class T>
struct token_mixture {
  matrix_x<T> y, de, dweights;
  matrix_x<T> y_size, dweights_size;  ///< the sums behind them, of absolute values
  double delta = 1;  ///< smallest relative remainder that was projected onto or normalized
  double divisor =
      1;  ///< smallest relative length that was divided by: delta, or tau where guarded
  double margin = std::numeric_limits<double>::infinity();  ///< smallest factor to tau
  index_t guarded = 0;                                      ///< outputs that were guarded
};

/// \brief The mixture by projectors, one token at a time.
///
/// v_i = (1 - P) e_i with P the projector on the earlier outputs that are not guarded, F its basis.
/// dP = (1 - P) dF F^+ + (the same)^T gives the gradient without the recursion of Gram-Schmidt: with g
/// the gradient of v_i and w = (1 - P) g, e_i gets w and column j of F gets -(F^+ e_i)_j w -
/// (F^+ g)_j v_i.
template <class T>
token_mixture<T> mix_by_projectors(matrix_x<T> const& e, matrix_x<T> const& c,
                                   matrix_x<T> const& dy, mixing kind, double guard) {
  index_t const d = e.rows(), k = c.rows(), tokens = c.cols();
  matrix_x<T> const none = matrix_x<T>::Zero(d, tokens), no_weights = matrix_x<T>::Zero(k, tokens);
  token_mixture<T> out{none, matrix_x<T>::Zero(d, k * tokens), no_weights, none, no_weights};
  auto const dot = [d](auto const& a, index_t i, auto const& b, index_t j) {
    T sum = 0;
    for (index_t row = 0; row < d; ++row) sum += a(row, i) * b(row, j);
    return sum;
  };
  auto const add = [d](T factor, auto const& a, index_t i, auto& b, index_t j) {
    for (index_t row = 0; row < d; ++row) b(row, j) += factor * a(row, i);
  };
  for (index_t t = 0; t < tokens; ++t) {
    matrix_x<T> v = matrix_x<T>::Zero(d, k), m = matrix_x<T>::Identity(k, k);
    matrix_x<T> square(k, 1), length(k, 1);
    Eigen::Matrix<bool, Eigen::Dynamic, 1> free(k);
    // b minus its projection on the free outputs before i; alpha becomes F^+ b.
    auto const project = [&](matrix_x<T>& b, index_t i, matrix_x<T>& alpha) {
      alpha = matrix_x<T>::Zero(k, 1);
      for (index_t j = 0; j < i; ++j)
        if (free(j)) {
          alpha(j, 0) = dot(b, 0, v, j) / square(j, 0);
          add(-alpha(j, 0), v, j, b, 0);
        }
      for (index_t l = i - 1; l >= 0; --l)
        for (index_t j = l + 1; j < i; ++j)
          if (free(l) && free(j)) alpha(l, 0) -= alpha(j, 0) * m(j, l);
    };
    matrix_x<T> alpha;
    for (index_t i = 0; i < k; ++i) {
      matrix_x<T> b = e.col(t * k + i);
      if (kind != mixing::none) project(b, i, alpha);
      v.col(i) = b;
      for (index_t j = 0; j < i; ++j)
        if (free(j)) m(i, j) = dot(e, t * k + i, v, j) / square(j, 0);
      square(i, 0) = dot(v, i, v, i);
      T const whole = dot(e, t * k + i, e, t * k + i);
      free(i) = kind != mixing::none && square(i, 0) > T(guard) * T(guard) * whole;
      length(i, 0) = 1;
      if (kind == mixing::orthonormal && whole > 0)
        length(i, 0) = free(i) ? std::sqrt(square(i, 0)) : T(guard) * std::sqrt(whole);
      add(c(i, t) / length(i, 0), v, i, out.y, t);

      if (kind == mixing::none || !(whole > 0)) continue;
      double const rest = std::sqrt(static_cast<double>(square(i, 0) / whole));
      if (i > 0) out.margin = std::min(out.margin, std::max(rest / guard, guard / rest));
      bool const normalized = kind == mixing::orthonormal;
      if (free(i) && (normalized || i + 1 < k)) out.delta = std::min(out.delta, rest);
      if (!free(i) && normalized) out.divisor = std::min(out.divisor, guard);
      out.divisor = std::min(out.divisor, out.delta);
      out.guarded += free(i) ? 0 : 1;
    }
    for (index_t i = 0; i < k; ++i) {
      T const n = length(i, 0), u = dot(v, i, dy, t);
      out.dweights(i, t) = u / n;
      for (index_t row = 0; row < d; ++row) {
        out.y_size(row, t) += std::abs(c(i, t) * v(row, i) / n);
        out.dweights_size(i, t) += std::abs(v(row, i) * dy(row, t) / n);
      }
      matrix_x<T> g = dy.col(t) * (c(i, t) / n);
      if (kind == mixing::orthonormal && free(i)) add(-c(i, t) * u / (n * n * n), v, i, g, 0);
      if (kind == mixing::orthonormal && !free(i) && n != 1)
        add(-c(i, t) * u * T(guard) * T(guard) / (n * n * n), e, t * k + i, out.de, t * k + i);
      matrix_x<T> of_g, of_e, own = e.col(t * k + i);
      if (kind != mixing::none) {
        project(g, i, of_g);
        project(own, i, of_e);
        for (index_t j = 0; j < i; ++j)
          if (free(j)) {
            add(-of_e(j, 0), g, 0, out.de, t * k + j);
            add(-of_g(j, 0), v, i, out.de, t * k + j);
          }
      }
      add(T(1), g, 0, out.de, t * k + i);
    }
  }
  return out;
}

/// Gradients of the layer from those of its experts' outputs.
template <class T, class S>
layer_result<T> through_experts(expert_layer<S> const& l, matrix_x<T> const& y,
                                matrix_x<T> const& de, matrix_x<T> const& dweights) {
  index_t const k = l.ids.rows(), tokens = l.x.cols();
  matrix_x<T> const down = loop_cast<T>(l.down), up = loop_cast<T>(l.up), x = loop_cast<T>(l.x);
  matrix_x<T> const h = loop_product(loop_adjoint(down), x);
  matrix_x<T> dh = matrix_x<T>::Zero(h.rows(), tokens);
  layer_result<T> r{y, {}, matrix_x<T>::Zero(up.rows(), up.cols()), dweights, {}};
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < k; ++i)
      for (index_t row = 0; row < up.cols() && l.ids(i, t) >= 0; ++row)
        for (index_t a = l.ids(i, t) * l.rank; a < (l.ids(i, t) + 1) * l.rank; ++a) {
          dh(a, t) += up(a, row) * de(row, t * k + i);
          r.dup(a, row) += h(a, t) * de(row, t * k + i);
        }
  r.ddown = loop_product(x, loop_adjoint(dh));
  r.dx = loop_product(down, dh);
  return r;
}

/// Default guard of a data type.
template <class S>
double guard_of(mixing_options options) {
  if (options.guard > 0) return options.guard;
  return std::numeric_limits<S>::digits <= 24 ? 1e-3 : 1e-6;
}

/// What the layer's definition says, and the sizes that errors are measured by: the same sums over
/// absolute values, since a gradient may vanish by cancellation.
struct layer_definition {
  layer_result<long double> exact, size;
  token_mixture<long double> mixture;
};

/// The layer by its definition, in long double.
template <class S>
layer_definition define_layer(expert_layer<S> const& l, mixing_options options) {
  using T = long double;
  auto const s = static_cast<T>(l.scaling);
  matrix_x<T> const incoming = loop_cast<T>(l.dy) * s;
  auto m = mix_by_projectors<T>(expert_outputs<T>(l), loop_cast<T>(l.weights), incoming,
                                options.kind, guard_of<S>(options));
  expert_layer<S> positive = l;
  positive.down = l.down.cwiseAbs();
  positive.up = l.up.cwiseAbs();
  positive.x = l.x.cwiseAbs();
  matrix_x<T> const y = m.y * s, y_size = m.y_size * std::abs(s), de_size = m.de.cwiseAbs();
  return {through_experts<T>(l, y, m.de, m.dweights),
          through_experts<T>(positive, y_size, de_size, m.dweights_size), std::move(m)};
}

/// \brief Relative error that the layer in rank space may have: c eps_data / d + c eps_double /
/// delta^2.
///
/// delta is the smallest remainder that a projection divides by, d the smallest length; they differ
/// where tau |e| is divided by. c = 2 sqrt(n) for sums of up to n terms: rounding errors of mean zero
/// give such a sum an error of sqrt(n) eps / 2 times the sum of its absolute values, and at most four
/// sums in the data's type follow one another (h, z, the gradient of h, the result).
template <class S>
double rank_space_bound(expert_layer<S> const& l, token_mixture<long double> const& m) {
  index_t const longest = std::max({l.x.rows(), l.up.cols(), l.experts * l.rank, l.x.cols()});
  double const c = 2 * std::sqrt(static_cast<double>(longest));
  double const eps = std::numeric_limits<S>::epsilon();
  double const eps_double = std::numeric_limits<double>::epsilon();
  return c * (eps / m.divisor + eps_double / (m.delta * m.delta));
}

/// \brief Relative error that a mixture of outputs of length d may have: c eps_data / divisor + c
/// eps_double / delta^2, with c = 2 sqrt(d) by the same count.
template <class S>
double token_space_bound(index_t d, token_mixture<long double> const& m) {
  double const eps = std::numeric_limits<S>::epsilon();
  double const eps_double = std::numeric_limits<double>::epsilon();
  return 2 * std::sqrt(static_cast<double>(d)) *
         (eps / m.divisor + eps_double / (m.delta * m.delta));
}

}  // namespace support
