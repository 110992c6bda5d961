// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace stiefelx {

/// \brief A sum that says when it does not fit.
/// \ingroup io
/// \param[in] a  a number
/// \param[in] b  another
/// \returns a + b, or nothing
constexpr std::optional<std::uint64_t> checked_sum(std::uint64_t a, std::uint64_t b) {
  if (b > std::numeric_limits<std::uint64_t>::max() - a) return std::nullopt;
  return a + b;
}

/// \brief A product that says when it does not fit.
/// \ingroup io
/// \param[in] a  a number
/// \param[in] b  another
/// \returns a b, or nothing
constexpr std::optional<std::uint64_t> checked_product(std::uint64_t a, std::uint64_t b) {
  if (a != 0 && b > std::numeric_limits<std::uint64_t>::max() / a) return std::nullopt;
  return a * b;
}

/// \brief The number of entries of a shape, if it fits.
/// \ingroup io
/// \param[in] shape  sizes of the dimensions; none is a single entry
/// \returns their product, or nothing if it, or the product of the first few, does not fit
constexpr std::optional<std::uint64_t> checked_product(std::span<std::uint64_t const> shape) {
  std::optional<std::uint64_t> product = 1;
  for (std::uint64_t const size : shape) {
    product = checked_product(*product, size);
    if (!product) break;
  }
  return product;
}

}  // namespace stiefelx
