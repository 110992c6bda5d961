// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/expert_scaling.hpp>
#include <stiefelx/nn/ffn_experts.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <stiefelx/nn/stored_weights.hpp>

namespace stiefelx {

namespace detail {

// merged = W + s_e B_e A_e. Factors of the experts' own are on the device, so they scale a copy of B_e.
template <class Ctx, class W, class Bank, class Merged>
void merge_bank_expert(Ctx& ctx, W const& frozen, Bank const& bank, index_t expert,
                       Merged& merged) {
  index_t const rank = bank.down.cols() / bank.count;
  auto const down = bank.down.middleCols(expert * rank, rank);
  auto const up = bank.up.middleRows(expert * rank, rank);
  auto own = scratch<arithmetic_t<scalar_t<Merged>>>(ctx, rank, up.cols());
  copy(ctx, up, own);
  if constexpr (!is_common_scaling<std::remove_cvref_t<decltype(bank.scaling)>>)
    scale_experts(ctx, bank.scaling.middleCols(expert, 1), 1, rank, own);
  copy(ctx, frozen, merged);
  add_to_weight(ctx, common_scaling(bank.scaling), own, widened_weight(ctx, down), merged);
}

// A result may be the weight that it starts from and nothing else of the block, of which all is read
// after the first one is written.
template <class Ctx, class Merged, class Own, class First, class Second, class Block>
void expect_merged_weight(Ctx& ctx, char const* function, char const* name, Merged const& merged,
                          Own const& own, First const& first, Second const& second,
                          Block const& block) {
  expect_same_or_distinct(ctx, function, name, merged, "the frozen weight", own);
  expect_distinct(ctx, function, name, merged, "another frozen weight", first);
  expect_distinct(ctx, function, name, merged, "another frozen weight", second);
  auto const expect_bank = [&](auto const& bank) {
    expect_distinct(ctx, function, name, merged, "a bank's down", bank.down);
    expect_distinct(ctx, function, name, merged, "a bank's up", bank.up);
  };
  expect_bank(block.gate);
  expect_bank(block.up);
  expect_bank(block.down);
}

// The block's shapes, of a call without tokens.
template <class Ctx, class Block>
void expect_ffn_block(Ctx& ctx, char const* function, Block const& block) {
  auto const ids = scratch<int>(ctx, 0, 0);
  auto const x = scratch<double>(ctx, block.frozen_gate.cols(), 0);
  auto const outputs = scratch<double>(ctx, block.frozen_down.rows(), 0);
  expect_ffn_experts(function, block, ids, x, "outputs", outputs);
}

}  // namespace detail

/// \brief One expert of a feed-forward block as a plain block:
/// \f$ W_g + s B^g_e A^g_e \f$, \f$ W_u + s B^u_e A^u_e \f$, \f$ W_d + s B^d_e A^d_e \f$.
/// \ingroup nn
///
/// A token whose one slot names expert e, with weight c, gets c times the output of this block, up to
/// rounding. So a layer is one block where every token takes the same one expert: a specialist taken out
/// of a mixture. Nothing else merges, not even with gates that are the same for all tokens: an output
/// has \f$ g\,\sigma(g)\,u \f$ in it, so the sum of E of them is a block E d_ff wide and no smaller one.
///
/// \param[in]  ctx     where to run; nothing waits
/// \param[in]  block   frozen weights and banks of experts
/// \param[in]  expert  e
/// \param[out] gate    d_ff x d; where it and the frozen weight have two bytes an entry, the sum in float
///                     is rounded once. May be the frozen gate
/// \param[out] up      d_ff x d, likewise; may be the frozen up
/// \param[out] down    d x d_ff, likewise; may be the frozen down
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if there is no such expert, or the banks have different numbers of them
/// \throws alias_error   if a result overlaps another one, a factor, or a frozen weight that it may not be
/// \par Cost
/// 2 r d d_ff flops for each bank, and a copy of the frozen weights; scratch r (d + d_ff) entries.
/// \see \cite li2024mixlora
template <class Ctx, class Block, RealWeight Gate, RealWeight Up, RealWeight Down>
  requires OutputMatrix<Gate> && OutputMatrix<Up> && OutputMatrix<Down>
void merge_ffn_expert(Ctx& ctx, Block const& block, index_t expert, Gate&& gate, Up&& up,
                      Down&& down) {
  char const* const name = "merge_ffn_expert";
  index_t const inner_width = block.frozen_gate.rows(), d = block.frozen_gate.cols();
  detail::expect_ffn_block(ctx, name, block);
  expect_option(expert >= 0 && expert < block.gate.count, name, "expert", expert,
                "the index of an expert");
  expect_shape(name, "gate", gate, inner_width, d);
  expect_shape(name, "up", up, inner_width, d);
  expect_shape(name, "down", down, block.frozen_down.rows(), inner_width);
  detail::expect_merged_weight(ctx, name, "gate", gate, block.frozen_gate, block.frozen_up,
                               block.frozen_down, block);
  detail::expect_merged_weight(ctx, name, "up", up, block.frozen_up, block.frozen_gate,
                               block.frozen_down, block);
  detail::expect_merged_weight(ctx, name, "down", down, block.frozen_down, block.frozen_gate,
                               block.frozen_up, block);
  expect_distinct(ctx, name, "up", up, "gate", gate);
  expect_distinct(ctx, name, "down", down, "gate", gate);
  expect_distinct(ctx, name, "down", down, "up", up);
  detail::merge_bank_expert(ctx, block.frozen_gate, block.gate, expert, gate);
  detail::merge_bank_expert(ctx, block.frozen_up, block.up, expert, up);
  detail::merge_bank_expert(ctx, block.frozen_down, block.down, expert, down);
}

}  // namespace stiefelx
