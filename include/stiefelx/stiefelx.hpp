// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// \file
/// \brief Everything for the host.

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/context.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/host/verbs.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/cross_entropy.hpp>
#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <stiefelx/nn/expert_similarity.hpp>
#include <stiefelx/nn/gelu.hpp>
#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/clip.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/schedule.hpp>
#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/orth/residual.hpp>
#include <stiefelx/version.hpp>
