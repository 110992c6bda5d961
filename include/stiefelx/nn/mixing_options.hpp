// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>

#include <stiefelx/core/shape.hpp>
#include <stiefelx/team/mixing.hpp>

namespace stiefelx {

/// How experts' outputs are mixed, in rank space and in token space.
/// \ingroup nn
struct mixing_options {
  mixing kind = mixing::orthogonal;  ///< form of the mixture
  /// \f$ \tau \f$ of mixing_algebra: a remainder below this part of its output is guarded. 0 takes
  /// 1e-3 for float data and 1e-6 for double.
  double guard = 0;
  dependent_experts policy = dependent_experts::keep;  ///< what becomes of guarded experts
  /// \f$ \lambda \f$ of the policy `ridge`; 0 takes 1e-6.
  double ridge = 0;
  double part = 0.5;  ///< \f$ \beta \in [0, 1] \f$ of `partial`: 0 is `none`, 1 is `orthogonal`
};

namespace detail {

inline void expect_mixing(char const* function, mixing_options const& options) {
  expect_option(options.guard >= 0 && options.guard < 1, function, "guard", options.guard,
                "a number in [0, 1)");
  expect_option(options.ridge >= 0 && options.ridge <= 1, function, "ridge", options.ridge,
                "a number in [0, 1]");
  expect_option(options.part >= 0 && options.part <= 1, function, "part", options.part,
                "a number in [0, 1]");
}

template <class S>
mixing_algebra algebra_of(mixing_options const& options) {
  double const standard = std::numeric_limits<S>::digits <= 24 ? 1e-3 : 1e-6;
  return {options.kind, options.guard > 0 ? options.guard : standard, options.policy,
          options.ridge > 0 ? options.ridge : 1e-6, options.part};
}

// The options with the guard that algebra_of() takes.
template <class S>
mixing_options settled(mixing_options options) {
  options.guard = algebra_of<S>(options).guard;
  return options;
}

}  // namespace detail

}  // namespace stiefelx
