// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <stiefelx/io/format_error.hpp>

namespace stiefelx {

/// \brief The bytes of a file that is open, or of memory; read at any offset.
/// \ingroup io
///
/// Memory is not owned and outlives the source. Any number of threads may read at once.
class byte_source {
 public:
  /// \brief Opens a file.
  /// \param[in] path  a regular file, or a symbolic link to one
  /// \throws format_error  if it cannot be opened or is no regular file
  explicit byte_source(std::string path) : origin_(std::move(path)) {
    // Without O_NONBLOCK, opening a pipe waits for its writer.
    descriptor_ = ::open(origin_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail(format_fault::cannot_open, "a file that can be read");
    struct stat status{};
    if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      detail::throw_format(format_fault::cannot_open, origin_, "something else than a file",
                           "a regular file");
    }
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  /// \brief Looks at memory.
  /// \param[in] bytes   the content
  /// \param[in] origin  what to call it in the text of errors
  explicit byte_source(std::span<std::byte const> bytes, std::string origin = "memory")
      : origin_(std::move(origin)), memory_(bytes), size_(bytes.size()) {}

  byte_source(byte_source const&) = delete;
  byte_source& operator=(byte_source const&) = delete;
  /// \brief Takes over the file or the view of memory.
  /// \param[in] other  is empty afterwards
  byte_source(byte_source&& other) noexcept
      : origin_(std::move(other.origin_)),
        memory_(std::exchange(other.memory_, {})),
        size_(std::exchange(other.size_, 0)),
        descriptor_(std::exchange(other.descriptor_, -1)) {}
  /// \brief Takes over the file or the view of memory.
  /// \param[in] other  gets what this had
  /// \returns this
  byte_source& operator=(byte_source&& other) noexcept {
    std::swap(origin_, other.origin_);
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  /// Closes the file.
  ~byte_source() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  /// Path of the file, or what the memory is called.
  /// \returns the name for the text of errors
  std::string const& origin() const { return origin_; }
  /// Bytes in all, as found at the beginning.
  /// \returns the size
  std::uint64_t size() const { return size_; }
  /// The memory that is looked at.
  /// \returns all bytes; none for a file
  std::span<std::byte const> memory() const { return memory_; }

  /// \brief Throws if the file is shorter by now.
  ///
  /// Called before memory of the caller is written, so that a file cut off in the meantime changes
  /// none of it.
  /// \throws format_error  if it is
  void expect_whole() const {
    if (descriptor_ < 0) return;
    struct stat status{};
    if (::fstat(descriptor_, &status) != 0) fail(format_fault::cannot_read, "its size");
    auto const now = static_cast<std::uint64_t>(status.st_size);
    if (now < size_)
      detail::throw_format(format_fault::cannot_read, origin_,
                           std::to_string(now) + " bytes by now", std::to_string(size_));
  }

  /// \brief Reads some bytes.
  /// \param[in]  offset  bytes from the beginning
  /// \param[out] bytes   filled; offset and its size together are at most size()
  /// \throws format_error  if the bytes are not there, or reading fails
  void read(std::uint64_t offset, std::span<std::byte> bytes) const {
    if (offset > size_ || bytes.size() > size_ - offset)
      detail::throw_format(format_fault::truncated, origin_,
                           "only " + std::to_string(size_) + " bytes",
                           std::to_string(bytes.size()) + " from byte " + std::to_string(offset));
    if (bytes.empty()) return;
    if (descriptor_ < 0) {
      std::memcpy(bytes.data(), memory_.data() + offset, bytes.size());
      return;
    }
    while (!bytes.empty()) {
      auto const count =
          ::pread(descriptor_, bytes.data(), bytes.size(), static_cast<::off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail(format_fault::cannot_read, "bytes that can be read");
      if (count == 0)
        detail::throw_format(format_fault::cannot_read, origin_,
                             "its end at byte " + std::to_string(offset), "more by its size");
      offset += static_cast<std::uint64_t>(count);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }

 private:
  [[noreturn]] STIEFELX_COLD void fail(format_fault fault, std::string_view expected) const {
    detail::throw_format(fault, origin_, std::generic_category().message(errno), expected);
  }

  std::string origin_;
  std::span<std::byte const> memory_;
  std::uint64_t size_ = 0;
  int descriptor_ = -1;
};

/// \brief Reads a whole file.
/// \ingroup io
/// \param[in] path     a regular file, or a symbolic link to one
/// \param[in] largest  most bytes that are accepted; checked before memory is allocated
/// \returns its bytes
/// \throws format_error  if it cannot be read, or is larger
inline std::string read_file(std::string path, std::uint64_t largest = 16'000'000) {
  byte_source const from(std::move(path));
  if (from.size() > largest)
    detail::throw_format(format_fault::size, from.origin(), std::to_string(from.size()) + " bytes",
                         "at most " + std::to_string(largest));
  std::string bytes(static_cast<std::size_t>(from.size()), '\0');
  from.read(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

}  // namespace stiefelx
