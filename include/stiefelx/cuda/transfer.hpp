// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/copy_kernels.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/runtime.hpp>

/// \file
/// \brief Memory and transfer on the device (core/context.hpp has the table of verbs).
/// \ingroup cuda
///
/// download() and value() wait. Everything else is queued; an upload from ordinary memory may wait until
/// the queue has reached it, or until it is done.

namespace stiefelx::cuda {

/// Uninitialised scratch.
/// \ingroup cuda
/// \tparam S  scalar
/// \param[in] ctx   whose arena; outlives the scratch
/// \param[in] rows  rows
/// \param[in] cols  columns
/// \returns a move-only owner
template <DeviceScalar S>
scratch_matrix<S> scratch(context& ctx, index_t rows, index_t cols) {
  return scratch_matrix<S>(rows, cols, ctx.memory);
}

/// An owning zero matrix, for state that outlives a call.
/// \ingroup cuda
/// \tparam S  scalar
/// \param[in] ctx   where it is filled
/// \param[in] rows  rows
/// \param[in] cols  columns
/// \returns a move-only owner
template <DeviceScalar S>
matrix<S> zeros(context& ctx, index_t rows, index_t cols) {
  matrix<S> made(rows, cols);
  clear_2d(made.data(), 0, static_cast<std::size_t>(rows * cols) * sizeof(S), 1, ctx.queue);
  return made;
}

/// An owning zero matrix of a's scalar and shape.
/// \ingroup cuda
/// \param[in] ctx  where it is filled
/// \param[in] a    gives shape and scalar
/// \returns a move-only owner
template <DeviceMatrix A>
matrix<scalar_t<A>> zeros_like(context& ctx, A const& a) {
  return zeros<scalar_t<A>>(ctx, a.rows(), a.cols());
}

/// \brief The bytes that a matrix covers.
/// \ingroup cuda
///
/// A square adjoint is one run from its first to its last byte: it shares memory with its matrix
/// and is not the same matrix.
/// \param[in] a  any matrix; its entries are not read
/// \returns the region, for overlap()
template <DeviceMatrix A>
memory_region memory(context&, A const& a) {
  if (a.rows() == 0 || a.cols() == 0) return {};
  constexpr bool flipped = detail::is_adjoint<A>;
  constexpr index_t entry = sizeof(scalar_t<A>);
  index_t const runs = flipped ? a.rows() : a.cols();
  index_t const length = (flipped ? a.cols() : a.rows()) * entry;
  index_t const stride = a.stride() * entry;
  auto const first = reinterpret_cast<std::uintptr_t>(a.data());
  if (flipped && a.rows() == a.cols())
    return {first, 1, (runs - 1) * stride + length, stride, false};
  return {first, runs, length, stride, false};
}

/// \brief b = a, in b's scalar.
/// \ingroup cuda
/// \param[in]  ctx  where it is queued
/// \param[in]  a    any matrix; the same memory as b in the same order, or none of it
/// \param[out] b    of a's shape
/// \throws shape_error  when the shapes differ
/// \throws alias_error  when they overlap otherwise
template <DeviceMatrix A, DeviceOutput B>
void copy(context& ctx, A const& a, B&& b) {
  expect_shape("copy", "b", b, a.rows(), a.cols());
  expect_same_or_distinct(ctx, "copy", "b", b, "a", a);
  using From = scalar_t<A>;
  using To = scalar_t<B>;
  if constexpr (detail::is_adjoint<A>) {
    auto const stored = a.adjoint();
    queue_transpose<From, To>(ctx.queue, ref(stored), ref(b));
  } else if constexpr (SameScalar<A, B>) {
    // Functions that may work in place copy first: then there is nothing to write.
    if (a.data() == b.data()) return;
    constexpr std::size_t entry = sizeof(To);
    copy_2d(b.data(), static_cast<std::size_t>(b.stride()) * entry, a.data(),
            static_cast<std::size_t>(a.stride()) * entry,
            static_cast<std::size_t>(a.rows()) * entry, static_cast<std::size_t>(a.cols()),
            direction::on_device, ctx.queue);
  } else {
    queue_conversion<From, To>(ctx.queue, ref(a), ref(b));
  }
}

/// A scratch copy.
/// \ingroup cuda
/// \param[in] ctx  whose arena
/// \param[in] a    any matrix
/// \returns a copy
template <DeviceMatrix A>
scratch_matrix<scalar_t<A>> clone(context& ctx, A const& a) {
  auto made = scratch<scalar_t<A>>(ctx, a.rows(), a.cols());
  copy(ctx, a, made);
  return made;
}

/// A scratch copy in the wide scalar: double for float.
/// \ingroup cuda
/// \param[in] ctx  whose arena
/// \param[in] a    any matrix
/// \returns a copy
template <DeviceMatrix A>
scratch_matrix<wide_t<scalar_t<A>>> widen(context& ctx, A const& a) {
  auto made = scratch<wide_t<scalar_t<A>>>(ctx, a.rows(), a.cols());
  copy(ctx, a, made);
  return made;
}

/// \brief A plain view of an input: the memory itself, or a scratch copy of an adjoint.
/// \ingroup cuda
/// \param[in] ctx  whose arena
/// \param[in] a    any matrix; outlives a view of it
/// \returns a matrix with adjacent entries in each column
template <DeviceMatrix A>
auto dense(context& ctx, A const& a) {
  if constexpr (detail::is_adjoint<A>)
    return clone(ctx, a);
  else
    return matrix_view<scalar_t<A> const>(a.data(), a.rows(), a.cols(), a.stride());
}

/// \brief Fills b with entries of the caller's memory, column by column.
/// \ingroup cuda
///
/// A device that reads ordinary memory where it lies would read it at any later time, so this waits
/// there. It does not while it is captured: a graph reads the memory whenever it runs.
/// \param[in]  ctx   where it is queued
/// \param[in]  data  as many entries as b has. Ordinary memory may change as soon as this returns,
///                   page-locked memory after the next wait.
/// \param[out] b     any shape
template <DeviceOutput B>
void upload(context& ctx, scalar_t<B> const* data, B&& b) {
  constexpr std::size_t entry = sizeof(scalar_t<B>);
  std::size_t const width = static_cast<std::size_t>(b.rows()) * entry;
  copy_2d(b.data(), static_cast<std::size_t>(b.stride()) * entry, data, width, width,
          static_cast<std::size_t>(b.cols()), direction::to_device, ctx.queue);
  if (width > 0 && b.cols() > 0 && !is_capturing(ctx.queue) &&
      detail::is_read_in_place(data, current_device()))
    synchronize(ctx.queue);
}

/// \brief Brings the entries of a to the caller's memory, column by column; waits.
/// \ingroup cuda
/// \param[in]  ctx   whose work is waited for
/// \param[in]  a     any matrix
/// \param[out] data  as many entries as a has
template <DeviceMatrix A>
void download(context& ctx, A const& a, scalar_t<A>* data) {
  constexpr std::size_t entry = sizeof(scalar_t<A>);
  auto const plain = dense(ctx, a);
  std::size_t const width = static_cast<std::size_t>(plain.rows()) * entry;
  copy_2d(data, width, plain.data(), static_cast<std::size_t>(plain.stride()) * entry, width,
          static_cast<std::size_t>(plain.cols()), direction::to_host, ctx.queue);
  synchronize(ctx.queue);
}

/// \brief Reads a 1 x 1 matrix; waits.
/// \ingroup cuda
/// \param[in] ctx  whose work is waited for
/// \param[in] s    1 x 1
/// \returns its entry
/// \throws shape_error  when it has another size
template <DeviceMatrix A>
scalar_t<A> value(context& ctx, A const& s) {
  expect_shape("value", "s", s, 1, 1);
  scalar_t<A> found;
  download(ctx, s, &found);
  return found;
}

}  // namespace stiefelx::cuda
