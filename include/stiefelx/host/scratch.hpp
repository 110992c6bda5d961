// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include <Eigen/Core>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/host/context.hpp>
#include <stiefelx/host/narrow.hpp>

namespace stiefelx::host {

/// \brief An Eigen matrix, map, block or expression.
/// \ingroup host
template <class A>
concept EigenMatrix =
    std::is_base_of_v<Eigen::MatrixBase<std::remove_cvref_t<A>>, std::remove_cvref_t<A>> ||
    requires(std::remove_cvref_t<A> const& a) { []<class D>(Eigen::MatrixBase<D> const&) {}(a); };

namespace detail {

template <class D>
D as_expression(Eigen::MatrixBase<D> const&);

// The Eigen type behind a matrix: a scratch_matrix is its Map, everything else is itself.
template <class A>
using expression_t = decltype(as_expression(std::declval<std::remove_cvref_t<A> const&>()));

template <class A>
inline constexpr int flags = Eigen::internal::traits<expression_t<A>>::Flags;

template <class A>
inline constexpr bool has_memory = (flags<A> & Eigen::DirectAccessBit) != 0;

// Column-major with adjacent entries: what kernels and matrix_ref take.
template <class A>
inline constexpr bool is_plain =
    has_memory<A> && (flags<A> & Eigen::RowMajorBit) == 0 &&
    int(Eigen::internal::inner_stride_at_compile_time<expression_t<A>>::ret) == 1;

template <class A>
inline constexpr bool is_writable =
    (flags<A> & Eigen::LvalueBit) != 0 && !std::is_const_v<std::remove_reference_t<A>>;

// Column-major owner of A's static shape with another scalar.
template <class A, class S>
using plain_t =
    Eigen::Matrix<S, expression_t<A>::RowsAtCompileTime, expression_t<A>::ColsAtCompileTime,
                  expression_t<A>::RowsAtCompileTime == 1 && expression_t<A>::ColsAtCompileTime != 1
                      ? Eigen::RowMajor
                      : Eigen::ColMajor>;

template <class Plain>
inline constexpr bool is_fixed = Plain::SizeAtCompileTime != Eigen::Dynamic;

}  // namespace detail

/// \brief A matrix in the context's arena: a move-only owner that is an Eigen::Map.
/// \ingroup host
///
/// Released when it is destroyed, in any order; the context outlives it.
/// \tparam Plain  the Eigen matrix type that it looks like
template <class Plain>
class scratch_matrix : public Eigen::Map<Plain, Eigen::AlignedMax> {
 public:
  using Base = Eigen::Map<Plain, Eigen::AlignedMax>;  ///< the view

  /// \param[in] ctx   whose arena
  /// \param[in] rows  rows
  /// \param[in] cols  columns
  scratch_matrix(context& ctx, index_t rows, index_t cols)
      : Base(static_cast<typename Plain::Scalar*>(ctx.memory.allocate(
                 static_cast<std::size_t>(rows * cols) * sizeof(typename Plain::Scalar))),
             rows, cols),
        memory_(&ctx.memory) {}
  /// Takes over the block; the source is left empty-handed.
  /// \param[in] other  owner until now
  scratch_matrix(scratch_matrix&& other) noexcept
      : Base(other), memory_(std::exchange(other.memory_, nullptr)) {}
  scratch_matrix(scratch_matrix const&) = delete;
  /// Copies the entries, as for every Eigen matrix.
  /// \param[in] other  of this shape
  /// \returns this
  scratch_matrix& operator=(scratch_matrix const& other) {
    Base::operator=(other);
    return *this;
  }
  using Base::operator=;
  ~scratch_matrix() {
    if (memory_ != nullptr) memory_->release(this->data());
  }

 private:
  arena* memory_;
};

namespace detail {

// Static shapes live on the stack, dynamic ones in the arena.
template <class Plain>
auto make(context& ctx, index_t rows, index_t cols) {
  if constexpr (is_fixed<Plain>)
    return Plain(rows, cols);
  else
    return scratch_matrix<Plain>(ctx, rows, cols);
}

template <class Plain>
using made_t = std::conditional_t<is_fixed<Plain>, Plain, scratch_matrix<Plain>>;

}  // namespace detail

/// The owning matrix of scalar S that zeros() returns on the host.
/// \ingroup host
template <class S>
using dynamic_matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;

/// Uninitialised scratch.
/// \ingroup host
/// \tparam S  scalar
/// \param[in] ctx   whose arena
/// \param[in] rows  rows
/// \param[in] cols  columns
/// \returns a move-only owner
template <class S>
scratch_matrix<dynamic_matrix<S>> scratch(context& ctx, index_t rows, index_t cols) {
  return {ctx, rows, cols};
}

/// An owning zero matrix, for state that outlives a call.
/// \ingroup host
/// \tparam S  scalar
/// \param[in] rows  rows
/// \param[in] cols  columns
/// \returns a column-major Eigen matrix
template <class S>
dynamic_matrix<S> zeros(context&, index_t rows, index_t cols) {
  return dynamic_matrix<S>::Zero(rows, cols);
}

/// An owning zero matrix of a's shape, static where a's is.
/// \ingroup host
/// \param[in] a  gives shape and scalar
/// \returns an Eigen matrix
template <EigenMatrix A>
detail::plain_t<A, scalar_t<A>> zeros_like(context&, A const& a) {
  return detail::plain_t<A, scalar_t<A>>::Zero(a.rows(), a.cols());
}

/// A scratch copy.
/// \ingroup host
/// \param[in] ctx  whose arena
/// \param[in] a    any matrix or expression
/// \returns a copy, on the stack when its size is static
template <EigenMatrix A>
auto clone(context& ctx, A const& a) {
  auto b = detail::make<detail::plain_t<A, scalar_t<A>>>(ctx, a.rows(), a.cols());
  b = a;
  return b;
}

/// A scratch copy in the wide scalar: double for float.
/// \ingroup host
/// \param[in] ctx  whose arena
/// \param[in] a    any matrix or expression
/// \returns a copy, on the stack when its size is static
template <EigenMatrix A>
auto widen(context& ctx, A const& a) {
  using W = wide_t<scalar_t<A>>;
  auto b = detail::make<detail::plain_t<A, W>>(ctx, a.rows(), a.cols());
  b = a.template cast<W>();
  return b;
}

/// \brief A plain view of an input: the memory itself, or a scratch copy of an expression.
/// \ingroup host
/// \param[in] ctx  whose arena
/// \param[in] a    any matrix or expression; row-major and strided ones are copied
/// \returns a column-major matrix with adjacent entries in each column
template <EigenMatrix A>
auto dense(context& ctx, A const& a) {
  if constexpr (detail::is_plain<A>) {
    using Plain = detail::plain_t<A, scalar_t<A>>;
    return Eigen::Map<Plain const, Eigen::Unaligned, Eigen::OuterStride<>>(
        a.data(), a.rows(), a.cols(), Eigen::OuterStride<>(a.outerStride()));
  } else {
    return clone(ctx, a);
  }
}

/// \brief The bytes that a matrix covers; nothing for an expression.
/// \ingroup host
/// \param[in] a  any matrix or expression
/// \returns the region, for overlap()
template <EigenMatrix A>
memory_region memory(context&, A const& a) {
  if constexpr (detail::has_memory<A>) {
    if (a.size() == 0) return {};
    constexpr index_t entry = sizeof(scalar_t<A>);
    return {reinterpret_cast<std::uintptr_t>(a.data()), a.outerSize(),
            ((a.innerSize() - 1) * a.innerStride() + 1) * entry, a.outerStride() * entry,
            (detail::flags<A> & Eigen::RowMajorBit) != 0};
  } else {
    return {};
  }
}

}  // namespace stiefelx::host
