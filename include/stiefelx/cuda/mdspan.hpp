// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <type_traits>

#include <cuda/std/mdspan>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/matrix.hpp>

/// \file
/// \brief Device matrices as `cuda::std::mdspan`, and the way back; no other header includes this.
/// \ingroup cuda

namespace stiefelx::cuda {

/// A column-major span of any stride, with sizes known at run time.
/// \ingroup cuda
template <class T>
using strided_mdspan =
    ::cuda::std::mdspan<T, ::cuda::std::dextents<index_t, 2>, ::cuda::std::layout_stride>;

/// \brief A span over a matrix's memory, which outlives it.
/// \ingroup cuda
/// \param[in] a  any matrix; an adjoint gives a row-major span for reading
/// \returns a span of a's shape
template <DeviceMatrix A>
auto as_mdspan(A&& a) {
  using T = std::remove_pointer_t<decltype(a.data())>;
  using extents = ::cuda::std::dextents<index_t, 2>;
  using strides = ::cuda::std::array<index_t, 2>;
  constexpr bool flipped = detail::is_adjoint<std::remove_cvref_t<A>>;
  // A span asks for strides above 0, also where there is nothing.
  index_t const far = a.stride() > 0 ? a.stride() : 1;
  strides const steps = flipped ? strides{far, 1} : strides{1, far};
  return strided_mdspan<T>(
      a.data(), ::cuda::std::layout_stride::mapping<extents>(extents(a.rows(), a.cols()), steps));
}

/// \brief A view of a column-major span.
/// \ingroup cuda
///
/// `layout_left` always fits, `layout_stride` where the entries of a column are adjacent. A
/// row-major span is the adjoint of a matrix: see as_adjoint().
/// \param[in] span  device memory, which outlives the view
/// \returns a view of its shape
/// \throws shape_error  when entries of a column lie apart
template <class T, class Extents, class Layout, class Accessor>
  requires(Extents::rank() == 2 && DeviceScalar<std::remove_const_t<T>> &&
           !std::is_same_v<Layout, ::cuda::std::layout_right>)
matrix_view<T> as_view(::cuda::std::mdspan<T, Extents, Layout, Accessor> const& span) {
  auto const rows = static_cast<index_t>(span.extent(0));
  auto const cols = static_cast<index_t>(span.extent(1));
  auto const near = static_cast<index_t>(span.stride(0));
  auto const far = static_cast<index_t>(span.stride(1));
  if (near != 1 && rows > 1)
    stiefelx::detail::throw_shape(
        "cuda::as_view", "span", rows, cols,
        "a distance of 1 between the entries of a column, found " + std::to_string(near));
  // With one column its stride is never used, and may be anything.
  return matrix_view<T>(span.data_handle(), rows, cols, cols > 1 ? far : rows);
}

/// \brief The matrix of a row-major span, for reading: the adjoint of the column-major one.
/// \ingroup cuda
/// \param[in] span  device memory, which outlives the view
/// \returns a view of its shape
/// \throws shape_error  when entries of a row lie apart
template <class T, class Extents, class Layout, class Accessor>
  requires(Extents::rank() == 2 && DeviceScalar<std::remove_const_t<T>> &&
           !std::is_same_v<Layout, ::cuda::std::layout_left>)
adjoint_view<std::remove_const_t<T>> as_adjoint(
    ::cuda::std::mdspan<T, Extents, Layout, Accessor> const& span) {
  auto const rows = static_cast<index_t>(span.extent(0));
  auto const cols = static_cast<index_t>(span.extent(1));
  auto const near = static_cast<index_t>(span.stride(1));
  auto const far = static_cast<index_t>(span.stride(0));
  if (near != 1 && cols > 1)
    stiefelx::detail::throw_shape(
        "cuda::as_adjoint", "span", rows, cols,
        "a distance of 1 between the entries of a row, found " + std::to_string(near));
  return {span.data_handle(), cols, rows, rows > 1 ? far : cols};
}

}  // namespace stiefelx::cuda
