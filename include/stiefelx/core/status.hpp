// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

namespace stiefelx {

/// \brief Bits of a status, a caller-owned 1 x 1 matrix of int where the data live.
/// \ingroup core
///
/// Numerical trouble is no exception. Functions set bits and never clear one, so one status can
/// serve many calls; `value(ctx, status)` reads it and waits.
enum status_bits : int {
  rank_deficient = 1,  ///< a column depends on earlier ones to working accuracy
  not_finite = 2,      ///< a NaN or an infinity was met
  not_converged = 4,   ///< an iteration stopped at its limit
  refined = 8,         ///< a second pass or a fallback was needed; the result is good
};

/// Passed where no status is wanted.
/// \ingroup core
struct no_status {};

/// Drops bits that nobody asked for.
/// \ingroup core
template <class Ctx, class Bits>
void raise(Ctx&, no_status, Bits const&) {}

}  // namespace stiefelx
