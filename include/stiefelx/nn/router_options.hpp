// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <concepts>
#include <limits>

#include <stiefelx/core/random.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/nn/gates.hpp>

/// \file
/// \brief Which experts a token gets: one small type for each kind of choice.
/// \ingroup nn

namespace stiefelx {

/// The order of a token's list, which is the order of Gram-Schmidt.
/// \ingroup nn
enum class expert_order {
  by_score,  ///< falling score, ties by rising index
  by_index   ///< rising index
};

/// \brief A choice made token by token, in numbers.
/// \ingroup nn
///
/// Experts are taken by falling score, ties to the lowest index, until `limit` are taken or their
/// values have reached `mass` of the sum of all values. Of these, the true ones are listed.
struct choice_rule {
  index_t limit;       ///< most experts taken
  double mass;         ///< share of the values that is enough; infinite for a fixed number
  expert_order order;  ///< of the list
  index_t experts;     ///< number of true experts; rows from here on are null experts

  /// \returns k, the slots of a token's list: each null expert taken leaves one empty
  index_t slots() const { return limit; }
};

/// What route() asks of a choice made token by token; a type of one's own is as good.
/// \ingroup nn
template <class C>
concept TokenChoice = requires(C const& c, char const* function, index_t rows) {
  { c.gates() } -> std::same_as<gate_rule>;
  { c.choice(rows) } -> std::same_as<choice_rule>;
  c.expect_options(function, rows);
};

namespace detail {

inline constexpr double any_mass = std::numeric_limits<double>::infinity();

inline void expect_gate_scaling(char const* function, double scaling) {
  expect_option(scaling > 0 && std::isfinite(scaling), function, "scaling", scaling,
                "a finite number above 0");
}

inline void expect_chosen(char const* function, char const* argument, index_t k, bool renormalize,
                          index_t rows, char const* range) {
  expect_option(k >= 0 && k <= rows, function, argument, k, range);
  expect_option(!(k == 1 && renormalize && rows > 1), function, argument, k,
                "more than 1 with renormalize, since a single weight of 1 has no gradient");
}

inline void expect_top_k(char const* function, index_t k, bool renormalize, double scaling,
                         index_t nulls, index_t rows) {
  expect_option(k >= 1, function, "k", k, "a number from 1 to the number of experts");
  expect_chosen(function, "k", k, renormalize, rows, "a number from 1 to the number of experts");
  expect_option(nulls >= 0 && nulls < rows, function, "nulls", nulls,
                "a number from 0 to one less than the router's columns");
  expect_gate_scaling(function, scaling);
}

}  // namespace detail

/// \brief The short form: softmax of all experts, or of the k best.
/// \ingroup nn
struct router_options {
  index_t top_k = 0;        ///< experts a token, or 0 for all of them (a soft mixture)
  bool renormalize = true;  ///< whether the chosen weights are scaled to sum 1

  /// \returns softmax gates; a soft mixture's sum to 1 as they are
  gate_rule gates() const { return {score_kind::softmax, renormalize && top_k != 0, 1}; }
  /// \param[in] rows  number of experts
  /// \returns the choice in numbers
  choice_rule choice(index_t rows) const {
    if (top_k == 0) return {rows, detail::any_mass, expert_order::by_index, rows};
    return {top_k, detail::any_mass, expert_order::by_score, rows};
  }
  /// \param[in] function  name for the text
  /// \param[in] rows      number of experts
  void expect_options(char const* function, index_t rows) const {
    detail::expect_chosen(function, "top_k", top_k, renormalize, rows,
                          "a number from 0 (all) to the number of experts");
  }
};

/// \brief Every expert for every token.
/// \ingroup nn
struct soft {
  score_kind score = score_kind::softmax;       ///< values from scores
  bool renormalize = true;                      ///< for sigmoid; softmax sums to 1 as it is
  double scaling = 1;                           ///< m, sum of a token's weights
  expert_order order = expert_order::by_index;  ///< of the list

  /// \returns the gates
  gate_rule gates() const { return {score, renormalize && score == score_kind::sigmoid, scaling}; }
  /// \param[in] rows  number of experts
  /// \returns the choice in numbers
  choice_rule choice(index_t rows) const { return {rows, detail::any_mass, order, rows}; }
  /// \param[in] function  name for the text
  void expect_options(char const* function, index_t) const {
    detail::expect_gate_scaling(function, scaling);
  }
};

/// \brief The k experts of the largest scores.
/// \ingroup nn
///
/// With null experts the last `nulls` columns of the router stand for doing nothing
/// \cite zeng2024adamoe. A token takes k of all; null ones leave empty slots, and weights are
/// renormalized over the true ones that it took. A token that took null experts alone adds
/// nothing. A token whose only true expert has a renormalized weight of m has no gradient.
struct top_k {
  index_t k = 2;                                ///< experts a token, null ones included
  bool renormalize = true;                      ///< whether the chosen weights sum to m
  score_kind score = score_kind::softmax;       ///< values from scores
  double scaling = 1;                           ///< m
  expert_order order = expert_order::by_score;  ///< of the list
  index_t nulls = 0;                            ///< number of null experts

  /// \returns the gates
  gate_rule gates() const { return {score, renormalize, scaling}; }
  /// \param[in] rows  number of experts, null ones included
  /// \returns the choice in numbers
  choice_rule choice(index_t rows) const { return {k, detail::any_mass, order, rows - nulls}; }
  /// \param[in] function  name for the text
  /// \param[in] rows      number of experts, null ones included
  void expect_options(char const* function, index_t rows) const {
    detail::expect_top_k(function, k, renormalize, scaling, nulls, rows);
  }
};

/// \brief The fewest experts whose values reach a share p of all: `dynamic` routing.
/// \ingroup nn
///
/// At least one, at most k_max. Sums run in double, by falling score \cite huang2024harder.
/// Weights are by default the values themselves, since a token with one expert would have a
/// renormalized weight without a gradient.
struct top_p {
  double p = 0.8;                               ///< share of the values, in (0, 1]
  index_t k_max = 0;                            ///< most experts a token, or 0 for no limit
  bool renormalize = false;                     ///< whether the chosen weights sum to m
  score_kind score = score_kind::softmax;       ///< values from scores
  double scaling = 1;                           ///< m
  expert_order order = expert_order::by_score;  ///< of the list

  /// \returns the gates
  gate_rule gates() const { return {score, renormalize, scaling}; }
  /// \param[in] rows  number of experts
  /// \returns the choice in numbers
  choice_rule choice(index_t rows) const { return {k_max == 0 ? rows : k_max, p, order, rows}; }
  /// \param[in] function  name for the text
  /// \param[in] rows      number of experts
  void expect_options(char const* function, index_t rows) const {
    expect_option(p > 0 && p <= 1, function, "p", p, "a number above 0, at most 1");
    detail::expect_chosen(function, "k_max", k_max, renormalize, rows,
                          "a number from 0 (no limit) to the number of experts");
    detail::expect_gate_scaling(function, scaling);
  }
};

/// \brief The k experts of the largest scores after normal noise, for training.
/// \ingroup nn
///
/// Choice, weights and probabilities are those of \f$ \ell + \sigma \epsilon \f$, or with
/// noise_scale of \f$ \ell + \sigma\,\mathrm{softplus}(u)\,\epsilon \f$ \cite shazeer2017.
/// The noise is a function of the stream's two integers, which stay with the routing: the backward
/// pass and a second forward pass see the same. Give each call a stream of its own: add one to its
/// offset.
struct noisy_top_k {
  index_t k = 2;                                ///< experts a token, null ones included
  bool training = false;                        ///< whether there is noise
  random_stream stream{};                       ///< names the noise
  double deviation = 1;                         ///< \f$ \sigma \f$
  bool renormalize = true;                      ///< whether the chosen weights sum to m
  score_kind score = score_kind::softmax;       ///< values from scores
  double scaling = 1;                           ///< m
  expert_order order = expert_order::by_score;  ///< of the list
  index_t nulls = 0;                            ///< number of null experts, as in top_k

  /// \returns the gates
  gate_rule gates() const { return {score, renormalize, scaling}; }
  /// \param[in] rows  number of experts, null ones included
  /// \returns the choice in numbers
  choice_rule choice(index_t rows) const { return {k, detail::any_mass, order, rows - nulls}; }
  /// \param[in] function  name for the text
  /// \param[in] rows      number of experts, null ones included
  void expect_options(char const* function, index_t rows) const {
    detail::expect_top_k(function, k, renormalize, scaling, nulls, rows);
    expect_option(deviation >= 0 && std::isfinite(deviation), function, "deviation", deviation,
                  "a finite number of at least 0");
  }
};

/// \brief Each expert takes the tokens that want it most.
/// \ingroup nn
///
/// An expert takes the `capacity` tokens of its largest values (softmax over the experts, or
/// sigmoid), ties to the first token; all of them if there are fewer \cite zhou2022expert. So the
/// load is even without a loss, and a token has any number of experts from 0 to E: a routing has E
/// slots. A token's experts depend on the other tokens of the call, later ones included: do not use
/// it where one token must not see the next.
struct expert_choice {
  index_t capacity = 1;                         ///< tokens an expert, see expert_capacity()
  bool renormalize = false;                     ///< whether the weights of a token sum to m
  score_kind score = score_kind::softmax;       ///< values from scores
  double scaling = 1;                           ///< m
  expert_order order = expert_order::by_score;  ///< of a token's list

  /// \returns the gates
  gate_rule gates() const { return {score, renormalize, scaling}; }
  /// \param[in] function  name for the text
  void expect_options(char const* function, index_t) const {
    expect_option(capacity >= 0, function, "capacity", capacity, "a number of at least 0");
    detail::expect_gate_scaling(function, scaling);
  }
};

/// \brief Capacity of expert_choice that gives a token `factor` experts on average.
/// \ingroup nn
/// \param[in] tokens   T
/// \param[in] experts  E, at least 1
/// \param[in] factor   experts a token, at least 0
/// \returns \f$ \lceil \mathrm{factor}\;T / E \rceil \f$
/// \throws option_error  if a number is out of range or factor is not finite
inline index_t expert_capacity(index_t tokens, index_t experts, double factor) {
  char const* const name = "expert_capacity";
  expect_option(tokens >= 0, name, "tokens", tokens, "a number of at least 0");
  expect_option(experts >= 1, name, "experts", experts, "a number of at least 1");
  expect_option(factor >= 0 && std::isfinite(factor), name, "factor", factor,
                "a finite number of at least 0");
  return static_cast<index_t>(
      std::ceil(factor * static_cast<double>(tokens) / static_cast<double>(experts)));
}

}  // namespace stiefelx
