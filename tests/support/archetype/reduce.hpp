// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <type_traits>

#include "arguments.hpp"
#include "matrix.hpp"

namespace archetype {

namespace detail {

template <class S>
[[nodiscard]] bool is_finite(S const& s) {
  if constexpr (is_complex<S>) {
    return std::isfinite(s.real()) && std::isfinite(s.imag());
  } else {
    return std::isfinite(s);
  }
}

template <class S>
[[nodiscard]] real_of_t<S> real_product(S const& a, S const& b) {
  return real_part(S(conjugate(a) * b));
}

}  // namespace detail

/// s = Re tr(a^H b).
template <Input A, Input B, class S>
  requires Output<S> && Alike<A, B> && Real<S>
void inner(context&, A const& a, B const& b, S&& s) {
  expect_size("inner", b, a.rows(), a.cols());
  expect_size("inner", s, 1, 1);
  expect_apart("inner", a, s);
  expect_apart("inner", b, s);
  real_of_t<wide_t<scalar_t<A>>> sum = 0;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i)
      sum += detail::real_product(wide(a, i, j), wide(b, i, j));
  access::at(s, 0, 0) = static_cast<scalar_t<S>>(sum);
}

/// s = the Frobenius norm of a.
template <Input A, class S>
  requires Output<S> && Real<S>
void norm(context&, A const& a, S&& s) {
  expect_size("norm", s, 1, 1);
  expect_apart("norm", a, s);
  real_of_t<wide_t<scalar_t<A>>> sum = 0;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i)
      sum += detail::real_product(wide(a, i, j), wide(a, i, j));
  access::at(s, 0, 0) = static_cast<scalar_t<S>>(std::sqrt(sum));
}

/// w(0, j) = Re a(:, j)^H b(:, j).
template <Input A, Input B, class W>
  requires Output<W> && Alike<A, B> && Real<W>
void column_inner(context&, A const& a, B const& b, W&& w) {
  expect_size("column_inner", b, a.rows(), a.cols());
  expect_size("column_inner", w, 1, a.cols());
  expect_apart("column_inner", a, w);
  expect_apart("column_inner", b, w);
  for (index_t j = 0; j < a.cols(); ++j) {
    real_of_t<wide_t<scalar_t<A>>> sum = 0;
    for (index_t i = 0; i < a.rows(); ++i)
      sum += detail::real_product(wide(a, i, j), wide(b, i, j));
    access::at(w, 0, j) = static_cast<scalar_t<W>>(sum);
  }
}

/// w(i, 0) = the sum of row i of a.
template <Input A, class W>
  requires Output<W> && Alike<A, W>
void sum_columns(context&, A const& a, W&& w) {
  expect_size("sum_columns", w, a.rows(), 1);
  expect_apart("sum_columns", a, w);
  for (index_t i = 0; i < a.rows(); ++i) {
    wide_t<scalar_t<A>> sum(0);
    for (index_t j = 0; j < a.cols(); ++j) sum += wide(a, i, j);
    access::at(w, i, 0) = converted<scalar_t<W>>(sum);
  }
}

/// s = 1 if every entry of a is finite, else 0.
template <Input A, class S>
  requires Output<S> && Real<S>
void all_finite(context&, A const& a, S&& s) {
  expect_size("all_finite", s, 1, 1);
  expect_apart("all_finite", a, s);
  bool finite = true;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i)
      finite = finite && detail::is_finite(access::get(a, i, j));
  access::at(s, 0, 0) = static_cast<scalar_t<S>>(finite ? 1 : 0);
}

}  // namespace archetype
