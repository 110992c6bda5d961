// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "arguments.hpp"
#include "elementwise.hpp"
#include "matrix.hpp"

namespace archetype {

namespace detail {

template <class A, class B>
[[nodiscard]] wide_t<scalar_t<A>> row_times_column(A const& a, B const& b, index_t i, index_t j) {
  wide_t<scalar_t<A>> sum(0);
  for (index_t k = 0; k < a.cols(); ++k) sum += wide(a, i, k) * wide(b, k, j);
  return sum;
}

}  // namespace detail

/// c = a b.
template <Input A, Input B, class C>
  requires Output<C> && Stored<C, A, B>
void multiply(context&, A const& a, B const& b, C&& c) {
  expect_size("multiply", b, a.cols(), b.cols());
  expect_size("multiply", c, a.rows(), b.cols());
  expect_apart("multiply", a, c);
  expect_apart("multiply", b, c);
  for (index_t j = 0; j < c.cols(); ++j)
    for (index_t i = 0; i < c.rows(); ++i)
      access::at(c, i, j) = converted<scalar_t<C>>(detail::row_times_column(a, b, i, j));
}

/// c += s a b.
template <Coefficient S, Input A, Input B, class C>
  requires Output<C> && Stored<C, A, B>
void multiply_add(context&, S const& s, A const& a, B const& b, C&& c) {
  expect_size("multiply_add", b, a.cols(), b.cols());
  expect_size("multiply_add", c, a.rows(), b.cols());
  expect_apart("multiply_add", a, c);
  expect_apart("multiply_add", b, c);
  double const number = coefficient("multiply_add", s);
  for (index_t j = 0; j < c.cols(); ++j)
    for (index_t i = 0; i < c.rows(); ++i)
      access::at(c, i, j) =
          converted<scalar_t<C>>(wide(c, i, j) + number * detail::row_times_column(a, b, i, j));
}

/// Scratch = a b.
template <Input A, Input B>
  requires std::same_as<stiefelx::arithmetic_t<scalar_t<A>>, stiefelx::arithmetic_t<scalar_t<B>>>
[[nodiscard]] scratch_matrix<stiefelx::arithmetic_t<scalar_t<A>>> product(context& ctx, A const& a,
                                                                          B const& b) {
  auto made = scratch<stiefelx::arithmetic_t<scalar_t<A>>>(ctx, a.rows(), b.cols());
  multiply(ctx, a, b, made);
  return made;
}

/// Scratch = y^H y, Hermitian to the bit.
template <Input Y>
[[nodiscard]] scratch_matrix<scalar_t<Y>> gram(context& ctx, Y const& y) {
  using S = scalar_t<Y>;
  auto made = scratch<S>(ctx, y.cols(), y.cols());
  auto const flipped = y.adjoint();
  for (index_t j = 0; j < y.cols(); ++j) {
    for (index_t i = 0; i < j; ++i) {
      S const entry = converted<S>(detail::row_times_column(flipped, y, i, j));
      access::at(made, i, j) = entry;
      access::at(made, j, i) = conjugate(entry);
    }
    S const entry = converted<S>(detail::row_times_column(flipped, y, j, j));
    access::at(made, j, j) = S(real_part(entry));
  }
  return made;
}

/// s = (s + s^H) / 2.
template <class S>
  requires Output<S>
void symmetrize(context&, S&& s) {
  expect_size("symmetrize", s, s.cols(), s.cols());
  using Scalar = scalar_t<S>;
  for (index_t j = 0; j < s.cols(); ++j) {
    for (index_t i = 0; i < j; ++i) {
      auto const sum = wide(s, i, j) + conjugate(wide(s, j, i));
      Scalar const entry = converted<Scalar>(0.5 * sum);
      access::at(s, i, j) = entry;
      access::at(s, j, i) = conjugate(entry);
    }
    access::at(s, j, j) = Scalar(real_part(access::get(s, j, j)));
  }
}

}  // namespace archetype
