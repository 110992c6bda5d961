// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>

#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/expert_assignment.hpp>

namespace stiefelx {

/// \brief How the projectors of the other experts combine to the one of expert e.
/// \ingroup optim
///
/// \f$ P_j = (I + S_j/\alpha)^{-1} \f$ belongs to the inputs of expert j. With one other expert the
/// first three are the same thing: its projector.
enum class projector_policy {
  /// \f$ \frac{1}{E-1} \sum_{j \ne e} P_j \f$, the averaged projectors of \cite liu2023omoe. A mean of
  /// projectors is none: a direction that exactly one other expert uses keeps the part (E-2)/(E-1),
  /// and only directions that all others use vanish.
  mean,
  /// \f$ (I + \sum_{j \ne e} S_j/\alpha)^{-1} \f$, the projector of all the others' inputs together.
  /// A direction that any of them uses vanishes.
  joint,
  /// \f$ P_a P_b \cdots P_y P_z P_y \cdots P_b P_a \f$ with the others a < b < ... < z in the order of
  /// their numbers: the symmetric product, Hermitian and positive definite, so a gradient stays a
  /// direction of descent. Exact where the others' spans are orthogonal or nested; otherwise the
  /// result is orthogonal to the first expert's span alone.
  product,
  /// `joint` from the m strongest directions of the others' inputs, with a state of O(d m) numbers.
  low_rank
};

/// What an observed batch adds to S.
/// \ingroup optim
enum class observed_inputs {
  mean,  ///< its mean input, \f$ \bar x \bar x^H \f$: one column a batch, as in \cite zeng2019
  every  ///< every token, \f$ \sum_t c_t x_t x_t^H \f$ with the tokens' shares c
};

/// Settings of expert_projectors.
/// \ingroup optim
struct expert_projectors_options {
  projector_policy policy = projector_policy::mean;  ///< how the others' projectors combine
  observed_inputs inputs = observed_inputs::mean;    ///< what a batch adds to S
  /// \f$ \alpha > 0 \f$: inputs of less energy are hardly noticed. 0 is for `low_rank` alone and makes
  /// its projectors exact.
  double alpha = 1;
  double decay = 1;   ///< \f$ \rho \in (0, 1] \f$: S becomes \f$ \rho S \f$ with each step
  index_t rank = 16;  ///< directions that `low_rank` keeps, below d
  /// Most bytes that the projectors may take; more is refused.
  double memory_limit = 0x1p30;
};

/// \brief Checks the ranges of the options.
/// \ingroup optim
/// \param[in] function   name for the message
/// \param[in] options    as given
/// \param[in] dimension  d
/// \throws option_error  if one is out of its range
inline void expect_projectors_options(char const* function, expert_projectors_options options,
                                      index_t dimension) {
  bool const low_rank = options.policy == projector_policy::low_rank;
  expect_option(
      low_rank ? options.alpha >= 0 : options.alpha > 0, function, "alpha", options.alpha,
      low_rank ? "a number of at least 0" : "a number above 0; the policy low_rank takes 0");
  expect_option(options.decay > 0 && options.decay <= 1, function, "decay", options.decay,
                "a number in (0, 1]");
  expect_option(!low_rank || (options.rank >= 1 && options.rank < dimension), function, "rank",
                options.rank,
                "at least 1 and less than the number of inputs, for which the policy joint is "
                "exact and as small");
}

/// \brief Refuses a state that would take more memory than allowed.
/// \ingroup optim
/// \param[in] function   name for the message
/// \param[in] options    the policy and the limit
/// \param[in] count      E
/// \param[in] dimension  d
/// \param[in] needed     bytes of the state
/// \param[in] low_rank   bytes that the policy low_rank would take
/// \throws option_error  naming the limit, the size that the state would have, and the alternative
inline void expect_memory(char const* function, expert_projectors_options options, index_t count,
                          index_t dimension, double needed, double low_rank) {
  if (needed <= options.memory_limit) return;
  auto const text = [](double bytes) {
    std::string digits = std::to_string(bytes);
    return digits.substr(0, digits.find('.'));
  };
  std::string expected = "at least " + text(needed) + " bytes for " + std::to_string(count);
  if (options.policy == projector_policy::low_rank)
    expected += " bases of " + std::to_string(dimension) + "x" + std::to_string(options.rank) +
                "; a smaller rank takes less";
  else
    expected += " projectors of " + std::to_string(dimension) + "x" + std::to_string(dimension) +
                "; the policy low_rank of rank " + std::to_string(options.rank) + " takes " +
                text(low_rank);
  detail::throw_option(function, "memory_limit", text(options.memory_limit), expected.c_str());
}

}  // namespace stiefelx
