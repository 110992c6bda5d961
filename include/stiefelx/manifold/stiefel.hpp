// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_random.hpp>
#include <stiefelx/manifold/stiefel_space.hpp>

/// \file
/// \brief The Stiefel manifold: its type, projection, metric, gradient and random points.
/// \ingroup stiefel
