// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

namespace stiefelx::host {

/// \brief Memory that grows to a high-water mark and is then used again.
/// \ingroup host
///
/// Blocks may be released in any order. A chunk never moves while one of its blocks is live; when
/// none is live anywhere, several chunks merge into one. One thread at a time.
class arena {
 public:
  /// Alignment of every block in bytes: a cache line, and the widest vector register.
  static constexpr std::size_t alignment = 64;

  arena() = default;
  arena(arena const&) = delete;
  arena& operator=(arena const&) = delete;
  ~arena() { free_chunks(); }

  /// \brief Takes a block.
  /// \param[in] bytes  its size; 0 is allowed
  /// \returns aligned memory, uninitialised
  void* allocate(std::size_t bytes) {
    bytes = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    if (chunks_.empty() || chunks_.back().size - chunks_.back().used < bytes) grow(bytes);
    chunk& c = chunks_.back();
    blocks_.push_back({c.first + c.used, false});
    c.used += bytes;
    return blocks_.back().first;
  }

  /// \brief Gives a block back.
  /// \param[in] block  what allocate() returned
  void release(void* block) {
    std::size_t last = blocks_.size() - 1;
    while (blocks_[last].first != block) --last;
    blocks_[last].free = true;
    while (!blocks_.empty() && blocks_.back().free) {
      retire(blocks_.back().first);
      blocks_.pop_back();
    }
    if (blocks_.empty() && chunks_.size() > 1) merge();
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
    for (chunk const& c : chunks_) sum += c.size;
    return sum;
  }

 private:
  struct chunk {
    std::byte* first;
    std::size_t size;
    std::size_t used;
  };
  struct record {
    std::byte* first;
    bool free;
  };

  void add_chunk(std::size_t size) {
    // The entry first: no memory is lost then, whichever of the two throws.
    chunks_.push_back({nullptr, 0, 0});
    chunk& c = chunks_.back();
    c.first = static_cast<std::byte*>(::operator new(size, std::align_val_t{alignment}));
    c.size = size;
  }

  void free_chunks() {
    for (chunk const& c : chunks_) ::operator delete(c.first, std::align_val_t{alignment});
    chunks_.clear();
  }

  // Doubling keeps the number of chunks, and so of merges, logarithmic.
  void grow(std::size_t bytes) {
    // Room for more blocks than algorithms hold at once, so that the list does not grow either.
    if (blocks_.capacity() == 0) blocks_.reserve(64);
    add_chunk(std::max(std::max(bytes, capacity()), std::size_t{1} << 16));
  }

  // Blocks come off in the reverse order of their making, so the last used chunk holds the block.
  void retire(std::byte const* block) {
    std::size_t last = chunks_.size() - 1;
    while (chunks_[last].used == 0) --last;
    chunks_[last].used = static_cast<std::size_t>(block - chunks_[last].first);
  }

  void merge() {
    std::size_t const size = capacity();
    free_chunks();
    add_chunk(size);
  }

  std::vector<chunk> chunks_;
  std::vector<record> blocks_;
};

}  // namespace stiefelx::host
