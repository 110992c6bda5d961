// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <stiefelx/io/format_error.hpp>

namespace stiefelx {

/// \brief A file that is written piece by piece and appears in one step.
/// \ingroup io
///
/// The bytes go to a temporary file in the same folder, `NAME.PID-NUMBER.partial`. publish() brings
/// them to the disk and renames the file, so under its own name there is always the old file or the
/// new one, each whole: after an exception, when the process is killed at any point, and when the
/// power fails. Only a killed process leaves a temporary file behind.
///
/// A name that is free or leads to a regular file may be written; folders, devices, pipes and sockets
/// are refused. A new file keeps the permissions of the one that the name led to before. Where the name
/// is a symbolic link, the link itself is replaced: the file that it named stays whole, under its own
/// name.
class atomic_file {
 public:
  /// \brief Opens the temporary file.
  /// \param[in] path  the file; its folder exists
  /// \throws format_error  if it is no file that can be written
  explicit atomic_file(std::string path) : target_(std::move(path)) {
    struct stat old{};
    bool const replaces = ::stat(target_.c_str(), &old) == 0;
    if (replaces && !S_ISREG(old.st_mode))
      detail::throw_format(format_fault::cannot_write, target_, "something else than a file",
                           "a regular file or a free name");
    ::mode_t const mode = replaces ? old.st_mode & 0777 : 0666;
    static std::atomic<unsigned> serial{0};
    do {
      name_ = temporary_name(++serial);
      descriptor_ = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) fail();
    // Permissions of the old file hold for the new one whatever the umask is now.
    if (replaces && ::fchmod(descriptor_, mode) != 0) {
      int const error = errno;
      discard();
      errno = error;
      fail();
    }
  }
  atomic_file(atomic_file const&) = delete;
  atomic_file(atomic_file&&) = delete;
  atomic_file& operator=(atomic_file const&) = delete;
  atomic_file& operator=(atomic_file&&) = delete;
  /// Removes the temporary file if it was not published.
  ~atomic_file() { discard(); }

  /// \brief Appends bytes.
  /// \param[in] bytes  any number of them
  /// \throws format_error  if they cannot be written, for example to a full disk
  void write(std::span<std::byte const> bytes) {
    while (!bytes.empty()) {
      auto const count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail();
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }
  /// \brief Appends text.
  /// \param[in] text  any number of characters
  /// \throws format_error  if they cannot be written
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// \brief Brings the bytes to the disk, and keeps the old file under the name.
  ///
  /// publish() does it too. Of several files that belong together all can be brought there before one
  /// is published, so that a full disk leaves every old one.
  /// \throws format_error  if the disk does not take them
  void sync() {
    if (::fsync(descriptor_) != 0) fail();
  }

  /// \brief Brings the bytes to the disk, and the file under its name; the last call.
  /// \throws format_error  if the file cannot be completed, and then the old one is whole; or if the
  ///                       folder cannot be brought to the disk, and then the new file is whole under
  ///                       its name, but the power must not fail soon
  void publish() {
    sync();
    int const closed = ::close(std::exchange(descriptor_, -1));
    if (closed != 0 || std::rename(name_.c_str(), target_.c_str()) != 0) fail();
    published_ = true;
    sync_folder();
  }

 private:
  [[noreturn]] STIEFELX_COLD void fail() const {
    detail::throw_format(format_fault::cannot_write, target_,
                         std::generic_category().message(errno), "a file that can be written");
  }

  std::string::size_type name_begin() const {
    auto const slash = target_.rfind('/');
    return slash == std::string::npos ? 0 : slash + 1;
  }

  std::string temporary_name(unsigned serial) const {
    // File systems allow names of 255 bytes, and the target's may be as long.
    constexpr std::size_t longest = 200;
    return target_.substr(0, name_begin()) + target_.substr(name_begin(), longest) + "." +
           std::to_string(::getpid()) + "-" + std::to_string(serial) + ".partial";
  }

  void sync_folder() const {
    std::string const folder = name_begin() == 0 ? "." : target_.substr(0, name_begin());
    int const entry = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // A folder that may be written and not read cannot be synchronized at all.
    if (entry < 0) return;
    int const error = ::fsync(entry) == 0 ? 0 : errno;
    ::close(entry);
    // Some file systems do not know this operation on a folder.
    if (error == 0 || error == EINVAL || error == ENOTSUP || error == EROFS) return;
    errno = error;
    fail();
  }

  void discard() noexcept {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
    if (!published_ && !name_.empty()) ::unlink(name_.c_str());
  }

  std::string target_;
  std::string name_;
  int descriptor_ = -1;
  bool published_ = false;
};

/// \brief Writes a whole file or leaves the old one as it is, see atomic_file.
/// \ingroup io
/// \param[in] path   the file; its folder exists
/// \param[in] bytes  the content
/// \throws format_error  if it cannot be written
inline void write_file(std::string const& path, std::span<std::byte const> bytes) {
  atomic_file file(path);
  file.write(bytes);
  file.publish();
}

/// \brief Writes a whole text file or leaves the old one as it is, see atomic_file.
/// \ingroup io
/// \param[in] path  the file; its folder exists
/// \param[in] text  the content
/// \throws format_error  if it cannot be written
inline void write_file(std::string const& path, std::string_view text) {
  write_file(path, std::as_bytes(std::span(text)));
}

}  // namespace stiefelx
