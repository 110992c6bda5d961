// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/team/lane_products.hpp>

/// \file
/// \brief Team text for one small point of the Stiefel manifold, run by each_item.
/// \ingroup stiefel
///
/// Sizes are `index_t` or `fixed_size`; scalars are as team/lanes.hpp says.

namespace stiefelx {

/// \brief Team text: the Q factor of x + v by one Cholesky factorization.
/// \ingroup stiefel
template <class N = index_t, class P = index_t>
struct stiefel_qr_item {
  N n;  ///< rows
  P p;  ///< columns

  /// Whether no bound of a loop is read at run time.
  static constexpr bool has_fixed_shape = !std::is_same_v<N, index_t>;

  /// \returns scalars of scratch a team
  STIEFELX_HD constexpr index_t scratch_entries() const { return lane_stride(n, p) * p + p * p; }

  /// \param[in]  team     lanes
  /// \param[in]  scratch  scratch_entries() scalars
  /// \param[in]  x        n x p, a point
  /// \param[in]  v        n x p, tangent at x
  /// \param[out] y        n x p, the new point; may be x
  template <Team T, class S, class X, class Y>
  STIEFELX_HD void operator()(T const& team, S* scratch, X x, X v, Y y) const {
    index_t const stride = lane_stride(n, p);
    S* const sum = scratch;
    S* const r = sum + stride * p;
    read_sum(team, n, p, x, v, y, sum, stride);
    team.barrier();
    adjoint_product<true>(team, n, p, sum, stride, sum, stride, r);
    team.barrier();
    factor_upper(team, p, r);
    solve_right_upper(team, n, p, r, sum, stride);
    team.barrier();
    write_item(team, n, p, sum, stride, y);
  }
};

/// \brief Team text: z - x (s - weight (s - s^H)), s = x^H z.
/// \ingroup stiefel
///
/// With weight 1/2 it is the projection onto the tangent space, with weight alpha + 1 the gradient
/// in the metric of parameter alpha.
template <class N = index_t, class P = index_t>
struct stiefel_gradient_item {
  N n;            ///< rows
  P p;            ///< columns
  double weight;  ///< of the skew part

  /// Whether no bound of a loop is read at run time.
  static constexpr bool has_fixed_shape = !std::is_same_v<N, index_t>;

  /// \returns scalars of scratch a team
  STIEFELX_HD constexpr index_t scratch_entries() const {
    return 2 * lane_stride(n, p) * p + p * p;
  }

  /// \param[in]  team     lanes
  /// \param[in]  scratch  scratch_entries() scalars
  /// \param[in]  x        n x p, a point
  /// \param[in]  z        n x p
  /// \param[out] v        n x p, tangent at x; may be z
  template <Team T, class S, class X, class V>
  STIEFELX_HD void operator()(T const& team, S* scratch, X x, X z, V v) const {
    index_t const stride = lane_stride(n, p);
    S* const point = scratch;
    S* const w = point + stride * p;
    S* const s = w + stride * p;
    read_item(team, n, p, x, point, stride);
    read_item(team, n, p, z, w, stride);
    team.barrier();
    adjoint_product<false>(team, n, p, point, stride, w, stride, s);
    team.barrier();
    index_t const step = opaque(p);
    S const skew = constant<S>(weight), rest = constant<S>(1 - weight);
    for (index_t j = team.rank(); j < p; j += team.size())
      for (index_t i = 0; i <= j; ++i) {
        S const upper = s[j * step + i], lower = s[i * step + j];
        s[j * step + i] = rest * upper + skew * conjugate(lower);
        s[i * step + j] = rest * lower + skew * conjugate(upper);
      }
    team.barrier();
    multiply_right<true>(team, n, p, point, stride, s, w, stride);
    team.barrier();
    write_item(team, n, p, w, stride, v);
  }
};

}  // namespace stiefelx
