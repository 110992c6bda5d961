// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <limits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/kernels/block_sums.hpp>
#include <stiefelx/cuda/lane.hpp>
#include <stiefelx/team/filled_slot.hpp>

/// \file
/// \brief Slots of some tokens in the order that a block takes them.
/// \ingroup cuda
///
/// Slot i of token t of a block's tokens has the number i + k t. An id that is negative, or of no
/// expert, makes a slot empty: nothing outside the experts is read.

namespace stiefelx::cuda {

/// \brief The experts of all tokens.
/// \ingroup cuda
struct slot_ids {
  matrix_ref<int const> ids;  ///< k x T
  int experts;                ///< number of experts
  int slots;                  ///< k

  /// The expert of an empty slot.
  static constexpr int none = std::numeric_limits<int>::max();

  /// \param[in] first  first token of the block
  /// \param[in] slot   number of a slot of the block
  /// \returns its expert, or none
  STIEFELX_HD int expert(index_t first, int slot) const {
    int const* const column = ids.column(first);
    // Most often the columns follow each other, and nothing need be divided.
    int const id =
        ids.stride == slots ? column[slot] : column[slot % slots + slot / slots * ids.stride];
    return stiefelx::detail::is_filled(id, experts) ? id : none;
  }
};

/// \brief The slots of a block's tokens sorted by expert, in shared memory.
/// \ingroup cuda
///
/// Slots of one expert keep the order of their numbers; empty ones are last.
class sorted_slots {
 public:
  /// \param[in] count  slots of a block
  /// \returns bytes of shared memory
  static constexpr std::size_t shared_bytes(index_t count) {
    return static_cast<std::size_t>(4 * count) * sizeof(int);
  }

  /// All lanes of a block sort together, each placing some slots by counting those before them.
  /// \param[in] memory  so much of the block's shared memory
  /// \param[in] ids     of all tokens
  /// \param[in] first   first token of the block
  /// \param[in] count   its slots
  STIEFELX_HD sorted_slots(int* memory, slot_ids const& ids, index_t first, int count)
      : chosen_(memory),
        experts_(memory + count),
        tokens_(memory + 2 * count),
        slots_(memory + 3 * count),
        count_(count) {
    auto const lanes = static_cast<int>(block_threads());
    for (int q = static_cast<int>(thread_rank()); q < count; q += lanes)
      chosen_[q] = ids.expert(first, q);
    block_barrier();
    for (int q = static_cast<int>(thread_rank()); q < count; q += lanes) {
      int const mine = chosen_[q];
      int place = 0;
      for (int other = 0; other < count; ++other) {
        int const its = chosen_[other];
        place += its < mine || (its == mine && other < q) ? 1 : 0;
      }
      experts_[place] = mine;
      tokens_[place] = q / ids.slots;
      slots_[place] = q % ids.slots;
    }
    block_barrier();
  }

  /// \returns the number of slots, with empty ones
  STIEFELX_HD int count() const { return count_; }
  /// \param[in] place  in the sorted order
  /// \returns the expert of the slot there, or slot_ids::none
  STIEFELX_HD int expert(int place) const { return experts_[place]; }
  /// \param[in] place  in the sorted order
  /// \returns the token of the slot there, among those of the block
  STIEFELX_HD int token(int place) const { return tokens_[place]; }
  /// \param[in] place  in the sorted order
  /// \returns which of its token's slots is there
  STIEFELX_HD int slot(int place) const { return slots_[place]; }
  /// \param[in] place  in the sorted order
  /// \returns whether a slot is there that is not empty
  STIEFELX_HD bool is_chosen(int place) const {
    return place < count_ && experts_[place] != slot_ids::none;
  }
  /// \param[in] token  of the block
  /// \param[in] slots  of a token
  /// \returns whether one of its slots is not empty
  STIEFELX_HD bool has_expert(int token, int slots) const {
    bool any = false;
    for (int i = 0; i < slots; ++i) any = any || chosen_[token * slots + i] != slot_ids::none;
    return any;
  }
  /// \param[in] place  in the sorted order, of a slot that is not empty
  /// \param[in] most   at least 1
  /// \returns how many slots from there on have the same expert, at most so many
  STIEFELX_HD int run(int place, int most) const {
    int const mine = expert(place);
    int length = 1;
    while (length < most && place + length < count_ && expert(place + length) == mine) ++length;
    return length;
  }

 private:
  int* chosen_;
  int* experts_;
  int* tokens_;
  int* slots_;
  int count_;
};

/// \brief The slots of one expert among a block's tokens, in the order of their numbers.
/// \ingroup cuda
class slots_of_expert {
 public:
  /// \param[in] count    slots that are looked at
  /// \param[in] threads  lanes of a block
  /// \returns bytes of shared memory
  static constexpr std::size_t shared_bytes(index_t count, index_t threads) {
    return static_cast<std::size_t>(2 * count + threads / warp_lanes) * sizeof(int);
  }

  /// All lanes of a block collect together; each looks at slots that follow each other. A list is
  /// overwritten after a barrier, so another may be made in its place once this one was read.
  /// \param[in] memory  so much of the block's shared memory
  /// \param[in] ids     of all tokens
  /// \param[in] expert  which
  /// \param[in] first   first token
  /// \param[in] count   slots that are looked at
  STIEFELX_HD slots_of_expert(int* memory, slot_ids const& ids, int expert, index_t first,
                              int count)
      : tokens_(memory + block_threads() / warp_lanes), slots_(tokens_ + count), size_(0) {
    // In front of the lists, whose lengths change: other lanes may still read the list before.
    int* const warp_sizes = memory;
    auto const lanes = static_cast<int>(block_threads());
    auto const rank = static_cast<int>(thread_rank());
    int const share = (count + lanes - 1) / lanes;
    int const begin = rank * share < count ? rank * share : count;
    int const end = begin + share < count ? begin + share : count;
    int found = 0;
    for (int q = begin; q < end; ++q) found += ids.expert(first, q) == expert ? 1 : 0;
    // What lies before this lane: by exchanging totals of growing groups within the warp.
    int before = 0;
    int total = found;
    for (unsigned mask = 1; mask < warp_lanes; mask *= 2) {
      int const other = shuffle_xor(total, mask);
      if ((thread_rank() & mask) != 0) before += other;
      total += other;
    }
    int const warp = rank / static_cast<int>(warp_lanes);
    if (thread_rank() % warp_lanes == 0) warp_sizes[warp] = total;
    block_barrier();
    int const warps = lanes / static_cast<int>(warp_lanes);
    for (int w = 0; w < warps; ++w) {
      if (w < warp) before += warp_sizes[w];
      size_ += warp_sizes[w];
    }
    for (int q = begin; found > 0 && q < end; ++q)
      if (ids.expert(first, q) == expert) {
        tokens_[before] = q / ids.slots;
        slots_[before++] = q % ids.slots;
      }
    block_barrier();
  }

  /// \returns the number of slots found
  STIEFELX_HD int size() const { return size_; }
  /// \param[in] place  below size()
  /// \returns the token of a slot, counted from the first
  STIEFELX_HD int token(int place) const { return tokens_[place]; }
  /// \param[in] place  below size()
  /// \returns which of its token's slots it is
  STIEFELX_HD int slot(int place) const { return slots_[place]; }

 private:
  int* tokens_;
  int* slots_;
  int size_;
};

}  // namespace stiefelx::cuda
