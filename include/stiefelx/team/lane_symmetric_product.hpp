// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/unroll.hpp>
#include <stiefelx/team/lane_products.hpp>

namespace stiefelx {

namespace detail {

// c = sym(a^H b), a tile of I x J above the diagonal and its mirror image below, from I columns of a
// and b (left) and J of them (right). c and its mirror image hold what earlier rows gave.
template <tile_part Part, index_t I, index_t J, class S>
STIEFELX_HD void symmetric_tile(index_t rows, S const* left_a, S const* left_b, S const* right_a,
                                S const* right_b, index_t a_stride, index_t b_stride, bool adds,
                                S* c, S* mirror, index_t c_stride) {
  S acc[std::size_t{I * J}];
  for_each_in_tile<Part, I, J>(
      [&](auto i, auto j) __attribute__((always_inline)) { acc[j * I + i] = constant<S>(0); });
  add_adjoint_product<Part, false, I, J>(rows, left_a, a_stride, right_b, b_stride, acc);
  add_adjoint_product<Part, false, I, J>(rows, left_b, b_stride, right_a, a_stride, acc);
  S const half = constant<S>(0.5);
  for_each_in_tile<Part, I, J>([&](auto i, auto j) __attribute__((always_inline)) {
    S const given = adds ? c[j * c_stride + i] : constant<S>(0);
    S const mean = multiply_add(half, acc[j * I + i], given);
    c[j * c_stride + i] = mean;
    mirror[i * c_stride + j] = conjugate(mean);
  });
}

}  // namespace detail

/// \brief c = (a^H b + b^H a) / 2.
/// \ingroup team
/// \param[in]  team      its lanes share the tiles
/// \param[in]  n, p      rows and columns of a and of b
/// \param[in]  a         n x p
/// \param[in]  a_stride  distance of its columns
/// \param[in]  b         n x p
/// \param[in]  b_stride  distance of its columns
/// \param[out] c         p x p, Hermitian but for rounding of the diagonal's imaginary part
/// \par Cost
/// 2 n p^2 flops; each tile of c is written once for each block of rows
template <Team T, class N, class P, class S>
STIEFELX_HD void symmetric_product(T const& team, N n, P p, S const* a, index_t a_stride,
                                   S const* b, index_t b_stride, S* c) {
  constexpr index_t m = detail::lane_tile;
  index_t const block = detail::lane_block_rows(p);
  for (index_t row = 0; row < n; row += block) {
    index_t const rows = n - row < block ? n - row : block;
    index_t tile = 0;
    for (index_t j = 0; j < p; j += m)
      for (index_t i = 0; i <= j; i += m, ++tile) {
        if (tile % team.size() != team.rank()) continue;
        S const* const left = a + i * a_stride + row;
        S const* const right = a + j * a_stride + row;
        S const* const left_b = b + i * b_stride + row;
        S const* const right_b = b + j * b_stride + row;
        S* const sums = c + j * p + i;
        S* const mirror = c + i * p + j;
        detail::with_tile_size<1>(1, p - j, [&](auto, auto wide) {
          using detail::tile_part;
          if (i == j)
            detail::symmetric_tile<tile_part::upper, wide, wide>(
                rows, left, left_b, right, right_b, a_stride, b_stride, row > 0, sums, mirror, p);
          else
            detail::symmetric_tile<tile_part::whole, m, wide>(
                rows, left, left_b, right, right_b, a_stride, b_stride, row > 0, sums, mirror, p);
        });
        finish_piece(team);
      }
  }
}

}  // namespace stiefelx
