// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// \file
/// \brief The verbs of archetype::context, by naive loops that check every access.
///
/// They accept archetype matrices alone, sum from left to right in the wide scalar, and refuse
/// with std::logic_error a wrong size and an overlap that the verb's page does not allow.

#include "elementwise.hpp"
#include "factor.hpp"
#include "product.hpp"
#include "reduce.hpp"
#include "routed.hpp"
