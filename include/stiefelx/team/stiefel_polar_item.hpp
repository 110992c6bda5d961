// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/team/lane_products.hpp>

namespace stiefelx {

/// \brief Team text: the polar factor of x + v, run by each_item.
/// \ingroup stiefel
///
/// The coupled Newton-Schulz iteration of inverse_sqrt() on the Gram matrix of x + v. Each matrix
/// stops by itself once an iteration squares its error below the rounding, and keeps its entries
/// while others go on, so no matrix depends on those beside it. One Newton-Schulz step on the n x p
/// result then removes the rounding of the p x p products, which run in the scalar of x.
template <class N = index_t, class P = index_t>
struct stiefel_polar_item {
  N n;                  ///< rows
  P p;                  ///< columns
  int iterations = 14;  ///< at most

  /// Whether no bound of a loop is read at run time.
  static constexpr bool has_fixed_shape = !std::is_same_v<N, index_t>;

  /// \returns scalars of scratch a team
  STIEFELX_HD constexpr index_t scratch_entries() const {
    return 2 * lane_stride(n, p) * p + 4 * p * p;
  }

  /// \param[in]  team     lanes
  /// \param[in]  scratch  scratch_entries() scalars
  /// \param[in]  x        n x p, a point
  /// \param[in]  v        n x p, tangent at x
  /// \param[out] y        n x p, the new point; may be x
  template <Team T, class S, class X, class Y>
  STIEFELX_HD void operator()(T const& team, S* scratch, X x, X v, Y y) const {
    index_t const stride = lane_stride(n, p);
    S* const sum = scratch;
    S* const factor = sum + stride * p;
    S* const root = factor + stride * p;
    S* const inverse = root + p * p;
    S* const step = inverse + p * p;
    S* const next = step + p * p;
    read_sum(team, n, p, x, v, y, sum, stride);
    team.barrier();
    adjoint_product<true>(team, n, p, sum, stride, sum, stride, root);
    team.barrier();
    mirror_upper(team, p, root);
    team.barrier();
    invert_root(team, root, inverse, step, next);
    multiply_right<false>(team, n, p, sum, stride, inverse, factor, stride);
    team.barrier();
    adjoint_product<true>(team, n, p, factor, stride, factor, stride, step);
    team.barrier();
    mirror_upper(team, p, step);
    team.barrier();
    scale_and_shift(team, p, constant<S>(-0.5), 1.5, step);
    team.barrier();
    multiply_right<false>(team, n, p, factor, stride, step, sum, stride);
    team.barrier();
    write_item(team, n, p, sum, stride, y);
  }

 private:
  // inverse = root^(-1/2), all matrices p x p; root, step and next are overwritten.
  template <Team T, class S>
  STIEFELX_HD void invert_root(T const& team, S* root, S* inverse, S* step, S* next) const {
    using Real = real_of_t<S>;
    index_t const column = opaque(p);
    // Every eigenvalue of x + v is at least one, and at most the largest row sum.
    Real largest = constant<Real>(0);
    for (index_t j = 0; j < p; ++j) {
      Real sum = constant<Real>(0);
      for (index_t i = 0; i < p; ++i) sum = sum + modulus(root[j * column + i]);
      largest = select(sum > largest, sum, largest);
    }
    Real const shrink = reciprocal_sqrt(constant<Real>(0.5) * (largest + constant<Real>(1)));
    team.barrier();
    for (index_t k = team.rank(); k < p * p; k += team.size()) {
      root[k] = S(shrink * shrink) * root[k];
      inverse[k] = constant<S>(k % (p + 1) == 0 ? 1 : 0);
    }
    team.barrier();
    // The error of the next step is the square of this one's.
    Real const small =
        constant<Real>(std::sqrt(double{std::numeric_limits<lane_real_t<S>>::epsilon()}));
    auto frozen = small < constant<Real>(0);
    for (int k = 0; k < iterations; ++k) {
      multiply_hermitian(team, inverse, root, step);
      Real error = constant<Real>(0);
      for (index_t j = 0; j < p; ++j)
        for (index_t i = 0; i <= j; ++i) {
          Real const e = modulus(step[j * column + i] - constant<S>(i == j ? 1 : 0));
          error = select(e > error, e, error);
        }
      team.barrier();
      scale_and_shift(team, p, constant<S>(-0.5), 1.5, step);
      team.barrier();
      multiply_hermitian(team, root, step, next);
      replace(team, frozen, next, root);
      multiply_hermitian(team, step, inverse, next);
      replace(team, frozen, next, inverse);
      frozen = frozen | (error <= small);
      if (all(frozen)) break;
    }
    for (index_t k = team.rank(); k < p * p; k += team.size()) inverse[k] = S(shrink) * inverse[k];
    team.barrier();
  }

  // c = a b for Hermitian matrices that commute, so c is Hermitian too.
  template <Team T, class S>
  STIEFELX_HD void multiply_hermitian(T const& team, S const* a, S const* b, S* c) const {
    adjoint_product<true>(team, p, p, a, p, b, p, c);
    team.barrier();
    mirror_upper(team, p, c);
    team.barrier();
  }

  template <Team T, class Mask, class S>
  STIEFELX_HD void replace(T const& team, Mask frozen, S const* from, S* to) const {
    for (index_t k = team.rank(); k < p * p; k += team.size())
      to[k] = select(frozen, to[k], from[k]);
    team.barrier();
  }
};

}  // namespace stiefelx
