// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>

#include "arguments.hpp"
#include "matrix.hpp"

namespace archetype {

namespace detail {

/// Calls f(row of h, column of a, token) for every entry of a slot that is not empty.
template <class Ids, class F>
void for_each_routed(char const* verb, Ids const& ids, index_t columns, index_t rows, F const& f) {
  index_t const slots = ids.rows();
  if (slots == 0) return;
  index_t const rank = rows / slots;
  if (rank * slots != rows || (rank > 0 && columns % rank != 0))
    refuse(std::string(verb) + ": rank and number of experts are not whole");
  for (index_t t = 0; t < ids.cols(); ++t)
    for (index_t i = 0; i < slots; ++i) {
      index_t const expert = access::get(ids, i, t);
      if (expert < 0) continue;
      if ((expert + 1) * rank > columns) refuse(std::string(verb) + ": no such expert");
      for (index_t b = 0; b < rank; ++b) f(i * rank + b, expert * rank + b, t);
    }
}

}  // namespace detail

/// Slot i of token t of h = A_e^T x_t for e = ids(i, t), zero for an empty slot.
template <Input Ids, Input A, Input X, class H>
  requires Output<H> && Alike<A, X, H> && std::same_as<scalar_t<Ids>, int>
void routed_multiply(context&, Ids const& ids, A const& a, X const& x, H&& h) {
  char const* const verb = "routed_multiply";
  expect_size(verb, x, a.rows(), ids.cols());
  expect_size(verb, h, h.rows(), ids.cols());
  expect_apart(verb, ids, h);
  expect_apart(verb, a, h);
  expect_apart(verb, x, h);
  for (index_t t = 0; t < h.cols(); ++t)
    for (index_t row = 0; row < h.rows(); ++row) access::at(h, row, t) = scalar_t<H>(0);
  detail::for_each_routed(verb, ids, a.cols(), h.rows(), [&](index_t row, index_t col, index_t t) {
    wide_t<scalar_t<H>> sum(0);
    for (index_t i = 0; i < a.rows(); ++i) sum += wide(a, i, col) * wide(x, i, t);
    access::at(h, row, t) = converted<scalar_t<H>>(sum);
  });
}

namespace detail {

// Adds to y, after the arguments' sizes and memory were looked at and start(y) has run.
template <class C, class Ids, class A, class H, class Y, class Start>
void combine_into(char const* verb, C const& s, Ids const& ids, A const& a, H const& h, Y& y,
                  Start const& start) {
  expect_size(verb, h, h.rows(), ids.cols());
  expect_size(verb, y, a.rows(), ids.cols());
  expect_apart(verb, ids, y);
  expect_apart(verb, a, y);
  expect_apart(verb, h, y);
  double const number = coefficient(verb, s);
  start(y);
  for_each_routed(verb, ids, a.cols(), h.rows(), [&](index_t row, index_t col, index_t t) {
    for (index_t i = 0; i < y.rows(); ++i)
      access::at(y, i, t) =
          converted<scalar_t<Y>>(wide(y, i, t) + number * wide(a, i, col) * wide(h, row, t));
  });
}

}  // namespace detail

/// y_t += s times the sum over its slots of A_e h_i.
template <Coefficient C, Input Ids, Input A, Input H, class Y>
  requires Output<Y> && Alike<A, H, Y> && std::same_as<scalar_t<Ids>, int>
void routed_multiply_add(context&, C const& s, Ids const& ids, A const& a, H const& h, Y&& y) {
  detail::combine_into("routed_multiply_add", s, ids, a, h, y, [](auto&) {});
}

/// y_t = s times the sum over its slots of A_e h_i.
template <Coefficient C, Input Ids, Input A, Input H, class Y>
  requires Output<Y> && Alike<A, H, Y> && std::same_as<scalar_t<Ids>, int>
void routed_combine(context&, C const& s, Ids const& ids, A const& a, H const& h, Y&& y) {
  detail::combine_into("routed_combine", s, ids, a, h, y, [](auto& out) {
    for (index_t t = 0; t < out.cols(); ++t)
      for (index_t i = 0; i < out.rows(); ++i) access::at(out, i, t) = scalar_t<Y>(0);
  });
}

/// A_e += s times the sum over its slots of x_t h_i^T.
template <Coefficient C, Input Ids, Input X, Input H, class A>
  requires Output<A> && Alike<A, X, H> && std::same_as<scalar_t<Ids>, int>
void routed_outer_add(context&, C const& s, Ids const& ids, X const& x, H const& h, A&& a) {
  char const* const verb = "routed_outer_add";
  expect_size(verb, x, a.rows(), ids.cols());
  expect_size(verb, h, h.rows(), ids.cols());
  expect_apart(verb, ids, a);
  expect_apart(verb, x, a);
  expect_apart(verb, h, a);
  double const number = coefficient(verb, s);
  detail::for_each_routed(verb, ids, a.cols(), h.rows(), [&](index_t row, index_t col, index_t t) {
    for (index_t i = 0; i < a.rows(); ++i)
      access::at(a, i, col) =
          converted<scalar_t<A>>(wide(a, i, col) + number * wide(x, i, t) * wide(h, row, t));
  });
}

/// B_e += s times the sum over its slots of h_i x_t^T.
template <Coefficient C, Input Ids, Input H, Input X, class B>
  requires Output<B> && Alike<B, X, H> && std::same_as<scalar_t<Ids>, int>
void routed_adjoint_outer_add(context&, C const& s, Ids const& ids, H const& h, X const& x, B&& b) {
  char const* const verb = "routed_adjoint_outer_add";
  expect_size(verb, x, b.cols(), ids.cols());
  expect_size(verb, h, h.rows(), ids.cols());
  expect_apart(verb, ids, b);
  expect_apart(verb, x, b);
  expect_apart(verb, h, b);
  double const number = coefficient(verb, s);
  detail::for_each_routed(verb, ids, b.rows(), h.rows(), [&](index_t row, index_t col, index_t t) {
    for (index_t i = 0; i < b.cols(); ++i)
      access::at(b, col, i) =
          converted<scalar_t<B>>(wide(b, col, i) + number * wide(x, i, t) * wide(h, row, t));
  });
}

}  // namespace archetype
