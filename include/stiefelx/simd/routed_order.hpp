// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief A token that chose an expert, and where that slot begins in the token's column of h.
/// \ingroup simd
struct routed_entry {
  int token;  ///< counted from the first token of its block
  int row;    ///< first row of the slot
};

/// \brief Sorts the slots of a block of tokens by expert; empty slots are left out.
/// \ingroup simd
///
/// Stable: an expert's entries are in the order of their tokens, then of their slots, so a token
/// that chose an expert twice has its entries side by side.
/// \param[in]  ids      k x T; negative for an empty slot, else below `experts`
/// \param[in]  first    first token of the block
/// \param[in]  count    number of tokens
/// \param[in]  rank     r, the rows of a slot
/// \param[in]  experts  E
/// \param[out] begin    E + 1 numbers; expert e has the entries begin[e] .. begin[e + 1] - 1
/// \param[out] entries  room for k times count
/// \returns whether a token chose an expert twice
inline bool sort_by_expert(matrix_ref<int const> ids, std::ptrdiff_t first, std::ptrdiff_t count,
                           std::ptrdiff_t rank, std::ptrdiff_t experts, int* begin,
                           routed_entry* entries) {
  std::fill(begin, begin + experts + 1, 0);
  for (std::ptrdiff_t t = first; t < first + count; ++t)
    for (std::ptrdiff_t i = 0; i < ids.rows; ++i)
      if (int const e = ids(i, t); e >= 0) ++begin[e];
  for (std::ptrdiff_t e = 0; e < experts; ++e) begin[e + 1] += begin[e];
  // Now begin[e] is where expert e ends; entries from the last one back bring it to the beginning.
  bool repeats = false;
  for (std::ptrdiff_t t = count; t-- > 0;)
    for (std::ptrdiff_t i = ids.rows; i-- > 0;) {
      int const e = ids(i, first + t);
      if (e < 0) continue;
      for (std::ptrdiff_t j = 0; j < i; ++j) repeats = repeats || ids(j, first + t) == e;
      entries[--begin[e]] = {static_cast<int>(t), static_cast<int>(i * rank)};
    }
  return repeats;
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
