// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/narrow.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/cuda/arena.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/runtime.hpp>

/// \file
/// \brief Matrices in device memory: column-major, with adjacent entries in each column.
/// \ingroup cuda
///
/// A row-major matrix is the adjoint of the column-major one with the same memory:
/// `matrix_view(first, cols, rows, stride).adjoint()`.

namespace stiefelx::cuda {

/// Entries that device matrices may have; the two-byte types are storage, arithmetic is float.
/// \ingroup cuda
template <class S>
concept DeviceScalar = std::same_as<S, float> || std::same_as<S, double> || std::same_as<S, int> ||
                       std::same_as<S, bfloat16> || std::same_as<S, float16>;

namespace detail {

inline void expect_range(char const* view, char const* expected, index_t first, index_t count,
                         index_t rows, index_t cols, index_t limit) {
  if (first >= 0 && count >= 0 && first <= limit && count <= limit - first) return;
  stiefelx::detail::throw_shape(
      view, "the matrix", rows, cols,
      expected + std::to_string(first) + " to " + std::to_string(first + count));
}

inline void expect_layout(char const* function, index_t rows, index_t cols, index_t stride) {
  if (rows < 0 || cols < 0)
    stiefelx::detail::throw_shape(function, "the matrix", rows, cols, "no negative size");
  if (stride < rows)
    stiefelx::detail::throw_shape(
        function, "the matrix", rows, cols,
        "at most as many rows as its stride, which is " + std::to_string(stride));
}

// Memory that entries cannot lie in shows itself in whatever kernel comes first.
template <class T>
void expect_address(T const* data, index_t rows, index_t cols) {
  auto const address = reinterpret_cast<std::uintptr_t>(data);
  if (rows == 0 || cols == 0 || (address != 0 && address % alignof(T) == 0)) return;
  stiefelx::detail::throw_shape(
      "cuda::matrix_view", "the matrix", rows, cols,
      address == 0 ? "an address, found null"
                   : "an address that is a multiple of " + std::to_string(alignof(T)));
}

inline std::size_t entry_count(index_t rows, index_t cols) {
  expect_layout("cuda::matrix", rows, cols, rows);
  // The bytes of entries up to 8 bytes large must fit an index too.
  constexpr index_t most = std::numeric_limits<index_t>::max() / 8;
  if (rows > 0 && cols > most / rows)
    stiefelx::detail::throw_shape("cuda::matrix", "the matrix", rows, cols,
                                  "at most " + std::to_string(most) + " entries");
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
}

}  // namespace detail

template <class T>
class adjoint_view;

/// \brief A window on device memory: `matrix_view<T>`, or `matrix_view<T const>` for reading.
/// \ingroup cuda
///
/// It owns nothing. It may be copied, as a pointer may, and never assigned: what an assignment
/// would mean differs between backends. A const view gives const views.
template <class T>
class matrix_view {
 public:
  using Scalar = std::remove_const_t<T>;  ///< entry type

  /// \brief Wraps device memory of the caller's, which outlives the view.
  /// \param[in] data    first entry, on the device
  /// \param[in] rows    rows
  /// \param[in] cols    columns
  /// \param[in] stride  entries from one column to the next, at least rows
  /// \throws shape_error  on a negative size or a smaller stride, and where entries have no address
  ///                      or one that is no multiple of their alignment
  matrix_view(T* data, index_t rows, index_t cols, index_t stride)
      : area_{data, rows, cols, stride} {
    static_assert(DeviceScalar<Scalar>, "entries are float, double, int, bfloat16 or float16");
    detail::expect_layout("cuda::matrix_view", rows, cols, stride);
    detail::expect_address(data, rows, cols);
  }
  /// \brief Wraps device memory whose columns follow each other.
  /// \param[in] data  first entry, on the device
  /// \param[in] rows  rows
  /// \param[in] cols  columns
  matrix_view(T* data, index_t rows, index_t cols) : matrix_view(data, rows, cols, rows) {}
  /// Another window on the same memory.
  matrix_view(matrix_view const&) = default;
  matrix_view& operator=(matrix_view const&) = delete;
  ~matrix_view() = default;

  /// \returns rows
  index_t rows() const { return area_.rows; }
  /// \returns columns
  index_t cols() const { return area_.cols; }
  /// \returns entries from one column to the next
  index_t stride() const { return area_.stride; }
  /// \returns address of the first entry, on the device
  T* data() { return area_.data; }
  /// \returns address of the first entry, on the device
  Scalar const* data() const { return area_.data; }
  /// \returns the adjoint, for reading
  adjoint_view<Scalar> adjoint() const {
    return adjoint_view<Scalar>(area_.data, area_.rows, area_.cols, area_.stride);
  }
  /// \param[in] first  first column of the view
  /// \param[in] count  number of columns
  /// \returns a view of these columns
  matrix_view middleCols(index_t first, index_t count) {
    return columns_of<T>(area_, first, count);
  }
  /// \param[in] first  first column of the view
  /// \param[in] count  number of columns
  /// \returns a view of these columns, for reading
  matrix_view<Scalar const> middleCols(index_t first, index_t count) const {
    return columns_of<Scalar const>(area_, first, count);
  }
  /// \param[in] first  first row of the view
  /// \param[in] count  number of rows
  /// \returns a view of these rows
  matrix_view middleRows(index_t first, index_t count) { return rows_of<T>(area_, first, count); }
  /// \param[in] first  first row of the view
  /// \param[in] count  number of rows
  /// \returns a view of these rows, for reading
  matrix_view<Scalar const> middleRows(index_t first, index_t count) const {
    return rows_of<Scalar const>(area_, first, count);
  }

 private:
  template <class U>
  static matrix_view<U> columns_of(matrix_ref<T> a, index_t first, index_t count) {
    detail::expect_range("middleCols", "columns ", first, count, a.rows, a.cols, a.cols);
    return {a.data + first * a.stride, a.rows, count, a.stride};
  }
  template <class U>
  static matrix_view<U> rows_of(matrix_ref<T> a, index_t first, index_t count) {
    detail::expect_range("middleRows", "rows ", first, count, a.rows, a.cols, a.rows);
    return {a.data + first, count, a.cols, a.stride};
  }

  matrix_ref<T> area_;
};

/// \brief The adjoint of device memory, for reading; it costs nothing.
/// \ingroup cuda
template <class T>
class adjoint_view {
 public:
  using Scalar = T;  ///< entry type

  /// \brief The adjoint of the column-major matrix at an address.
  /// \param[in] data           its first entry, on the device
  /// \param[in] stored_rows    its rows, which are the columns of the view
  /// \param[in] stored_cols    its columns
  /// \param[in] stored_stride  entries from one of its columns to the next
  adjoint_view(T const* data, index_t stored_rows, index_t stored_cols, index_t stored_stride)
      : stored_(data, stored_rows, stored_cols, stored_stride) {}
  /// Another window on the same memory.
  adjoint_view(adjoint_view const&) = default;
  adjoint_view& operator=(adjoint_view const&) = delete;
  ~adjoint_view() = default;

  /// \returns rows
  index_t rows() const { return stored_.cols(); }
  /// \returns columns
  index_t cols() const { return stored_.rows(); }
  /// \returns the matrix that lies in memory
  matrix_view<T const> adjoint() const { return stored_; }
  /// \param[in] first  first column of the view
  /// \param[in] count  number of columns
  /// \returns a view of these columns
  adjoint_view middleCols(index_t first, index_t count) const {
    return stored_.middleRows(first, count).adjoint();
  }
  /// \param[in] first  first row of the view
  /// \param[in] count  number of rows
  /// \returns a view of these rows
  adjoint_view middleRows(index_t first, index_t count) const {
    return stored_.middleCols(first, count).adjoint();
  }
  /// \returns address of the first entry, on the device
  T const* data() const { return stored_.data(); }
  /// \returns entries from one row to the next
  index_t stride() const { return stored_.stride(); }

 private:
  matrix_view<T const> stored_;
};

/// \brief A matrix with device memory of its own. Moves, never copies.
/// \ingroup cuda
/// \tparam Memory  what holds the entries
template <class T, class Memory>
class owned_matrix {
 public:
  using Scalar = T;                  ///< entry type
  using PlainObject = owned_matrix;  ///< says that it owns its entries

  /// \brief Uninitialised entries in memory of a kind.
  /// \param[in] memory  where to take them from: nothing for matrix, an arena for scratch_matrix
  /// \param[in] rows    rows
  /// \param[in] cols    columns
  /// \throws shape_error  on a negative size, or one beyond what an index can count
  /// \throws cuda_error   when the device has no more memory
  template <class... Source>
    requires(sizeof...(Source) == 0 || (std::same_as<Source, arena> && ...))
  owned_matrix(index_t rows, index_t cols, Source&... memory)
      : entries_(memory..., detail::entry_count(rows, cols)), rows_(rows), cols_(cols) {
    static_assert(DeviceScalar<T>, "entries are float, double, int, bfloat16 or float16");
  }
  /// Takes over the entries; the source is left 0 x 0.
  /// \param[in] other  owner until now
  owned_matrix(owned_matrix&& other) noexcept
      : entries_(std::move(other.entries_)),
        rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  /// Gives its memory back and takes over other's.
  /// \param[in] other  owner until now
  /// \returns this
  owned_matrix& operator=(owned_matrix&& other) noexcept
    requires std::is_move_assignable_v<Memory>
  {
    // By way of a third matrix, so that a matrix may be assigned to itself.
    owned_matrix taken(std::move(other));
    std::swap(entries_, taken.entries_);
    std::swap(rows_, taken.rows_);
    std::swap(cols_, taken.cols_);
    return *this;
  }
  ~owned_matrix() = default;

  /// \returns rows
  index_t rows() const { return rows_; }
  /// \returns columns
  index_t cols() const { return cols_; }
  /// \returns entries from one column to the next
  index_t stride() const { return rows_; }
  /// \returns address of the first entry, on the device
  T* data() { return entries_.data(); }
  /// \returns address of the first entry, on the device
  T const* data() const { return entries_.data(); }
  /// \returns the adjoint, for reading
  adjoint_view<T> adjoint() const { return view().adjoint(); }
  /// \param[in] first  first column of the view
  /// \param[in] count  number of columns
  /// \returns a view of these columns
  matrix_view<T> middleCols(index_t first, index_t count) {
    return matrix_view<T>(data(), rows_, cols_).middleCols(first, count);
  }
  /// \param[in] first  first column of the view
  /// \param[in] count  number of columns
  /// \returns a view of these columns, for reading
  matrix_view<T const> middleCols(index_t first, index_t count) const {
    return view().middleCols(first, count);
  }
  /// \param[in] first  first row of the view
  /// \param[in] count  number of rows
  /// \returns a view of these rows
  matrix_view<T> middleRows(index_t first, index_t count) {
    return matrix_view<T>(data(), rows_, cols_).middleRows(first, count);
  }
  /// \param[in] first  first row of the view
  /// \param[in] count  number of rows
  /// \returns a view of these rows, for reading
  matrix_view<T const> middleRows(index_t first, index_t count) const {
    return view().middleRows(first, count);
  }

 private:
  matrix_view<T const> view() const { return {data(), rows_, cols_}; }

  Memory entries_;
  index_t rows_;
  index_t cols_;
};

/// \brief An owning matrix, as zeros() makes it; it may outlive its context.
/// \ingroup cuda
template <class T>
using matrix = owned_matrix<T, buffer<T>>;

/// \brief A matrix in a context's arena, as scratch() makes it; the context outlives it.
/// \ingroup cuda
template <class T>
using scratch_matrix = owned_matrix<T, arena_block<T>>;

namespace detail {

template <class A>
inline constexpr bool is_plain = false;
template <class T>
inline constexpr bool is_plain<matrix_view<T>> = true;
template <class T, class Memory>
inline constexpr bool is_plain<owned_matrix<T, Memory>> = true;

template <class A>
inline constexpr bool is_adjoint = false;
template <class T>
inline constexpr bool is_adjoint<adjoint_view<T>> = true;

template <class Y>
inline constexpr bool is_output = false;
template <class T, class Memory>
inline constexpr bool is_output<owned_matrix<T, Memory>&> = true;
template <class T>
inline constexpr bool is_output<matrix_view<T>> = !std::is_const_v<T>;
template <class T>
inline constexpr bool is_output<matrix_view<T>&> = !std::is_const_v<T>;

}  // namespace detail

/// \brief A device matrix that lies in memory as it is: an owner or a view, no adjoint.
/// \ingroup cuda
template <class A>
concept DevicePlain = detail::is_plain<std::remove_cvref_t<A>>;

/// \brief Any device matrix, also an adjoint and a view of const.
/// \ingroup cuda
template <class A>
concept DeviceMatrix = DevicePlain<A> || detail::is_adjoint<std::remove_cvref_t<A>>;

/// \brief What a forwarding reference `Y&&` to an output may name: an owner that has a name, or a
/// view of entries that may change.
/// \ingroup cuda
template <class Y>
concept DeviceOutput = detail::is_output<Y>;

/// \brief A number of the host's, or a real 1 x 1 matrix on the device.
/// \ingroup cuda
template <class C>
concept DeviceCoefficient =
    std::is_arithmetic_v<std::remove_cvref_t<C>> ||
    (DeviceMatrix<C> && (std::same_as<scalar_t<C>, float> || std::same_as<scalar_t<C>, double>));

/// \brief Pointer, sizes and stride of a matrix: what kernels take.
/// \ingroup cuda
/// \param[in] a  any plain matrix
/// \returns a reference to entries that may change where a's may
template <DevicePlain A>
auto ref(A&& a) {
  using T = std::remove_pointer_t<decltype(a.data())>;
  return matrix_ref<T>{a.data(), a.rows(), a.cols(), a.stride()};
}

}  // namespace stiefelx::cuda
