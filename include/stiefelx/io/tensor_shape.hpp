// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/io/checked.hpp>

namespace stiefelx {

/// \brief Sizes of a tensor's dimensions, the last one contiguous in a file.
/// \ingroup io
class tensor_shape {
 public:
  /// Most dimensions there can be.
  static constexpr std::size_t max_rank = 8;

  /// Makes the shape of a single number, which has no dimension.
  tensor_shape() = default;
  /// \brief Makes a shape.
  /// \param[in] sizes  0 to 8 sizes
  /// \throws option_error  if there are more, or their product does not fit index_t
  tensor_shape(std::initializer_list<std::uint64_t> sizes)
      : tensor_shape(std::span(sizes.begin(), sizes.size())) {}
  /// \brief Makes a shape.
  /// \param[in] sizes  0 to 8 sizes
  /// \throws option_error  if there are more, or their product does not fit index_t
  explicit tensor_shape(std::span<std::uint64_t const> sizes) {
    for (std::uint64_t const size : sizes)
      expect_option(append(size), "tensor_shape", "the number of sizes", sizes.size(), "at most 8");
    expect_option(count().has_value(), "tensor_shape", "the last size",
                  rank_ > 0 ? sizes.back() : 0, "a product that fits index_t");
  }

  /// \brief Adds a last dimension, if there is room.
  /// \param[in] size  its size
  /// \returns false if there are 8 already
  bool append(std::uint64_t size) {
    if (rank_ == max_rank) return false;
    sizes_[rank_++] = size;
    return true;
  }

  /// The number of dimensions.
  /// \returns 0 to 8
  std::size_t rank() const { return rank_; }
  /// The sizes.
  /// \returns as many as there are dimensions
  std::span<std::uint64_t const> sizes() const { return {sizes_.data(), rank_}; }
  /// \brief One of the sizes.
  /// \param[in] k  the dimension, below rank()
  /// \returns its size
  std::uint64_t operator[](std::size_t k) const { return sizes_[k]; }

  /// The number of entries.
  /// \returns the product of the sizes, 1 if there are none; nothing if it, or the product of the
  ///          first few, does not fit index_t
  std::optional<std::uint64_t> count() const {
    std::optional<std::uint64_t> product = 1;
    for (std::uint64_t const size : sizes()) {
      product = checked_product(*product, size);
      if (!product || *product > std::uint64_t{std::numeric_limits<index_t>::max()}) return {};
    }
    return product;
  }

  /// The shape as text.
  /// \returns for example [3, 4]
  std::string text() const {
    std::string text = "[";
    for (std::size_t k = 0; k < rank_; ++k)
      text.append(k > 0 ? ", " : "").append(std::to_string(sizes_[k]));
    return text + "]";
  }

  /// Whether two shapes are equal.
  /// \param[in] other  the second
  /// \returns true if number and sizes of the dimensions are
  bool operator==(tensor_shape const& other) const = default;

 private:
  // Unused sizes are zero, so that shapes compare as a whole.
  std::array<std::uint64_t, max_rank> sizes_{};
  std::size_t rank_ = 0;
};

/// \brief Rows and columns.
/// \ingroup io
struct matrix_size {
  index_t rows;  ///< rows
  index_t cols;  ///< columns

  /// Whether two sizes are equal.
  /// \param[in] other  the second
  /// \returns true if rows and columns are
  bool operator==(matrix_size const& other) const = default;
};

/// \brief The column-major matrix that a tensor is, byte by byte, when its rows are read as columns.
/// \ingroup io
///
/// A tensor [r, d] in a file lies row by row, as a d x r matrix lies column by column; [T, d] holds
/// T tokens as columns. More dimensions are columns too: [E, r, d] is d x (E r).
/// \param[in] shape  a shape whose count() fits
/// \returns the last size, and the product of the others; 1 x 1 for a single number
inline matrix_size size_with_rows_as_columns(tensor_shape const& shape) {
  if (shape.rank() == 0) return {1, 1};
  auto const others = shape.sizes().first(shape.rank() - 1);
  return {static_cast<index_t>(shape.sizes().back()),
          static_cast<index_t>(*checked_product(others))};
}

/// \brief The matrix whose entry (i, j) is the tensor's entry [i, j].
/// \ingroup io
/// \param[in] shape  a shape whose count() fits
/// \returns r x d for [r, d], n x 1 for [n], 1 x 1 for a single number; nothing for more dimensions
inline std::optional<matrix_size> size_with_same_indices(tensor_shape const& shape) {
  if (shape.rank() > 2) return std::nullopt;
  auto const size = [&](std::size_t k) {
    return k < shape.rank() ? static_cast<index_t>(shape[k]) : index_t{1};
  };
  return matrix_size{size(0), size(1)};
}

}  // namespace stiefelx
