// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/core/transform.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/index_loop.hpp>
#include <stiefelx/cuda/kernels/entrywise.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>

namespace stiefelx::cuda {

namespace detail {

template <DeviceMatrix A>
bool is_single(A const& a) {
  return a.rows() == 1 && a.cols() == 1;
}

// Throws unless x has the outputs' size or is 1 x 1, and shares entries with an output only place
// by place; a 1 x 1 that serves many places shares none.
template <class X, class... Y>
void expect_element_input(context& ctx, char const* function, X const& x, index_t rows,
                          index_t cols, Y const&... y) {
  if (is_single(x) && !(rows == 1 && cols == 1)) {
    (expect_distinct(ctx, function, "an output", y, "an input", x), ...);
  } else {
    expect_shape(function, "an input", x, rows, cols);
    (expect_same_or_distinct(ctx, function, "an output", y, "an input", x), ...);
  }
}

// Whether the columns of a follow each other; a single entry has no columns.
template <class T>
bool is_flat(entry_operand<T> const& a, index_t rows, index_t cols) {
  return a.single || cols <= 1 || a.stride == rows;
}

template <class T>
bool is_aligned(entry_operand<T> const& a, index_t rows, index_t cols) {
  return a.single || has_aligned_columns(matrix_ref<T>{a.data, rows, cols, a.stride});
}

// One launch of f over plain matrices whose shapes are checked.
template <class F, class... Y, class... X>
void queue_elements(context& ctx, F const& f, index_t rows, index_t cols,
                    std::tuple<entry_operand<Y>...> const& y,
                    std::tuple<entry_operand<X const>...> const& x) {
  if (rows == 0 || cols == 0) return;
  using output_numbers = std::index_sequence_for<Y...>;
  using input_numbers = std::index_sequence_for<X...>;
  using body = element_body<F, numbered_list<output_numbers, entry_operand<Y>...>,
                            numbered_list<input_numbers, entry_operand<X const>...>>;
  std::apply(
      [&](auto const&... out) {
        std::apply(
            [&](auto const&... in) {
              bool const flat =
                  (is_flat(out, rows, cols) && ...) && (is_flat(in, rows, cols) && ...);
              index_t const down = flat ? rows * cols : rows, across = flat ? 1 : cols;
              bool const aligned =
                  (is_aligned(out, down, across) && ...) && (is_aligned(in, down, across) && ...);
              body const elements{f, {{out}...}, {{in}...}};
              constexpr int v = pack_entries<Y..., X...>;
              if (!flat)
                queue_entrywise<v>(ctx.queue, aligned, down, across, elements);
              else if (aligned)
                for_each_index(ctx.queue, (down + v - 1) / v, flat_packs<v, body>{elements, down});
              else
                for_each_index(ctx.queue, down, flat_packs<1, body>{elements, down});
            },
            x);
      },
      y);
}

template <class A>
entry_operand<scalar_t<A> const> input_operand(A const& a) {
  return {a.data(), a.stride(), is_single(a)};
}

template <class Y>
entry_operand<scalar_t<Y>> output_operand(Y& y) {
  return {y.data(), y.stride(), false};
}

}  // namespace detail

/// \brief Runs element text: f(y_ij&..., x_ij...) for every entry.
/// \ingroup cuda
///
/// Where all columns follow each other the matrices are one column, which Thrust takes over; packs
/// of 16 bytes are loaded and stored where every operand's columns start at a multiple of 16 bytes.
/// \param[in]     ctx  where to run
/// \param[in]     f    named functor marked STIEFELX_HD, trivially copyable; no order of the
///                     entries is promised
/// \param[in,out] out  outputs(...) of one shape, on the device; an output may be the same memory
///                     as an input of that shape, or share none with it
/// \param[in]     in   inputs(...) of that shape, or 1 x 1 and then broadcast; of any scalars
/// \throws shape_error  if an operand has another shape
/// \throws alias_error  if an output overlaps an input in part, or one that is broadcast
/// \par Cost
/// one launch; bytes of the operands, an output counting once for each way that f uses it; a
/// scratch copy of each adjoint
template <class F, DeviceOutput First, DeviceOutput... Y, DeviceMatrix... X>
void transform(context& ctx, F const& f, output_list<First, Y...> out, input_list<X...> in) {
  std::apply(
      [&](auto& first, auto&... y) {
        std::apply(
            [&](auto const&... x) {
              index_t const rows = first.rows(), cols = first.cols();
              (expect_shape("transform", "an output", y, rows, cols), ...);
              (detail::expect_element_input(ctx, "transform", x, rows, cols, first, y...), ...);
              [&](auto const&... plain) {
                detail::queue_elements(
                    ctx, f, rows, cols,
                    std::tuple(detail::output_operand(first), detail::output_operand(y)...),
                    std::tuple<entry_operand<scalar_t<X> const>...>(
                        detail::input_operand(plain)...));
              }(dense(ctx, x)...);
            },
            in.matrices);
      },
      out.matrices);
}

}  // namespace stiefelx::cuda
