// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/unroll.hpp>
#include <stiefelx/team/lane_tiles.hpp>
#include <stiefelx/team/lanes.hpp>

/// \file
/// \brief Products, Cholesky factors and triangular solves of small matrices in a team's scratch.
/// \ingroup team
///
/// Matrices are column-major with a given distance of their columns; p x p ones have the distance p.
/// Sizes are `index_t` or `fixed_size`. Scalars are as team/lanes.hpp says.

namespace stiefelx {

/// \brief c = a^H b, or its upper triangle.
/// \ingroup team
/// \tparam Upper  whether entries below the diagonal are left out
/// \param[in]  team      its lanes share the tiles, or the rows where there are few tiles
/// \param[in]  n, p      rows and columns of a and of b
/// \param[in]  a         n x p
/// \param[in]  a_stride  distance of its columns
/// \param[in]  b         n x p
/// \param[in]  b_stride  distance of its columns
/// \param[out] c         p x p
/// \par Cost
/// 2 n p^2 flops, half of it for the upper triangle
template <bool Upper, Team T, class N, class P, class S>
STIEFELX_HD void adjoint_product(T const& team, N n, P p, S const* a, index_t a_stride, S const* b,
                                 index_t b_stride, S* c) {
  if constexpr (shares_columns<T, S>)
    if constexpr (Upper)
      detail::adjoint_product_of_lanes<true>(team, n, p, a, a_stride, b, b_stride, c);
    else
      detail::whole_product_of_lanes(team, n, p, a, a_stride, b, b_stride, c);
  else
    detail::adjoint_product_by_tiles<Upper>(team, n, p, a, a_stride, b, b_stride, c);
}

namespace detail {

// The factor of J columns on the diagonal behind `before` finished rows of r, in place, as
// factor_upper() leaves it.
template <index_t J, class S>
STIEFELX_HD void factor_corner(index_t before, S* r, index_t stride) {
  using Real = real_of_t<S>;
  using Limits = std::numeric_limits<lane_real_t<S>>;
  Real const smallest = constant<Real>(Limits::min()), least = constant<Real>(Limits::epsilon());
  S acc[std::size_t{J * J}];
  S* const columns = r + before * stride;
  S* const corner = columns + before;
  for_each_in_tile<tile_part::upper, J, J>(
      [&](index_t i, index_t j)
          __attribute__((always_inline)) { acc[j * J + i] = corner[j * stride + i]; });
  add_adjoint_product<tile_part::upper, true, J, J>(before, columns, stride, columns, stride, acc);
  unroll<J>([&](index_t i) __attribute__((always_inline)) {
    // Right-looking: the next pivot waits for one product, not for a sum over all earlier rows.
    Real const given = real_part(acc[i * J + i]);
    Real const inverse = reciprocal_sqrt(select(given <= smallest, least, given));
    corner[i * stride + i] = S(inverse);
    unroll<J>([&](index_t j) __attribute__((always_inline)) {
      if (j <= i) return;
      acc[j * J + i] = acc[j * J + i] * S(inverse);
      corner[j * stride + i] = acc[j * J + i];
      unroll<J>([&](index_t k) __attribute__((always_inline)) {
        if (k <= i || k > j) return;
        acc[j * J + k] =
            subtract_product(conjugate(acc[k * J + i]), acc[j * J + i], acc[j * J + k]);
      });
    });
  });
}

// Rows before, ..., before + lane_tile - 1 of J columns of r, right of the corner of these rows.
template <index_t J, class S>
STIEFELX_HD void factor_tile(index_t before, S const* corner_columns, S* columns, index_t stride) {
  constexpr index_t m = lane_tile;
  S acc[std::size_t{J * m}];
  S const* const corner = corner_columns + before;
  S* const tile = columns + before;
  for_each_in_tile<tile_part::whole, m, J>(
      [&](index_t i, index_t j)
          __attribute__((always_inline)) { acc[j * m + i] = tile[j * stride + i]; });
  add_adjoint_product<tile_part::whole, true, m, J>(before, corner_columns, stride, columns, stride,
                                                    acc);
  unroll<m>([&](index_t i) __attribute__((always_inline)) {
    S const inverse = corner[i * stride + i];
    unroll<J>([&](index_t j) __attribute__((always_inline)) {
      acc[j * m + i] = acc[j * m + i] * inverse;
      tile[j * stride + i] = acc[j * m + i];
    });
    unroll<m>([&](index_t k) __attribute__((always_inline)) {
      if (k <= i) return;
      S const factor = conjugate(corner[k * stride + i]);
      unroll<J>([&](index_t j) __attribute__((always_inline)) {
        acc[j * m + k] = subtract_product(factor, acc[j * m + i], acc[j * m + k]);
      });
    });
  });
}

}  // namespace detail

/// \brief g = r, the upper triangular factor of g = r^H r, with 1 / r(i, i) on the diagonal.
/// \ingroup team
///
/// A pivot that is not positive becomes the machine epsilon, so that the factor can be formed to its
/// end: Gram matrices of retractions have pivots of at least one. A NaN stays in its own lane.
/// \param[in]     team  its lanes share the tiles of a row of tiles
/// \param[in]     p     order
/// \param[in,out] g     p x p; below the diagonal nothing is read or written
/// \par Cost
/// p^3 / 3 flops
template <Team T, class P, class S>
STIEFELX_HD void factor_upper(T const& team, P p, S* g) {
  constexpr index_t m = detail::lane_tile;
  if (p < 1) return;
  if (team.rank() == 0)
    detail::with_tile_size(1, p,
                           [&](auto, auto wide) { detail::factor_corner<wide>(0, g, index_t{p}); });
  team.barrier();
  for (index_t i = 0; i + m < p; i += m) {
    for (index_t j = i + m * (1 + team.rank()); j < p; j += m * team.size()) {
      detail::with_tile_size(1, p - j, [&](auto, auto wide) {
        detail::factor_tile<wide>(i, g + i * p, g + j * p, index_t{p});
        // The next corner waits for this tile only: its pivots, one after the other, run while the
        // tiles beside this one are formed.
        if (j == i + m) detail::factor_corner<wide>(j, g, index_t{p});
      });
    }
    team.barrier();
  }
}

namespace detail {

// y(:, j) for R rows and J columns behind `before` finished ones of y = y r^-1.
template <index_t R, index_t J, class S>
STIEFELX_HD void solve_lane_tile(index_t before, S const* r, index_t r_stride, S* y,
                                 index_t stride) {
  S acc[std::size_t{J * R}];
  S* const tile = y + before * stride;
  unroll<J>([&](index_t j) __attribute__((always_inline)) {
    unroll<R>([&](index_t i)
                  __attribute__((always_inline)) { acc[j * R + i] = tile[j * stride + i]; });
  });
  index_t const step = opaque(stride);
  for (index_t k = 0; k < before; ++k) {
    S left[std::size_t{R}];
    unroll<R>([&](index_t i) __attribute__((always_inline)) {
      left[i] = y[k * step + i];
      keep_in_register(left[i]);
    });
    unroll<J>([&](index_t j) __attribute__((always_inline)) {
      S factor = r[j * r_stride + k];
      keep_in_register(factor);
      unroll<R>([&](index_t i) __attribute__((always_inline)) {
        acc[j * R + i] = subtract_product(left[i], factor, acc[j * R + i]);
      });
    });
  }
  S const* const corner = r + before;
  unroll<J>([&](index_t j) __attribute__((always_inline)) {
    S const inverse = corner[j * r_stride + j];
    unroll<R>([&](index_t i) __attribute__((always_inline)) {
      acc[j * R + i] = acc[j * R + i] * inverse;
      tile[j * stride + i] = acc[j * R + i];
    });
    unroll<J>([&](index_t k) __attribute__((always_inline)) {
      if (k <= j) return;
      S const factor = corner[k * r_stride + j];
      unroll<R>([&](index_t i) __attribute__((always_inline)) {
        acc[k * R + i] = subtract_product(acc[j * R + i], factor, acc[k * R + i]);
      });
    });
  });
}

// take(R, J, t) with t = (Subtract ? c - a b : a b) for R rows and J columns, column-major.
template <bool Subtract, index_t R, index_t J, class S, class Take>
STIEFELX_HD void multiply_tile(index_t depth, S const* a, index_t a_stride, S const* b,
                               index_t b_stride, S const* c, index_t c_stride, Take const& take) {
  S acc[std::size_t{J * R}];
  unroll<J>([&](index_t j) __attribute__((always_inline)) {
    unroll<R>([&](index_t i) __attribute__((always_inline)) {
      acc[j * R + i] = Subtract ? c[j * c_stride + i] : constant<S>(0);
    });
  });
  index_t const step = opaque(a_stride);
  for (index_t k = 0; k < depth; ++k) {
    S left[std::size_t{R}];
    unroll<R>([&](index_t i) __attribute__((always_inline)) {
      left[i] = a[k * step + i];
      keep_in_register(left[i]);
    });
    unroll<J>([&](index_t j) __attribute__((always_inline)) {
      S factor = b[j * b_stride + k];
      keep_in_register(factor);
      unroll<R>([&](index_t i) __attribute__((always_inline)) {
        S& sum = acc[j * R + i];
        sum =
            Subtract ? subtract_product(left[i], factor, sum) : multiply_add(left[i], factor, sum);
      });
    });
  }
  take(fixed_size<R>{}, fixed_size<J>{}, acc);
}

}  // namespace detail

/// \brief y = y r^-1 with a factor from factor_upper().
/// \ingroup team
/// \param[in]     team    its lanes share the rows
/// \param[in]     n, p    rows and columns
/// \param[in]     r       p x p, upper triangular, with the reciprocals of its diagonal
/// \param[in,out] y       n x p
/// \param[in]     stride  distance of its columns
/// \par Cost
/// n p^2 flops
template <Team T, class N, class P, class S>
STIEFELX_HD void solve_right_upper(T const& team, N n, P p, S const* r, S* y, index_t stride) {
  constexpr index_t m = detail::lane_tile;
  detail::for_each_row_tile<S>(team, n, [&](index_t row, auto rows) __attribute__((always_inline)) {
    for (index_t j = 0; j < p; j += m) {
      detail::with_tile_size(rows, p - j, [&](auto tall, auto wide) {
        detail::solve_lane_tile<tall, wide>(j, r + j * p, p, y + row, stride);
      });
      finish_piece(team);
    }
  });
}

/// \brief Forms the entries of a b or c - a b and hands them on.
/// \ingroup team
/// \tparam Subtract  whether the product is subtracted from c
/// \param[in] team      its lanes share the rows
/// \param[in] n, p      rows and columns of a and c
/// \param[in] a         n x p
/// \param[in] a_stride  distance of its columns
/// \param[in] b         p x p
/// \param[in] c         n x p; read only if the product is subtracted
/// \param[in] c_stride  distance of its columns
/// \param[in] take      take(r, k, i + j c_stride, t) for every tile of r x k entries, constants of
///                      the type, that starts in row i and column j; t[0], t[1], ... column by column
/// \par Cost
/// 2 n p^2 flops
template <bool Subtract, Team T, class N, class P, class S, class Take>
STIEFELX_HD void multiply_right(T const& team, N n, P p, S const* a, index_t a_stride, S const* b,
                                S const* c, index_t c_stride, Take const& take) {
  constexpr index_t m = detail::lane_tile;
  detail::for_each_row_tile<S>(team, n, [&](index_t row, auto rows) __attribute__((always_inline)) {
    for (index_t j = 0; j < p; j += m) {
      index_t const first = j * c_stride + row;
      auto const take_here = [&](auto tall, auto wide, S const* tile)
                                 __attribute__((always_inline)) { take(tall, wide, first, tile); };
      detail::with_tile_size(rows, p - j, [&](auto tall, auto wide) {
        detail::multiply_tile<Subtract, tall, wide>(p, a + row, a_stride, b + j * p, p, c + first,
                                                    c_stride, take_here);
      });
      finish_piece(team);
    }
  });
}

/// \brief c = a b or c = c - a b.
/// \ingroup team
/// \tparam Subtract  whether the product is subtracted from c
/// \param[in]     team      its lanes share the rows
/// \param[in]     n, p      rows and columns of a and c
/// \param[in]     a         n x p
/// \param[in]     a_stride  distance of its columns
/// \param[in]     b         p x p
/// \param[in,out] c         n x p; must not overlap a or b
/// \param[in]     c_stride  distance of its columns
/// \par Cost
/// 2 n p^2 flops
template <bool Subtract, Team T, class N, class P, class S>
STIEFELX_HD void multiply_right(T const& team, N n, P p, S const* a, index_t a_stride, S const* b,
                                S* c, index_t c_stride) {
  multiply_right<Subtract>(team, n, p, a, a_stride, b, c, c_stride,
                           [&](auto tall, auto wide, index_t at, S const* tile)
                               __attribute__((always_inline)) {
                                 unroll<wide>([&](index_t j) __attribute__((always_inline)) {
                                   unroll<tall>([&](index_t i) __attribute__((always_inline)) {
                                     c[at + j * c_stride + i] = tile[j * tall + i];
                                   });
                                 });
                               });
}

/// \brief Copies the upper triangle onto the lower one, conjugated.
/// \ingroup team
/// \param[in]     team  its lanes share the columns
/// \param[in]     p     order
/// \param[in,out] g     p x p
template <Team T, class P, class S>
STIEFELX_HD void mirror_upper(T const& team, P p, S* g) {
  index_t const step = opaque(p);
  for (index_t j = team.rank(); j < p; j += team.size())
    for (index_t i = 0; i < j; ++i) g[i * step + j] = conjugate(g[j * step + i]);
}

/// \brief g = c g + d I.
/// \ingroup team
/// \param[in]     team  its lanes share the columns
/// \param[in]     p     order
/// \param[in]     c     factor
/// \param[in]     d     what is added to the diagonal
/// \param[in,out] g     p x p
template <Team T, class P, class S>
STIEFELX_HD void scale_and_shift(T const& team, P p, S c, double d, S* g) {
  index_t const step = opaque(p);
  for (index_t j = team.rank(); j < p; j += team.size()) {
    for (index_t i = 0; i < p; ++i) g[j * step + i] = c * g[j * step + i];
    g[j * step + j] = g[j * step + j] + constant<S>(d);
  }
}

}  // namespace stiefelx
