// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <utility>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/kernels/line_sums.hpp>
#include <stiefelx/cuda/kernels/sums.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>

/// \file
/// \brief Verbs that add up along columns or along rows (core/context.hpp has the table).
/// \ingroup cuda

namespace stiefelx::cuda {

namespace detail {

inline unsigned ceil_log2(index_t n) {
  return static_cast<unsigned>(
      std::bit_width(static_cast<std::size_t>(std::max<index_t>(n, 1)) - 1));
}

inline index_t ceil_quotient(index_t a, index_t b) { return (a + b - 1) / b; }

// A warp or a part of it has a column of up to 1024 packs, a block a longer one. A column of many
// thousand rows is cut where there are too few columns to fill a device.
template <int V, class Sum, class Terms, class T>
void queue_column_totals(context& ctx, index_t rows, index_t cols, Terms const& terms, T* results,
                         index_t step) {
  index_t const packs = ceil_quotient(rows, V);
  constexpr index_t longest = 4096;
  index_t const chunks =
      std::clamp<index_t>(std::min(ceil_quotient(packs, longest), 1024 / cols), 1, 1024);
  index_t const chunk = ceil_quotient(packs, chunks) * V;
  unsigned const log_lanes = packs <= 1024 ? std::min(ceil_log2(packs), 5U) : 8;
  unsigned const log_threads =
      std::clamp(log_lanes + ceil_log2(std::min<index_t>(cols, 256)), 5U, 8U);
  index_t const per_block = index_t{1} << (log_threads - log_lanes);
  launch_shape const shape{static_cast<unsigned>(ceil_quotient(cols, per_block)),
                           static_cast<unsigned>(chunks), 1U << log_threads, 8 * sizeof(Sum)};
  if (chunks == 1) {
    launch(ctx.queue, shape,
           column_totals<V, Sum, Terms, T>{terms, results, step, rows, cols, chunk, log_lanes});
    return;
  }
  auto totals = scratch<Sum>(ctx, chunks, cols);
  launch(ctx.queue, shape,
         column_totals<V, Sum, Terms, Sum>{terms, totals.data(), chunks, rows, cols, chunk,
                                           log_lanes});
  using second =
      term_body<entry_term<Sum>, numbered_list<std::index_sequence<0>, entry_operand<Sum const>>>;
  queue_column_totals<1, Sum>(ctx, chunks, cols, second{{}, {{{totals.data(), chunks, false}}}},
                              results, step);
}

// results(i) = the sum of row i, with more than one pass where a few rows are very long.
template <class Sum, class A, class T>
void queue_row_totals(context& ctx, matrix_ref<A const> a, T* results) {
  unsigned const log_rows = std::min(ceil_log2(a.rows), 5U);
  unsigned const log_threads =
      std::clamp(log_rows + ceil_log2(std::min<index_t>(a.cols, 256)), 5U, 8U);
  index_t const turns = index_t{1} << (log_threads - log_rows);
  index_t const tiles = ceil_quotient(a.rows, index_t{1} << log_rows);
  constexpr index_t entries_of_lane = 16;
  index_t const chunks = std::clamp<index_t>(
      std::min(ceil_quotient(a.cols, turns * entries_of_lane), 1024 / tiles), 1, 1024);
  index_t const chunk = ceil_quotient(a.cols, chunks);
  launch_shape const shape{static_cast<unsigned>(tiles), static_cast<unsigned>(chunks),
                           1U << log_threads, sizeof(Sum) << log_threads};
  if (chunks == 1) {
    launch(ctx.queue, shape, row_totals<A, Sum, T>{a, results, 0, chunk, log_rows});
    return;
  }
  auto totals = scratch<Sum>(ctx, a.rows, chunks);
  launch(ctx.queue, shape, row_totals<A, Sum, Sum>{a, totals.data(), a.rows, chunk, log_rows});
  queue_row_totals<Sum>(ctx, matrix_ref<Sum const>{totals.data(), a.rows, chunks, a.rows}, results);
}

}  // namespace detail

/// w(0, j) = a(:, j)^T b(:, j).
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  a    n columns
/// \param[in]  b    of a's shape
/// \param[out] w    1 x n, real; must not overlap an input
/// \throws shape_error  if b has another shape than a, or w is not 1 x n
/// \throws alias_error  if w overlaps an input
/// \par Cost
/// reads a and b, two flops an entry; two launches and at most 8 KiB of scratch for a few very long
/// columns, else one; a scratch copy of an adjoint
template <DeviceMatrix A, DeviceMatrix B, DeviceOutput W>
  requires SameScalar<A, B> && std::floating_point<scalar_t<A>> && std::floating_point<scalar_t<W>>
void column_inner(context& ctx, A const& a, B const& b, W&& w) {
  expect_shape("column_inner", "b", b, a.rows(), a.cols());
  expect_shape("column_inner", "w", w, 1, a.cols());
  expect_distinct(ctx, "column_inner", "w", w, "a", a);
  expect_distinct(ctx, "column_inner", "w", w, "b", b);
  if (a.cols() == 0) return;
  using T = scalar_t<A>;
  using Sum = wide_t<T>;
  auto const&& first = dense(ctx, a);
  auto const&& second = dense(ctx, b);
  using body =
      term_body<product_term<Sum>, numbered_list<std::index_sequence<0, 1>, entry_operand<T const>,
                                                 entry_operand<T const>>>;
  body const terms{
      {}, {{{first.data(), first.stride(), false}}, {{second.data(), second.stride(), false}}}};
  if (has_aligned_columns(ref(first)) && has_aligned_columns(ref(second)))
    detail::queue_column_totals<pack_entries<T>, Sum>(ctx, a.rows(), a.cols(), terms, w.data(),
                                                      w.stride());
  else
    detail::queue_column_totals<1, Sum>(ctx, a.rows(), a.cols(), terms, w.data(), w.stride());
}

/// w(i, 0) = sum over j of a(i, j).
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  a    any shape
/// \param[out] w    a.rows() x 1; must not overlap a
/// \throws shape_error  if w is not a.rows() x 1
/// \throws alias_error  if w overlaps a
/// \par Cost
/// reads a, a flop an entry; at most three launches and 258 KiB of scratch for a few very long rows,
/// else one; a scratch copy of an adjoint
template <DeviceMatrix A, DeviceOutput W>
  requires SameScalar<A, W>
void sum_columns(context& ctx, A const& a, W&& w) {
  expect_shape("sum_columns", "w", w, a.rows(), 1);
  expect_distinct(ctx, "sum_columns", "w", w, "a", a);
  if (a.rows() == 0) return;
  auto const&& terms = dense(ctx, a);
  detail::queue_row_totals<wide_t<scalar_t<A>>>(ctx, ref(terms), w.data());
}

}  // namespace stiefelx::cuda
