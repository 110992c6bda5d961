// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>

/// \file
/// \brief Weights that are stored in two bytes an entry.
/// \ingroup nn
///
/// Wherever a layer takes a weight with data of float, the weight may be a matrix of bfloat16 or
/// float16 (StoredAs). A value of two bytes is a float, so nothing is lost on the way in: results have
/// the bits that the same layer gives with the weight widened to float. Only a product with a stored
/// matrix of more than 2^18 entries (frozen weights of feed-forward experts and of DoRA) is added up in
/// parts, and may differ in the last bits; so may cuBLAS's products with a widened weight of another
/// orientation, stride or alignment than scratch has. Gradients of such a parameter are matrices of float, as everything is that an optimizer keeps: the master copy of a
/// trained weight stays in float, and copy() rounds it to the stored one after a step. In two bytes
/// alone an update below half a step of the stored number would be lost each time.

namespace stiefelx {

/// \brief A weight in the scalar of arithmetic: itself, or a scratch copy of one of two bytes.
/// \ingroup nn
/// \param[in] ctx     where to run; nothing waits
/// \param[in] weight  any matrix
/// \returns a reference to weight, or for bfloat16 and float16 a copy in float
/// \par Cost
/// None, or 2 bytes read and 4 written an entry; widened_bytes() of scratch.
template <class Ctx, Matrix W>
decltype(auto) widened_weight([[maybe_unused]] Ctx& ctx, W const& weight) {
  if constexpr (NarrowScalar<scalar_t<W>>) {
    auto wide = scratch<float>(ctx, weight.rows(), weight.cols());
    copy(ctx, weight, wide);
    return wide;
  } else {
    return (weight);  // the parentheses make it a reference
  }
}

namespace detail {

// Entries of a frozen weight that are widened at a time.
inline constexpr index_t stored_block_entries = index_t{1} << 18;

}  // namespace detail

/// \brief Bytes of scratch that widened_weight() takes.
/// \ingroup nn
/// \tparam Stored  scalar of the weight
/// \param[in] entries  number of its entries
/// \returns 4 for each entry of two bytes, else 0
template <class Stored>
constexpr index_t widened_bytes(index_t entries) {
  return NarrowScalar<Stored> ? entries * index_t{sizeof(float)} : 0;
}

}  // namespace stiefelx
