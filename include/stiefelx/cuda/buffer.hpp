// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <utility>

#include <stiefelx/cuda/runtime.hpp>

namespace stiefelx::cuda {

/// \brief Owns device memory for entries of one type, uninitialised.
/// \ingroup cuda
template <class T>
class buffer {
 public:
  /// \param[in] size  number of entries; 0 takes no memory
  explicit buffer(std::size_t size)
      : first_(static_cast<T*>(allocate(size * sizeof(T)))), size_(size) {}
  /// Takes over the memory; the source is left with none.
  /// \param[in] other  owner until now
  buffer(buffer&& other) noexcept
      : first_(std::exchange(other.first_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  /// Gives its memory back and takes over other's.
  /// \param[in] other  owner until now
  /// \returns this
  buffer& operator=(buffer&& other) noexcept {
    std::swap(first_, other.first_);
    std::swap(size_, other.size_);
    buffer last(std::move(other));
    return *this;
  }
  ~buffer() { release(first_); }

  /// \returns address of the first entry, on the device
  T* data() const { return first_; }
  /// \returns number of entries
  std::size_t size() const { return size_; }

 private:
  T* first_;
  std::size_t size_;
};

}  // namespace stiefelx::cuda
