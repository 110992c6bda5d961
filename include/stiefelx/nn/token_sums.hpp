// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Weights of tokens, and the pieces in which losses and statistics sum over tokens.
/// \ingroup nn

namespace stiefelx {

/// \brief In place of token weights: every token counts as one.
/// \ingroup nn
struct every_token {};

/// \brief What losses accept as token weights: a real 1 x T matrix, or every_token.
/// \ingroup nn
///
/// A token of weight 0 is padding: it counts nowhere and gets no gradient. Weights replace masks,
/// whose sign is a convention that callers guess wrong.
template <class W>
concept TokenWeights = RealMatrix<W> || std::same_as<std::remove_cvref_t<W>, every_token>;

/// \brief Which tokens an item of a sum covers: a block of fixed length, or a group between offsets.
/// \ingroup nn
///
/// Blocks have the same length on every machine and for any number of threads, and their sums are
/// added in order, so a sum has the same bits however it is shared out.
struct token_range {
  index_t block = 256;  ///< tokens of a block, or 0 for groups

  /// \param[in] offsets  1 x (G + 1), rising; read for groups only
  /// \param[in] item     block or group
  /// \param[in] tokens   T
  /// \returns its first token
  STIEFELX_HD index_t first(matrix_ref<int const> offsets, index_t item, index_t tokens) const {
    return block > 0 ? item * block : inside(offsets(0, item), tokens);
  }

  /// \param[in] offsets  1 x (G + 1), rising; read for groups only
  /// \param[in] item     block or group
  /// \param[in] tokens   T
  /// \returns the token after its last
  STIEFELX_HD index_t end(matrix_ref<int const> offsets, index_t item, index_t tokens) const {
    if (block == 0) return inside(offsets(0, item + 1), tokens);
    return (item + 1) * block < tokens ? (item + 1) * block : tokens;
  }

  /// \param[in] item  block or group
  /// \returns the column where what belongs to the item's sum is: 0 for blocks, which are added up
  STIEFELX_HD index_t column(index_t item) const { return block > 0 ? 0 : item; }

  /// \param[in] tokens  T
  /// \returns number of blocks
  index_t blocks(index_t tokens) const { return (tokens + block - 1) / block; }

 private:
  STIEFELX_HD static index_t inside(int offset, index_t tokens) {
    auto const at = static_cast<index_t>(offset);
    return at < 0 ? 0 : (at < tokens ? at : tokens);
  }
};

namespace detail {

// A 1 x 1 matrix holds the weight of every token.
template <class W>
STIEFELX_HD double weight_of(matrix_ref<W const> w, index_t t) {
  return static_cast<double>(w(0, w.cols == 1 ? 0 : t));
}

template <class Ctx, class W>
decltype(auto) weights_of(Ctx& ctx, char const* function, W const& w, index_t tokens) {
  if constexpr (std::same_as<W, every_token>) {
    auto one = scratch<double>(ctx, 1, 1);
    fill(ctx, 1, one);
    return one;
  } else {
    expect_shape(function, "w", w, 1, tokens);
    return dense(ctx, w);
  }
}

}  // namespace detail

/// \brief Team text: weight of the tokens of a block.
/// \ingroup nn
struct token_weight_body {
  index_t tokens;     ///< T
  token_range range;  ///< blocks

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team   lanes share the tokens
  /// \param[in]  item   the block
  /// \param[in]  w      1 x T or 1 x 1
  /// \param[out] total  1 x blocks
  template <Team Lanes, class W>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double*, matrix_ref<W const> w,
                              matrix_ref<double> total) const {
    double sum = 0;
    index_t const end = range.end({}, item, tokens);
    for (index_t t = range.first({}, item, tokens) + team.rank(); t < end; t += team.size())
      sum += detail::weight_of(w, t);
    sum = team.sum(sum);
    if (team.rank() == 0) total(0, item) = sum;
  }
};

namespace detail {

// 1 x 1, sum of the weights.
template <class Ctx, class W>
auto total_weight(Ctx& ctx, W const& w, index_t tokens) {
  token_range const range;
  auto parts = scratch<double>(ctx, 1, range.blocks(tokens));
  run_batch(ctx, parts.cols(), token_weight_body{tokens, range}, w, parts);
  auto total = scratch<double>(ctx, 1, 1);
  sum_columns(ctx, parts, total);
  return total;
}

}  // namespace detail

}  // namespace stiefelx
