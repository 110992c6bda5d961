// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/cuda/lane.hpp>

/// \file
/// \brief Totals over the lanes of a warp and of a block, always in the same order.
/// \ingroup cuda

namespace stiefelx::cuda {

/// a + b.
/// \ingroup cuda
struct plus {
  /// \param[in] a  a number
  /// \param[in] b  another
  /// \returns their sum
  template <class T>
  STIEFELX_HD T operator()(T a, T b) const {
    return a + b;
  }
};

/// The bits of a or b.
/// \ingroup cuda
struct either_bit {
  /// \param[in] a  bits
  /// \param[in] b  other bits
  /// \returns those of both
  STIEFELX_HD int operator()(int a, int b) const { return a | b; }
};

/// \brief The total over groups of 2^log lanes that follow each other in a warp.
/// \ingroup cuda
///
/// All lanes of the warp call it. Since a + b is b + a to the bit, all lanes of a group get the
/// same.
/// \param[in] v    this lane's value
/// \param[in] log  at most 5
/// \param[in] add  commutative
/// \returns the total of this lane's group
template <class T, class Add>
STIEFELX_HD T group_total(T v, unsigned log, Add const& add) {
  for (unsigned mask = 1; mask < (1U << log); mask *= 2) v = add(v, shuffle_xor(v, mask));
  return v;
}

/// \brief The total over the lanes of a block, the same for each of them.
/// \ingroup cuda
///
/// All lanes call it, and the block has a T of shared memory for each of its warps. A second call
/// needs a barrier before it.
/// \param[in] v    this lane's value
/// \param[in] add  commutative
/// \returns the total
template <class T, class Add>
STIEFELX_HD T block_total(T v, Add const& add) {
  v = group_total(v, 5, add);
  unsigned const warps = block_threads() / warp_lanes;
  if (warps == 1) return v;
  T* const of_warp = static_cast<T*>(shared_memory());
  if (thread_rank() % warp_lanes == 0) of_warp[thread_rank() / warp_lanes] = v;
  block_barrier();
  T total = of_warp[0];
  for (unsigned w = 1; w < warps; ++w) total = add(total, of_warp[w]);
  return total;
}

}  // namespace stiefelx::cuda
