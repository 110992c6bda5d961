// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/status.hpp>
#include <stiefelx/core/transform.hpp>

#include "arguments.hpp"
#include "matrix.hpp"

namespace archetype {

/// Scratch of scalar S whose entries are NaN, or the least int, until they are written.
template <class S>
[[nodiscard]] scratch_matrix<S> scratch(context& ctx, index_t rows, index_t cols) {
  return access::make<purpose::scratch, S>(ctx, rows, cols);
}

/// Owning matrix of zeros.
template <class S>
[[nodiscard]] matrix<S> zeros(context& ctx, index_t rows, index_t cols) {
  auto made = access::make<purpose::owner, S>(ctx, rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) access::at(made, i, j) = S(0);
  return made;
}

/// Owning matrix of zeros of a's scalar and size.
template <Input A>
[[nodiscard]] matrix<scalar_t<A>> zeros_like(context& ctx, A const& a) {
  return zeros<scalar_t<A>>(ctx, a.rows(), a.cols());
}

/// b = c everywhere.
template <class B>
  requires Output<B>
void fill(context&, double c, B&& b) {
  for (index_t j = 0; j < b.cols(); ++j)
    for (index_t i = 0; i < b.rows(); ++i)
      access::at(b, i, j) = scalar_t<B>(static_cast<real_t<B>>(c));
}

/// b = 1 on its diagonal and 0 elsewhere.
template <class B>
  requires Output<B>
void set_identity(context&, B&& b) {
  for (index_t j = 0; j < b.cols(); ++j)
    for (index_t i = 0; i < b.rows(); ++i)
      access::at(b, i, j) = scalar_t<B>(static_cast<real_t<B>>(i == j ? 1 : 0));
}

/// b = a, in b's precision.
template <Input A, class B>
  requires Output<B> && Convertible<A, B>
void copy(context&, A const& a, B&& b) {
  expect_size("copy", b, a.rows(), a.cols());
  expect_entrywise("copy", a, b);
  for (index_t j = 0; j < b.cols(); ++j)
    for (index_t i = 0; i < b.rows(); ++i)
      access::at(b, i, j) = converted<scalar_t<B>>(access::get(a, i, j));
}

/// Scratch copy of a.
template <Input A>
[[nodiscard]] scratch_matrix<scalar_t<A>> clone(context& ctx, A const& a) {
  auto made = scratch<scalar_t<A>>(ctx, a.rows(), a.cols());
  copy(ctx, a, made);
  return made;
}

/// Scratch copy of a in its wide scalar.
template <Input A>
[[nodiscard]] scratch_matrix<wide_t<scalar_t<A>>> widen(context& ctx, A const& a) {
  auto made = scratch<wide_t<scalar_t<A>>>(ctx, a.rows(), a.cols());
  copy(ctx, a, made);
  return made;
}

/// a itself for reading, or a scratch copy of an adjoint.
template <Input A>
[[nodiscard]] auto dense(context& ctx, A const& a) {
  if constexpr (detail::is_adjoint<A>) {
    return clone(ctx, a);
  } else {
    return access::window(access::area(a));
  }
}

/// b = c b.
template <Coefficient C, class B>
  requires Output<B>
void scale(context&, C const& c, B&& b) {
  double const number = coefficient("scale", c);
  for (index_t j = 0; j < b.cols(); ++j)
    for (index_t i = 0; i < b.rows(); ++i)
      access::at(b, i, j) = converted<scalar_t<B>>(number * wide(b, i, j));
}

/// b += c a.
template <Coefficient C, Input A, class B>
  requires Output<B> && Alike<A, B>
void axpy(context&, C const& c, A const& a, B&& b) {
  expect_size("axpy", b, a.rows(), a.cols());
  expect_entrywise("axpy", a, b);
  double const number = coefficient("axpy", c);
  for (index_t j = 0; j < b.cols(); ++j)
    for (index_t i = 0; i < b.rows(); ++i)
      access::at(b, i, j) = converted<scalar_t<B>>(wide(b, i, j) + number * wide(a, i, j));
}

/// b = a where the 1 x 1 matrix s is not zero, else b stays.
template <Input C, Input A, class B>
  requires Output<B> && Alike<A, B> && Real<C>
void copy_if(context& ctx, C const& s, A const& a, B&& b) {
  expect_size("copy_if", s, 1, 1);
  expect_size("copy_if", b, a.rows(), a.cols());
  expect_apart("copy_if", s, b);
  expect_entrywise("copy_if", a, b);
  if (access::get(s, 0, 0) != scalar_t<C>(0)) copy(ctx, a, b);
}

/// h(:, j) *= w(0, j).
template <Input W, class H>
  requires Output<H> && Real<W>
void scale_columns(context&, W const& w, H&& h) {
  expect_size("scale_columns", w, 1, h.cols());
  expect_apart("scale_columns", w, h);
  for (index_t j = 0; j < h.cols(); ++j)
    for (index_t i = 0; i < h.rows(); ++i)
      access::at(h, i, j) =
          converted<scalar_t<H>>(static_cast<double>(access::get(w, 0, j)) * wide(h, i, j));
}

/// status |= bits, where bits is an int or a matrix of int all of whose entries count.
template <class Y, class Bits>
  requires Output<Y> && std::same_as<scalar_t<Y>, int>
void raise(context&, Y&& status, Bits const& bits) {
  expect_size("raise", status, 1, 1);
  if constexpr (Input<Bits>) {
    for (index_t j = 0; j < bits.cols(); ++j)
      for (index_t i = 0; i < bits.rows(); ++i)
        access::at(status, 0, 0) |= static_cast<int>(access::get(bits, i, j));
  } else {
    access::at(status, 0, 0) |= static_cast<int>(bits);
  }
}

/// The entries of a, column by column.
template <Input A>
void download(context&, A const& a, scalar_t<A>* data) {
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) data[j * a.rows() + i] = access::get(a, i, j);
}

/// The way back.
template <class B>
  requires Output<B>
void upload(context&, scalar_t<B> const* data, B&& b) {
  for (index_t j = 0; j < b.cols(); ++j)
    for (index_t i = 0; i < b.rows(); ++i) access::at(b, i, j) = data[j * b.rows() + i];
}

/// The entry of a 1 x 1 matrix.
template <Input A>
[[nodiscard]] scalar_t<A> value(context&, A const& s) {
  expect_size("value", s, 1, 1);
  return access::get(s, 0, 0);
}

/// \brief The bytes that a covers.
///
/// A square adjoint is one run from its first to its last byte: it shares memory with its matrix
/// and is not the same matrix.
template <Input A>
[[nodiscard]] stiefelx::memory_region memory(context&, A const& a) {
  auto const& area = access::area(a);
  if (area.rows == 0 || area.cols == 0) return {};
  constexpr index_t size = sizeof(scalar_t<A>);
  stiefelx::memory_region region;
  region.first = reinterpret_cast<std::uintptr_t>(area.memory->address(area.row, area.col));
  region.runs = area.cols;
  region.length = area.rows * size;
  region.stride = area.memory->stride() * size;
  if (detail::is_adjoint<A> && area.rows == area.cols) {
    region.length += (region.runs - 1) * region.stride;
    region.runs = 1;
  }
  return region;
}

namespace detail {

template <class A>
[[nodiscard]] scalar_t<A> broadcast(A const& a, index_t i, index_t j) {
  bool const single = a.rows() == 1 && a.cols() == 1;
  return single ? access::get(a, 0, 0) : access::get(a, i, j);
}

}  // namespace detail

/// \brief f(y_ij&..., x_ij...) for every entry; an input of size 1 x 1 serves every entry.
///
/// Entries are visited from the last to the first: no order is promised.
template <class F, class First, class... Y, class... X>
  requires(Output<First> && ... && Output<Y>) && (Input<X> && ...)
void transform(context&, F const& f, stiefelx::output_list<First, Y...> out,
               stiefelx::input_list<X...> in) {
  std::apply(
      [&](auto&& first, auto&&... y) {
        std::apply(
            [&](auto const&... x) {
              index_t const rows = first.rows();
              index_t const cols = first.cols();
              (expect_size("transform", y, rows, cols), ...);
              [[maybe_unused]] auto const check = [&](auto const& a) {
                bool const single = a.rows() == 1 && a.cols() == 1;
                if (!single) expect_size("transform", a, rows, cols);
                auto const against = [&](auto const& b) {
                  if (single && !(rows == 1 && cols == 1)) {
                    expect_apart("transform", a, b);
                  } else {
                    expect_entrywise("transform", a, b);
                  }
                };
                against(first);
                (against(y), ...);
              };
              (check(x), ...);
              for (index_t j = cols; j-- > 0;)
                for (index_t i = rows; i-- > 0;)
                  f(access::at(first, i, j), access::at(y, i, j)..., detail::broadcast(x, i, j)...);
            },
            in.matrices);
      },
      out.matrices);
}

}  // namespace archetype
