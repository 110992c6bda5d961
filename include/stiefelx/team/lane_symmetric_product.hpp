// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <type_traits>

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
  for_each_in_tile<Part, I, J>([&](index_t i, index_t j) __attribute__((always_inline)) {
    acc[j * I + i] = constant<S>(0);
  });
  add_adjoint_product<Part, false, I, J>(rows, left_a, a_stride, right_b, b_stride, acc);
  add_adjoint_product<Part, false, I, J>(rows, left_b, b_stride, right_a, a_stride, acc);
  S const half = constant<S>(0.5);
  for_each_in_tile<Part, I, J>([&](index_t i, index_t j) __attribute__((always_inline)) {
    S const given = adds ? c[j * c_stride + i] : constant<S>(0);
    S const mean = multiply_add(half, acc[j * I + i], given);
    c[j * c_stride + i] = mean;
    mirror[i * c_stride + j] = conjugate(mean);
  });
}

// symmetric_product() by teams whose lanes take rows.
template <Team T, class S>
STIEFELX_HD void symmetric_product_by_rows(T const& team, index_t n, index_t p, S const* a,
                                           index_t a_stride, S const* b, index_t b_stride, S* c) {
  constexpr index_t m = lane_tile;
  for (index_t j = 0; j < p; j += m)
    for (index_t i = 0; i <= j; i += m)
      with_tile_size<1>(1, p - j, [&](auto, auto wide) {
        S const *const left = a + i * a_stride, *const right = a + j * a_stride;
        S const *const left_b = b + i * b_stride, *const right_b = b + j * b_stride;
        auto const form = [&](auto part, auto height) __attribute__((always_inline)) {
          sum_tile_by_rows<part, height, wide, S>(
              team, n,
              [&](index_t row, S* acc) __attribute__((always_inline)) {
                add_adjoint_product<part, false, height, wide>(1, left + row, a_stride,
                                                               right_b + row, b_stride, acc);
                add_adjoint_product<part, false, height, wide>(1, left_b + row, b_stride,
                                                               right + row, a_stride, acc);
              },
              [&](index_t k, index_t l, S sum) __attribute__((always_inline)) {
                S const mean = constant<S>(0.5) * sum;
                c[(j + l) * p + i + k] = mean;
                c[(i + k) * p + j + l] = mean;
              });
        };
        if (i == j)
          form(std::integral_constant<tile_part, tile_part::upper>{}, wide);
        else
          form(std::integral_constant<tile_part, tile_part::whole>{}, fixed_size<m>{});
      });
}

// symmetric_product() by teams whose lanes take tiles.
template <Team T, class N, class P, class S>
STIEFELX_HD void symmetric_product_by_tiles(T const& team, N n, P p, S const* a, index_t a_stride,
                                            S const* b, index_t b_stride, S* c) {
  constexpr index_t m = lane_tile;
  index_t const block = lane_block_rows(p);
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
        with_tile_size<1>(1, p - j, [&](auto, auto wide) {
          if (i == j)
            symmetric_tile<tile_part::upper, wide, wide>(
                rows, left, left_b, right, right_b, a_stride, b_stride, row > 0, sums, mirror, p);
          else
            symmetric_tile<tile_part::whole, m, wide>(rows, left, left_b, right, right_b, a_stride,
                                                      b_stride, row > 0, sums, mirror, p);
        });
        finish_piece(team);
      }
  }
}

// The one or the other, compiled once for the products of an item.
template <Team T, class S>
[[gnu::noinline]] STIEFELX_HD void symmetric_product_of_lanes(T const& team, index_t n, index_t p,
                                                              S const* a, index_t a_stride,
                                                              S const* b, index_t b_stride, S* c) {
  index_t const across = (p + lane_tile - 1) / lane_tile;
  if (lanes_take_rows(team, n, across * (across + 1) / 2))
    symmetric_product_by_rows(team, n, p, a, a_stride, b, b_stride, c);
  else
    symmetric_product_by_tiles(team, n, p, a, a_stride, b, b_stride, c);
}

}  // namespace detail

/// \brief c = (a^H b + b^H a) / 2.
/// \ingroup team
/// \param[in]  team      its lanes share the tiles, or the rows where there are few tiles
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
  if constexpr (shares_columns<T, S>)
    detail::symmetric_product_of_lanes(team, n, p, a, a_stride, b, b_stride, c);
  else
    detail::symmetric_product_by_tiles(team, n, p, a, a_stride, b, b_stride, c);
}

}  // namespace stiefelx
