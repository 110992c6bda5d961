// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include <stiefelx/cuda/runtime.hpp>

namespace stiefelx::cuda {

/// \brief Device memory that grows to a high-water mark and is then used again.
/// \ingroup cuda
///
/// Blocks belong to the work of one queue, so a block given back while that work still waits may be
/// handed out at once: what uses it next is queued behind. Blocks may be released in any order. A
/// chunk never moves while one of its blocks is live; when none is live anywhere, the next block
/// finds several chunks merged into one, after a wait for the queue. One thread at a time.
class arena {
 public:
  /// Alignment of every block in bytes: that of the runtime's own allocations.
  static constexpr std::size_t alignment = 256;

  /// \param[in] queue  whose work uses the memory; outlives the arena
  explicit arena(stream_ref queue) : queue_(queue) {}
  arena(arena const&) = delete;
  arena& operator=(arena const&) = delete;
  ~arena() { finish(queue_); }

  /// \brief Takes a block.
  /// \param[in] bytes  its size; 0 is allowed
  /// \returns aligned device memory, uninitialised
  /// \throws cuda_error  when the device has no more
  void* allocate(std::size_t bytes) {
    // Not in release(), which runs in destructors: merging may fail.
    if (blocks_.empty() && chunks_.size() > 1) merge();
    bytes = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    if (chunks_.empty() || chunks_.back().memory.size() - chunks_.back().used < bytes) grow(bytes);
    chunk& c = chunks_.back();
    blocks_.push_back({c.memory.data() + c.used, false});
    c.used += bytes;
    return blocks_.back().first;
  }

  /// \brief Gives a block back.
  /// \param[in] block  what allocate() returned
  void release(void* block) noexcept {
    std::size_t last = blocks_.size() - 1;
    while (blocks_[last].first != block) --last;
    blocks_[last].free = true;
    while (!blocks_.empty() && blocks_.back().free) {
      retire(blocks_.back().first);
      blocks_.pop_back();
    }
  }

  /// \returns the number of live blocks
  std::size_t live() const {
    std::size_t sum = 0;
    for (record const& r : blocks_) sum += r.free ? 0 : 1;
    return sum;
  }

  /// \returns the bytes held, in use or not
  std::size_t capacity() const {
    std::size_t sum = 0;
    for (chunk const& c : chunks_) sum += c.memory.size();
    return sum;
  }

 private:
  struct chunk {
    buffer<std::byte> memory;
    std::size_t used;
  };
  struct record {
    std::byte* first;
    bool free;
  };

  // Doubling keeps the number of chunks, and so of merges, logarithmic.
  void grow(std::size_t bytes) {
    // Room for more blocks than algorithms hold at once, so that the list does not grow either.
    if (blocks_.capacity() == 0) blocks_.reserve(64);
    std::size_t const size = std::max(std::max(bytes, capacity()), std::size_t{1} << 16);
    chunks_.push_back({buffer<std::byte>(size), 0});
  }

  // Blocks come off in the reverse order of their making, so the last used chunk holds the block.
  void retire(std::byte const* block) noexcept {
    std::size_t last = chunks_.size() - 1;
    while (chunks_[last].used == 0) --last;
    chunks_[last].used = static_cast<std::size_t>(block - chunks_[last].memory.data());
  }

  void merge() {
    std::size_t const size = capacity();
    synchronize(queue_);
    chunks_.clear();
    chunks_.push_back({buffer<std::byte>(size), 0});
  }

  stream_ref queue_;
  std::vector<chunk> chunks_;
  std::vector<record> blocks_;
};

/// \brief A block of an arena for entries of one type, uninitialised; the arena outlives it.
/// \ingroup cuda
template <class T>
class arena_block {
 public:
  /// \param[in] memory  where to take it from
  /// \param[in] size    number of entries
  arena_block(arena& memory, std::size_t size)
      : memory_(&memory), first_(static_cast<T*>(memory.allocate(size * sizeof(T)))) {}
  /// Takes over the block; the source is left with none.
  /// \param[in] other  owner until now
  arena_block(arena_block&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)),
        first_(std::exchange(other.first_, nullptr)) {}
  arena_block& operator=(arena_block&&) = delete;
  ~arena_block() {
    if (memory_ != nullptr) memory_->release(first_);
  }

  /// \returns address of the first entry, on the device
  T* data() const { return first_; }

 private:
  arena* memory_;
  T* first_;
};

}  // namespace stiefelx::cuda
