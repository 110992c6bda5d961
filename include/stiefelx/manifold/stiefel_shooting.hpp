// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_logarithm_iteration.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_parallel_transport.hpp>

namespace stiefelx {

namespace detail {

inline constexpr int mixing_depth = 6;

// Solves the symmetric positive system of the first `count` rows by elimination; s becomes the
// solution. A direction that rounding cannot tell from the others is left out.
inline void solve_mixing(std::array<std::array<double, mixing_depth>, mixing_depth>& g,
                         std::array<double, mixing_depth>& s, int count) {
  auto const size = static_cast<std::size_t>(count);
  for (std::size_t k = 0; k < size; ++k) {
    bool const clear = g[k][k] > 1e-14;
    for (std::size_t i = k + 1; i < size; ++i) {
      double const factor = clear ? g[i][k] / g[k][k] : 0;
      for (std::size_t j = k; j < size; ++j) g[i][j] -= factor * g[k][j];
      s[i] -= factor * s[k];
    }
    if (!clear) g[k][k] = 0;
  }
  for (std::size_t k = size; k-- > 0;) {
    for (std::size_t j = k + 1; j < size; ++j) s[k] -= g[k][j] * s[j];
    s[k] = g[k][k] > 0 ? s[k] / g[k][k] : 0;
  }
}

// Anderson's mixing of a fixed-point iteration v <- v + f(v): the last steps' changes of v and f,
// side by side, scaled so that the changes of f have norm one.
template <class Storage>
struct step_mixing {
  Storage changes_v;  // 2p x (p depth)
  Storage changes_f;
  Storage last_v;  // 2p x p
  Storage last_f;
  int count = 0;
};

// v becomes the next iterate. Waits.
template <class Ctx, class State, class F, class V>
void mix(Ctx& ctx, State& state, F const& f, V& v) {
  using Real = real_t<F>;
  index_t const p = v.cols();
  auto s = scratch<Real>(ctx, 1, 1);
  auto const number = [&](auto const& a, auto const& b) {
    inner(ctx, a, b, s);
    return static_cast<double>(value(ctx, s));
  };
  auto const column = [&](auto& changes, int k) {
    return changes.middleCols(p * (k % mixing_depth), p);
  };
  if (state.count > 0) {
    auto dv = column(state.changes_v, state.count - 1);
    auto df = column(state.changes_f, state.count - 1);
    copy(ctx, v, dv);
    axpy(ctx, -1, state.last_v, dv);
    copy(ctx, f, df);
    axpy(ctx, -1, state.last_f, df);
    double const length = std::sqrt(number(df, df));
    double const inverse = length > 0 ? 1 / length : 0;
    scale(ctx, inverse, dv);
    scale(ctx, inverse, df);
  }
  copy(ctx, v, state.last_v);
  copy(ctx, f, state.last_f);
  int const used = std::min(state.count, mixing_depth);
  std::array<std::array<double, mixing_depth>, mixing_depth> g{};
  std::array<double, mixing_depth> weights{};
  for (int i = 0; i < used; ++i) {
    auto const row = static_cast<std::size_t>(i);
    auto const df = column(state.changes_f, i);
    weights[row] = number(df, f);
    for (int j = 0; j < used; ++j)
      g[row][static_cast<std::size_t>(j)] = number(df, column(state.changes_f, j));
  }
  solve_mixing(g, weights, used);
  axpy(ctx, 1, f, v);
  for (int i = 0; i < used; ++i) {
    double const weight = weights[static_cast<std::size_t>(i)];
    axpy(ctx, -weight, column(state.changes_v, i), v);
    axpy(ctx, -weight, column(state.changes_f, i), v);
  }
  ++state.count;
}

// Shooting for the geodesic from [I; 0] to base: what is missing at the end comes back by parallel
// transport. v is the first guess, and the result.
template <class Ctx, class Base, class V>
logarithm_report shoot(Ctx& ctx, stiefel m, Base const& base, V& v, logarithm_options options) {
  using W = scalar_t<Base>;
  index_t const p = m.p;
  stiefel const thin{2 * p, p, m.alpha};
  auto const make = [&](index_t copies) { return scratch<W>(ctx, 2 * p, p * copies); };
  step_mixing<decltype(make(1))> state{make(mixing_depth), make(mixing_depth), make(1), make(1)};
  auto x = make(1), end = make(1), missing = make(1), velocity = make(1), f = make(1);
  auto size = scratch<real_of_t<W>>(ctx, 1, 1);
  set_identity(ctx, x);
  logarithm_report found;
  while (found.iterations < options.iterations) {
    exp(ctx, thin, x, v, end);
    ++found.iterations;
    copy(ctx, base, missing);
    axpy(ctx, -1, end, missing);
    norm(ctx, missing, size);
    found.defect = static_cast<double>(value(ctx, size));
    found.converged = found.defect <= options.tolerance;
    if (found.converged || !(found.defect < 10 * static_cast<double>(p))) return found;
    project(ctx, thin, end, missing, missing);
    transport_along(ctx, thin, x, v, end, v, velocity, parallel_transport{});
    scale(ctx, -1, velocity);
    transport_along(ctx, thin, end, velocity, x, missing, f, parallel_transport{});
    mix(ctx, state, f, v);
  }
  return found;
}

}  // namespace detail

}  // namespace stiefelx
