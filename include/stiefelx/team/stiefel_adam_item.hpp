// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/unroll.hpp>
#include <stiefelx/team/lane_products.hpp>
#include <stiefelx/team/lane_symmetric_product.hpp>

/// \file
/// \brief Team text for one step of riemannian_adam at a small point of the Stiefel manifold.
/// \ingroup optim
///
/// Sizes are `index_t` or `fixed_size`; scalars are as team/lanes.hpp says.

namespace stiefelx {

namespace detail {

// The sum of the squared entries, by eight sums that do not wait for each other.
template <Team T, class N, class P, class S>
STIEFELX_HD real_of_t<S> lane_squared_norm(T const& team, N n, P p, S const* a, index_t stride) {
  constexpr index_t ways = 8;
  S sum[std::size_t{ways}];
  unroll<ways>([&](index_t k) __attribute__((always_inline)) { sum[k] = constant<S>(0); });
  index_t const step = team.size(), rows = opaque(n);
  for (index_t j = 0; j < p; ++j) {
    S const* const column = a + j * stride;
    index_t i = team.rank();
    for (; i + (ways - 1) * step < rows; i += ways * step)
      unroll<ways>([&](index_t k) __attribute__((always_inline)) {
        S const entry = column[i + k * step];
        sum[k] = multiply_add(conjugate(entry), entry, sum[k]);
      });
    for (; i < rows; i += step) sum[0] = multiply_add(conjugate(column[i]), column[i], sum[0]);
  }
  unroll<ways / 2>([&](index_t k) __attribute__((always_inline)) { sum[k] = sum[k] + sum[k + 4]; });
  return team.sum(real_part((sum[0] + sum[1]) + (sum[2] + sum[3])));
}

}  // namespace detail

/// \brief Team text: a whole step of riemannian_adam with the Euclidean metric, QR and projections.
/// \ingroup optim
///
/// With \f$ r = P_x(g) \f$ and factors a, b, c, l that stack_adam_factors_element prepares,
/// \f[ m \leftarrow \beta_1 m + (1-\beta_1)\,r, \quad
///     y = \mathrm{qf}\!\left(x - \frac{c\,m}{\sqrt{\max(a + b \lVert r\rVert^2, l)} + \epsilon}\right),
///     \quad m \leftarrow P_y(m). \f]
/// A gradient whose squared norm is not at most `largest` leaves its own x and m as they are.
template <class N = index_t, class P = index_t>
struct stiefel_adam_item {
  N n;             ///< rows
  P p;             ///< columns
  double beta1;    ///< decay of the first moment
  double epsilon;  ///< added to the root of the second moment
  double largest;  ///< largest squared norm of a gradient

  /// Whether no bound of a loop is read at run time.
  static constexpr bool has_fixed_shape = !std::is_same_v<N, index_t>;

  /// \returns scalars of scratch a team
  STIEFELX_HD constexpr index_t scratch_entries() const {
    return 3 * lane_stride(n, p) * p + p * p + 5;
  }

  /// \param[in]  team     lanes
  /// \param[in]  scratch  scratch_entries() scalars
  /// \param[in]  x        n x p, a point
  /// \param[in]  g        n x p, Euclidean gradient
  /// \param[in]  first    n x p, first moment, tangent at x
  /// \param[in]  kept     1 x 1, real: a
  /// \param[in]  fresh    1 x 1, real: b
  /// \param[in]  rate     1 x 1, real: c
  /// \param[in]  floor    1 x 1, real: l
  /// \param[out] y        n x p, the new point; may be x
  /// \param[out] moved    n x p, the new first moment; may be first
  /// \param[out] squared  1 x 1, real: squared norm of r, or -1 where the gradient is not finite
  template <Team T, class S, class X, class F, class Y, class Q>
  STIEFELX_HD void operator()(T const& team, S* scratch, X x, X g, X first, F kept, F fresh, F rate,
                              F floor, Y y, Y moved, Q squared) const {
    using Real = real_of_t<S>;
    index_t const stride = lane_stride(n, p);
    S* const point = scratch;
    S* const next = point + stride * p;
    S* const moment = next + stride * p;
    S* const s = moment + stride * p;
    Real* const factors = reinterpret_cast<Real*>(s + p * p);
    read_item(team, n, p, g, next, stride);
    read_item(team, n, p, x, point, stride);
    read_item(team, n, p, first, moment, stride);
    constexpr fixed_size<1> one{};
    read_item(team, one, one, kept, factors, 1);
    read_item(team, one, one, fresh, factors + 1, 1);
    read_item(team, one, one, rate, factors + 2, 1);
    read_item(team, one, one, floor, factors + 3, 1);
    auto const finite =
        detail::lane_squared_norm(team, n, p, next, stride) <= constant<Real>(largest);
    team.barrier();
    symmetric_product(team, n, p, point, stride, next, stride, s);
    team.barrier();
    // The gradient's entries go straight into its norm and the moment.
    S const old_share = constant<S>(beta1), new_share = constant<S>(1 - beta1);
    S sum = constant<S>(0);
    multiply_right<true>(
        team, n, p, point, stride, s, next, stride,
        [&](auto tall, auto wide, index_t at, S const* r) __attribute__((always_inline)) {
          S const old_factor = old_share, new_factor = new_share;
          S* const target = moment + at;
          S squares[std::size_t{tall}];
          unroll<tall>([&](index_t i)
                           __attribute__((always_inline)) { squares[i] = conjugate(r[i]) * r[i]; });
          unroll<wide>([&](index_t j) __attribute__((always_inline)) {
            unroll<tall>([&](index_t i) __attribute__((always_inline)) {
              S const entry = r[j * tall + i];
              S& m = target[j * stride + i];
              if (j > 0) squares[i] = multiply_add(conjugate(entry), entry, squares[i]);
              m = multiply_add(old_factor, m, new_factor * entry);
            });
          });
          unroll<tall>([&](index_t i) __attribute__((always_inline)) { sum = sum + squares[i]; });
        });
    Real const gradient = team.sum(real_part(sum));
    if (team.rank() == 0) factors[4] = select(finite, gradient, constant<Real>(-1));
    using std::sqrt;
    Real const given = factors[0] + factors[1] * gradient;
    Real const second = select(given < factors[3], factors[3], given);
    S const length = S(factors[2] / (sqrt(second) + constant<Real>(epsilon)));
    team.barrier();
    // The point's memory serves the new point from here on.
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < n; i += team.size()) {
        index_t const at = j * stride + i;
        point[at] = subtract_product(length, moment[at], point[at]);
      }
    team.barrier();
    adjoint_product<true>(team, n, p, point, stride, point, stride, s);
    team.barrier();
    factor_upper(team, p, s);
    solve_right_upper(team, n, p, s, point, stride);
    team.barrier();
    symmetric_product(team, n, p, point, stride, moment, stride, s);
    team.barrier();
    multiply_right<true>(team, n, p, point, stride, s, moment, stride);
    team.barrier();
    if (!all(finite)) keep_where_not(team, finite, x, first, next, point, moment);
    write_item(team, n, p, point, stride, y);
    write_item(team, n, p, moment, stride, moved);
    write_item(team, one, one, factors + 4, 1, squared);
  }

 private:
  // Brings back the old point and moment where the gradient was not finite.
  template <Team T, class Mask, class X, class S>
  STIEFELX_HD void keep_where_not(T const& team, Mask finite, X x, X first, S* old, S* point,
                                  S* moment) const {
    keep_one_where_not(team, finite, x, old, point);
    keep_one_where_not(team, finite, first, old, moment);
  }

  template <Team T, class Mask, class X, class S>
  STIEFELX_HD void keep_one_where_not(T const& team, Mask finite, X given, S* old, S* a) const {
    index_t const stride = lane_stride(n, p);
    read_item(team, n, p, given, old, stride);
    team.barrier();
    for (index_t j = 0; j < p; ++j)
      for (index_t i = team.rank(); i < n; i += team.size()) {
        index_t const at = j * stride + i;
        a[at] = select(finite, a[at], old[at]);
      }
    team.barrier();
  }
};

}  // namespace stiefelx
