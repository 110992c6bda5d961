// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

/// What the examples need around the library: files, arguments, progress and pictures.
namespace example {

/// \brief A file that is not what the program needs; one line names it, what was expected and what
/// was found.
class file_error : public std::runtime_error {
 public:
  /// \brief Makes the line `PATH: expected EXPECTED, found FOUND`.
  /// \param[in] path      the file
  /// \param[in] expected  what it has to be
  /// \param[in] found     what it is
  file_error(std::filesystem::path const& path, std::string_view expected, std::string_view found)
      : std::runtime_error(line(path.string(), expected, found)) {}

 private:
  static std::string line(std::string const& path, std::string_view expected,
                          std::string_view found) {
    std::string text = path;
    text.append(": expected ").append(expected).append(", found ").append(found);
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < 0x20) c = '?';
    }
    return text;
  }
};

namespace detail {

inline std::string error_text(int code) { return std::generic_category().message(code); }

// A file under a temporary name; it disappears unless it is published.
class unpublished_file {
 public:
  explicit unpublished_file(std::filesystem::path target) : target_(std::move(target)) {
    static std::atomic<unsigned> serial{0};
    do {
      name_ = target_;
      name_ += "." + std::to_string(::getpid()) + "-" + std::to_string(++serial) + ".partial";
      // mkstemp would leave the published file unreadable for others; this honours the umask.
      descriptor_ = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) fail();
  }
  unpublished_file(unpublished_file const&) = delete;
  unpublished_file(unpublished_file&&) = delete;
  unpublished_file& operator=(unpublished_file const&) = delete;
  unpublished_file& operator=(unpublished_file&&) = delete;
  ~unpublished_file() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!published_) ::unlink(name_.c_str());
  }

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      auto const count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail();
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }

  void publish() {
    if (::fsync(descriptor_) != 0) fail();
    int const closed = ::close(descriptor_);
    descriptor_ = -1;
    if (closed != 0 || std::rename(name_.c_str(), target_.c_str()) != 0) fail();
    published_ = true;
    // The new name lives in the folder, which has its own buffers. Some file systems cannot
    // synchronize a folder; the file is complete all the same, so failure here is no error.
    auto const folder = target_.has_parent_path() ? target_.parent_path() : ".";
    int const entry = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (entry < 0) return;
    ::fsync(entry);
    ::close(entry);
  }

 private:
  [[noreturn]] void fail() const {
    throw file_error(target_, "a file that can be written", error_text(errno));
  }

  std::filesystem::path target_;
  std::filesystem::path name_;
  int descriptor_ = -1;
  bool published_ = false;
};

}  // namespace detail

/// \brief Writes a whole file or leaves the old one as it is.
///
/// The bytes go to a temporary file in the same folder, reach the disk, and take the final name in
/// one step, so a reader or an interruption never meets half a file.
///
/// \param[in] path   the file; its folder exists
/// \param[in] bytes  the content
/// \throws file_error  if the file cannot be written; no temporary file stays behind
inline void write_text_file(std::filesystem::path const& path, std::string_view bytes) {
  detail::unpublished_file file(path);
  file.write(bytes);
  file.publish();
}

}  // namespace example
