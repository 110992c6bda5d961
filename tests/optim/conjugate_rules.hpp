// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <boost/test/unit_test.hpp>

#include <stiefelx/optim/conjugate_gradient.hpp>

namespace support {

using stiefelx::conjugate_rule;

/// A rule and what it is called.
struct named_rule {
  char const* name;
  conjugate_rule rule;
};
inline constexpr named_rule rules[] = {
    {"FR", conjugate_rule::fletcher_reeves},  {"PR+", conjugate_rule::polak_ribiere},
    {"HS", conjugate_rule::hestenes_stiefel}, {"HS+", conjugate_rule::hestenes_stiefel_plus},
    {"DY", conjugate_rule::dai_yuan},         {"LS", conjugate_rule::liu_storey},
    {"HZ", conjugate_rule::hager_zhang},      {"hybrid", conjugate_rule::hybrid}};

/// f(rule) for all rules; a failure names it.
template <class F>
void for_each_rule(F const& f) {
  for (auto const& each : rules) BOOST_TEST_CONTEXT(each.name) f(each.rule);
}

}  // namespace support
