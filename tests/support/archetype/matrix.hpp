// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include <stiefelx/core/matrix.hpp>

#include "memory.hpp"

/// \brief A second backend that promises what the library's pages promise and nothing else.
///
/// Its matrices have `Scalar`, `rows()`, `cols()`, `adjoint()`, `middleCols()` and
/// `middleRows()`: no default constructor, no conversion, no operator, no access to an entry.
/// Text that compiles and computes here relies on no property of Eigen.
namespace archetype {

struct access;

template <class S>
class adjoint_view;

/// A rectangle of a matrix: storage, first row and column, size.
template <class S>
struct rectangle {
  std::shared_ptr<storage<S>> memory;
  index_t row;
  index_t col;
  index_t rows;
  index_t cols;

  /// Columns [first, first + count). \throws std::logic_error outside the rectangle
  [[nodiscard]] rectangle columns(index_t first, index_t count) const {
    if (first < 0 || count < 0 || first + count > cols) {
      refuse("columns " + std::to_string(first) + " + " + std::to_string(count) + " of " +
             std::to_string(cols));
    }
    return {memory, row, col + first, rows, count};
  }

  /// Rows [first, first + count). \throws std::logic_error outside the rectangle
  [[nodiscard]] rectangle strip(index_t first, index_t count) const {
    if (first < 0 || count < 0 || first + count > rows) {
      refuse("rows " + std::to_string(first) + " + " + std::to_string(count) + " of " +
             std::to_string(rows));
    }
    return {memory, row + first, col, count, cols};
  }
};

/// \brief A window on a matrix; `view<S const>` is an input only.
///
/// A view may be copied, as a pointer may, and never assigned: what an assignment would mean
/// differs between backends. A const view gives const views.
template <class S>
class view {
 public:
  using Scalar = std::remove_const_t<S>;

  view(view const&) = default;
  view& operator=(view const&) = delete;
  ~view() = default;

  [[nodiscard]] index_t rows() const { return area_.rows; }
  [[nodiscard]] index_t cols() const { return area_.cols; }
  [[nodiscard]] adjoint_view<Scalar> adjoint() const { return adjoint_view<Scalar>(area_); }
  [[nodiscard]] view<S> middleCols(index_t first, index_t count) {
    return view<S>(area_.columns(first, count));
  }
  [[nodiscard]] view<Scalar const> middleCols(index_t first, index_t count) const {
    return view<Scalar const>(area_.columns(first, count));
  }
  [[nodiscard]] view<S> middleRows(index_t first, index_t count) {
    return view<S>(area_.strip(first, count));
  }
  [[nodiscard]] view<Scalar const> middleRows(index_t first, index_t count) const {
    return view<Scalar const>(area_.strip(first, count));
  }

 private:
  friend struct access;
  template <class>
  friend class view;
  template <class, purpose>
  friend class block;
  template <class>
  friend class adjoint_view;
  explicit view(rectangle<Scalar> area) : area_(std::move(area)) {}

  rectangle<Scalar> area_;
};

/// The conjugate transpose of a rectangle, for reading.
template <class S>
class adjoint_view {
 public:
  using Scalar = S;

  adjoint_view(adjoint_view const&) = default;
  adjoint_view& operator=(adjoint_view const&) = delete;
  ~adjoint_view() = default;

  [[nodiscard]] index_t rows() const { return area_.cols; }
  [[nodiscard]] index_t cols() const { return area_.rows; }
  [[nodiscard]] view<S const> adjoint() const { return view<S const>(area_); }
  [[nodiscard]] adjoint_view middleCols(index_t first, index_t count) const {
    return adjoint_view(area_.strip(first, count));
  }
  [[nodiscard]] adjoint_view middleRows(index_t first, index_t count) const {
    return adjoint_view(area_.columns(first, count));
  }

 private:
  friend struct access;
  template <class>
  friend class view;
  template <class, purpose>
  friend class block;
  explicit adjoint_view(rectangle<S> area) : area_(std::move(area)) {}

  rectangle<S> area_;
};

/// A matrix with memory of its own: `matrix<S>` or `scratch_matrix<S>`. Moves, never copies.
template <class S, purpose Use>
class block {
 public:
  using Scalar = S;

  block(block&& other) noexcept = default;
  block& operator=(block&& other) noexcept
    requires(Use == purpose::owner)
  {
    if (this != &other) {
      release();
      area_ = std::move(other.area_);
    }
    return *this;
  }
  ~block() { release(); }

  [[nodiscard]] index_t rows() const { return area_.rows; }
  [[nodiscard]] index_t cols() const { return area_.cols; }
  [[nodiscard]] adjoint_view<S> adjoint() const { return adjoint_view<S>(area_); }
  [[nodiscard]] view<S> middleCols(index_t first, index_t count) {
    return view<S>(area_.columns(first, count));
  }
  [[nodiscard]] view<S const> middleCols(index_t first, index_t count) const {
    return view<S const>(area_.columns(first, count));
  }
  [[nodiscard]] view<S> middleRows(index_t first, index_t count) {
    return view<S>(area_.strip(first, count));
  }
  [[nodiscard]] view<S const> middleRows(index_t first, index_t count) const {
    return view<S const>(area_.strip(first, count));
  }

 private:
  friend struct access;
  explicit block(rectangle<S> area) : area_(std::move(area)) {}
  void release() noexcept {
    if (area_.memory) area_.memory->release();
  }

  rectangle<S> area_;
};

/// Owning matrix, as `zeros` and `zeros_like` return it.
template <class S>
using matrix = block<S, purpose::owner>;

/// Matrix whose life is bounded by its context's, as `scratch` and `product` return it. It is
/// made where it is needed and never assigned.
template <class S>
using scratch_matrix = block<S, purpose::scratch>;

/// The one door to entries and memory, for verbs and for the tests' transfer functions.
struct access {
  template <purpose Use, class S>
  [[nodiscard]] static block<S, Use> make(context& ctx, index_t rows, index_t cols) {
    auto memory = std::make_shared<storage<S>>(ctx.book_, Use, rows, cols);
    return block<S, Use>(rectangle<S>{std::move(memory), 0, 0, rows, cols});
  }

  /// The rectangle that holds a's entries, transposed if a is an adjoint.
  template <class A>
  [[nodiscard]] static rectangle<typename A::Scalar> const& area(A const& a) {
    if (!a.area_.memory) refuse("a matrix is used after it was moved from");
    return a.area_;
  }

  template <class S>
  [[nodiscard]] static view<S const> window(rectangle<S> const& area) {
    return view<S const>(area);
  }

  /// Value of entry (i, j); an adjoint conjugates. \throws std::logic_error outside a
  template <class A>
  [[nodiscard]] static typename A::Scalar get(A const& a, index_t i, index_t j) {
    return entry(area(a), i, j);
  }
  template <class S>
  [[nodiscard]] static S get(adjoint_view<S> const& a, index_t i, index_t j) {
    S const found = entry(area(a), j, i);
    if constexpr (std::is_arithmetic_v<S> || stiefelx::NarrowScalar<S>) {
      return found;
    } else {
      return std::conj(found);
    }
  }

  /// Reference to entry (i, j) of an output. \throws std::logic_error outside b
  template <class B>
  [[nodiscard]] static typename B::Scalar& at(B& b, index_t i, index_t j) {
    return entry(area(b), i, j);
  }

  template <class S>
  [[nodiscard]] static S& entry(rectangle<S> const& a, index_t i, index_t j) {
    if (i < 0 || i >= a.rows || j < 0 || j >= a.cols) {
      refuse("entry (" + std::to_string(i) + ", " + std::to_string(j) + ") of a view of " +
             std::to_string(a.rows) + "x" + std::to_string(a.cols));
    }
    return a.memory->at(a.row + i, a.col + j);
  }
};

}  // namespace archetype
