// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/optim/finite_gradient.hpp>

namespace stiefelx {

/// What the parameters of a group share in a step.
/// \ingroup optim
struct group_options {
  /// Joint norm that longer gradients are scaled down to, above 0.
  double largest_norm = std::numeric_limits<double>::infinity();
  /// Whether one gradient that is not finite holds back the whole group, so that all parameters
  /// have taken the same number of steps; else it holds back its own parameter.
  bool all_or_nothing = true;
};

/// Adds a squared norm to a sum, unless the gradient is not finite.
/// \ingroup optim
struct joint_norm_element {
  double largest;  ///< largest squared norm of one gradient

  /// \param[in,out] sum      of the squared norms
  /// \param[in,out] finite   0 once a gradient was not
  /// \param[in]     squared  squared norm of a gradient
  STIEFELX_HD void operator()(double& sum, double& finite, double const& squared) const {
    if (squared <= largest)
      sum += squared;
    else
      finite = 0;
  }
};

/// The factor of every gradient of a group.
/// \ingroup optim
struct joint_factor_element {
  double largest;       ///< largest joint norm
  bool all_or_nothing;  ///< see group_options
  double refusal;       ///< factor that makes a gradient NaN, so that its optimizer refuses it

  /// \param[out] factor  min(1, largest / norm), or the refusal
  /// \param[in]  sum     squared joint norm of the finite gradients
  /// \param[in]  finite  whether all of them were
  STIEFELX_HD void operator()(double& factor, double const& sum, double const& finite) const {
    double const length = std::sqrt(sum);
    bool const overflow = length - length != 0;
    factor = length > largest && !overflow ? largest / length : 1;
    if (all_or_nothing && (finite == 0 || overflow)) factor = refusal;
  }
};

/// \brief The gradients of a group before its optimizers see them: joint norm, clipping, refusal.
/// \ingroup optim
///
/// add() every gradient, then finish(), then ask for each scaled(). Nothing waits, and the gradients
/// themselves are not changed.
template <class Ctx>
class joint_gradients {
 public:
  /// \param[in] ctx      where to run
  /// \param[in] options  bound of the norm, and what one bad gradient does
  joint_gradients(Ctx& ctx, group_options options)
      : sum_(scratch<double>(ctx, 1, 1)),
        finite_(scratch<double>(ctx, 1, 1)),
        factor_(scratch<double>(ctx, 1, 1)),
        options_(options) {
    fill(ctx, 0, sum_);
    fill(ctx, 1, finite_);
  }

  /// Counts a gradient in.
  /// \param[in] ctx  where to run
  /// \param[in] g    any matrix
  template <Matrix G>
  void add(Ctx& ctx, G const& g) {
    auto squared = scratch<double>(ctx, 1, 1);
    inner(ctx, g, g, squared);
    transform(ctx, joint_norm_element{largest_squared_gradient<G>}, outputs(sum_, finite_),
              inputs(squared));
  }

  /// Finds the factor, when all gradients are counted.
  /// \param[in] ctx  where to run
  void finish(Ctx& ctx) {
    transform(ctx,
              joint_factor_element{options_.largest_norm, options_.all_or_nothing,
                                   std::numeric_limits<double>::quiet_NaN()},
              outputs(factor_), inputs(sum_, finite_));
  }

  /// \param[in] ctx  where to run
  /// \param[in] g    one of the gradients
  /// \returns a scratch copy times the factor; the same bits where the factor is 1
  template <Matrix G>
  auto scaled(Ctx& ctx, G const& g) const {
    auto part = clone(ctx, g);
    scale(ctx, factor_, part);
    return part;
  }

 private:
  using number = decltype(scratch<double>(std::declval<Ctx&>(), 1, 1));
  number sum_, finite_, factor_;
  group_options options_;
};

namespace detail {

inline void expect_group_options(char const* group, group_options const& options) {
  expect_option(options.largest_norm > 0, group, "largest_norm", options.largest_norm,
                "a number above 0");
}

// Whether gradients have to be looked at together before any of them is used.
inline bool joins(group_options const& options) {
  return options.all_or_nothing || options.largest_norm < std::numeric_limits<double>::infinity();
}

// What every parameter of a group has to keep, asked before the first of them moves.
template <class Ctx, class X, class G>
void expect_parameter(Ctx& ctx, char const* function, X const& x, G const& g) {
  expect_shape(function, "g", g, x.rows(), x.cols());
  expect_distinct(ctx, function, "x", x, "g", g);
}

}  // namespace detail

}  // namespace stiefelx
