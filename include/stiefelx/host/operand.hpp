// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <Eigen/Core>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/host/verbs.hpp>

/// \file
/// \brief How kernels of products see the matrices of Eigen.
/// \ingroup host

namespace stiefelx::host {

namespace detail {

// One operand of a product as the kernel takes it: memory, order and conjugation.
template <class A>
struct operand_traits {
  using traits = Eigen::internal::blas_traits<A>;
  static constexpr bool usable = traits::HasUsableDirectAccess;
  using Actual = std::remove_cvref_t<typename traits::DirectLinearAccessType>;
  static constexpr int order = (Eigen::internal::traits<Actual>::Flags & Eigen::RowMajorBit)
                                   ? Eigen::RowMajor
                                   : Eigen::ColMajor;
  static constexpr bool conjugate = traits::NeedToConjugate;
};

// Order and conjugation are part of the type; everything else is read at run time, so that one
// kernel serves every expression of a kind and compile time stays small.
template <class S, int order, bool conjugate>
struct operand {
  S const* data;
  index_t rows, cols, stride;

  auto view() const {
    using Plain = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, order>;
    return Eigen::Map<Plain const, Eigen::Unaligned, Eigen::OuterStride<>>(
        data, rows, cols, Eigen::OuterStride<>(stride));
  }
  operand columns(index_t first, index_t count) const {
    return {data + (order == Eigen::ColMajor ? first * stride : first), rows, count, stride};
  }
};

template <class A>
auto operand_of(A const& a) {
  using T = operand_traits<A>;
  auto const& m = T::traits::extract(a);
  return operand<scalar_t<A>, T::order, T::conjugate>{m.data(), a.rows(), a.cols(),
                                                      m.outerStride()};
}

template <class S>
using plain_view = Eigen::Map<dynamic_matrix<S>, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class S>
using plain_const_view =
    Eigen::Map<dynamic_matrix<S> const, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class C>
auto view_of(C& c) {
  using S = scalar_t<C>;
  using View = std::conditional_t<std::is_const_v<C>, plain_const_view<S>, plain_view<S>>;
  return View(c.data(), c.rows(), c.cols(), Eigen::OuterStride<>(c.outerStride()));
}

}  // namespace detail

}  // namespace stiefelx::host
