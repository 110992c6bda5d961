// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// Where the weights of several experts are.
/// \ingroup optim
enum class expert_layout {
  side_by_side,  ///< one d x (E p) matrix: expert e has the columns e p, ..., e p + p - 1
  stacked,       ///< one (E d) x p matrix: expert e has the rows e d, ..., e d + d - 1
  separate       ///< a d x p matrix for each
};

/// \brief The weights of one linear map of all experts.
/// \ingroup optim
///
/// The rows of an expert's weight w, d x p, belong to its inputs: its output for an input x is
/// \f$ w^H x \f$. So the factor `down` of LoRA experts, d_in x (E r), is a bank side by side with d =
/// d_in, whose inputs are the tokens, and `up`, (E r) x d_out, is a stacked one with d = r, whose
/// inputs are \f$ h_e = A_e x \f$.
struct expert_bank {
  index_t count;                                       ///< E
  expert_layout layout = expert_layout::side_by_side;  ///< where expert e's weight is
};

/// \brief Checks a bank and gives the inputs of its experts.
/// \ingroup optim
/// \param[in] function  name for the message
/// \param[in] bank      the bank
/// \param[in] x         its matrix, or the weight of one expert where they are separate
/// \returns d, the rows of one expert's weight
/// \throws option_error  if bank.count is not positive
/// \throws shape_error   if x cannot be divided among the experts
template <Matrix X>
index_t inputs_of_each(char const* function, expert_bank bank, X const& x) {
  expect_option(bank.count >= 1, function, "bank.count", bank.count, "a number of at least 1");
  bool const stacked = bank.layout == expert_layout::stacked;
  index_t const divided = stacked                                      ? x.rows()
                          : bank.layout == expert_layout::side_by_side ? x.cols()
                                                                       : 0;
  if (divided % bank.count != 0)
    throw shape_error(std::string(function) + ": x is " + std::to_string(x.rows()) + "x" +
                      std::to_string(x.cols()) + ", expected a multiple of " +
                      std::to_string(bank.count) + (stacked ? " rows" : " columns"));
  return stacked ? x.rows() / bank.count : x.rows();
}

/// \brief Calls f with expert e's part of matrices that hold the weights of all.
/// \ingroup optim
/// \param[in]     bank  side by side or stacked
/// \param[in]     e     the expert
/// \param[in]     f     called with a view of each matrix
/// \param[in,out] m     matrices of the bank's form
template <class F, class... M>
void with_expert(expert_bank bank, index_t e, F const& f, M&... m) {
  if (bank.layout == expert_layout::stacked)
    f(m.middleRows(e * (m.rows() / bank.count), m.rows() / bank.count)...);
  else
    f(m.middleCols(e * (m.cols() / bank.count), m.cols() / bank.count)...);
}

/// Which share of a token counts for an expert that it was routed to.
/// \ingroup optim
enum class token_share {
  gate,  ///< its gate weight
  one    ///< 1, as in a mean over the tokens routed to the expert
};

/// \brief Team text: one token's list of experts as a column with an entry an expert.
/// \ingroup optim
struct expert_assignment_body {
  token_share share;  ///< what is entered

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team        lanes; one works, lists are short
  /// \param[in]  t           the token
  /// \param[in]  ids         k x T
  /// \param[in]  weights     k x T
  /// \param[out] assignment  E x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<int const> ids,
                              matrix_ref<S const> weights, matrix_ref<S> assignment) const {
    if (team.rank() != 0) return;
    for (index_t e = 0; e < assignment.rows; ++e) assignment(e, t) = S(0);
    for (index_t i = 0; i < ids.rows; ++i) {
      index_t const e = ids(i, t);
      if (e < 0 || e >= assignment.rows) continue;
      if (share == token_share::gate)
        assignment(e, t) += weights(i, t);
      else
        assignment(e, t) = S(1);
    }
  }
};

/// \brief The tokens' shares of the experts, from a router's lists.
/// \ingroup optim
///
/// With the `ids` and `weights` of route(): entry (e, t) is what expert e counts token t for, and 0
/// where t was not routed to e. Experts outside 0, ..., E - 1, as of dropped tokens, are skipped.
///
/// \param[in] ctx      where to run; nothing waits
/// \param[in] ids      k x T of int, each token's experts
/// \param[in] weights  k x T, their gate weights
/// \param[in] experts  E
/// \param[in] share    what a routed token counts
/// \returns E x T scratch
/// \throws shape_error  if weights and ids differ in shape
template <class Ctx, Matrix Ids, RealMatrix Weights>
  requires std::is_same_v<scalar_t<Ids>, int>
auto expert_assignment(Ctx& ctx, Ids const& ids, Weights const& weights, index_t experts,
                       token_share share = token_share::gate) {
  expect_shape("expert_assignment", "weights", weights, ids.rows(), ids.cols());
  auto assignment = scratch<scalar_t<Weights>>(ctx, experts, ids.cols());
  auto const& lists = dense(ctx, ids);
  auto const& gates = dense(ctx, weights);
  run_batch(ctx, ids.cols(), expert_assignment_body{share}, lists, gates, assignment);
  return assignment;
}

}  // namespace stiefelx
