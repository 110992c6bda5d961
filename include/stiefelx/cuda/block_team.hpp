// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/unroll.hpp>
#include <stiefelx/cuda/lane.hpp>

namespace stiefelx::cuda {

/// \brief The lanes of one block, as team text sees them.
/// \ingroup cuda
///
/// A sum is five shuffles in each warp and one exchange between warps: two sets of places take
/// turns, so one barrier a sum is enough. The order of its additions is fixed: a result depends on
/// the number of lanes and on nothing else. A sum also is a barrier.
///
/// Several sums at once share the exchange and its barrier. Lanes of a warp divide them among
/// themselves, half of what is left with every shuffle, so that sixteen take sixteen shuffles.
///
/// Lanes agree on which set of places comes next by counting, so a block has one team, and no
/// copies of it.
class block_team {
 public:
  /// Sums that one exchange carries at most.
  static constexpr unsigned most_sums = 16;

  /// \param[in] lanes  lanes of the block
  /// \returns bytes of shared memory that the exchange takes, a multiple of 16
  STIEFELX_HD static constexpr std::size_t shared_bytes(unsigned lanes) {
    return 2 * sizeof(std::uint64_t) * most_sums * (lanes / warp_lanes);
  }

  /// \param[in] places  shared_bytes(block_threads()) bytes of shared memory, aligned to 8 bytes
  STIEFELX_HD explicit block_team(void* places)
      : places_(static_cast<std::uint64_t*>(places)),
        rank_(thread_rank()),
        size_(block_threads()) {}
  block_team(block_team const&) = delete;
  block_team& operator=(block_team const&) = delete;

  /// \returns the number of this lane
  STIEFELX_HD index_t rank() const { return static_cast<index_t>(rank_); }
  /// \returns the number of lanes
  STIEFELX_HD index_t size() const { return static_cast<index_t>(size_); }
  /// Waits for every lane.
  STIEFELX_HD void barrier() const { block_barrier(); }

  /// \brief Sum over the lanes.
  /// \param[in] v  this lane's summand, a number of 4 or 8 bytes
  /// \returns the same value for every lane
  template <class T>
  STIEFELX_HD T sum(T v) const {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    // Both lanes of a pair add the same two numbers, so all lanes of a warp end with the same bits.
    for (unsigned mask = warp_lanes / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    if (size_ == warp_lanes) {
      block_barrier();
      return v;
    }
    unsigned const warps = size_ / warp_lanes;
    std::uint64_t* const now = next_places(warps);
    if (rank_ % warp_lanes == 0) now[rank_ / warp_lanes] = std::bit_cast<Bits>(v);
    block_barrier();
    T total = std::bit_cast<T>(static_cast<Bits>(now[0]));
    for (unsigned w = 1; w < warps; ++w) total += std::bit_cast<T>(static_cast<Bits>(now[w]));
    return total;
  }

  /// \brief Several sums over the lanes, for the first lane alone.
  /// \param[in,out] v  this lane's summands, numbers of 4 or 8 bytes; the first lane's become the
  ///                   sums, with the bits of sum(), the others' are of no use
  template <std::size_t N, class T>
  STIEFELX_HD void sum_to_first(T (&v)[N]) const {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
    static_assert(N <= most_sums);
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    // A lane gives away half of its summands and takes in the other half, until it has one.
    constexpr unsigned places = std::bit_ceil(unsigned{N}), lanes_a_sum = warp_lanes / places;
    unroll<std::countr_zero(places)>([&](auto round) __attribute__((always_inline)) {
      constexpr std::ptrdiff_t rest = places >> (round + 1);
      constexpr unsigned mask = warp_lanes >> (round + 1);
      bool const takes_rest = (rank_ & mask) != 0;
      unroll<rest>([&](auto k) __attribute__((always_inline)) {
        if constexpr (k + rest < std::ptrdiff_t{N}) {
          T const given = takes_rest ? v[k] : v[k + rest];
          v[k] = (takes_rest ? v[k + rest] : v[k]) + shuffle_xor(given, mask);
        } else {
          v[k] += shuffle_xor(v[k], mask);
        }
      });
    });
    for (unsigned mask = lanes_a_sum / 2; mask > 0; mask /= 2) v[0] += shuffle_xor(v[0], mask);
    unsigned const warps = size_ / warp_lanes;
    std::uint64_t* const now = next_places(warps);
    unsigned const mine = rank_ % warp_lanes / lanes_a_sum;
    if (rank_ % lanes_a_sum == 0 && mine < N)
      now[rank_ / warp_lanes * N + mine] = std::bit_cast<Bits>(v[0]);
    block_barrier();
    if (rank_ != 0) return;
    unroll<N>([&](auto k) __attribute__((always_inline)) {
      v[k] = std::bit_cast<T>(static_cast<Bits>(now[k]));
    });
    for (unsigned w = 1; w < warps; ++w)
      unroll<N>([&](auto k) __attribute__((always_inline)) {
        v[k] += std::bit_cast<T>(static_cast<Bits>(now[w * N + k]));
      });
  }

 private:
  // The set of places whose turn it is.
  STIEFELX_HD std::uint64_t* next_places(unsigned warps) const {
    std::uint64_t* const now = places_ + turn_ * warps * most_sums;
    turn_ ^= 1u;
    return now;
  }

  std::uint64_t* places_;
  unsigned rank_;
  unsigned size_;
  mutable unsigned turn_ = 0;
};

}  // namespace stiefelx::cuda
