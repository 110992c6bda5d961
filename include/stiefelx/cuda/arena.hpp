// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/runtime.hpp>

namespace stiefelx::cuda {

class arena;

/// \brief Scratch that recorded work uses: it stays where it is while one lives.
/// \ingroup cuda
///
/// The arena hands the same memory out to other work in between, since all of it runs in the order
/// of one queue.
class recorded_scratch {
 private:
  friend class arena;
  struct piece {
    std::shared_ptr<buffer<std::byte> const> memory;
    std::byte const *first, *last;
  };

  std::vector<piece> pieces_;
  std::size_t taken_ = 0;  // blocks that the arena had handed out when the recording ended
};

/// \brief Device memory that grows to a high-water mark and is then used again.
/// \ingroup cuda
///
/// Blocks belong to the work of one queue, so a block given back while that work still waits may be
/// handed out at once: what uses it next is queued behind. Blocks may be released in any order. A
/// chunk never moves while one of its blocks is live or recorded work uses it; when neither is the
/// case anywhere, the next block finds several chunks merged into one, after a wait for the queue.
/// The same blocks in the same order fit the second time, merged or not. Where the device has no room
/// for more than is asked for, nor for one chunk in place of several, chunks stay as small and as many
/// as they are. One thread at a time.
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
  /// \throws cuda_error        when the device has no more
  /// \throws std::logic_error  when the arena would have to grow while its queue is recorded
  void* allocate(std::size_t bytes) {
    // Not in release(), which runs in destructors: merging may fail.
    merge();
    bytes = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    std::size_t place = last_used();
    while (place < chunks_.size() && chunks_[place].size() - chunks_[place].used < bytes) ++place;
    if (place == chunks_.size()) grow(bytes);
    chunk& c = chunks_[place];
    blocks_.push_back({c.memory->data() + c.used, bytes, ++taken_, false});
    c.used += bytes;
    c.most = std::max(c.most, c.used);
    detail::scratch_taken(queue_, blocks_.back().first, bytes);
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
    for (chunk const& c : chunks_) sum += c.size();
    return sum;
  }

  /// \brief Notes from now on which memory is handed out; may wait.
  void start_recording() {
    merge();
    for (chunk& c : chunks_) c.most = c.start = c.used;
  }

  /// \returns the memory handed out since start_recording()
  recorded_scratch end_recording() const {
    recorded_scratch found;
    found.taken_ = taken_;
    for (chunk const& c : chunks_)
      if (c.most > c.start)
        found.pieces_.push_back({c.memory, c.memory->data() + c.start, c.memory->data() + c.most});
    return found;
  }

  /// \brief Throws when recorded work would write over live blocks.
  /// \param[in] scratch  what the work uses
  /// \throws std::logic_error  when a block that was taken after the recording lies there
  void expect_free(recorded_scratch const& scratch) const {
    for (record const& r : blocks_)
      for (recorded_scratch::piece const& p : scratch.pieces_)
        if (!r.free && r.number > scratch.taken_ && r.first < p.last && p.first < r.first + r.bytes)
          throw std::logic_error(
              "replay: scratch that was taken after the capture is still held and lies where the "
              "graph writes; release it first, or take it before the capture");
  }

 private:
  struct chunk {
    std::shared_ptr<buffer<std::byte>> memory;  // shared with recorded work
    std::size_t used = 0;
    std::size_t start = 0, most = 0;  // of what is recorded

    std::size_t size() const { return memory->size(); }
  };
  struct record {
    std::byte* first;
    std::size_t bytes;
    std::size_t number;
    bool free;
  };

  static chunk chunk_of(std::size_t bytes) { return {std::make_shared<buffer<std::byte>>(bytes)}; }

  // Blocks fill chunks in order, so that they come off in the reverse order of their making.
  std::size_t last_used() const {
    std::size_t last = chunks_.empty() ? 0 : chunks_.size() - 1;
    while (last > 0 && chunks_[last].used == 0) --last;
    return last;
  }

  // Doubling keeps the number of chunks, and so of merges, logarithmic.
  void grow(std::size_t bytes) {
    if (is_capturing(queue_))
      throw std::logic_error(
          "capture: the step needs more scratch than its context holds; run the step once before "
          "capturing it");
    // Room for more blocks than algorithms hold at once, so that the list does not grow either.
    if (blocks_.capacity() == 0) blocks_.reserve(64);
    std::size_t const size = std::max(std::max(bytes, capacity()), std::size_t{1} << 16);
    if (size > bytes && add_chunk(size)) return;
    chunks_.push_back(chunk_of(bytes));
  }

  // Whether the device had the room.
  bool add_chunk(std::size_t bytes) {
    try {
      chunks_.push_back(chunk_of(bytes));
      return true;
    } catch (cuda_error const&) {
      return false;
    }
  }

  void retire(std::byte const* block) noexcept {
    chunk& last = chunks_[last_used()];
    last.used = static_cast<std::size_t>(block - last.memory->data());
    // A recorded step may give back what was taken before it, and take other blocks there.
    last.start = std::min(last.start, last.used);
  }

  // Where nothing holds them, several chunks become one of their size.
  void merge() {
    if (!blocks_.empty() || chunks_.size() < 2 || !may_merge_) return;
    for (chunk const& c : chunks_)
      if (c.memory.use_count() > 1) return;
    // What is being recorded names the chunks, and must not wait.
    if (is_capturing(queue_)) return;
    std::size_t const size = capacity();
    synchronize(queue_);
    chunks_.clear();
    // Pieces fit where their sum in one did not, and trying that again each time would cost a wait.
    may_merge_ = add_chunk(size);
  }

  stream_ref queue_;
  std::vector<chunk> chunks_;
  std::vector<record> blocks_;
  std::size_t taken_ = 0;
  bool may_merge_ = true;
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
