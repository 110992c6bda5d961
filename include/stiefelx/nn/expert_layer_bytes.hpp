// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <concepts>

#include <stiefelx/nn/layer_bytes.hpp>
#include <stiefelx/nn/mixing_options.hpp>
#include <stiefelx/nn/moe_lora_cross.hpp>
#include <stiefelx/nn/moe_lora_dropout.hpp>
#include <stiefelx/nn/moe_lora_saved.hpp>
#include <stiefelx/nn/router_options.hpp>
#include <stiefelx/nn/stored_weights.hpp>

/// \file
/// \brief What route(), expert_layer and task_layer keep and take from their context.
/// \ingroup nn
///
/// These are bytes of matrices. A context adds less than a line of memory to each, some thirty of
/// them, and what its verbs take: on the host up to k r numbers and 2 k integers a token, a copy of the
/// experts, and panels of fixed size.

namespace stiefelx {

/// Sizes of a call of route().
/// \ingroup nn
struct route_sizes {
  index_t rows;    ///< columns of the router, null experts included
  index_t width;   ///< d, its rows
  index_t tokens;  ///< T
};

/// \brief Slots of a token's list under a choice.
/// \ingroup nn
/// \param[in] choice  router_options, soft, top_k, top_p, noisy_top_k, expert_choice or a TokenChoice
/// \param[in] rows    columns of the router, null experts included
/// \returns k of the routing
template <class Choice>
index_t slots_of_choice(Choice const& choice, index_t rows) {
  if constexpr (TokenChoice<Choice>)
    return choice.choice(rows).slots();
  else
    return rows;
}

/// \brief Bytes of the routing that route() returns.
/// \ingroup nn
/// \tparam S  the data's type
/// \param[in] n       sizes of the call
/// \param[in] choice  as given to route()
/// \returns the sum over its matrices
template <class S, class Choice = router_options>
index_t saved_bytes(route_sizes n, Choice const& choice = {}) {
  return routing_bytes<S>(n.rows, slots_of_choice(choice, n.rows), n.tokens);
}

/// \brief Bytes of scratch that route() takes beside the routing, without what its verbs take.
/// \ingroup nn
///
/// gate_backward() takes none, and router_backward() a router of two bytes an entry widened, which is
/// no more than this.
/// \tparam S       the data's type
/// \tparam Stored  scalar of the router
/// \param[in] n       sizes of the call
/// \param[in] choice  as given to route(); noise and expert_choice take scratch
/// \returns the size of the matrices that live at the same time
template <class S, class Stored = S, class Choice = router_options>
  requires std::same_as<arithmetic_t<Stored>, S>
index_t workspace_bytes(route_sizes n, Choice const& choice = {}) {
  constexpr index_t number = sizeof(S), integer = sizeof(int), wide = sizeof(double);
  index_t choosing = 0;
  if constexpr (std::same_as<Choice, noisy_top_k>)
    choosing = choice.training ? number * n.rows * n.tokens : 0;
  if constexpr (std::same_as<Choice, expert_choice>)
    choosing = (2 * wide + integer * n.rows) * n.tokens;
  return std::max(widened_bytes<Stored>(n.rows * n.width), choosing);
}

/// Sizes and forms of a call of expert_layer_forward() and expert_layer_backward().
/// \ingroup nn
struct expert_layer_sizes {
  moe_lora_sizes mixture;    ///< sizes of the mixture
  index_t rows;              ///< columns of the router, null experts included
  index_t d_in;              ///< rows of x
  bool shared_down = false;  ///< hydra_experts: one d_in x r factor
  bool own_factors = false;  ///< experts whose scaling is a 1 x E matrix
  bool drops = false;        ///< whether the calls have a layer_dropout
  dropout_place place = dropout_place::shared_input;  ///< where, if they do
  bool gram_losses = false;  ///< whether the backward call has losses on the Gram matrices
};

/// Sizes and forms of a call of task_layer_forward() and task_layer_backward().
/// \ingroup nn
struct task_layer_sizes {
  expert_layer_sizes layer;  ///< the same without tasks
  index_t width;             ///< d, rows of router and embeddings
  index_t tasks;             ///< columns of the embeddings
};

namespace detail {

// Sizes that the formulas below share.
template <class S, class Stored>
struct layer_account {
  expert_layer_sizes n;
  bool plain;
  index_t all = n.mixture.experts * n.mixture.rank;
  index_t tokens = n.mixture.tokens;
  bool seen_by_all = !n.shared_down && !n.own_factors && !n.drops && all <= n.mixture.dense_columns;

  layer_account(expert_layer_sizes const& sizes, mixing_options const& options)
      : n(sizes), plain(algebra_of<S>(options).is_plain(sizes.mixture.chosen)) {}

  index_t numbers(index_t rows) const { return index_t{sizeof(S)} * rows * tokens; }
  index_t vectors(bool by_expert) const {
    return numbers(by_expert ? all : n.mixture.chosen * n.mixture.rank);
  }
  index_t shared_vectors() const { return n.shared_down ? numbers(n.mixture.rank) : 0; }
  index_t pairs() const {
    return index_t{sizeof(double)} * n.mixture.chosen * n.mixture.chosen * tokens;
  }
  // The products of all experts, and what they are formed from.
  index_t moments() const { return index_t{sizeof(double)} * all * all; }
  index_t forming_moments() const {
    return index_t{sizeof(double)} * all * n.mixture.d_out + moments();
  }
  index_t wide_down() const {
    return widened_bytes<Stored>((n.shared_down ? n.mixture.rank : all) * n.d_in);
  }
  index_t wide_up() const { return widened_bytes<Stored>(all * n.mixture.d_out); }

  // Tokens as an expert sees them, where they are not the layer's.
  index_t seen() const {
    return n.drops && n.place != dropout_place::rank_space ? numbers(n.d_in) : 0;
  }

  index_t forward() const {
    index_t const bits = index_t{sizeof(int)} * tokens;
    index_t const mixed = vectors(seen_by_all) + std::max(plain ? 0 : forming_moments(), bits);
    bool const of_slots = n.drops && n.place == dropout_place::expert_input;
    index_t const shared = of_slots ? 0 : shared_vectors();
    if (n.drops) return std::max(wide_down() + seen() + shared, wide_up() + mixed);
    return wide_down() + shared + wide_up() + mixed;
  }

  index_t backward(index_t wide_router) const {
    bool const by_expert = seen_by_all && !n.gram_losses;
    index_t const own = vectors(by_expert);
    index_t const sums = cross_columns(tokens, all);
    index_t const cross = all * (index_t{sizeof(S)} * all + index_t{sizeof(double)} * sums);
    index_t mixed = std::max(own, plain ? 0 : cross);
    if (n.gram_losses)
      mixed =
          plain ? pairs() + moments() + std::max(forming_moments(), pairs() + std::max(own, cross))
                : std::max(pairs() + own, cross);
    // With a shared factor both copies are made, whatever is dropped.
    index_t const copies = n.drops && n.shared_down ? 2 * numbers(n.d_in) : 2 * seen();
    bool const of_slots = n.drops && n.place == dropout_place::expert_input;
    index_t const inputs = copies + (of_slots ? 0 : shared_vectors()) + wide_down();
    return wide_up() + own + std::max({mixed, inputs, wide_router});
  }
};

}  // namespace detail

/// \brief Bytes of an expert_layer_saved.
/// \ingroup nn
/// \tparam S  the data's type
/// \param[in] n        sizes of the call
/// \param[in] options  form of the mixture
/// \returns the sum over its matrices
template <class S>
index_t saved_bytes(expert_layer_sizes const& n, mixing_options const& options = {}) {
  return routing_bytes<S>(n.rows, n.mixture.chosen, n.mixture.tokens) +
         saved_bytes<S>(n.mixture, options);
}

/// \brief Bytes of scratch that the larger one of expert_layer_forward() and expert_layer_backward()
/// takes beside the saved state, without what verbs and the caller's losses take.
/// \ingroup nn
/// \tparam S       the data's type
/// \tparam Stored  scalar of experts and router; two bytes where either has them
/// \param[in] n        sizes of the calls
/// \param[in] choice   of the layer
/// \param[in] options  form of the mixture
/// \returns the size of the matrices that live at the same time
template <class S, class Stored = S, class Choice = router_options>
  requires std::same_as<arithmetic_t<Stored>, S>
index_t workspace_bytes(expert_layer_sizes const& n, Choice const& choice = {},
                        mixing_options const& options = {}) {
  detail::layer_account<S, Stored> const account(n, options);
  index_t const routing = workspace_bytes<S, Stored>(
      route_sizes{.rows = n.rows, .width = n.d_in, .tokens = n.mixture.tokens}, choice);
  index_t const gates = account.numbers(n.mixture.chosen + n.rows);
  index_t const backward = gates + account.backward(widened_bytes<Stored>(n.rows * n.d_in));
  return std::max({routing, account.forward(), backward});
}

/// \brief Bytes of what task_layer_forward() returns.
/// \ingroup nn
/// \tparam S  the data's type
/// \param[in] n        sizes of the call
/// \param[in] options  form of the mixture
/// \returns the sum over its matrices
template <class S>
index_t saved_bytes(task_layer_sizes const& n, mixing_options const& options = {}) {
  return saved_bytes<S>(n.layer, options);
}

/// \brief Bytes of scratch that the larger one of task_layer_forward() and task_layer_backward() takes
/// beside the saved state, without what verbs and the caller's losses take.
/// \ingroup nn
///
/// The scores of task_scores() are in it: the routing has a copy of its own, and theirs lies below it
/// until the routing is gone.
/// \tparam S       the data's type
/// \tparam Stored  scalar of experts, router and embeddings; two bytes where one of them has them
/// \param[in] n        sizes of the calls
/// \param[in] choice   of the layer
/// \param[in] options  form of the mixture
/// \returns the size of the matrices that live at the same time
template <class S, class Stored = S, class Choice = soft>
  requires std::same_as<arithmetic_t<Stored>, S>
index_t workspace_bytes(task_layer_sizes const& n, Choice const& choice = {},
                        mixing_options const& options = {.kind = mixing::none}) {
  detail::layer_account<S, Stored> const account(n.layer, options);
  index_t const rows = n.layer.rows;
  index_t const of_task = index_t{sizeof(S)} * rows * n.tasks;
  index_t const router = widened_bytes<Stored>(rows * n.width);
  index_t const embeddings = widened_bytes<Stored>(n.width * n.tasks);
  index_t const routing = workspace_bytes<S>(
      route_sizes{.rows = rows, .width = n.width, .tokens = account.tokens}, choice);
  index_t const gates = account.numbers(n.layer.mixture.chosen + rows);
  index_t const backward =
      gates + std::max(account.backward(0), of_task + std::max(router, embeddings));
  return account.numbers(rows) +
         std::max({router + embeddings + of_task, routing, account.forward(), backward});
}

/// \brief The scratch of mixlora_backward() where factors have two bytes an entry.
/// \ingroup nn
///
/// A bank's factor is widened while it is multiplied, one at a time. Frozen weights are widened in
/// blocks of fixed size.
/// \tparam S       the data's type
/// \tparam Stored  scalar of the banks and the router; where it is S, nothing is added
/// \param[in] n        sizes of the call
/// \param[in] entries  of the largest factor of a bank, or of the router where that has more
/// \returns the size of the matrices that live at the same time, at most
template <class S, class Stored>
  requires std::same_as<arithmetic_t<Stored>, S>
index_t workspace_bytes(mixlora_sizes n, index_t entries) {
  return workspace_bytes<S>(n) + widened_bytes<Stored>(entries);
}

}  // namespace stiefelx
