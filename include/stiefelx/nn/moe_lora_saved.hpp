// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/nn/mixing_options.hpp>
#include <stiefelx/nn/moe_lora_cross.hpp>
#include <stiefelx/nn/stored_weights.hpp>

namespace stiefelx {

/// \brief What moe_lora_forward() keeps for the backward pass.
/// \ingroup nn
///
/// Per token \f$ k\,r \f$ numbers of the data's type and \f$ k^2 + k \f$ doubles; Gram-Schmidt on the
/// outputs keeps 2 k d_out numbers. For float, d_out = 4096, r = 16 and k = 2 that is 176 bytes
/// against 65536. Once a call, \f$ (E r)^2 \f$ doubles. saved_bytes() counts them.
///
/// Made from lvalues, it refers to the caller's matrices:
/// `moe_lora_saved saved{h, coefficients, token_grams, moments};`. A training loop keeps such a set
/// for every layer. Where the mixture is plain (mixing_algebra::is_plain) the last two are neither
/// read nor written and may be empty.
template <class H, class A, class G, class C>
struct moe_lora_saved {
  H h;             ///< (k r) x T, slot i of a token has \f$ h_i = A_e x \f$ in rows i r and on
  A coefficients;  ///< k x T of double, a
  G token_grams;   ///< k^2 x T of double, each column a token's Gram matrix
  C moments;       ///< (E r) x (E r) of double, blocks \f$ B_i^T B_j \f$
  mixing_options options{};  ///< with the guard that was used; written by the forward call
};

/// Refers to the matrices it is made from.
/// \ingroup nn
template <class H, class A, class G, class C>
moe_lora_saved(H&, A&, G&, C&) -> moe_lora_saved<H&, A&, G&, C&>;

/// Sizes of a call of moe_lora_forward().
/// \ingroup nn
struct moe_lora_sizes {
  index_t experts;  ///< E
  index_t chosen;   ///< k
  index_t rank;     ///< r
  index_t d_out;    ///< rows of y
  index_t tokens;   ///< T
  /// dense_expert_columns() of the context: up to this E r a call takes scratch for every expert.
  index_t dense_columns = 0;
};

/// \brief Bytes of a moe_lora_saved.
/// \ingroup nn
/// \tparam S  the data's type
/// \param[in] n        sizes of the call
/// \param[in] options  form of the mixture
/// \returns the sum over its matrices
template <class S>
index_t saved_bytes(moe_lora_sizes n, mixing_options const& options = {}) {
  constexpr index_t number = sizeof(S), wide = sizeof(double);
  index_t const every = (number * n.rank + wide) * n.chosen * n.tokens;
  if (detail::algebra_of<S>(options).is_plain(n.chosen)) return every;
  index_t const all = n.experts * n.rank;
  return every + wide * (n.chosen * n.chosen * n.tokens + all * all);
}

/// \brief Bytes of scratch that the larger one of the two calls takes from its context, without what
/// its verbs take: on the host up to k r numbers and 2 k integers a token, and a copy of the experts.
/// \ingroup nn
/// \tparam S  the data's type
/// \param[in] n        sizes of the call
/// \param[in] options  form of the mixture
/// \returns the size of the matrices that live at the same time
template <class S>
index_t workspace_bytes(moe_lora_sizes n, mixing_options const& options = {}) {
  constexpr index_t number = sizeof(S), integer = sizeof(int), wide = sizeof(double);
  index_t const all = n.experts * n.rank;
  index_t const rows = all <= n.dense_columns ? all : n.chosen * n.rank;
  index_t const vectors = number * rows * n.tokens;
  index_t const status = integer * n.tokens;
  if (detail::algebra_of<S>(options).is_plain(n.chosen)) return 2 * vectors + status;
  index_t const forward = vectors + status + wide * all * (n.d_out + all);
  index_t const cross = all * (number * all + wide * detail::cross_columns(n.tokens, all));
  index_t const backward = vectors + (cross > vectors ? cross : vectors);
  return forward > backward ? forward : backward;
}

/// \brief The same for experts whose factors have two bytes an entry and are widened in scratch.
/// \ingroup nn
/// \tparam S       the data's type
/// \tparam Stored  scalar of the experts; where it is S, nothing is added
/// \param[in] n        sizes of the call
/// \param[in] d_in     rows of x
/// \param[in] options  form of the mixture
/// \returns the size of the matrices that live at the same time, at most
template <class S, class Stored>
  requires std::same_as<arithmetic_t<Stored>, S>
index_t workspace_bytes(moe_lora_sizes n, index_t d_in, mixing_options const& options = {}) {
  return workspace_bytes<S>(n, options) +
         widened_bytes<Stored>(n.experts * n.rank * (d_in + n.d_out));
}

}  // namespace stiefelx
