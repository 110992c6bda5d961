// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include <stiefelx/core/narrow.hpp>

namespace stiefelx {

/// Signed type of rows, columns and counts, on every side.
/// \ingroup core
using index_t = std::ptrdiff_t;

namespace detail {

template <class T>
struct real_of {
  using type = T;
};
template <class T>
struct real_of<std::complex<T>> {
  using type = T;
};

template <class T>
struct wide_of {
  using type = T;
};
template <>
struct wide_of<float> {
  using type = double;
};
template <class T>
struct wide_of<std::complex<T>> {
  using type = std::complex<typename wide_of<T>::type>;
};
template <>
struct wide_of<bfloat16> {
  using type = double;
};
template <>
struct wide_of<float16> {
  using type = double;
};

template <class M>
concept owns_its_entries =
    requires { typename M::PlainObject; } && std::same_as<typename M::PlainObject, M>;

}  // namespace detail

/// Scalar of a matrix type; references and const do not matter.
/// \ingroup core
template <class M>
using scalar_t = typename std::remove_cvref_t<M>::Scalar;

/// Real type below a scalar: `T` for `T` and for `std::complex<T>`.
/// \ingroup core
template <class S>
using real_of_t = typename detail::real_of<S>::type;

/// Real type below the scalar of a matrix.
/// \ingroup core
template <class M>
using real_t = real_of_t<scalar_t<M>>;

/// Scalar in which small, sensitive work runs: double for float and for what is stored in two bytes,
/// itself for double; likewise complex.
/// \ingroup core
template <class S>
using wide_t = typename detail::wide_of<S>::type;

/// A storage type of two bytes: numbers are kept in it, arithmetic with them runs in float.
/// \ingroup core
template <class S>
concept NarrowScalar = std::same_as<S, bfloat16> || std::same_as<S, float16>;

/// Scalar of arithmetic with stored numbers: float for bfloat16 and float16, else the scalar itself.
/// \ingroup core
template <class S>
using arithmetic_t = std::conditional_t<NarrowScalar<S>, float, S>;

/// \brief What every algorithm asks of a matrix.
/// \ingroup core
///
/// A type with `Scalar`, `rows()`, `cols()` and the views `adjoint()`, `middleCols(first, count)`
/// and `middleRows(first, count)`, spelled as in Eigen. The views cost nothing. An adjoint is
/// only an input. Everything that computes is a verb (core/context.hpp).
template <class M>
concept Matrix = requires(std::remove_cvref_t<M> const& m) {
  typename std::remove_cvref_t<M>::Scalar;
  { m.rows() } -> std::convertible_to<index_t>;
  { m.cols() } -> std::convertible_to<index_t>;
  m.adjoint();
};

/// \brief A matrix that may be written: not const, and an lvalue or a view.
/// \ingroup core
///
/// A temporary block `a.middleCols(0, 3)` is a view and may be an output. A temporary that owns
/// its entries may not, since the result would be lost.
template <class Y>
concept OutputMatrix =
    Matrix<Y> && !std::is_const_v<std::remove_reference_t<Y>> &&
    (std::is_lvalue_reference_v<Y> || !detail::owns_its_entries<std::remove_cvref_t<Y>>);

/// All matrices have the scalar of the first.
/// \ingroup core
template <class A, class... B>
concept SameScalar = (std::same_as<scalar_t<A>, scalar_t<B>> && ...);

/// \brief All matrices hold numbers for arithmetic in S: they have that scalar, or two bytes an entry
/// where S is float.
/// \ingroup core
template <class S, class... M>
concept StoredAs = (std::same_as<arithmetic_t<scalar_t<M>>, S> && ...);

/// The scalar is real.
/// \ingroup core
template <class M>
concept RealMatrix = Matrix<M> && std::floating_point<scalar_t<M>>;

/// The scalar is real, or stores real numbers in two bytes: a weight of a layer.
/// \ingroup core
template <class M>
concept RealWeight = Matrix<M> && std::floating_point<arithmetic_t<scalar_t<M>>>;

}  // namespace stiefelx
