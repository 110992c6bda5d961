// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <concepts>
#include <string>
#include <type_traits>

#include <stiefelx/core/matrix.hpp>

#include "matrix.hpp"

namespace archetype {

namespace detail {

template <class A>
inline constexpr bool is_input = false;
template <class S, purpose Use>
inline constexpr bool is_input<block<S, Use>> = true;
template <class S>
inline constexpr bool is_input<view<S>> = true;
template <class S>
inline constexpr bool is_input<adjoint_view<S>> = true;

template <class Y>
inline constexpr bool is_output = false;
template <class S, purpose Use>
inline constexpr bool is_output<block<S, Use>&> = true;
template <class S>
inline constexpr bool is_output<view<S>> = !std::is_const_v<S>;
template <class S>
inline constexpr bool is_output<view<S>&> = !std::is_const_v<S>;

template <class S>
inline constexpr bool is_complex = false;
template <class T>
inline constexpr bool is_complex<std::complex<T>> = true;

}  // namespace detail

using stiefelx::real_of_t;
using stiefelx::real_t;
using stiefelx::scalar_t;
using stiefelx::wide_t;

/// Any archetype matrix, also an adjoint and a view of const.
template <class A>
concept Input = detail::is_input<std::remove_cvref_t<A>>;

/// What a forwarding reference `Y&&` may name: an lvalue that owns, or a view of entries that may
/// change. A temporary owner, an adjoint and anything const are refused.
template <class Y>
concept Output = detail::is_output<Y>;

/// Input and output of one scalar.
template <class A, class... B>
concept Alike = (std::same_as<scalar_t<A>, scalar_t<B>> && ...);

/// Inputs of arithmetic in the scalar of C: of that scalar, or two bytes an entry where it is float.
template <class C, class... A>
concept Stored = stiefelx::StoredAs<scalar_t<C>, A...>;

/// Real entries, not int.
template <class A>
concept Real = std::floating_point<scalar_t<A>>;

/// A host number, or a real 1 x 1 matrix where the data live.
template <class C>
concept Coefficient = std::is_arithmetic_v<std::remove_cvref_t<C>> || (Input<C> && Real<C>);

/// Both real, or both complex: what copy() converts.
template <class A, class B>
concept Convertible = detail::is_complex<scalar_t<A>> == detail::is_complex<scalar_t<B>>;

/// \throws std::logic_error unless a is rows x cols
template <Input A>
void expect_size(char const* verb, A const& a, index_t rows, index_t cols) {
  if (a.rows() == rows && a.cols() == cols) return;
  refuse(std::string(verb) + ": a matrix is " + std::to_string(a.rows()) + "x" +
         std::to_string(a.cols()) + ", expected " + std::to_string(rows) + "x" +
         std::to_string(cols));
}

namespace detail {

template <class A, class B>
[[nodiscard]] bool same_memory(A const& a, B const& b) {
  return static_cast<void const*>(access::area(a).memory.get()) ==
         static_cast<void const*>(access::area(b).memory.get());
}

template <class A>
inline constexpr bool is_adjoint = false;
template <class S>
inline constexpr bool is_adjoint<adjoint_view<S>> = true;

}  // namespace detail

/// Whether a and b share an entry; exact, since both are rectangles of their storage.
template <Input A, Input B>
[[nodiscard]] bool shares_entry(A const& a, B const& b) {
  if (!detail::same_memory(a, b)) return false;
  auto const& p = access::area(a);
  auto const& q = access::area(b);
  return p.rows > 0 && p.cols > 0 && q.rows > 0 && q.cols > 0 && p.row < q.row + q.rows &&
         q.row < p.row + p.rows && p.col < q.col + q.cols && q.col < p.col + p.cols;
}

/// \throws std::logic_error if the output b shares an entry with the input a
template <Input A, Input B>
void expect_apart(char const* verb, A const& a, B const& b) {
  if (shares_entry(a, b)) refuse(std::string(verb) + ": an output overlaps an input");
}

/// \throws std::logic_error if b overlaps a other than entry by entry
template <Input A, Input B>
void expect_entrywise(char const* verb, A const& a, B const& b) {
  if (!shares_entry(a, b)) return;
  auto const& p = access::area(a);
  auto const& q = access::area(b);
  bool const same = p.row == q.row && p.col == q.col && p.rows == q.rows && p.cols == q.cols;
  bool const upright = detail::is_adjoint<A> == detail::is_adjoint<B>;
  if (!same || !upright) refuse(std::string(verb) + ": an output overlaps an input in part");
}

/// Value of a coefficient. \throws std::logic_error if a matrix is not 1 x 1
template <Coefficient C>
[[nodiscard]] double coefficient(char const* verb, C const& c) {
  if constexpr (std::is_arithmetic_v<C>) {
    return static_cast<double>(c);
  } else {
    expect_size(verb, c, 1, 1);
    return static_cast<double>(access::get(c, 0, 0));
  }
}

/// An entry in another precision.
template <class To, class From>
[[nodiscard]] To converted(From const& from) {
  if constexpr (detail::is_complex<From>) {
    using real = typename To::value_type;
    return To(static_cast<real>(from.real()), static_cast<real>(from.imag()));
  } else {
    return static_cast<To>(from);
  }
}

/// Entry (i, j) of a, widened.
template <Input A>
[[nodiscard]] wide_t<scalar_t<A>> wide(A const& a, index_t i, index_t j) {
  return converted<wide_t<scalar_t<A>>>(access::get(a, i, j));
}

/// Conjugate of a real or complex number, in its own type.
template <class S>
[[nodiscard]] S conjugate(S const& s) {
  if constexpr (detail::is_complex<S>) {
    return std::conj(s);
  } else {
    return s;
  }
}

/// Real part of a real or complex number.
template <class S>
[[nodiscard]] real_of_t<S> real_part(S const& s) {
  if constexpr (detail::is_complex<S>) {
    return s.real();
  } else {
    return s;
  }
}

}  // namespace archetype
