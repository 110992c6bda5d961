// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// \file
/// \brief Reverse rules: cotangents of a factorization's inputs from those of its outputs.
/// \ingroup orth
///
/// | forward | reverse |
/// | --- | --- |
/// | gram_schmidt() | gram_schmidt_vjp(), also with dropped columns, also for a stack |
/// | householder_qr(), cholesky_qr(), `retract` by QR | qr_vjp(), of every shape, also for a stack |
/// | polar(), `retract` by the polar factor | polar_vjp(), also for a stack |
/// | `retract` by the Cayley transform | cayley_vjp(), also for a stack |

#include <stiefelx/orth/cayley_vjp.hpp>
#include <stiefelx/orth/gram_schmidt_vjp.hpp>
#include <stiefelx/orth/polar_vjp.hpp>
#include <stiefelx/orth/qr_vjp.hpp>
