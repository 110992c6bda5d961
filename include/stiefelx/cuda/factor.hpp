// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/core/status.hpp>
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/kernels/factor.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/transfer.hpp>

/// \file
/// \brief Cholesky and LU factors on the device (core/context.hpp has the table of verbs).
/// \ingroup cuda
///
/// A block of up to 64 columns is one team's; what lies outside of it is products. Nothing waits.

namespace stiefelx::cuda {

namespace detail {

// Blocks of this order fit the shared memory of a team.
inline constexpr index_t factor_block = 64;
// Columns of a right-hand side that a team takes, a lane each.
inline constexpr index_t solve_columns = 32;

// What a body writes its bits to: nothing where the caller wants none.
template <class Status>
matrix_ref<int> status_ref(char const* function, Status& status) {
  if constexpr (std::is_same_v<std::remove_cv_t<Status>, no_status>) {
    return {nullptr, 0, 0, 0};
  } else {
    expect_shape(function, "status", status, 1, 1);
    return ref(status);
  }
}

inline index_t column_groups(index_t cols) { return (cols + solve_columns - 1) / solve_columns; }

// The top rows of b with the factors of one panel.
template <class S, class B>
void substitute(context& ctx, lu_substitute_body body, matrix_ref<S> panel, matrix_ref<int> pivots,
                B&& b) {
  matrix_ref<S const> const lu{panel.data, panel.cols, panel.cols, panel.stride};
  run_teams(ctx, column_groups(b.cols()), 32, body, lu, matrix_ref<int const>(pivots), ref(b));
}

}  // namespace detail

/// \brief g = r, the upper triangular factor of g = r^T r with a positive diagonal.
/// \ingroup cuda
///
/// The strict lower part becomes zero. A pivot that is not positive sets `rank_deficient`, a NaN
/// `not_finite`; the factor is then of no use.
/// \param[in]     ctx     where it is queued
/// \param[in,out] g       n x n, symmetric; only the upper triangle is read
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  when g is not square or the status not 1 x 1
/// \par Cost
/// \f$ n^3 \f$ flops; one launch up to n = 64, about six for each 64 columns beyond.
template <DeviceOutput G, class Status>
  requires BlasScalar<scalar_t<G>>
void cholesky(context& ctx, G&& g, Status&& status) {
  using S = scalar_t<G>;
  index_t const n = g.cols();
  expect_shape("cholesky", "g", g, n, n);
  auto const bits = detail::status_ref("cholesky", status);
  for (index_t k = 0; k < n; k += detail::factor_block) {
    index_t const order = std::min(detail::factor_block, n - k), rest = n - k - order;
    auto rows = g.middleRows(k, order);
    auto diagonal = rows.middleCols(k, order);
    detail::run_teams(ctx, 1, order <= 32 ? 32 : 64, cholesky_block_body{order}, ref(diagonal),
                      bits);
    if (rest == 0) break;
    // The panel is r^-T g = (g^T r^-1)^T.
    auto panel = rows.middleCols(k + order, rest);
    auto turned = scratch<S>(ctx, rest, order);
    copy(ctx, panel.adjoint(), turned);
    solve_right(ctx, diagonal, turned);
    copy(ctx, turned.adjoint(), panel);
    multiply_add(ctx, -1, turned, turned.adjoint(),
                 g.middleRows(k + order, rest).middleCols(k + order, rest));
  }
  if (n > detail::factor_block) run_batch(ctx, n, clear_below_body{}, g);
}

/// \brief b = a^-1 b by LU with partial pivoting.
/// \ingroup cuda
///
/// A pivot column of zeros sets `rank_deficient`, one with a NaN or an infinity `not_finite`; the first
/// of them tells, and leaves b with infinities or NaN. What b holds sets nothing.
/// \param[in]     ctx     where it is queued
/// \param[in,out] a       n x n; overwritten
/// \param[in,out] b       n x m; must not overlap a
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  when a is not square, b has other rows or the status is not 1 x 1
/// \throws alias_error  when b overlaps a
/// \par Cost
/// \f$ \tfrac23 n^3 + 2 n^2 m \f$ flops; two launches up to n = 64, about eight for each 64 columns
/// beyond. One team factors a panel, so large n wait for it.
template <DeviceOutput A, DeviceOutput B, class Status>
  requires(BlasScalar<scalar_t<A>> && SameScalar<A, B>)
void solve(context& ctx, A&& a, B&& b, Status&& status) {
  index_t const n = a.cols(), m = b.cols();
  expect_shape("solve", "a", a, n, n);
  expect_shape("solve", "b", b, n, m);
  expect_distinct(ctx, "solve", "b", b, "a", a);
  auto const bits = detail::status_ref("solve", status);
  if (n == 0) return;
  auto pivots = scratch<int>(ctx, std::min(n, detail::factor_block) + 1, 1);
  for (index_t k = 0; k < n; k += detail::factor_block) {
    index_t const width = std::min(detail::factor_block, n - k), below = n - k - width;
    auto part = a.middleRows(k, n - k);
    auto panel = part.middleCols(k, width);
    detail::run_teams(ctx, 1, n - k <= 32 ? 64 : 256, lu_panel_body{n - k, width, k == 0},
                      ref(panel), ref(pivots), bits);
    lu_substitute_body const lower{detail::solve_columns, width, true, n <= detail::factor_block};
    auto whole_b = b.middleRows(k, n - k);
    detail::substitute(ctx, lower, ref(panel), ref(pivots), whole_b);
    if (below == 0) break;
    auto trailing = part.middleCols(k + width, below);
    detail::substitute(ctx, lower, ref(panel), ref(pivots), trailing);
    auto const factors = a.middleRows(k + width, below).middleCols(k, width);
    multiply_add(ctx, -1, factors, b.middleRows(k, width), b.middleRows(k + width, below));
    multiply_add(ctx, -1, factors, trailing.middleRows(0, width),
                 trailing.middleRows(width, below));
  }
  if (n <= detail::factor_block) return;
  index_t const last = (n - 1) / detail::factor_block * detail::factor_block;
  for (index_t k = last; k >= 0; k -= detail::factor_block) {
    index_t const width = std::min(detail::factor_block, n - k);
    auto diagonal = a.middleRows(k, width).middleCols(k, width);
    auto rows_b = b.middleRows(k, width);
    detail::substitute(ctx, lu_substitute_body{detail::solve_columns, width, false, true},
                       ref(diagonal), ref(pivots), rows_b);
    if (k == 0) break;
    multiply_add(ctx, -1, a.middleRows(0, k).middleCols(k, width), rows_b, b.middleRows(0, k));
  }
}

}  // namespace stiefelx::cuda
