// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/blas.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/copy_kernels.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>

/// \file
/// \brief Products and triangular solves on the device (core/context.hpp has the table of verbs).
/// \ingroup cuda
///
/// Matrices are float or double. A factor of a product may also be stored as bfloat16 or float16:
/// the sums and the result are then float.

namespace stiefelx::cuda {

/// \brief A product of device matrices: one scalar, or factors of two bytes where it is float.
/// \ingroup cuda
template <class A, class B, class C>
concept DeviceProduct =
    DeviceMatrix<A> && DeviceMatrix<B> && StoredAs<scalar_t<C>, A, B> && BlasScalar<scalar_t<C>>;

namespace detail {

template <class A, class B, class C>
void expect_product(context& ctx, char const* function, A const& a, B const& b, C const& c) {
  expect_shape(function, "b", b, a.cols(), b.cols());
  expect_shape(function, "c", c, a.rows(), b.cols());
  expect_distinct(ctx, function, "c", c, "a", a);
  expect_distinct(ctx, function, "c", c, "b", b);
  // Here, since a conversion may be queued before a product is.
  expect_blas_sizes(function, "a", a);
  expect_blas_sizes(function, "b", b);
  expect_blas_sizes(function, "c", c);
}

template <DevicePlain C>
void clear(context& ctx, C& c) {
  constexpr std::size_t entry = sizeof(scalar_t<C>);
  clear_2d(c.data(), static_cast<std::size_t>(c.stride()) * entry,
           static_cast<std::size_t>(c.rows()) * entry, static_cast<std::size_t>(c.cols()),
           ctx.queue);
}

// f with a, or with a scratch copy in float of what has two bytes an entry.
template <DeviceMatrix A, class F>
void with_arithmetic(context& ctx, A const& a, F const& f) {
  if constexpr (!NarrowScalar<scalar_t<A>>) {
    f(a);
  } else if constexpr (is_adjoint<A>) {
    // Converted as it lies in memory: a run stays a run.
    with_arithmetic(ctx, a.adjoint(), [&](auto const& stored) { f(stored.adjoint()); });
  } else {
    auto widened = scratch<float>(ctx, a.rows(), a.cols());
    copy(ctx, a, widened);
    f(widened);
  }
}

// c = s a b or c += s a b by parts of the inner dimension, each of them in float.
template <DeviceMatrix A, DeviceMatrix B, DevicePlain C>
void multiply_in_parts(context& ctx, char const* function, blas_factor<float> s, A const& a,
                       B const& b, C& c, bool add, index_t part) {
  for (index_t k = 0; k < a.cols(); k += part) {
    index_t const count = std::min(part, a.cols() - k);
    with_arithmetic(ctx, a.middleCols(k, count), [&](auto const& left) {
      with_arithmetic(ctx, b.middleRows(k, count), [&](auto const& right) {
        gemm(ctx.blas, function, s, left, right, c, add || k > 0);
      });
    });
  }
}

// c = s a b or c += s a b. cuBLAS takes factors of one type, so where they differ what has two
// bytes an entry becomes float: in parts that a second-level cache holds, but never so few of the
// inner dimension that c is read and written in vain.
template <class R, DeviceMatrix A, DeviceMatrix B, DevicePlain C>
void multiply_into(context& ctx, char const* function, blas_factor<R> s, A const& a, B const& b,
                   C& c, bool add) {
  if constexpr (SameScalar<A, B>) {
    gemm(ctx.blas, function, s, a, b, c, add);
  } else {
    constexpr index_t entries = index_t{1} << 22;
    index_t const outer = std::max({index_t{1}, a.rows(), b.cols()});
    multiply_in_parts(ctx, function, s, a, b, c, add, std::max(index_t{512}, entries / outer));
  }
}

// c = a b, once it is known to fit.
template <DeviceMatrix A, DeviceMatrix B, DevicePlain C>
void multiply_checked(context& ctx, char const* function, A const& a, B const& b, C& c) {
  if (c.rows() == 0 || c.cols() == 0) return;
  if (a.cols() == 0) return clear(ctx, c);
  multiply_into<scalar_t<C>>(ctx, function, {}, a, b, c, false);
}

}  // namespace detail

/// c = a b.
/// \ingroup cuda
/// \param[in]  ctx  where it is queued
/// \param[in]  a    m x k, of c's scalar, or two bytes an entry where that is float
/// \param[in]  b    k x n, likewise
/// \param[out] c    m x n, not read; must not overlap a or b
/// \par Cost
/// 2 m k n flops. Where the factors have different scalars, one of two bytes becomes float in
/// scratch first, in parts of about 16 MiB, or of 512 of the inner dimension where that is more, and a
/// result of several parts is added up in float.
/// \throws shape_error  when the shapes do not fit, or a size is beyond cuBLAS's int
/// \throws alias_error  when c overlaps a or b
template <DeviceMatrix A, DeviceMatrix B, DeviceOutput C>
  requires DeviceProduct<A, B, C>
void multiply(context& ctx, A const& a, B const& b, C&& c) {
  detail::expect_product(ctx, "multiply", a, b, c);
  detail::multiply_checked(ctx, "multiply", a, b, c);
}

/// c += s a b.
/// \ingroup cuda
/// \param[in]     ctx  where it is queued
/// \param[in]     s    a number, or a real 1 x 1 matrix, which is read when the product runs
/// \param[in]     a    m x k, of c's scalar, or two bytes an entry where that is float
/// \param[in]     b    k x n, likewise
/// \param[in,out] c    m x n; must not overlap s, a or b
/// \throws shape_error  when the shapes do not fit, or a size is beyond cuBLAS's int
/// \throws alias_error  when c overlaps s, a or b
template <DeviceCoefficient S, DeviceMatrix A, DeviceMatrix B, DeviceOutput C>
  requires DeviceProduct<A, B, C>
void multiply_add(context& ctx, S const& s, A const& a, B const& b, C&& c) {
  using R = scalar_t<C>;
  detail::expect_product(ctx, "multiply_add", a, b, c);
  auto const add = [&](blas_factor<R> factor) {
    if (c.rows() == 0 || c.cols() == 0 || a.cols() == 0) return;
    detail::multiply_into<R>(ctx, "multiply_add", factor, a, b, c, true);
  };
  if constexpr (std::is_arithmetic_v<S>) {
    add({static_cast<R>(s)});
  } else {
    expect_shape("multiply_add", "s", s, 1, 1);
    expect_distinct(ctx, "multiply_add", "c", c, "s", s);
    if constexpr (std::same_as<scalar_t<S>, R>) {
      add({R(1), s.data()});
    } else {
      auto factor = scratch<R>(ctx, 1, 1);
      copy(ctx, s, factor);
      add({R(1), factor.data()});
    }
  }
}

/// A scratch product a b; float where a factor is stored in two bytes.
/// \ingroup cuda
/// \param[in] ctx  where it is queued
/// \param[in] a    m x k
/// \param[in] b    k x n
/// \returns m x n
/// \throws shape_error  when the shapes do not fit, or a size is beyond cuBLAS's int
template <DeviceMatrix A, DeviceMatrix B>
  requires DeviceProduct<A, B, matrix<arithmetic_t<scalar_t<A>>>>
scratch_matrix<arithmetic_t<scalar_t<A>>> product(context& ctx, A const& a, B const& b) {
  expect_shape("product", "b", b, a.cols(), b.cols());
  detail::expect_blas_sizes("product", "a", a);
  detail::expect_blas_sizes("product", "b", b);
  auto made = scratch<arithmetic_t<scalar_t<A>>>(ctx, a.rows(), b.cols());
  detail::multiply_checked(ctx, "product", a, b, made);
  return made;
}

/// \brief Scratch y^T y, symmetric to the bit: one triangle is computed and copied to the other.
/// \ingroup cuda
/// \param[in] ctx  where it is queued
/// \param[in] y    n x p
/// \returns p x p
/// \throws shape_error  when a size is beyond cuBLAS's int
template <DeviceMatrix Y>
  requires BlasScalar<scalar_t<Y>>
scratch_matrix<scalar_t<Y>> gram(context& ctx, Y const& y) {
  using S = scalar_t<Y>;
  auto made = scratch<S>(ctx, y.cols(), y.cols());
  if (y.cols() == 0) return made;
  if (y.rows() == 0) {
    detail::clear(ctx, made);
    return made;
  }
  syrk(ctx.blas, "gram", y, made);
  queue_transpose<S, S>(ctx.queue, ref(std::as_const(made)), ref(made), true);
  return made;
}

/// y = y r^-1 for upper triangular r.
/// \ingroup cuda
/// \param[in]     ctx  where it is queued
/// \param[in]     r    p x p with no zero on its diagonal; entries below the diagonal are not read
/// \param[in,out] y    n x p; must not overlap r
/// \throws shape_error  when the shapes do not fit, or a size is beyond cuBLAS's int
/// \throws alias_error  when y overlaps r
template <DeviceMatrix R, DeviceOutput Y>
  requires(BlasScalar<scalar_t<R>> && SameScalar<R, Y>)
void solve_right(context& ctx, R const& r, Y&& y) {
  expect_shape("solve_right", "r", r, y.cols(), y.cols());
  expect_distinct(ctx, "solve_right", "y", y, "r", r);
  if (y.rows() == 0 || y.cols() == 0) return;
  trsm(ctx.blas, "solve_right", r, y);
}

}  // namespace stiefelx::cuda
