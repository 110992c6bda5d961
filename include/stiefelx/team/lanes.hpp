// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/column.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief What team text says of a scalar that may be a pack: W matrices side by side.
/// \ingroup team
///
/// Team text that runs in lanes is written once for a scalar S: float, double, a complex number, or
/// `simd::pack`, whose lanes belong to W different matrices. Packs bring functions of the same names.
/// A comparison of packs is a mask, so conditions on values are used only through select(), any()
/// and all(); branches may depend on sizes and on any() and all() alone.

namespace stiefelx {

/// A size known at compile time; as an expression it is an `index_t`.
/// \ingroup team
template <index_t N>
using fixed_size = std::integral_constant<index_t, N>;

namespace detail {

template <class S>
struct lane_real {
  using type = real_of_t<S>;
};
template <class S>
  requires requires { typename S::lane_scalar; }
struct lane_real<S> {
  using type = typename S::lane_scalar;
};

}  // namespace detail

/// Real type of one matrix's entries: that of the lanes of a pack, or below a scalar.
/// \ingroup team
template <class S>
using lane_real_t = typename detail::lane_real<S>::type;

/// \brief a if the condition holds, else b.
/// \ingroup team
/// \param[in] condition  of one matrix
/// \param[in] a          value if it holds
/// \param[in] b          value if not
/// \returns one of the two
template <class S>
STIEFELX_HD S select(bool condition, S a, S b) {
  return condition ? a : b;
}

/// \brief Whether a condition holds for one of the matrices side by side.
/// \ingroup team
/// \param[in] condition  of one matrix
/// \returns the condition
STIEFELX_HD inline bool any(bool condition) { return condition; }

/// \brief Whether a condition holds for all matrices side by side.
/// \ingroup team
/// \param[in] condition  of one matrix
/// \returns the condition
STIEFELX_HD inline bool all(bool condition) { return condition; }

/// \brief A number as a scalar of team text.
/// \ingroup team
/// \tparam S  scalar
/// \param[in] c  a number
/// \returns c, in every lane
template <class S>
STIEFELX_HD S constant(double c) {
  if constexpr (requires { typename S::lane_scalar; })
    return S::broadcast(static_cast<lane_real_t<S>>(c));
  else
    return S(static_cast<lane_real_t<S>>(c));
}

/// \brief a b + c.
/// \ingroup team
/// \param[in] a  first factor
/// \param[in] b  second factor
/// \param[in] c  summand
/// \returns the sum
template <class S>
STIEFELX_HD S multiply_add(S a, S b, S c) {
  return a * b + c;
}

/// \brief c - a b.
/// \ingroup team
/// \param[in] a  first factor
/// \param[in] b  second factor
/// \param[in] c  minuend
/// \returns the difference
template <class S>
STIEFELX_HD S subtract_product(S a, S b, S c) {
  return c - a * b;
}

/// \brief 1 / sqrt(a).
/// \ingroup team
/// \param[in] a  positive
/// \returns the reciprocal of its root
template <class S>
STIEFELX_HD S reciprocal_sqrt(S a) {
  return S(1) / std::sqrt(a);
}

/// Packs use this to hold a value in a register; a scalar needs no such advice.
/// \ingroup team
template <class S>
STIEFELX_HD void keep_in_register(S&) {}

/// \brief n, with a value that the optimizer does not know; for strides, never for bounds.
/// \ingroup team
///
/// Where one address advances by 2, 4 or 8 times another, and both by constants, GCC 12 computes one
/// from the other in a form that its later passes do not recognize as access to that memory, and
/// drops whole loops of stores.
/// \param[in] n  a stride
/// \returns n
STIEFELX_HD inline index_t opaque(index_t n) {
#if defined(__GNUC__) && !defined(__CUDA_ARCH__)
  asm("" : "+r"(n));
#endif
  return n;
}

/// \brief Marks the end of a piece of work that is much longer than a request for memory.
/// \ingroup team
///
/// Teams that ask for the next items' memory do it here; others do nothing.
template <Team T>
STIEFELX_HD void finish_piece(T const&) {}

/// \brief Copies a matrix into a team's scratch.
/// \ingroup team
/// \param[in]  team    its lanes share the entries
/// \param[in]  n, p    rows and columns
/// \param[in]  a       n x p
/// \param[out] to      n x p, column-major
/// \param[in]  stride  distance of its columns
template <Team T, class N, class P, class S>
STIEFELX_HD void read_item(T const& team, N n, P p, matrix_ref<S> a, std::remove_const_t<S>* to,
                           index_t stride) {
  for (index_t j = 0; j < p; ++j)
    for (index_t i = team.rank(); i < n; i += team.size()) to[j * stride + i] = a(i, j);
}

/// \brief Writes the sum of two matrices into a team's scratch.
/// \ingroup team
/// \param[in]  team    its lanes share the entries
/// \param[in]  n, p    rows and columns
/// \param[in]  a       n x p
/// \param[in]  b       n x p
/// \param[out] to      n x p, column-major
/// \param[in]  stride  distance of its columns
///
/// The unnamed matrix may serve as scratch for the sums; it may be a, and is written later anyway.
template <Team T, class N, class P, class S>
STIEFELX_HD void read_sum(T const& team, N n, P p, std::type_identity_t<matrix_ref<S const>> a,
                          std::type_identity_t<matrix_ref<S const>> b, matrix_ref<S>, S* to,
                          index_t stride) {
  for (index_t j = 0; j < p; ++j)
    for (index_t i = team.rank(); i < n; i += team.size()) to[j * stride + i] = a(i, j) + b(i, j);
}

/// \brief Copies a matrix out of a team's scratch.
/// \ingroup team
/// \param[in]  team    its lanes share the entries
/// \param[in]  n, p    rows and columns
/// \param[in]  from    n x p, column-major
/// \param[in]  stride  distance of its columns
/// \param[out] a       n x p
template <Team T, class N, class P, class S>
STIEFELX_HD void write_item(T const& team, N n, P p, S const* from, index_t stride,
                            matrix_ref<S> a) {
  for (index_t j = 0; j < p; ++j)
    for (index_t i = team.rank(); i < n; i += team.size()) a(i, j) = from[j * stride + i];
}

}  // namespace stiefelx
