// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <type_traits>

#include <Eigen/Core>

#include <stiefelx/host/scratch.hpp>
#include <stiefelx/simd/narrow_conversion.hpp>

/// \file
/// \brief Elementwise verbs, reductions and status of the host (core/context.hpp has the table).
/// \ingroup host

namespace stiefelx::host {

/// A host coefficient: an arithmetic value or a real 1 x 1 matrix.
/// \ingroup host
template <class C>
concept Coefficient =
    std::is_arithmetic_v<C> || (EigenMatrix<C> && std::floating_point<scalar_t<C>>);

/// An Eigen matrix that can be assigned to.
/// \ingroup host
template <class Y>
concept EigenOutput = EigenMatrix<Y> && detail::is_writable<Y>;

namespace detail {

// Whether equal first entries and distances of columns make two matrices of one shape the same.
template <class A, class B>
inline constexpr bool are_alike = SameScalar<A, B> && is_plain<A> && is_plain<B>;

template <class R, Coefficient C>
R coefficient(C const& c) {
  if constexpr (std::is_arithmetic_v<C>)
    return static_cast<R>(c);
  else
    return static_cast<R>(c(0, 0));
}

// Whether a register at a time converts runs of A to runs of B.
template <class A, class B>
inline constexpr bool has_runs = [] {
  if constexpr (has_memory<A> && has_memory<B>)
    return ((flags<A> ^ flags<B>)&Eigen::RowMajorBit) == 0 &&
           int(Eigen::internal::inner_stride_at_compile_time<expression_t<A>>::ret) == 1 &&
           int(Eigen::internal::inner_stride_at_compile_time<expression_t<B>>::ret) == 1;
  else
    return false;
}();

// b = a, converted, where one of the two lies by rows and the other by columns: tile by tile, so that the
// lines of a tile stay in the first-level cache until all of their entries are used.
template <class A, class B>
void convert_across(A const& a, B& b) {
  constexpr index_t tile = 16;
  using S = scalar_t<B>;
  for (index_t j = 0; j < b.cols(); j += tile)
    for (index_t i = 0; i < b.rows(); i += tile) {
      index_t const rows = std::min(tile, b.rows() - i), cols = std::min(tile, b.cols() - j);
      if (rows == tile && cols == tile)
        b.template block<tile, tile>(i, j) = a.template block<tile, tile>(i, j).template cast<S>();
      else
        b.block(i, j, rows, cols) = a.block(i, j, rows, cols).template cast<S>();
    }
}

template <class A, class B>
inline constexpr bool lie_across = has_memory<A> && has_memory<B> && !is_fixed<expression_t<B>> &&
                                   ((flags<A> ^ flags<B>)&Eigen::RowMajorBit) != 0;

// b = a where one of the two has two bytes an entry.
template <class A, class B>
void convert_stored(A const& a, B& b) {
  constexpr bool reads = std::same_as<scalar_t<B>, float>;
  constexpr bool writes = std::same_as<scalar_t<A>, float>;
  if constexpr ((reads || writes) && has_runs<A, B>) {
    for (index_t j = 0; j < a.outerSize(); ++j) {
      auto const* const from = a.data() + j * a.outerStride();
      auto* const to = b.data() + j * b.outerStride();
      if constexpr (reads)
        simd::widen_run(a.innerSize(), from, to);
      else
        simd::narrow_run(a.innerSize(), from, to);
    }
  } else {
    b = a.template cast<scalar_t<B>>();
  }
}

}  // namespace detail

/// b = a, converting between real types (or between complex types). To fewer digits it rounds once,
/// to nearest with ties to even.
/// \ingroup host
/// \param[in]  a  any expression; the same memory as b, or none of it
/// \param[out] b  of a's shape
template <EigenMatrix A, EigenOutput B>
void copy(context&, A const& a, B&& b) {
  if constexpr (detail::are_alike<A, B>) {
    // Functions that may work in place copy first: then there is nothing to write.
    if (a.data() == b.data() && a.outerStride() == b.outerStride()) return;
  }
  if constexpr (SameScalar<A, B>)
    b = a;
  else if constexpr (NarrowScalar<scalar_t<A>> || NarrowScalar<scalar_t<B>>)
    detail::convert_stored(a, b);
  else if constexpr (detail::lie_across<A, B>)
    detail::convert_across(a, b);
  else
    b = a.template cast<scalar_t<B>>();
}

/// b = c in every entry.
/// \ingroup host
/// \param[in]  c  a number
/// \param[out] b  any shape
template <EigenOutput B>
void fill(context&, double c, B&& b) {
  b.setConstant(scalar_t<B>(static_cast<real_t<B>>(c)));
}

/// b = identity (ones on the main diagonal of any shape).
/// \ingroup host
/// \param[out] b  any shape
template <EigenOutput B>
void set_identity(context&, B&& b) {
  b.setIdentity();
}

/// b = c b.
/// \ingroup host
/// \param[in]     c  a number, or a real 1 x 1 matrix
/// \param[in,out] b  any shape
template <Coefficient C, EigenOutput B>
void scale(context&, C const& c, B&& b) {
  b *= detail::coefficient<real_t<B>>(c);
}

/// b += c a.
/// \ingroup host
/// \param[in]     c  a number, or a real 1 x 1 matrix
/// \param[in]     a  any expression of b's shape; the same memory as b, or none of it
/// \param[in,out] b  any shape
template <Coefficient C, EigenMatrix A, EigenOutput B>
void axpy(context&, C const& c, A const& a, B&& b) {
  b += detail::coefficient<real_t<B>>(c) * a;
}

/// s = (s + s^H) / 2.
/// \ingroup host
/// \param[in,out] s  square
template <EigenOutput S>
void symmetrize(context&, S&& s) {
  using Real = real_t<S>;
  for (index_t j = 0; j < s.cols(); ++j) {
    for (index_t i = 0; i < j; ++i) {
      auto const mean = Real(0.5) * (s(i, j) + Eigen::numext::conj(s(j, i)));
      s(i, j) = mean;
      s(j, i) = Eigen::numext::conj(mean);
    }
    s(j, j) = Eigen::numext::real(s(j, j));
  }
}

/// s = Re tr(a^H b).
/// \ingroup host
/// \param[in]  a  any expression
/// \param[in]  b  of a's shape
/// \param[out] s  1 x 1, real
template <EigenMatrix A, EigenMatrix B, EigenOutput S>
void inner(context&, A const& a, B const& b, S&& s) {
  s(0, 0) = static_cast<scalar_t<S>>(Eigen::numext::real(a.conjugate().cwiseProduct(b).sum()));
}

/// s = Frobenius norm of a.
/// \ingroup host
/// \param[in]  a  any expression
/// \param[out] s  1 x 1, real
template <EigenMatrix A, EigenOutput S>
void norm(context&, A const& a, S&& s) {
  s(0, 0) = static_cast<scalar_t<S>>(a.norm());
}

/// h(:, j) *= w(0, j).
/// \ingroup host
/// \param[in]     w  1 x n, real
/// \param[in,out] h  n columns
template <EigenMatrix W, EigenOutput H>
void scale_columns(context&, W const& w, H&& h) {
  for (index_t j = 0; j < h.cols(); ++j) h.col(j) *= static_cast<real_t<H>>(w(0, j));
}

/// w(0, j) = Re a(:, j)^H b(:, j).
/// \ingroup host
/// \param[in]  a  n columns
/// \param[in]  b  of a's shape
/// \param[out] w  1 x n, real
template <EigenMatrix A, EigenMatrix B, EigenOutput W>
void column_inner(context&, A const& a, B const& b, W&& w) {
  for (index_t j = 0; j < a.cols(); ++j)
    w(0, j) = static_cast<scalar_t<W>>(Eigen::numext::real(a.col(j).dot(b.col(j))));
}

/// w(i, 0) = sum over j of a(i, j).
/// \ingroup host
/// \param[in]  a  any expression
/// \param[out] w  a.rows() x 1
template <EigenMatrix A, EigenOutput W>
void sum_columns(context&, A const& a, W&& w) {
  w.setZero();
  for (index_t j = 0; j < a.cols(); ++j) w.col(0) += a.col(j);
}

/// s = 1 when every entry of a is finite, else 0.
/// \ingroup host
/// \param[in]  a  any expression
/// \param[out] s  1 x 1, real
template <EigenMatrix A, EigenOutput S>
void all_finite(context&, A const& a, S&& s) {
  // A finite number minus itself is zero; NaN and the infinities give NaN, and so does their sum.
  auto const defect = (a - a).sum();
  s(0, 0) = defect == scalar_t<A>(0) ? scalar_t<S>(1) : scalar_t<S>(0);
}

/// b = a when the 1 x 1 matrix s is not zero; else b stays.
/// \ingroup host
/// \param[in]     s  1 x 1, real
/// \param[in]     a  any expression
/// \param[in,out] b  of a's shape
template <EigenMatrix S, EigenMatrix A, EigenOutput B>
void copy_if(context&, S const& s, A const& a, B&& b) {
  if (s(0, 0) != scalar_t<S>(0)) b = a;
}

/// status |= bits.
/// \ingroup host
/// \param[in,out] status  1 x 1, int
/// \param[in]     bits    an int, or a matrix of int all of whose entries count
template <EigenOutput Status, class Bits>
void raise(context&, Status&& status, Bits const& bits) {
  if constexpr (EigenMatrix<Bits>) {
    for (index_t j = 0; j < bits.cols(); ++j)
      for (index_t i = 0; i < bits.rows(); ++i) status(0, 0) |= bits(i, j);
  } else {
    status(0, 0) |= static_cast<int>(bits);
  }
}

/// Brings the entries of a to the caller's memory, column by column. Nothing waits on the host.
/// \ingroup host
/// \param[in]  a     any expression
/// \param[out] data  as many entries as a has
template <EigenMatrix A>
void download(context&, A const& a, scalar_t<A>* data) {
  // Entry by entry: vector code for the caller's arrays, which are often of a known small size, would
  // make compilers warn of its unused branches.
  Eigen::Ref<dynamic_matrix<scalar_t<A>> const, 0, Eigen::Stride<-1, -1>> const view(a);
  for (index_t j = 0; j < view.cols(); ++j)
    for (index_t i = 0; i < view.rows(); ++i) *data++ = view(i, j);
}

/// Fills b with entries of the caller's memory, column by column.
/// \ingroup host
/// \param[in]  data  as many entries as b has
/// \param[out] b     any shape
template <EigenOutput B>
void upload(context&, scalar_t<B> const* data, B&& b) {
  for (index_t j = 0; j < b.cols(); ++j)
    for (index_t i = 0; i < b.rows(); ++i) b(i, j) = *data++;
}

/// Reads a 1 x 1 matrix. Work on the host is done when its call returns, so nothing waits.
/// \ingroup host
/// \param[in] s  1 x 1
/// \returns its entry
template <EigenMatrix S>
scalar_t<S> value(context&, S const& s) {
  return s(0, 0);
}

}  // namespace stiefelx::host
