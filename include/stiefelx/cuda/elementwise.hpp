// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <type_traits>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/copy_kernels.hpp>
#include <stiefelx/cuda/kernels/bits.hpp>
#include <stiefelx/cuda/kernels/symmetrize.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/cuda/transform.hpp>

/// \file
/// \brief Elementwise verbs on the device (core/context.hpp has the table). Each is one launch.
/// \ingroup cuda

namespace stiefelx::cuda {

namespace detail {

template <class T>
struct fill_element {
  T number;

  STIEFELX_HD void operator()(T& b) const { b = number; }
};

template <class R>
struct scale_element {
  R number;

  template <class T>
  STIEFELX_HD void operator()(T& b) const {
    b = static_cast<T>(number * b);
  }
  template <class T, class C>
  STIEFELX_HD void operator()(T& b, C const& c) const {
    b = static_cast<T>(static_cast<R>(c) * b);
  }
};

template <class R>
struct axpy_element {
  R number;

  template <class T>
  STIEFELX_HD void operator()(T& b, T const& a) const {
    b = static_cast<T>(b + number * a);
  }
  template <class T, class C>
  STIEFELX_HD void operator()(T& b, T const& a, C const& c) const {
    b = static_cast<T>(b + static_cast<R>(c) * a);
  }
};

struct raise_element {
  int bits;

  STIEFELX_HD void operator()(int& status) const { status |= bits; }
};

template <class T>
struct identity_body {
  entry_operand<T> b;

  template <int V>
  STIEFELX_HD void operator()(index_t i, index_t j, pack_size<V>) const {
    entry_pack<T, V> pack;
    for (int v = 0; v < V; ++v) pack.entry[v] = static_cast<T>(i + v == j ? 1 : 0);
    b.template store<V>(i, j, pack);
  }
};

// Where s is zero neither a nor b is read, which may hold nothing yet.
template <class T, class S>
struct copy_if_body {
  entry_operand<T> b;
  entry_operand<T const> a;
  S const* s;

  template <int V>
  STIEFELX_HD void operator()(index_t i, index_t j, pack_size<V>) const {
    if (*s != S(0)) b.template store<V>(i, j, a.template load<V>(i, j));
  }
};

template <class T, class W>
struct scale_columns_body {
  entry_operand<T> h;
  matrix_ref<W const> w;

  template <int V>
  STIEFELX_HD void operator()(index_t i, index_t j, pack_size<V>) const {
    auto pack = h.template load<V>(i, j);
    auto const factor = static_cast<T>(w(0, j));
    for (int v = 0; v < V; ++v) pack.entry[v] *= factor;
    h.template store<V>(i, j, pack);
  }
};

// f with the number c, or with the 1 x 1 matrix c as one more input. A coefficient that is an entry
// of b is copied first: other entries of b may be written before c is read.
template <template <class> class Element, class R, class C, class B, class... A>
void transform_by(context& ctx, char const* function, C const& c, B& b, A const&... a) {
  if constexpr (std::is_arithmetic_v<C>) {
    transform(ctx, Element<R>{static_cast<R>(c)}, outputs(b), inputs(a...));
  } else {
    expect_shape(function, "c", c, 1, 1);
    if (overlap(memory(ctx, c), memory(ctx, b))) {
      auto const number = clone(ctx, c);
      transform(ctx, Element<R>{R(0)}, outputs(b), inputs(a..., number));
    } else {
      transform(ctx, Element<R>{R(0)}, outputs(b), inputs(a..., c));
    }
  }
}

}  // namespace detail

/// b = c in every entry.
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[in]  c    a number
/// \param[out] b    any shape
/// \par Cost
/// writes b
template <DeviceOutput B>
void fill(context& ctx, double c, B&& b) {
  using T = scalar_t<B>;
  transform(ctx, detail::fill_element<T>{converted<T>(c)}, outputs(b), inputs());
}

/// b = identity (ones on the main diagonal of any shape).
/// \ingroup cuda
/// \param[in]  ctx  where to run
/// \param[out] b    any shape
/// \par Cost
/// writes b
template <DeviceOutput B>
void set_identity(context& ctx, B&& b) {
  using T = scalar_t<B>;
  queue_entrywise<pack_entries<T>>(ctx.queue, has_aligned_columns(ref(b)), b.rows(), b.cols(),
                                   detail::identity_body<T>{detail::output_operand(b)});
}

/// b = c b.
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in]     c    a number, or a real 1 x 1 matrix, which is read on the device
/// \param[in,out] b    any shape
/// \throws shape_error  if the matrix c is not 1 x 1
/// \par Cost
/// reads and writes b
template <DeviceCoefficient C, DeviceOutput B>
void scale(context& ctx, C const& c, B&& b) {
  detail::transform_by<detail::scale_element, scalar_t<B>>(ctx, "scale", c, b);
}

/// b += c a.
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in]     c    a number, or a real 1 x 1 matrix, which is read on the device
/// \param[in]     a    of b's shape; the same memory as b, or none of it
/// \param[in,out] b    any shape
/// \throws shape_error  if a has another shape, or the matrix c is not 1 x 1
/// \throws alias_error  if a overlaps b in part
/// \par Cost
/// reads a and b, writes b; a scratch copy of an adjoint
template <DeviceCoefficient C, DeviceMatrix A, DeviceOutput B>
  requires SameScalar<A, B>
void axpy(context& ctx, C const& c, A const& a, B&& b) {
  expect_shape("axpy", "a", a, b.rows(), b.cols());
  expect_same_or_distinct(ctx, "axpy", "b", b, "a", a);
  detail::transform_by<detail::axpy_element, scalar_t<B>>(ctx, "axpy", c, b, a);
}

/// s = (s + s^T) / 2, the same bits on both sides of the diagonal.
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in,out] s    square
/// \throws shape_error  if s is not square
/// \par Cost
/// reads and writes s
template <DeviceOutput S>
  requires std::floating_point<scalar_t<S>>
void symmetrize(context& ctx, S&& s) {
  expect_shape("symmetrize", "s", s, s.rows(), s.rows());
  queue_symmetrize(ctx.queue, ref(s));
}

/// b = a when the 1 x 1 matrix s is not zero; else b stays.
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in]     s    1 x 1, real, read on the device; must not overlap b
/// \param[in]     a    of b's shape; the same memory as b, or none of it
/// \param[in,out] b    any shape
/// \throws shape_error  if s is not 1 x 1 or a has another shape than b
/// \throws alias_error  if s overlaps b, or a does in part
/// \par Cost
/// reads a and writes b, or does neither; a scratch copy of an adjoint
template <DeviceMatrix S, DeviceMatrix A, DeviceOutput B>
  requires SameScalar<A, B> && std::floating_point<scalar_t<S>>
void copy_if(context& ctx, S const& s, A const& a, B&& b) {
  expect_shape("copy_if", "s", s, 1, 1);
  expect_shape("copy_if", "a", a, b.rows(), b.cols());
  expect_distinct(ctx, "copy_if", "b", b, "s", s);
  expect_same_or_distinct(ctx, "copy_if", "b", b, "a", a);
  using T = scalar_t<B>;
  auto const plain = dense(ctx, a);
  queue_entrywise<pack_entries<T>>(
      ctx.queue, has_aligned_columns(ref(b)) && has_aligned_columns(ref(plain)), b.rows(), b.cols(),
      detail::copy_if_body<T, scalar_t<S>>{detail::output_operand(b), detail::input_operand(plain),
                                           dense(ctx, s).data()});
}

/// h(:, j) *= w(0, j).
/// \ingroup cuda
/// \param[in]     ctx  where to run
/// \param[in]     w    1 x n, real; must not overlap h
/// \param[in,out] h    n columns
/// \throws shape_error  if w is not 1 x n
/// \throws alias_error  if w overlaps h
/// \par Cost
/// reads and writes h, reads w
template <DeviceMatrix W, DeviceOutput H>
  requires std::floating_point<scalar_t<W>> && std::floating_point<scalar_t<H>>
void scale_columns(context& ctx, W const& w, H&& h) {
  using T = scalar_t<H>;
  expect_shape("scale_columns", "w", w, 1, h.cols());
  expect_distinct(ctx, "scale_columns", "h", h, "w", w);
  auto const&& factors = dense(ctx, w);
  queue_entrywise<pack_entries<T>>(
      ctx.queue, has_aligned_columns(ref(h)), h.rows(), h.cols(),
      detail::scale_columns_body<T, scalar_t<W>>{detail::output_operand(h), ref(factors)});
}

/// status |= bits.
/// \ingroup cuda
/// \param[in]     ctx     where to run
/// \param[in,out] status  1 x 1, int
/// \param[in]     bits    an int, or a matrix of int all of whose entries count
/// \throws shape_error  if status is not 1 x 1
/// \par Cost
/// reads bits; one block
template <DeviceOutput Status, class Bits>
  requires std::same_as<scalar_t<Status>, int>
void raise(context& ctx, Status&& status, Bits const& bits) {
  expect_shape("raise", "status", status, 1, 1);
  if constexpr (DeviceMatrix<Bits>) {
    static_assert(std::same_as<scalar_t<Bits>, int>, "bits is a matrix of int");
    if constexpr (detail::is_adjoint<Bits>) {
      raise(ctx, status, bits.adjoint());
    } else if (bits.rows() > 0 && bits.cols() > 0) {
      auto plan = plan_walk(bits.rows(), bits.cols(), 1, 1);
      plan.shape.shared_bytes = plan.shape.threads / warp_lanes * sizeof(int);
      launch(ctx.queue, plan.shape, raise_bits{status.data(), ref(bits), plan.walk});
    }
  } else {
    transform(ctx, detail::raise_element{static_cast<int>(bits)}, outputs(status), inputs());
  }
}

}  // namespace stiefelx::cuda
