// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <utility>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/kernels/sums.hpp>
#include <stiefelx/cuda/line_sums.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/cuda/transform.hpp>

/// \file
/// \brief Verbs that reduce a matrix to one number (core/context.hpp has the table).
/// \ingroup cuda
///
/// Results stay on the device and nothing waits. Sums of float run in double. Their order follows
/// from sizes and alignment alone: a tree over the lanes of each block, then over the blocks, by
/// two launches without an atomic operation, so that every run gives the same bits.

namespace stiefelx::cuda {

namespace detail {

template <int V, class Sum, class Terms, class Finish, class T>
void launch_sum(context& ctx, walk_plan plan, Terms const& terms, Finish const& finish,
                T* results) {
  plan.shape.shared_bytes = plan.shape.threads / warp_lanes * sizeof(Sum);
  launch(ctx.queue, plan.shape,
         sum_entries<V, Sum, Terms, Finish, T>{terms, finish, results, plan.walk});
}

// What a lane is worth, and blocks that fill the largest device.
inline constexpr index_t packs_of_summing_lane = 4;
inline constexpr index_t most_summing_blocks = 1024;

// *result = finish(sum of the terms), through one total a block.
template <int V, class Sum, class Terms, class Finish, class T>
void queue_sum(context& ctx, index_t rows, index_t cols, Terms const& terms, Finish const& finish,
               T* result) {
  auto const plan = plan_walk(rows, cols, V, most_summing_blocks, packs_of_summing_lane);
  index_t const blocks = index_t{plan.shape.blocks_x} * plan.shape.blocks_y;
  if (blocks == 1) return launch_sum<V, Sum>(ctx, plan, terms, finish, result);
  auto totals = scratch<Sum>(ctx, blocks, 1);
  launch_sum<V, Sum>(ctx, plan, terms, keep_total{}, totals.data());
  using second =
      term_body<entry_term<Sum>, numbered_list<std::index_sequence<0>, entry_operand<Sum const>>>;
  launch_sum<1, Sum>(ctx, plan_walk(blocks, 1, 1, 1),
                     second{{}, {{{totals.data(), blocks, false}}}}, finish, result);
}

// *result = finish(sum of term(x_ij...)) over plain matrices of one shape.
template <class Sum, class Term, class Finish, class T, class First, class... X>
void sum_of(context& ctx, Term const& term, Finish const& finish, T* result, First const& first,
            X const&... x) {
  using body = term_body<Term, numbered_list<std::make_index_sequence<1 + sizeof...(X)>,
                                             entry_operand<scalar_t<First> const>,
                                             entry_operand<scalar_t<X> const>...>>;
  index_t rows = first.rows(), cols = first.cols();
  if (first.stride() == rows && ((x.stride() == rows) && ...)) {
    rows *= cols;
    cols = 1;
  }
  auto const operand_of = [](auto const& a) {
    return entry_operand<scalar_t<decltype(a)> const>{a.data(), a.stride(), false};
  };
  auto const aligned = [&](auto const& a) {
    return has_aligned_columns(
        matrix_ref<scalar_t<decltype(a)> const>{a.data(), rows, cols, a.stride()});
  };
  body const terms{term, {{operand_of(first)}, {operand_of(x)}...}};
  if (aligned(first) && (aligned(x) && ...))
    queue_sum<pack_entries<scalar_t<First>, scalar_t<X>...>, Sum>(ctx, rows, cols, terms, finish,
                                                                  result);
  else
    queue_sum<1, Sum>(ctx, rows, cols, terms, finish, result);
}

// The matrix that lies in memory, for reductions that do not ask where an entry is.
template <DeviceMatrix A>
auto stored(A const& a) {
  if constexpr (is_adjoint<A>)
    return a.adjoint();
  else
    return matrix_view<scalar_t<A> const>(a.data(), a.rows(), a.cols(), a.stride());
}

}  // namespace detail

/// s = tr(a^T b).
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  a    any shape
/// \param[in]  b    of a's shape
/// \param[out] s    1 x 1, real; must not overlap an input
/// \throws shape_error  if b has another shape than a, or s is not 1 x 1
/// \throws alias_error  if s overlaps an input
/// \par Cost
/// reads a and b, two flops an entry; at most two launches and 8 KiB of scratch; a scratch copy of
/// an adjoint unless both are
template <DeviceMatrix A, DeviceMatrix B, DeviceOutput S>
  requires SameScalar<A, B> && std::floating_point<scalar_t<A>> && std::floating_point<scalar_t<S>>
void inner(context& ctx, A const& a, B const& b, S&& s) {
  expect_shape("inner", "b", b, a.rows(), a.cols());
  expect_shape("inner", "s", s, 1, 1);
  expect_distinct(ctx, "inner", "s", s, "a", a);
  expect_distinct(ctx, "inner", "s", s, "b", b);
  using Sum = wide_t<scalar_t<A>>;
  if constexpr (detail::is_adjoint<A> && detail::is_adjoint<B>) {
    detail::sum_of<Sum>(ctx, product_term<Sum>{}, keep_total{}, s.data(), detail::stored(a),
                        detail::stored(b));
  } else {
    auto const&& first = dense(ctx, a);
    auto const&& second = dense(ctx, b);
    detail::sum_of<Sum>(ctx, product_term<Sum>{}, keep_total{}, s.data(), first, second);
  }
}

/// s = Frobenius norm of a.
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  a    any shape
/// \param[out] s    1 x 1, real; must not overlap a
/// \throws shape_error  if s is not 1 x 1
/// \throws alias_error  if s overlaps a
/// \par Cost
/// reads a, two flops an entry; at most two launches and 8 KiB of scratch
template <DeviceMatrix A, DeviceOutput S>
  requires std::floating_point<scalar_t<A>> && std::floating_point<scalar_t<S>>
void norm(context& ctx, A const& a, S&& s) {
  expect_shape("norm", "s", s, 1, 1);
  expect_distinct(ctx, "norm", "s", s, "a", a);
  using Sum = wide_t<scalar_t<A>>;
  detail::sum_of<Sum>(ctx, square_term<Sum>{}, root_of_total{}, s.data(), detail::stored(a));
}

/// s = 1 when every entry of a is finite, else 0.
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  a    any shape
/// \param[out] s    1 x 1, real; must not overlap a
/// \throws shape_error  if s is not 1 x 1
/// \throws alias_error  if s overlaps a
/// \par Cost
/// reads a; at most two launches and 8 KiB of scratch
template <DeviceMatrix A, DeviceOutput S>
  requires std::floating_point<scalar_t<A>> && std::floating_point<scalar_t<S>>
void all_finite(context& ctx, A const& a, S&& s) {
  expect_shape("all_finite", "s", s, 1, 1);
  expect_distinct(ctx, "all_finite", "s", s, "a", a);
  detail::sum_of<scalar_t<A>>(ctx, defect_term{}, is_zero_total{}, s.data(), detail::stored(a));
}

}  // namespace stiefelx::cuda
