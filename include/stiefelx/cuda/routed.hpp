// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/kernels/entrywise.hpp>
#include <stiefelx/cuda/kernels/routed_dots.hpp>
#include <stiefelx/cuda/kernels/routed_outer.hpp>
#include <stiefelx/cuda/kernels/routed_sums.hpp>
#include <stiefelx/cuda/kernels/routed_totals.hpp>
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
/// Each verb is one launch or two, the same number for any number of tokens but zero, which take none.
/// The sizes of a launch follow from the shapes: nothing is gathered, nothing counted on the host, and
/// nothing waits. ids stays on the device and is not read before the kernel runs, so an id of E or
/// more cannot be reported: its slot counts as empty. The order of every sum follows from shapes and
/// ids, without an atomic operation, and is the same for every layout: where packs of 16 bytes cannot
/// be loaded at once, their entries are loaded one by one.
///
/// Experts that are read may be stored in two bytes an entry where tokens are float: they become
/// float in registers, and results have the bits that the widened experts give.

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

// Whether packs of V entries of a column may be loaded at once.
template <int V, class T>
bool has_packs(T const* first, index_t stride, index_t cols) {
  return reinterpret_cast<std::uintptr_t>(first) % (V * sizeof(T)) == 0 &&
         (cols <= 1 || stride % V == 0);
}

// The experts of a matrix whose columns, or whose rows if it is an adjoint, lie in memory; a pack of
// the kernels for tokens of T has so many rows, or 16 bytes along a row.
template <class T, DeviceMatrix A>
auto experts_of(A const& a, index_t rank) {
  using S = scalar_t<A>;
  constexpr bool by_rows = is_adjoint<A>;
  constexpr int v = by_rows ? pack_entries<S> : pack_entries<T>;
  bool const is_packed = (!by_rows || rank % v == 0) &&
                         has_packs<v>(a.data(), a.stride(), by_rows ? a.rows() : a.cols());
  return expert_columns<S const, by_rows>{a.data(), a.rows(), a.cols(), a.stride(), is_packed};
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

template <bool Packed, bool ByRows, class A, class T>
void queue_routed_dots(context& ctx, routing_sizes const& z, matrix_ref<int const> ids,
                       expert_columns<A const, ByRows> a, matrix_ref<T const> x, matrix_ref<T> h) {
  int const tokens = tokens_of_block(z, 32, 128);
  launch(ctx.queue,
         {block_count(z.tokens, tokens), block_count(z.rank, rank_tile), routed_threads,
          sorted_slots::shared_bytes(tokens * z.slots)},
         routed_dots<Packed, ByRows, A, T>{slot_ids_of(z, ids), a, x, h, z.rank, tokens});
}

template <bool Packed, bool ByRows, class A, class T, class C>
void queue_routed_sums(context& ctx, routing_sizes const& z, matrix_ref<int const> ids,
                       device_number<T, C> s, expert_columns<A const, ByRows> a,
                       matrix_ref<T const> h, bool from_zero, matrix_ref<T> y) {
  using kernel = routed_sums<Packed, ByRows, A, T, C>;
  int const tokens = tokens_of_block(z, 16, 64);
  std::size_t const sums =
      static_cast<std::size_t>(tokens) * routed_threads * sizeof(typename kernel::pack);
  launch(ctx.queue,
         {block_count(z.tokens, tokens), block_count(z.width, index_t{routed_threads} * kernel::V),
          routed_threads, sums + sorted_slots::shared_bytes(tokens * z.slots)},
         kernel{slot_ids_of(z, ids), s, a, h, y, z.rank, tokens, from_zero});
}

// Parts that the tokens may have, such that blocks of all parts are at most so many. It is not asked
// how many tokens there are: where this is more than one, even a single part has sums of its own, so
// that there are always as many launches.
inline index_t most_token_parts(index_t blocks_of_part) {
  constexpr index_t most_blocks = 128;
  return std::max<index_t>(most_blocks / blocks_of_part, 1);
}

// Tokens of a part, none of which has few while there are several.
inline index_t tokens_of_part(index_t tokens, index_t most_parts) {
  constexpr index_t fewest_tokens = 64;
  index_t const parts =
      std::clamp<index_t>(most_parts, 1, (tokens + (fewest_tokens - 1)) / fewest_tokens);
  return (tokens + parts - 1) / parts;
}

template <bool Packed, bool ByRows, class T, class C>
void queue_routed_outer(context& ctx, routing_sizes const& z, matrix_ref<int const> ids,
                        device_number<T, C> s, matrix_ref<T const> x, matrix_ref<T const> h,
                        matrix_ref<T> a) {
  using kernel = routed_outer<Packed, ByRows, T, C>;
  unsigned const tiles = z.rank > rank_tile ? kernel::most_tiles : 1;
  unsigned const threads = tiles * kernel::row_lanes;
  unsigned const row_tiles = block_count(z.width, index_t{kernel::row_lanes} * kernel::V);
  unsigned const rank_tiles = block_count(z.rank, index_t{tiles} * rank_tile);
  index_t const most = most_token_parts(index_t{row_tiles} * rank_tiles * z.experts);
  index_t const tokens = tokens_of_part(z.tokens, most);
  unsigned const parts = block_count(z.tokens, tokens);
  auto const stretch = std::min(std::max<index_t>(1024 / z.slots, 1), tokens);
  auto const blocks_y = static_cast<unsigned>(std::min<index_t>(z.experts, 65535));
  auto const queue = [&](matrix_ref<T> to, index_t step, int* found) {
    bool const is_packed =
        (!ByRows || z.rank % kernel::V == 0) && has_packs<kernel::V>(to.data, to.stride, to.cols);
    launch(ctx.queue,
           {row_tiles * rank_tiles * parts, blocks_y, threads,
            kernel::shared_bytes(stretch * z.slots, threads)},
           kernel{slot_ids_of(z, ids),
                  s,
                  x,
                  h,
                  {to.data, z.width, z.experts * z.rank, to.stride, is_packed},
                  step,
                  found,
                  z.rank,
                  tokens,
                  static_cast<int>(stretch),
                  row_tiles,
                  rank_tiles,
                  blocks_y});
  };
  if (most == 1) return queue(a, 0, nullptr);
  index_t const stride = (a.rows + (kernel::V - 1)) / kernel::V * kernel::V, step = stride * a.cols;
  auto sums = scratch<T>(ctx, stride, a.cols * index_t{parts});
  auto found = scratch<int>(ctx, z.experts, index_t{parts});
  queue({sums.data(), a.rows, a.cols, stride}, step, found.data());
  queue_entrywise<kernel::V>(ctx.queue, has_aligned_columns(a), a.rows, a.cols,
                             routed_totals<ByRows, T, C>{{a.data, a.stride, false},
                                                         sums.data(),
                                                         stride,
                                                         step,
                                                         found.data(),
                                                         static_cast<int>(z.experts),
                                                         static_cast<int>(parts),
                                                         static_cast<unsigned>(z.rank),
                                                         s});
}

}  // namespace detail

/// Slot i of token t of h = A_e^T x_t for e = ids(i, t); zero for an empty slot.
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  ids  k x T of int
/// \param[in]  a    d x (E r), of x's scalar, or of two bytes an entry where that is float; an adjoint of
///                  (E r) x d is as good
/// \param[in]  x    d x T
/// \param[out] h    (k r) x T; must not overlap an input
/// \throws shape_error  if sizes do not fit each other
/// \throws alias_error  if h overlaps an input
/// \par Cost
/// one launch; 2 d r flops a slot that is not empty; reads each token r / 8 times for each of its
/// experts, and an expert once for every four of its tokens in a block, mostly from caches; a
/// scratch copy of an adjoint ids or x
template <DeviceMatrix Ids, DeviceMatrix A, DeviceMatrix X, DeviceOutput H>
  requires SameScalar<X, H> && StoredAs<scalar_t<H>, A> && std::floating_point<scalar_t<H>> &&
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
  auto const experts = detail::experts_of<T>(a, z.rank);
  if (has_aligned_columns(ref(tokens)))
    detail::queue_routed_dots<true>(ctx, z, ref(chosen), experts, ref(tokens), ref(h));
  else
    detail::queue_routed_dots<false>(ctx, z, ref(chosen), experts, ref(tokens), ref(h));
}

namespace detail {

// y_t = or += s times the sum over the slots of token t.
template <class C, class Ids, class A, class H, class Y>
void combine_into(context& ctx, char const* function, C const& s, Ids const& ids, A const& a,
                  H const& h, bool from_zero, Y& y) {
  using T = scalar_t<Y>;
  expect_shape(function, "y", y, a.rows(), ids.cols());
  auto const z = expect_routing(function, "a", a.rows(), a.cols(), false, ids, h);
  expect_distinct(ctx, function, "y", y, "ids", ids);
  expect_distinct(ctx, function, "y", y, "a", a);
  expect_distinct(ctx, function, "y", y, "h", h);
  with_number<T>(ctx, function, s, y, [&](auto const& number) {
    if (z.is_empty() && from_zero) fill(ctx, 0, y);
    if (z.is_empty() || z.width == 0) return;
    auto const&& chosen = dense(ctx, ids);
    auto const&& parts = dense(ctx, h);
    auto const experts = experts_of<T>(a, z.rank);
    if (has_aligned_columns(ref(y)))
      queue_routed_sums<true>(ctx, z, ref(chosen), number, experts, ref(parts), from_zero, ref(y));
    else
      queue_routed_sums<false>(ctx, z, ref(chosen), number, experts, ref(parts), from_zero, ref(y));
  });
}

}  // namespace detail

/// y_t += s times the sum over the slots i of token t of A_e h_i, e = ids(i, t).
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in]     s    a number, or a real 1 x 1 matrix, which is read on the device
/// \param[in]     ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]     a    d x (E r), of y's scalar, or of two bytes an entry where that is float; an
///                     adjoint of (E r) x d is as good
/// \param[in]     h    (k r) x T
/// \param[in,out] y    d x T; must not overlap an input but s
/// \throws shape_error  if sizes do not fit each other
/// \throws alias_error  if y overlaps ids, a or h
/// \par Cost
/// one launch; 2 d r flops a slot that is not empty; reads and writes y once, h once for each 128
/// packs of rows, and an expert once for all of its tokens in a block; a scratch copy of an adjoint
/// ids or h
template <DeviceCoefficient C, DeviceMatrix Ids, DeviceMatrix A, DeviceMatrix H, DeviceOutput Y>
  requires SameScalar<H, Y> && StoredAs<scalar_t<Y>, A> && std::floating_point<scalar_t<Y>> &&
           std::same_as<scalar_t<Ids>, int>
void routed_multiply_add(context& ctx, C const& s, Ids const& ids, A const& a, H const& h, Y&& y) {
  detail::combine_into(ctx, "routed_multiply_add", s, ids, a, h, false, y);
}

/// y_t = s times the sum over the slots i of token t of A_e h_i, e = ids(i, t).
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  s    a number, or a real 1 x 1 matrix, which is read on the device
/// \param[in]  ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]  a    d x (E r), of y's scalar, or of two bytes an entry where that is float; an adjoint
///                  of (E r) x d is as good
/// \param[in]  h    (k r) x T
/// \param[out] y    d x T; not read, and zero for a token without slots; must not overlap an input but s
/// \throws shape_error  if sizes do not fit each other
/// \throws alias_error  if y overlaps ids, a or h
/// \par Cost
/// that of routed_multiply_add(), but y is not read
template <DeviceCoefficient C, DeviceMatrix Ids, DeviceMatrix A, DeviceMatrix H, DeviceOutput Y>
  requires SameScalar<H, Y> && StoredAs<scalar_t<Y>, A> && std::floating_point<scalar_t<Y>> &&
           std::same_as<scalar_t<Ids>, int>
void routed_combine(context& ctx, C const& s, Ids const& ids, A const& a, H const& h, Y&& y) {
  detail::combine_into(ctx, "routed_combine", s, ids, a, h, true, y);
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
    if (has_aligned_columns(ref(tokens)))
      queue_routed_outer<true, ByRows>(ctx, z, ref(chosen), number, ref(tokens), ref(parts),
                                       ref(out));
    else
      queue_routed_outer<false, ByRows>(ctx, z, ref(chosen), number, ref(tokens), ref(parts),
                                        ref(out));
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
/// two launches, or one where the shape of a asks for more than 64 blocks, whatever the number of
/// tokens; 2 d r flops a slot that is not empty; reads each token r / 16 times for each of its slots,
/// ids once for every 16 columns and 128 packs of rows, reads and writes a. With two launches the
/// tokens are divided into as many parts as 128 blocks allow, each of 64 tokens or more unless there
/// is one; their sums take at most 4 MiB of scratch. A scratch copy of an adjoint input
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
