// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/host/multiply.hpp>
#include <stiefelx/host/routed_blocks.hpp>
#include <stiefelx/host/verbs.hpp>
#include <stiefelx/simd/routed_outer.hpp>

/// \file
/// \brief Products of tokens with the experts that were chosen for them (core/context.hpp has the
/// table).
/// \ingroup host
///
/// A token is a column. ids is k x T: the experts of a token's k slots, negative for an empty slot.
/// Expert e owns the columns e r .. e r + r - 1 of a d x (E r) matrix a, and slot i of a token the
/// rows i r .. i r + r - 1 of its column of a (k r) x T matrix h.
///
/// Nothing is gathered (host/routed_blocks.hpp), and the bits do not depend on the number of threads.
/// Where each token takes all experts in their order, one dense product serves.

namespace stiefelx::host {

/// Slot i of token t of h = A_e^T x_t for e = ids(i, t); zero for an empty slot.
/// \ingroup host
/// \param[in]  ctx  threads and arena
/// \param[in]  ids  k x T of int
/// \param[in]  a    d x (E r); an adjoint of (E r) x d is as good
/// \param[in]  x    d x T
/// \param[out] h    (k r) x T; must not overlap an input
/// \throws option_error  if an id is E or more
/// \par Cost
/// 2 d r flops a slot that is not empty; scratch d E r entries
template <EigenMatrix Ids, EigenMatrix A, EigenMatrix X, EigenOutput H>
  requires SameScalar<A, X, H> && std::is_floating_point_v<scalar_t<H>>
void routed_multiply(context& ctx, Ids const& ids, A const& a, X const& x, H&& h) {
  using S = scalar_t<H>;
  auto const chosen = dense(ctx, ids);
  auto const z = detail::expect_routing("routed_multiply", detail::ref_of(chosen), x.rows(),
                                        a.cols(), h.rows());
  auto const experts = detail::experts_of(ctx, a);
  auto const tokens = dense(ctx, x);
  detail::with_plain_output(ctx, h, [&](matrix_ref<S> out) {
    if (detail::is_dense(z, detail::ref_of(chosen)))
      multiply(ctx, experts.adjoint(), detail::map_of(detail::ref_of(tokens)), detail::map_of(out));
    else
      detail::routed_dots<S>(ctx, z, detail::ref_of(chosen),
                             {experts.data(), experts.rowStride(), experts.colStride(), z.width},
                             detail::ref_of(tokens), out);
  });
}

namespace detail {

// y_t = or += s times the sum over the slots of token t.
template <class C, class Ids, class A, class H, class Y>
void combine_into(context& ctx, char const* function, C const& s, Ids const& ids, A const& a,
                  H const& h, bool from_zero, Y& y) {
  using S = scalar_t<Y>;
  S const factor = coefficient<S>(s);
  auto const chosen = dense(ctx, ids);
  auto const z = expect_routing(function, ref_of(chosen), y.rows(), a.cols(), h.rows());
  auto const experts = experts_of(ctx, a);
  auto const slots = dense(ctx, h);
  if (from_zero && z.rank == 0) y.setZero();
  with_plain_output(ctx, y, [&](matrix_ref<S> out) {
    if (is_dense(z, ref_of(chosen)))
      multiply_into(ctx, factor, experts, map_of(ref_of(slots)), map_of(out), !from_zero);
    else
      routed_sums<S>(ctx, z, factor, ref_of(chosen),
                     {experts.data(), experts.rowStride(), experts.colStride(), z.width},
                     ref_of(slots), from_zero, out);
  });
}

}  // namespace detail

/// y_t += s times the sum over the slots i of token t of A_e h_i, e = ids(i, t).
/// \ingroup host
/// \param[in]     ctx  threads and arena
/// \param[in]     s    a number, or a real 1 x 1 matrix
/// \param[in]     ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]     a    d x (E r); an adjoint of (E r) x d is as good
/// \param[in]     h    (k r) x T
/// \param[in,out] y    d x T; must not overlap an input
/// \throws option_error  if an id is E or more
/// \par Cost
/// 2 d r flops a slot that is not empty; scratch d E r entries
template <Coefficient C, EigenMatrix Ids, EigenMatrix A, EigenMatrix H, EigenOutput Y>
  requires SameScalar<A, H, Y> && std::is_floating_point_v<scalar_t<Y>>
void routed_multiply_add(context& ctx, C const& s, Ids const& ids, A const& a, H const& h, Y&& y) {
  detail::combine_into(ctx, "routed_multiply_add", s, ids, a, h, false, y);
}

/// y_t = s times the sum over the slots i of token t of A_e h_i, e = ids(i, t).
/// \ingroup host
/// \param[in]  ctx  threads and arena
/// \param[in]  s    a number, or a real 1 x 1 matrix
/// \param[in]  ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]  a    d x (E r); an adjoint of (E r) x d is as good
/// \param[in]  h    (k r) x T
/// \param[out] y    d x T; not read, and zero for a token without slots; must not overlap an input
/// \throws option_error  if an id is E or more
/// \par Cost
/// that of routed_multiply_add(), and no pass over y before it
template <Coefficient C, EigenMatrix Ids, EigenMatrix A, EigenMatrix H, EigenOutput Y>
  requires SameScalar<A, H, Y> && std::is_floating_point_v<scalar_t<Y>>
void routed_combine(context& ctx, C const& s, Ids const& ids, A const& a, H const& h, Y&& y) {
  detail::combine_into(ctx, "routed_combine", s, ids, a, h, true, y);
}

/// A_e += s times the sum over all slots (i, t) with ids(i, t) = e of x_t h_i^T.
/// \ingroup host
/// \param[in]     ctx  threads and arena
/// \param[in]     s    a number, or a real 1 x 1 matrix
/// \param[in]     ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]     x    d x T
/// \param[in]     h    (k r) x T
/// \param[in,out] a    d x (E r); must not overlap an input
/// \throws option_error  if an id is E or more
/// \par Cost
/// 2 d r flops a slot that is not empty; scratch k r T entries and 768 (256 + E r) bytes a thread
template <Coefficient C, EigenMatrix Ids, EigenMatrix X, EigenMatrix H, EigenOutput A>
  requires SameScalar<A, X, H> && std::is_floating_point_v<scalar_t<A>>
void routed_outer_add(context& ctx, C const& s, Ids const& ids, X const& x, H const& h, A&& a) {
  using S = scalar_t<A>;
  S const factor = detail::coefficient<S>(s);
  auto const chosen = dense(ctx, ids);
  auto const z = detail::expect_routing("routed_outer_add", detail::ref_of(chosen), x.rows(),
                                        a.cols(), h.rows());
  auto const tokens = dense(ctx, x);
  auto const slots = dense(ctx, h);
  detail::with_plain_output(ctx, a, [&](matrix_ref<S> out) {
    if (detail::is_dense(z, detail::ref_of(chosen)))
      return multiply_add(ctx, factor, detail::map_of(detail::ref_of(tokens)),
                          detail::map_of(detail::ref_of(slots)).adjoint(), detail::map_of(out));
    detail::routed_outer<S>(ctx, z, factor, detail::ref_of(chosen), detail::ref_of(tokens),
                            detail::ref_of(slots), [&](index_t rows, index_t row, S const* sums) {
                              simd::add_strip(rows, z.experts * z.rank, sums, out.data + row,
                                              out.stride);
                            });
  });
}

/// B_e += s times the sum over all slots (i, t) with ids(i, t) = e of h_i x_t^T.
/// \ingroup host
/// \param[in]     ctx  threads and arena
/// \param[in]     s    a number, or a real 1 x 1 matrix
/// \param[in]     ids  k x T of int; an empty slot adds nothing, whatever h holds there
/// \param[in]     h    (k r) x T
/// \param[in]     x    d x T
/// \param[in,out] b    (E r) x d; must not overlap an input
/// \throws option_error  if an id is E or more
/// \par Cost
/// 2 d r flops a slot that is not empty; scratch k r T entries and 768 (256 + E r) bytes a thread
template <Coefficient C, EigenMatrix Ids, EigenMatrix H, EigenMatrix X, EigenOutput B>
  requires SameScalar<B, X, H> && std::is_floating_point_v<scalar_t<B>>
void routed_adjoint_outer_add(context& ctx, C const& s, Ids const& ids, H const& h, X const& x,
                              B&& b) {
  using S = scalar_t<B>;
  S const factor = detail::coefficient<S>(s);
  auto const chosen = dense(ctx, ids);
  auto const z = detail::expect_routing("routed_adjoint_outer_add", detail::ref_of(chosen),
                                        x.rows(), b.rows(), h.rows());
  auto const tokens = dense(ctx, x);
  auto const slots = dense(ctx, h);
  detail::with_plain_output(ctx, b, [&](matrix_ref<S> out) {
    if (detail::is_dense(z, detail::ref_of(chosen)))
      return multiply_add(ctx, factor, detail::map_of(detail::ref_of(slots)),
                          detail::map_of(detail::ref_of(tokens)).adjoint(), detail::map_of(out));
    detail::routed_outer<S>(ctx, z, factor, detail::ref_of(chosen), detail::ref_of(tokens),
                            detail::ref_of(slots), [&](index_t rows, index_t row, S const* sums) {
                              simd::add_strip_transposed(rows, z.experts * z.rank, sums,
                                                         out.data + row * out.stride, out.stride);
                            });
  });
}

}  // namespace stiefelx::host
