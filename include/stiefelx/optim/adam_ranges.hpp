// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/shape.hpp>

namespace stiefelx {

/// \brief Checks the options that all optimizers of the Adam family share.
/// \ingroup optim
/// \param[in] name     the optimizer, for the text
/// \param[in] options  with learning_rate, beta1, beta2 and epsilon
/// \throws option_error  unless learning_rate >= 0, both betas are in [0, 1) and epsilon > 0
template <class Options>
void expect_adam_ranges(char const* name, Options const& options) {
  expect_option(options.learning_rate >= 0, name, "learning_rate", options.learning_rate,
                "a number of at least 0");
  expect_option(options.beta1 >= 0 && options.beta1 < 1, name, "beta1", options.beta1,
                "a number in [0, 1)");
  expect_option(options.beta2 >= 0 && options.beta2 < 1, name, "beta2", options.beta2,
                "a number in [0, 1)");
  expect_option(options.epsilon > 0, name, "epsilon", options.epsilon, "a number above 0");
}

}  // namespace stiefelx
