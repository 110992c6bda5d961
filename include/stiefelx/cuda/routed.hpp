// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/kernels/routed_dots.hpp>
#include <stiefelx/cuda/kernels/routed_outer.hpp>
#include <stiefelx/cuda/kernels/routed_sums.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>

/// \file
/// \brief Products of tokens with the experts that were chosen for them (core/context.hpp has the
/// table).
/// \ingroup cuda
///
/// A token is a column. ids is k x T: the experts of a token's k slots, negative for an empty slot.
/// Expert e owns the columns e r .. e r + r - 1 of a d x (E r) matrix a, and slot i of a token the
/// rows i r .. i r + r - 1 of its column of a (k r) x T matrix h.
///
/// Each verb is one launch whose size follows from the shapes: nothing is gathered, nothing counted
/// on the host, and nothing waits. ids stays on the device and is not read before the kernel runs,
/// so an id of E or more cannot be reported: its slot counts as empty. The order of every sum
/// follows from shapes and ids, without an atomic operation.

namespace stiefelx::cuda {

namespace detail {

inline constexpr unsigned routed_threads = 128;

// Sizes of a routed product.
struct routing_sizes {
  index_t width, experts, rank, slots, tokens;

  bool is_empty() const { return rank == 0 || slots == 0 || tokens == 0; }
};

// experts_shape: the argument that has all experts, with them along its columns or its rows.
template <class Ids, class H>
routing_sizes expect_routing(char const* function, char const* experts, index_t rows, index_t cols,
                             bool by_rows, Ids const& ids, H const& h) {
  index_t const slots = ids.rows();
  if (slots == 0) {
    expect_shape(function, "h", h, 0, ids.cols());
  } else if (h.cols() != ids.cols() || h.rows() % slots != 0) {
    stiefelx::detail::throw_shape(function, "h", h.rows(), h.cols(),
                                  "a multiple of " + std::to_string(slots) + " rows and " +
                                      std::to_string(ids.cols()) + " columns");
  }
  index_t const rank = slots == 0 ? 0 : h.rows() / slots;
  index_t const all = by_rows ? rows : cols;
  if (rank > 0 && all % rank != 0)
    stiefelx::detail::throw_shape(
        function, experts, rows, cols,
        "a multiple of " + std::to_string(rank) + (by_rows ? " rows" : " columns"));
  return {by_rows ? cols : rows, rank > 0 ? all / rank : 0, rank, slots, ids.cols()};
}

inline slot_ids slot_ids_of(routing_sizes const& z, matrix_ref<int const> ids) {
  return {ids, static_cast<int>(z.experts), static_cast<int>(z.slots)};
}

// Tokens of a block: enough that slots of one expert meet, and no fewer blocks than fill a device
// while there are tokens for them. The slots of a block are sorted by comparing all pairs.
inline int tokens_of_block(routing_sizes const& z, index_t most, index_t blocks) {
  index_t const allowed = std::clamp<index_t>(256 / z.slots, 1, most);
  return static_cast<int>(
      std::clamp((z.tokens + blocks - 1) / blocks, std::min<index_t>(4, allowed), allowed));
}

inline unsigned block_count(index_t size, index_t of_block) {
  return static_cast<unsigned>((size + of_block - 1) / of_block);
}

// The experts of a matrix whose columns, or whose rows if it is an adjoint, lie in memory.
template <DeviceMatrix A>
auto experts_of(A const& a) {
  return expert_columns<scalar_t<A> const, is_adjoint<A>>{a.data(), a.rows(), a.cols(), a.stride()};
}

template <class A>
bool has_aligned_experts(A const& a) {
  if constexpr (is_adjoint<A>)
    return true;
  else
    return has_aligned_columns(ref(a));
}

// Calls f with the coefficient as kernels take it. One that is an entry of the output is copied
// first: other entries may be written before it is read.
template <class T, class C, class Y, class F>
void with_number(context& ctx, char const* function, C const& c, Y const& y, F const& f) {
  if constexpr (std::is_arithmetic_v<C>) {
    f(device_number<T, T>{static_cast<T>(c), nullptr});
  } else {
    expect_shape(function, "s", c, 1, 1);
    using S = scalar_t<C>;
    if (overlap(memory(ctx, c), memory(ctx, y))) {
      auto const number = clone(ctx, c);
      f(device_number<T, S>{T(0), number.data()});
    } else {
      f(device_number<T, S>{T(0), c.data()});
    }
  }
}

template <int V, bool ByRows, class T>
void queue_routed_dots(context& ctx, routing_sizes const& z, matrix_ref<int const> ids,
                       expert_columns<T const, ByRows> a, matrix_ref<T const> x, matrix_ref<T> h) {
  int const tokens = tokens_of_block(z, 32, 128);
  launch(ctx.queue,
         {block_count(z.tokens, tokens), block_count(z.rank, rank_tile), routed_threads,
          sorted_slots::shared_bytes(tokens * z.slots)},
         routed_dots<V, ByRows, T>{slot_ids_of(z, ids), a, x, h, z.rank, tokens});
}

template <int V, bool ByRows, class T, class C>
void queue_routed_sums(context& ctx, routing_sizes const& z, matrix_ref<int const> ids,
                       device_number<T, C> s, expert_columns<T const, ByRows> a,
                       matrix_ref<T const> h, matrix_ref<T> y) {
  int const tokens = tokens_of_block(z, 16, 64);
  std::size_t const sums =
      static_cast<std::size_t>(tokens) * routed_threads * sizeof(entry_pack<T, V>);
  launch(ctx.queue,
         {block_count(z.tokens, tokens), block_count(z.width, index_t{routed_threads} * V),
          routed_threads, sums + sorted_slots::shared_bytes(tokens * z.slots)},
         routed_sums<V, ByRows, T, C>{slot_ids_of(z, ids), s, a, h, y, z.rank, tokens});
}

template <int V, bool ByRows, class T, class C>
void queue_routed_outer(context& ctx, routing_sizes const& z, matrix_ref<int const> ids,
                        device_number<T, C> s, matrix_ref<T const> x, matrix_ref<T const> h,
                        expert_columns<T, ByRows> a, bool is_aligned) {
  index_t const tokens = std::max<index_t>(1024 / z.slots, 1);
  unsigned const row_tiles = block_count(z.width, index_t{routed_threads} * V);
  auto const blocks_y = static_cast<unsigned>(std::min<index_t>(z.experts, 65535));
  launch(ctx.queue,
         {row_tiles * block_count(z.rank, rank_tile), blocks_y, routed_threads,
          slots_of_expert::shared_bytes(tokens * z.slots, routed_threads)},
         routed_outer<V, ByRows, T, C>{slot_ids_of(z, ids), s, x, h, a, z.rank,
                                       static_cast<int>(tokens), row_tiles, blocks_y, is_aligned});
}

}  // namespace detail

/// Slot i of token t of h = A_e^T x_t for e = ids(i, t); zero for an empty slot.
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  ids  k x T of int
/// \param[in]  a    d x (E r); an adjoint of (E r) x d is as good
/// \param[in]  x    d x T
/// \param[out] h    (k r) x T; must not overlap an input
/// \throws shape_error  if sizes do not fit each other
/// \throws alias_error  if h overlaps an input
/// \par Cost
/// one launch; 2 d r flops a slot that is not empty; reads each token r / 8 times for each of its
/// experts, and an expert once for every four of its tokens in a block, mostly from caches; a
/// scratch copy of an adjoint ids or x
template <DeviceMatrix Ids, DeviceMatrix A, DeviceMatrix X, DeviceOutput H>
  requires SameScalar<A, X, H> && std::floating_point<scalar_t<H>> &&
           std::same_as<scalar_t<Ids>, int>
void routed_multiply(context& ctx, Ids const& ids, A const& a, X const& x, H&& h) {
  using T = scalar_t<H>;
  char const* const function = "routed_multiply";
  expect_shape(function, "x", x, a.rows(), ids.cols());
  auto const z = detail::expect_routing(function, "a", a.rows(), a.cols(), false, ids, h);
  expect_distinct(ctx, function, "h", h, "ids", ids);
  expect_distinct(ctx, function, "h", h, "a", a);
  expect_distinct(ctx, function, "h", h, "x", x);
  if (z.is_empty()) return;
  auto const&& chosen = dense(ctx, ids);
  auto const&& tokens = dense(ctx, x);
  auto const experts = detail::experts_of(a);
  if (has_aligned_columns(ref(tokens)) && detail::has_aligned_experts(a))
    detail::queue_routed_dots<pack_entries<T>>(ctx, z, ref(chosen), experts, ref(tokens), ref(h));
  else
    detail::queue_routed_dots<1>(ctx, z, ref(chosen), experts, ref(tokens), ref(h));
}

/// y_t += s times the sum over the slots i of token t of A_e h_i, e = ids(i, t).
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in]     s    a number, or a real 1 x 1 matrix, which is read on the device
/// \param[in]     ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]     a    d x (E r); an adjoint of (E r) x d is as good
/// \param[in]     h    (k r) x T
/// \param[in,out] y    d x T; must not overlap an input but s
/// \throws shape_error  if sizes do not fit each other
/// \throws alias_error  if y overlaps ids, a or h
/// \par Cost
/// one launch; 2 d r flops a slot that is not empty; reads and writes y once, h once for each 128
/// packs of rows, and an expert once for all of its tokens in a block; a scratch copy of an adjoint
/// ids or h
template <DeviceCoefficient C, DeviceMatrix Ids, DeviceMatrix A, DeviceMatrix H, DeviceOutput Y>
  requires SameScalar<A, H, Y> && std::floating_point<scalar_t<Y>> &&
           std::same_as<scalar_t<Ids>, int>
void routed_multiply_add(context& ctx, C const& s, Ids const& ids, A const& a, H const& h, Y&& y) {
  using T = scalar_t<Y>;
  char const* const function = "routed_multiply_add";
  expect_shape(function, "y", y, a.rows(), ids.cols());
  auto const z = detail::expect_routing(function, "a", a.rows(), a.cols(), false, ids, h);
  expect_distinct(ctx, function, "y", y, "ids", ids);
  expect_distinct(ctx, function, "y", y, "a", a);
  expect_distinct(ctx, function, "y", y, "h", h);
  detail::with_number<T>(ctx, function, s, y, [&](auto const& number) {
    if (z.is_empty() || z.width == 0) return;
    auto const&& chosen = dense(ctx, ids);
    auto const&& parts = dense(ctx, h);
    auto const experts = detail::experts_of(a);
    if (has_aligned_columns(ref(y)) && detail::has_aligned_experts(a))
      detail::queue_routed_sums<pack_entries<T>>(ctx, z, ref(chosen), number, experts, ref(parts),
                                                 ref(y));
    else
      detail::queue_routed_sums<1>(ctx, z, ref(chosen), number, experts, ref(parts), ref(y));
  });
}

namespace detail {

// Experts along the columns of `out`, or along its rows.
template <bool ByRows, class C, class Ids, class X, class H, class A>
void routed_outer_products(context& ctx, char const* function, char const* output, C const& s,
                           Ids const& ids, X const& x, H const& h, A& out) {
  using T = scalar_t<A>;
  expect_shape(function, "x", x, ByRows ? out.cols() : out.rows(), ids.cols());
  auto const z = expect_routing(function, output, out.rows(), out.cols(), ByRows, ids, h);
  expect_distinct(ctx, function, output, out, "ids", ids);
  expect_distinct(ctx, function, output, out, "x", x);
  expect_distinct(ctx, function, output, out, "h", h);
  with_number<T>(ctx, function, s, out, [&](auto const& number) {
    if (z.is_empty() || z.width == 0 || z.experts == 0) return;
    auto const&& chosen = dense(ctx, ids);
    auto const&& tokens = dense(ctx, x);
    auto const&& parts = dense(ctx, h);
    bool const aligned = has_aligned_columns(ref(out));
    expert_columns<T, ByRows> const experts{out.data(), z.width, z.experts * z.rank, out.stride()};
    if (has_aligned_columns(ref(tokens)))
      queue_routed_outer<pack_entries<T>>(ctx, z, ref(chosen), number, ref(tokens), ref(parts),
                                          experts, aligned);
    else
      queue_routed_outer<1>(ctx, z, ref(chosen), number, ref(tokens), ref(parts), experts, aligned);
  });
}

}  // namespace detail

/// A_e += s times the sum over all slots (i, t) with ids(i, t) = e of x_t h_i^T.
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in]     s    a number, or a real 1 x 1 matrix, which is read on the device
/// \param[in]     ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]     x    d x T
/// \param[in]     h    (k r) x T
/// \param[in,out] a    d x (E r); must not overlap an input but s; an expert without slots keeps
///                     its bits
/// \throws shape_error  if sizes do not fit each other
/// \throws alias_error  if a overlaps ids, x or h
/// \par Cost
/// one launch; 2 d r flops a slot that is not empty; reads each token r / 8 times for each of its
/// slots, ids once for every tile of 8 columns and 128 packs of rows, reads and writes a; a scratch
/// copy of an adjoint input
template <DeviceCoefficient C, DeviceMatrix Ids, DeviceMatrix X, DeviceMatrix H, DeviceOutput A>
  requires SameScalar<A, X, H> && std::floating_point<scalar_t<A>> &&
           std::same_as<scalar_t<Ids>, int>
void routed_outer_add(context& ctx, C const& s, Ids const& ids, X const& x, H const& h, A&& a) {
  detail::routed_outer_products<false>(ctx, "routed_outer_add", "a", s, ids, x, h, a);
}

/// B_e += s times the sum over all slots (i, t) with ids(i, t) = e of h_i x_t^T.
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in]     s    a number, or a real 1 x 1 matrix, which is read on the device
/// \param[in]     ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]     h    (k r) x T
/// \param[in]     x    d x T
/// \param[in,out] b    (E r) x d; must not overlap an input but s; an expert without slots keeps
///                     its bits
/// \throws shape_error  if sizes do not fit each other
/// \throws alias_error  if b overlaps ids, h or x
/// \par Cost
/// as routed_outer_add()
template <DeviceCoefficient C, DeviceMatrix Ids, DeviceMatrix H, DeviceMatrix X, DeviceOutput B>
  requires SameScalar<B, X, H> && std::floating_point<scalar_t<B>> &&
           std::same_as<scalar_t<Ids>, int>
void routed_adjoint_outer_add(context& ctx, C const& s, Ids const& ids, H const& h, X const& x,
                              B&& b) {
  detail::routed_outer_products<true>(ctx, "routed_adjoint_outer_add", "b", s, ids, x, h, b);
}

}  // namespace stiefelx::cuda
