// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/team/lane_products.hpp>

namespace stiefelx {

/// \brief Team text: the Cayley transform of a tangent vector, run by each_item.
/// \ingroup stiefel
///
/// With \f$ v = x a + k \f$, a skew-Hermitian and \f$ x^H k = 0 \f$, the skew matrix of the transform
/// is \f$ W = k x^H - x k^H + x a x^H \f$, and \f$ (I - W/2)\,y = (I + W/2)\,x \f$ has the solution
/// \f[ y = x\,(2 m^{-1} - I) + k\,g\,m^{-1}, \qquad
///     m = I + (\tfrac14 k^H k - \tfrac12 a)\,g, \quad g = x^H x . \f]
/// m is p x p where the general form has 2p x 2p, and the Hermitian part of m is at least the
/// identity but for the rounding of g, so it is factored without pivoting.
template <class N = index_t, class P = index_t>
struct stiefel_cayley_item {
  N n;  ///< rows
  P p;  ///< columns

  /// Whether no bound of a loop is read at run time.
  static constexpr bool has_fixed_shape = !std::is_same_v<N, index_t>;

  /// \returns scalars of scratch a team
  STIEFELX_HD constexpr index_t scratch_entries() const {
    return 3 * lane_stride(n, p) * p + 4 * p * p;
  }

  /// \param[in]  team     lanes
  /// \param[in]  scratch  scratch_entries() scalars
  /// \param[in]  x        n x p, a point
  /// \param[in]  v        n x p, tangent at x
  /// \param[out] y        n x p, the new point; may be x
  template <Team T, class S, class X, class Y>
  STIEFELX_HD void operator()(T const& team, S* scratch, X x, X v, Y y) const {
    index_t const stride = lane_stride(n, p), order = index_t{p} * p;
    S* const point = scratch;
    S* const normal = point + stride * p;
    S* const result = normal + stride * p;
    S* const g = result + stride * p;
    S* const a = g + order;
    S* const b = a + order;
    S* const m = b + order;
    read_item(team, n, p, x, point, stride);
    read_item(team, n, p, v, normal, stride);
    team.barrier();
    adjoint_product<true>(team, n, p, point, stride, point, stride, g);
    adjoint_product<false>(team, n, p, point, stride, normal, stride, a);
    team.barrier();
    mirror_upper(team, p, g);
    team.barrier();

    // normal = v - x g^-1 x^H v, with g^-1 = 2 I - g to the square of x's drift.
    adjoint_product<false>(team, p, p, g, p, a, p, b);
    team.barrier();
    for (index_t k = team.rank(); k < order; k += team.size()) b[k] = a[k] + (a[k] - b[k]);
    team.barrier();
    multiply_right<true>(team, n, p, point, stride, b, normal, stride);
    team.barrier();

    // b = k^H k / 4 + a / 2, the adjoint of the factor before g.
    adjoint_product<true>(team, n, p, normal, stride, normal, stride, b);
    team.barrier();
    mirror_upper(team, p, b);
    team.barrier();
    index_t const step = opaque(p);
    S const quarter = constant<S>(0.25);
    for (index_t j = team.rank(); j < p; j += team.size())
      for (index_t i = 0; i < p; ++i)
        b[j * step + i] =
            quarter * (b[j * step + i] + (a[j * step + i] - conjugate(a[i * step + j])));
    team.barrier();
    adjoint_product<false>(team, p, p, b, p, g, p, m);
    team.barrier();
    scale_and_shift(team, p, constant<S>(1), 1, m);
    team.barrier();

    invert(team, m, a);
    // b = -g m^-1 and a = 2 m^-1 - I.
    adjoint_product<false>(team, p, p, g, p, a, p, b);
    team.barrier();
    scale_and_shift(team, p, constant<S>(-1), 0, b);
    scale_and_shift(team, p, constant<S>(2), -1, a);
    team.barrier();
    multiply_right<false>(team, n, p, point, stride, a, result, stride);
    team.barrier();
    multiply_right<true>(team, n, p, normal, stride, b, result, stride);
    team.barrier();
    write_item(team, n, p, result, stride, y);
  }

 private:
  // inverse = m^-1 by m = l u without pivoting; m is overwritten.
  template <Team T, class S>
  STIEFELX_HD void invert(T const& team, S* m, S* inverse) const {
    index_t const step = opaque(p);
    for (index_t i = 0; i < p; ++i) {
      S const reciprocal = constant<S>(1) / m[i * step + i];
      team.barrier();
      for (index_t k = i + 1 + team.rank(); k < p; k += team.size())
        m[i * step + k] = m[i * step + k] * reciprocal;
      if (team.rank() == 0) m[i * step + i] = reciprocal;
      team.barrier();
      for (index_t j = i + 1 + team.rank(); j < p; j += team.size()) {
        S const factor = m[j * step + i];
        for (index_t k = i + 1; k < p; ++k)
          m[j * step + k] = subtract_product(m[i * step + k], factor, m[j * step + k]);
      }
      team.barrier();
    }
    for (index_t k = team.rank(); k < index_t{p} * p; k += team.size())
      inverse[k] = constant<S>(k % (step + 1) == 0 ? 1 : 0);
    team.barrier();
    solve_right_upper(team, p, p, m, inverse, p);
    team.barrier();
    // Rows of the inverse are independent: z l = w, from the last column on.
    for (index_t i = team.rank(); i < p; i += team.size())
      for (index_t j = p; j-- > 0;)
        for (index_t k = j + 1; k < p; ++k)
          inverse[j * step + i] =
              subtract_product(inverse[k * step + i], m[j * step + k], inverse[j * step + i]);
    team.barrier();
  }
};

}  // namespace stiefelx
