// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/routed_launches.hpp>
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
/// Each verb is one launch or two, the same number for any number of tokens but zero, which take none; and
/// as many again for every 1024 slots that a token has beyond the first 1024.
/// The sizes of a launch follow from the shapes: nothing is gathered, nothing counted on the host, and
/// nothing waits. ids stays on the device and is not read before the kernel runs, so an id of E or
/// more cannot be reported: its slot counts as empty. The order of every sum follows from shapes and
/// ids, without an atomic operation, and is the same for every layout: where packs of 16 bytes cannot
/// be loaded at once, their entries are loaded one by one.
///
/// Experts that are read may be stored in two bytes an entry where tokens are float: they become
/// float in registers, and results have the bits that the widened experts give.

namespace stiefelx::cuda {

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
