// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/moe_lora_dropout.hpp>
#include <stiefelx/nn/swiglu.hpp>
#include <stiefelx/nn/token_slots.hpp>

namespace stiefelx {

/// \brief A frozen feed-forward block with experts' adapters on its three products.
/// \ingroup nn
///
/// The frozen weights are d_ff x d (gate and value) and d x d_ff (output), all three banks have the
/// same number of experts, and a bank's rank is its own. Any of them may have two bytes an entry
/// (nn/stored_weights.hpp). Made from lvalues, it refers to them.
template <class G, class U, class D, class GateExperts, class UpExperts, class DownExperts>
struct ffn_experts {
  G frozen_gate;     ///< d_ff x d
  U frozen_up;       ///< d_ff x d
  D frozen_down;     ///< d x d_ff
  GateExperts gate;  ///< lora_experts, d to d_ff
  UpExperts up;      ///< lora_experts, d to d_ff
  DownExperts down;  ///< lora_experts, d_ff to d
};

/// Refers to the frozen weights; the banks refer to theirs.
/// \ingroup nn
template <class G, class U, class D, class A, class B, class C>
ffn_experts(G&, U&, D&, A, B, C) -> ffn_experts<G&, U&, D&, A, B, C>;

/// \brief Which dropout the adapters of feed-forward experts have: a mask for each bank, one place.
/// \ingroup nn
///
/// What the output's bank sees differs between the slots of a token, so its masks do too: there
/// `shared_input` is a mask for every slot, and `expert_input` one for every slot and expert.
struct ffn_dropout {
  dropout_mask gate{};  ///< of the gate's bank
  dropout_mask up{};    ///< of the values' bank
  dropout_mask down{};  ///< of the output's bank; its first_token counts tokens as well
  dropout_place place = dropout_place::shared_input;  ///< what they apply to
};

/// No dropout.
/// \ingroup nn
struct no_ffn_dropout {};

/// \brief Takes the next three masks of a stream, of one rate.
/// \ingroup nn
/// \param[in,out] stream  advanced by three draws
/// \param[in]     rate    probability of dropping an entry, in [0, 1)
/// \param[in]     place   what the masks apply to
/// \returns masks that are independent of each other
/// \throws option_error  if the rate is outside [0, 1)
inline ffn_dropout next_ffn_dropout(random_stream& stream, double rate,
                                    dropout_place place = dropout_place::shared_input) {
  return {next_dropout_mask(stream, rate), next_dropout_mask(stream, rate),
          next_dropout_mask(stream, rate), place};
}

/// What ffn_experts_forward() keeps for its backward pass.
/// \ingroup nn
template <class Ids, class M, class Dropout = no_ffn_dropout>
struct ffn_experts_saved {
  Ids ids;            ///< 1 x (k T), one slot a column
  M gate_h;           ///< r x (k T), rank space of the gate's adapters
  M up_h;             ///< the same of the values' adapters
  M down_h;           ///< the same of the output's adapters
  M gate;             ///< d_ff x (k T), scores of the gate
  M linear;           ///< d_ff x (k T), values
  M activated;        ///< d_ff x (k T), \f$ g\,\sigma(g)\,u \f$
  Dropout dropped{};  ///< ffn_dropout, whose masks the backward pass makes again
};

namespace detail {

template <class Block, class Ids, class X, class Outputs>
void expect_ffn_experts(char const* function, Block const& block, Ids const& ids, X const& x,
                        char const* name, Outputs const& outputs) {
  index_t const d = x.rows(), inner_width = block.frozen_gate.rows(), count = block.gate.count;
  expect_shape(function, "frozen_gate", block.frozen_gate, inner_width, d);
  expect_shape(function, "frozen_up", block.frozen_up, inner_width, d);
  expect_shape(function, "frozen_down", block.frozen_down, block.frozen_down.rows(), inner_width);
  expect_option(count >= 1, function, "gate.count", count, "a number of at least 1");
  expect_option(block.up.count == count, function, "up.count", block.up.count,
                "the number of experts of the gate");
  expect_option(block.down.count == count, function, "down.count", block.down.count,
                "the number of experts of the gate");
  auto const expect_bank = [&](char const* down, char const* up, auto const& bank, index_t from,
                               index_t to) {
    expect_shape(function, down, bank.down, from, bank.down.cols() / count * count);
    expect_shape(function, up, bank.up, bank.down.cols(), to);
    expect_scaling(function, "scaling of a bank", bank.scaling, count);
  };
  expect_bank("gate.down", "gate.up", block.gate, d, inner_width);
  expect_bank("up.down", "up.up", block.up, d, inner_width);
  expect_bank("down.down", "down.up", block.down, inner_width, block.frozen_down.rows());
  expect_shape(function, "ids", ids, ids.rows(), x.cols());
  expect_shape(function, name, outputs, block.frozen_down.rows(), ids.rows() * x.cols());
}

template <class Ctx, class Gradients, class Bank, class X, class DY, class DX>
void expect_bank_gradients(Ctx& ctx, char const* function, char const* down, char const* up,
                           Gradients const& gradients, Bank const& bank, X const& x,
                           char const* incoming, DY const& dy, DX const& dx) {
  expect_shape(function, down, gradients.down, bank.down.rows(), bank.down.cols());
  expect_shape(function, up, gradients.up, bank.up.rows(), bank.up.cols());
  auto const expect_apart = [&](char const* name, auto const& gradient) {
    expect_distinct(ctx, function, name, gradient, "the bank's down", bank.down);
    expect_distinct(ctx, function, name, gradient, "the bank's up", bank.up);
    expect_distinct(ctx, function, name, gradient, "x", x);
    expect_distinct(ctx, function, name, gradient, incoming, dy);
    expect_distinct(ctx, function, name, gradient, "dx", dx);
  };
  expect_apart(down, gradients.down);
  expect_apart(up, gradients.up);
}

inline void expect_ffn_dropout(char const* function, ffn_dropout const& dropped) {
  for (double rate : {dropped.gate.rate, dropped.up.rate, dropped.down.rate})
    expect_option(rate >= 0 && rate < 1, function, "rate", rate, "a number in [0, 1)");
}

// Dropout of one bank.
struct bank_dropout {
  dropout_mask mask;
  dropout_place place;
};

template <class... Bank>
no_ffn_dropout of_bank(no_ffn_dropout, Bank...) {
  return {};
}

// The mask of a bank whose input has `columns` columns a token.
inline bank_dropout of_bank(ffn_dropout const& dropped, dropout_mask ffn_dropout::* bank,
                            index_t columns = 1) {
  dropout_mask mask = dropped.*bank;
  mask.first_token *= static_cast<std::uint64_t>(columns);
  return {mask, dropped.place};
}

// h of a bank. Without a drop it has the sums that it has without dropout, and so their bits.
template <class Ctx, class Bank, class Dropped, class Ids, class X, class H>
void bank_rank_space(Ctx& ctx, Bank const& bank, Dropped const& dropped, Ids const& ids, X const& x,
                     H& h) {
  if constexpr (!std::is_same_v<Dropped, no_ffn_dropout>)
    if (dropped.mask.rate != 0)
      return dropped_rank_space(ctx, widened_weight(ctx, bank.down), ids, dropped.mask,
                                dropped.place, bank.down.cols() / bank.count, x, h);
  routed_multiply(ctx, ids, widened_weight(ctx, bank.down), x, h);
}

// From the gradient of h to those of A and x; dx accumulates.
template <class Ctx, class Bank, class Dropped, class Ids, class X, class DH, class DDown, class DX>
void bank_rank_space_backward(Ctx& ctx, Bank const& bank, Dropped const& dropped, Ids const& ids,
                              X const& x, DH& dh, DDown&& ddown, DX&& dx) {
  if constexpr (!std::is_same_v<Dropped, no_ffn_dropout>)
    if (dropped.mask.rate != 0)
      return dropped_rank_space_backward(ctx, widened_weight(ctx, bank.down), ids, dropped.mask,
                                         dropped.place, bank.down.cols() / bank.count, x, dh, ddown,
                                         dx);
  routed_outer_add(ctx, 1, ids, x, dh, ddown);
  routed_multiply_add(ctx, 1, ids, widened_weight(ctx, bank.down), dh, dx);
}

// z times the factors, common or not.
template <class Ctx, class Scaling, class SlotIds, class Z>
void scale_rank_space(Ctx& ctx, Scaling const& scaling, SlotIds const& slot_ids, index_t rank,
                      Z& z) {
  if constexpr (is_common_scaling<Scaling>)
    scale(ctx, common_scaling(scaling), z);
  else
    scale_slots(ctx, scaling, slot_ids, rank, z);
}

// A product of the block that all experts share, and the adapters of each slot's expert.
template <class Ctx, class W, class Bank, class Dropped, class Ids, class SlotIds, class X, class Y>
auto ffn_from_tokens(Ctx& ctx, W const& frozen, Bank const& bank, Dropped const& dropped,
                     Ids const& ids, SlotIds const& slot_ids, X const& x, Y& y) {
  using S = scalar_t<X>;
  index_t const k = ids.rows(), tokens = x.cols(), rank = bank.down.cols() / bank.count;
  // First the scratch that is returned: what is taken before it could not be given back.
  auto h = scratch<S>(ctx, rank, k * tokens);
  auto const shared = product(ctx, frozen, x);
  run_batch(ctx, tokens, spread_slots_body{k}, shared, y);
  auto stacked = scratch<S>(ctx, k * rank, tokens);
  bank_rank_space(ctx, bank, dropped, ids, x, stacked);
  run_batch(ctx, tokens, unstack_slots_body{k}, std::as_const(stacked), h);
  scale_slots(ctx, bank.scaling, slot_ids, rank, h);
  routed_multiply_add(ctx, common_scaling(bank.scaling), slot_ids,
                      widened_weight(ctx, bank.up).adjoint(), h, y);
  return h;
}

// Its gradients from those of y; dx accumulates.
template <class Ctx, class W, class Bank, class Dropped, class Ids, class SlotIds, class X, class H,
          class DY, class Gradients, class DX>
void ffn_from_tokens_backward(Ctx& ctx, W const& frozen, Bank const& bank, Dropped const& dropped,
                              Ids const& ids, SlotIds const& slot_ids, X const& x, H const& h,
                              DY const& dy, Gradients const& gradients, DX&& dx) {
  using S = scalar_t<X>;
  index_t const k = ids.rows(), tokens = x.cols(), rank = h.rows();
  auto z = scratch<S>(ctx, rank, k * tokens);
  routed_multiply(ctx, slot_ids, widened_weight(ctx, bank.up).adjoint(), dy, z);
  scale_rank_space(ctx, bank.scaling, slot_ids, rank, z);
  routed_adjoint_outer_add(ctx, common_scaling(bank.scaling), slot_ids, h, dy, gradients.up);
  auto stacked = scratch<S>(ctx, k * rank, tokens);
  run_batch(ctx, tokens, stack_slots_body{k}, std::as_const(z), stacked);
  bank_rank_space_backward(ctx, bank, dropped, ids, x, stacked, gradients.down, dx);
  auto shared = scratch<S>(ctx, dy.rows(), tokens);
  run_batch(ctx, tokens, sum_slots_body{k}, dy, shared);
  multiply_add(ctx, 1, frozen.adjoint(), shared, dx);
}

// Both ffn_experts_forward().
template <class Ctx, class Block, class Dropped, class Ids, class X, class E>
auto ffn_experts_outputs(Ctx& ctx, Block const& block, Dropped const& dropped, Ids const& ids,
                         X const& x, E&& e) {
  using S = scalar_t<X>;
  char const* const name = "ffn_experts_forward";
  expect_ffn_experts(name, block, ids, x, "e", e);
  expect_distinct(ctx, name, "e", e, "x", x);
  index_t const width = block.frozen_gate.rows(), k = ids.rows(), tokens = x.cols(),
                slots = k * tokens;
  auto const& listed = dense(ctx, ids);
  auto const& input = dense(ctx, x);
  auto slot_ids = scratch<int>(ctx, 1, slots);
  run_batch(ctx, tokens, unstack_slots_body{k}, listed, slot_ids);
  auto gate = scratch<S>(ctx, width, slots);
  auto linear = scratch<S>(ctx, width, slots);
  auto activated = scratch<S>(ctx, width, slots);
  auto gate_h =
      ffn_from_tokens(ctx, block.frozen_gate, block.gate, of_bank(dropped, &ffn_dropout::gate),
                      listed, std::as_const(slot_ids), input, gate);
  auto up_h = ffn_from_tokens(ctx, block.frozen_up, block.up, of_bank(dropped, &ffn_dropout::up),
                              listed, std::as_const(slot_ids), input, linear);
  swiglu(ctx, gate, linear, activated);
  auto down_h = scratch<S>(ctx, block.down.down.cols() / block.down.count, slots);
  bank_rank_space(ctx, block.down, of_bank(dropped, &ffn_dropout::down, k), std::as_const(slot_ids),
                  std::as_const(activated), down_h);
  scale_slots(ctx, block.down.scaling, slot_ids, down_h.rows(), down_h);
  multiply(ctx, block.frozen_down, activated, e);
  routed_multiply_add(ctx, common_scaling(block.down.scaling), slot_ids,
                      widened_weight(ctx, block.down.up).adjoint(), down_h, e);
  return ffn_experts_saved<decltype(slot_ids), decltype(gate), Dropped>{
      std::move(slot_ids), std::move(gate_h), std::move(up_h),      std::move(down_h),
      std::move(gate),     std::move(linear), std::move(activated), dropped};
}

}  // namespace detail

/// \brief Outputs of feed-forward experts, one column for every slot of every token.
/// \ingroup nn
///
/// Expert e is the frozen block with low-rank updates of its three weights,
/// \f[ g = (W_g + s B^g_e A^g_e) x, \quad u = (W_u + s B^u_e A^u_e) x, \quad
///     o = (W_d + s B^d_e A^d_e)\,(g\,\sigma(g)\,u), \f]
/// as in MixLoRA \cite li2024mixlora. A bank may have a 1 x E matrix of factors in place of s.
/// \f$ W_g x \f$ and \f$ W_u x \f$ are computed once a token for all its experts.
/// What follows is expert_gram_schmidt() on the outputs, with `mixing::none` for the plain mixture:
/// feed-forward experts are not linear, so it works on outputs and not in rank space. The layer has
/// no frozen output of its own beside the mixture's.
///
/// \param[in]  ctx    where to run; nothing waits
/// \param[in]  block  frozen weights and banks of experts
/// \param[in]  ids    k x T, of a routing; a slot without an expert (below 0) gives the frozen block
/// \param[in]  x      d x T, a token is a column
/// \param[out] e      d x (k T), slot i of token t in column t k + i; must not overlap x
/// \returns what ffn_experts_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if e overlaps x
/// \throws option_error  if there is no expert, or the banks have different numbers of them
/// \par Cost
/// 4 d d_ff T flops for the shared products, 2 k d d_ff T for the outputs, and those of the adapters.
/// Scratch (3 d_ff + 3 r) k T entries.
template <class Ctx, class Block, Matrix Ids, RealMatrix X, class E>
  requires OutputMatrix<E> && SameScalar<X, E>
auto ffn_experts_forward(Ctx& ctx, Block const& block, Ids const& ids, X const& x, E&& e) {
  return detail::ffn_experts_outputs(ctx, block, no_ffn_dropout{}, ids, x, e);
}

/// \brief The same with dropout of what the adapters see.
/// \ingroup nn
///
/// The frozen weights see all of their input. The masks are made again by ffn_experts_backward(),
/// which finds their names in what is returned.
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  block    frozen weights and banks of experts
/// \param[in]  dropped  which masks, and what they apply to; rate 0 has the bits of no dropout
/// \param[in]  ids      k x T, of a routing; a slot without an expert gives the frozen block
/// \param[in]  x        d x T, a token is a column
/// \param[out] e        d x (k T), slot i of token t in column t k + i; must not overlap x
/// \returns what ffn_experts_backward() needs, in scratch
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if e overlaps x
/// \throws option_error  if a rate is outside [0, 1), or as without dropout
/// \par Cost
/// As without, and a dropout() for each bank, with `expert_input` k of them and k passes over x for
/// gate and values. A scratch matrix of a bank's input at a time, none for `rank_space`.
template <class Ctx, class Block, Matrix Ids, RealMatrix X, class E>
  requires OutputMatrix<E> && SameScalar<X, E>
auto ffn_experts_forward(Ctx& ctx, Block const& block, ffn_dropout const& dropped, Ids const& ids,
                         X const& x, E&& e) {
  detail::expect_ffn_dropout("ffn_experts_forward", dropped);
  return detail::ffn_experts_outputs(ctx, block, dropped, ids, x, e);
}

/// \brief Gradients of the factors of one bank: down as its \f$ A^T \f$, up as its \f$ B^T \f$.
/// \ingroup nn
///
/// Made from lvalues, it refers to them.
template <class Down, class Up>
struct lora_gradients {
  Down down;  ///< d_in x (E r), accumulates
  Up up;      ///< (E r) x d_out, accumulates
};

/// Refers to the matrices it is made from.
/// \ingroup nn
template <class Down, class Up>
lora_gradients(Down&, Up&) -> lora_gradients<Down&, Up&>;

/// \brief Gradients of ffn_experts_forward().
/// \ingroup nn
///
/// Parameter gradients accumulate, dx takes beta and holds all of the block's part, the frozen
/// weights' too. Banks may share gradients; no gradient may overlap a factor of its bank, x, de or
/// dx. block, ids and x are those of the forward call, whose masks of dropout are made again; saved
/// is used up, so this runs once a forward call.
///
/// \param[in]     ctx    where to run; nothing waits
/// \param[in]     block  as in the forward call
/// \param[in]     ids    as in the forward call
/// \param[in,out] saved  what ffn_experts_forward() returned; gate and linear are overwritten
/// \param[in]     x      d x T
/// \param[in]     de     d x (k T), gradient of the outputs; zero where a slot has no expert
/// \param[in,out] dgate  lora_gradients of the gate's bank
/// \param[in,out] dup    lora_gradients of the values' bank
/// \param[in,out] ddown  lora_gradients of the output's bank
/// \param[in]     beta   factor of what dx holds; with 0 it is not read
/// \param[in,out] dx     d x T; must not overlap de or x
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dx overlaps de or x, or a gradient what it may not
/// \par Cost
/// Twice the adapters' part of the forward call, and its shared products and outputs once more.
/// With dropout two dropout() of each bank's input, and two scratch matrices of its size.
template <class Ctx, class Block, Matrix Ids, class Saved, RealMatrix X, RealMatrix DE, class DGate,
          class DUp, class DDown, class DX>
  requires OutputMatrix<DX> && SameScalar<X, DE, DX>
void ffn_experts_backward(Ctx& ctx, Block const& block, Ids const& ids, Saved& saved, X const& x,
                          DE const& de, DGate const& dgate, DUp const& dup, DDown const& ddown,
                          double beta, DX&& dx) {
  using S = scalar_t<X>;
  char const* const name = "ffn_experts_backward";
  detail::expect_ffn_experts(name, block, ids, x, "de", de);
  expect_shape(name, "dx", dx, x.rows(), x.cols());
  detail::expect_bank_gradients(ctx, name, "dgate.down", "dgate.up", dgate, block.gate, x, "de", de,
                                dx);
  detail::expect_bank_gradients(ctx, name, "dup.down", "dup.up", dup, block.up, x, "de", de, dx);
  detail::expect_bank_gradients(ctx, name, "ddown.down", "ddown.up", ddown, block.down, x, "de", de,
                                dx);
  expect_distinct(ctx, name, "dx", dx, "de", de);
  expect_distinct(ctx, name, "dx", dx, "x", x);
  index_t const k = ids.rows(), slots = k * x.cols();
  auto const& listed = dense(ctx, ids);
  auto const& input = dense(ctx, x);
  auto const& incoming = dense(ctx, de);
  auto const& slot_ids = std::as_const(saved.ids);

  auto z = scratch<S>(ctx, saved.down_h.rows(), slots);
  routed_multiply(ctx, slot_ids, widened_weight(ctx, block.down.up).adjoint(), incoming, z);
  detail::scale_rank_space(ctx, block.down.scaling, slot_ids, saved.down_h.rows(), z);
  routed_adjoint_outer_add(ctx, detail::common_scaling(block.down.scaling), slot_ids, saved.down_h,
                           incoming, ddown.up);
  auto da = product(ctx, block.frozen_down.adjoint(), incoming);
  detail::bank_rank_space_backward(ctx, block.down,
                                   detail::of_bank(saved.dropped, &ffn_dropout::down, k), slot_ids,
                                   std::as_const(saved.activated), z, ddown.down, da);
  swiglu_backward(ctx, da, saved.gate, saved.linear);

  apply_beta(ctx, beta, dx);
  detail::ffn_from_tokens_backward(
      ctx, block.frozen_gate, block.gate, detail::of_bank(saved.dropped, &ffn_dropout::gate),
      listed, slot_ids, input, saved.gate_h, std::as_const(saved.gate), dgate, dx);
  detail::ffn_from_tokens_backward(
      ctx, block.frozen_up, block.up, detail::of_bank(saved.dropped, &ffn_dropout::up), listed,
      slot_ids, input, saved.up_h, std::as_const(saved.linear), dup, dx);
}

}  // namespace stiefelx
