// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/orth/lyapunov.hpp>
#include <stiefelx/orth/svd.hpp>
#include <stiefelx/orth/unitary_logarithm.hpp>

namespace stiefelx {

/// Options of log().
/// \ingroup stiefel
struct logarithm_options {
  double tolerance = 1e-11;  ///< largest defect in the small logarithm, above 0
  int iterations = 100;      ///< iterations at most, at least 1; from 20 on by shooting
};

/// What log() did.
/// \ingroup stiefel
struct logarithm_report {
  int iterations = 0;      ///< logarithms of 2p x 2p matrices, or geodesics shot
  double defect = 0;       ///< what keeps the last one from being a geodesic, or from y
  bool converged = false;  ///< the defect is below the tolerance
};

namespace detail {

// The state of log() in the basis [x q], where y is [m; n] = base: a unitary 2p x 2p matrix whose
// first p columns are base exp(tau a) and whose logarithm is to be [[c a, -b^H], [b, 0]], with c =
// 1 / (alpha + 1) and tau = c - 1.
template <class Storage>
struct logarithm_state {
  Storage base;      // 2p x p
  Storage unitary;   // 2p x 2p
  Storage small;     // its logarithm, 2p x 2p
  Storage a;         // p x p, skew
  Storage smallest;  // p x 1: the direction in the last p columns that is farthest from settled
};

// q = [m; n] completed to a unitary matrix whose lower right block is Hermitian and positive: of
// all completions the nearest one to the identity.
template <class Ctx, class State>
void complete_nearest(Ctx& ctx, State& state) {
  using W = scalar_t<decltype(state.base)>;
  index_t const p = state.base.cols();
  auto& q = state.unitary;
  fill(ctx, 0, q);
  copy(ctx, state.base, q.middleCols(0, p));
  set_identity(ctx, q.middleCols(p, p).middleRows(p, p));
  auto r = scratch<W>(ctx, 2 * p, 2 * p);
  householder_qr(ctx, q, q, r);
  copy(ctx, q.middleCols(0, p), state.base);
  auto last = q.middleCols(p, p);
  auto u = scratch<W>(ctx, p, p), v = scratch<W>(ctx, p, p);
  auto w = scratch<real_of_t<W>>(ctx, 1, p);
  svd(ctx, last.middleRows(p, p), u, w, v);
  auto const turn = product(ctx, v, u.adjoint());
  auto const before = clone(ctx, last);
  multiply(ctx, before, turn, last);
  copy(ctx, u.middleCols(p - 1, 1), state.smallest);
}

// Reflects the last p columns along their least settled direction: changes the determinant's sign.
template <class Ctx, class State>
void reflect_completion(Ctx& ctx, State& state) {
  index_t const p = state.base.cols();
  auto last = state.unitary.middleCols(p, p);
  auto const image = product(ctx, last, state.smallest);
  multiply_add(ctx, -2, image, state.smallest.adjoint(), last);
}

// next = l y - y l.
template <class Ctx, class L, class Y>
void commutator(Ctx& ctx, L const& l, Y const& y, Y& next) {
  multiply(ctx, l, y, next);
  multiply_add(ctx, -1, y, l, next);
}

// How the logarithm's diagonal blocks answer to the steps, to first order: the diagonal blocks of
// z / (1 - e^-z), z = ad(log), of the steps, less c step_a. They replace out_a and out_c.
template <class Ctx, class State, class G>
void logarithm_response(Ctx& ctx, State const& state, double tau, G const& step_a, G const& step_c,
                        G& out_a, G& out_c) {
  using W = scalar_t<G>;
  index_t const p = state.base.cols();
  auto now = scratch<W>(ctx, 2 * p, 2 * p), next = scratch<W>(ctx, 2 * p, 2 * p);
  fill(ctx, 0, now);
  auto upper = now.middleCols(0, p).middleRows(0, p), lower = now.middleCols(p, p).middleRows(p, p);
  copy(ctx, step_c, lower);
  if (tau != 0) {
    // exp(tau a) turns by (1 - e^-z) / z, z = tau ad(a), of tau step_a.
    auto term = clone(ctx, step_a), bracket = clone(ctx, step_a);
    scale(ctx, tau, term);
    copy(ctx, term, upper);
    double factor = 1;
    for (int k = 2; k <= 6; ++k) {
      factor *= -tau / k;
      commutator(ctx, state.a, term, bracket);
      copy(ctx, bracket, term);
      axpy(ctx, factor, term, upper);
    }
  }
  copy(ctx, upper, out_a);
  axpy(ctx, -(tau + 1), step_a, out_a);
  copy(ctx, step_c, out_c);
  // Coefficients of z / (1 - e^-z): Bernoulli numbers over factorials.
  constexpr double series[] = {0.5, 1.0 / 12, 0, -1.0 / 720, 0, 1.0 / 30240, 0, -1.0 / 1209600};
  for (double const coefficient : series) {
    commutator(ctx, state.small, now, next);
    copy(ctx, next, now);
    if (coefficient == 0) continue;
    axpy(ctx, coefficient, lower, out_c);
    if (tau != 0) axpy(ctx, coefficient, upper, out_a);
  }
}

// Solves the response to third order for the steps that take away the defects: two Lyapunov
// equations, coupled weakly. Falls back to the first order where those have no solution.
template <class Ctx, class State, class G>
void logarithm_step(Ctx& ctx, State const& state, double tau, G const& defect_a, G const& defect_c,
                    G& step_a, G& step_c) {
  using W = scalar_t<G>;
  index_t const p = state.base.cols();
  auto const b = state.small.middleCols(0, p).middleRows(p, p);
  auto bits = clear_status(ctx, 1);
  auto left = scratch<W>(ctx, p, p), right = scratch<W>(ctx, p, p);
  auto const coupled = [&](auto const& outer, auto const& step) {
    auto const part = product(ctx, outer, step);
    return product(ctx, part, outer.adjoint());
  };
  fill(ctx, 0, step_a);
  int const sweeps = tau == 0 ? 1 : 3;
  for (int k = 0; k < sweeps; ++k) {
    set_identity(ctx, left);
    scale(ctx, 0.5, left);
    multiply_add(ctx, -1.0 / 12, b, b.adjoint(), left);
    copy(ctx, defect_c, right);
    scale(ctx, -1, right);
    if (k > 0) axpy(ctx, -tau / 6, coupled(b, step_a), right);
    lyapunov(ctx, left, right, step_c, bits);
    if (tau == 0) break;
    set_identity(ctx, left);
    scale(ctx, 0.5, left);
    multiply_add(ctx, tau / 12, b.adjoint(), b, left);
    axpy(ctx, -tau / 2, state.a, left);
    copy(ctx, defect_a, right);
    axpy(ctx, 1.0 / 6, coupled(b.adjoint(), step_c), right);
    lyapunov(ctx, left, right, step_a, bits);
  }
  if (value(ctx, bits) == 0) return;
  copy(ctx, defect_c, step_c);
  scale(ctx, -1, step_c);
  copy(ctx, defect_a, step_a);
}

// The same, corrected by what the response of higher order leaves.
template <class Ctx, class State, class G>
void refined_logarithm_step(Ctx& ctx, State const& state, double tau, G const& defect_a,
                            G const& defect_c, G& step_a, G& step_c) {
  logarithm_step(ctx, state, tau, defect_a, defect_c, step_a, step_c);
  auto rest_a = clone(ctx, step_a), rest_c = clone(ctx, step_c);
  auto more_a = clone(ctx, step_a), more_c = clone(ctx, step_c);
  constexpr int corrections = 2;
  for (int k = 0; k < corrections; ++k) {
    logarithm_response(ctx, state, tau, step_a, step_c, rest_a, rest_c);
    axpy(ctx, 1, defect_a, rest_a);
    axpy(ctx, 1, defect_c, rest_c);
    logarithm_step(ctx, state, tau, rest_a, rest_c, more_a, more_c);
    axpy(ctx, 1, more_a, step_a);
    axpy(ctx, 1, more_c, step_c);
  }
}

// Iterates until the logarithm of state.unitary has the form of a geodesic.
template <class Ctx, class State>
logarithm_report iterate_logarithm(Ctx& ctx, stiefel m, State& state, logarithm_options options) {
  using W = scalar_t<decltype(state.base)>;
  index_t const p = m.p;
  double const c = 1 / (m.alpha + 1), tau = c - 1;
  auto defect_a = scratch<W>(ctx, p, p), defect_c = scratch<W>(ctx, p, p);
  auto step_a = scratch<W>(ctx, p, p), step_c = scratch<W>(ctx, p, p);
  auto size = scratch<real_of_t<W>>(ctx, 1, 1);
  logarithm_report found;
  bool reflected = false;
  while (found.iterations < options.iterations) {
    auto bits = clear_status(ctx, 1);
    unitary_logarithm(ctx, state.unitary, state.small, bits);
    ++found.iterations;
    if (value(ctx, bits) != 0) {
      // A determinant of -1 shows as an angle of pi at the start; the other sheet has none.
      if (found.iterations > 1 || reflected) return found;
      reflected = true;
      found.iterations = 0;
      reflect_completion(ctx, state);
      continue;
    }
    copy(ctx, state.small.middleCols(p, p).middleRows(p, p), defect_c);
    copy(ctx, state.small.middleCols(0, p).middleRows(0, p), defect_a);
    if (tau == 0)
      fill(ctx, 0, defect_a);
    else
      axpy(ctx, -c, state.a, defect_a);
    norm(ctx, defect_a, size);
    auto const in_a = static_cast<double>(value(ctx, size));
    norm(ctx, defect_c, size);
    found.defect = std::hypot(in_a, static_cast<double>(value(ctx, size)));
    found.converged = found.defect <= options.tolerance;
    if (found.converged) return found;
    refined_logarithm_step(ctx, state, tau, defect_a, defect_c, step_a, step_c);
    auto last = state.unitary.middleCols(p, p);
    turn_columns(ctx, 1, step_c, last);
    if (tau == 0) continue;
    axpy(ctx, 1, step_a, state.a);
    auto first = state.unitary.middleCols(0, p);
    copy(ctx, state.base, first);
    turn_columns(ctx, tau, state.a, first);
  }
  return found;
}

}  // namespace detail

}  // namespace stiefelx
