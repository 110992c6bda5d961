// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <signal.h>
#include <zlib.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ios>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "examples/support/file.hpp"

namespace example {

namespace detail {

// The layout, in this machine's byte order: magic, version, size of the file, then the entries,
// each as length of the name, name, type, count, elements; at the end the CRC-32 of all before it.
inline constexpr std::string_view checkpoint_magic = "STIEFELX";
inline constexpr std::uint32_t checkpoint_version = 1;
inline constexpr std::size_t checkpoint_header = 8 + 4 + 8;

template <class T>
struct element_type;
template <>
struct element_type<float> {
  static constexpr std::uint8_t tag = 1;
};
template <>
struct element_type<double> {
  static constexpr std::uint8_t tag = 2;
};
template <>
struct element_type<std::int32_t> {
  static constexpr std::uint8_t tag = 3;
};
template <>
struct element_type<std::uint64_t> {
  static constexpr std::uint8_t tag = 4;
};
template <>
struct element_type<char> {
  static constexpr std::uint8_t tag = 5;
};

struct element_info {
  std::string_view name;
  std::size_t size;
};
inline constexpr std::array<element_info, 6> element_types{
    {{"", 0}, {"float", 4}, {"double", 8}, {"int32", 4}, {"uint64", 8}, {"text", 1}}};

inline std::uint32_t crc(std::string_view bytes) {
  return static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<unsigned char const*>(bytes.data()), bytes.size()));
}

template <class T>
void append(std::string& bytes, T const& value) {
  bytes.append(reinterpret_cast<char const*>(&value), sizeof value);
}

}  // namespace detail

/// \brief Collects named arrays and writes them to one file.
///
/// Reading gives the same bits back, on a machine of the same byte order.
class checkpoint_writer {
 public:
  /// \brief Adds a named array; its values are copied.
  /// \param[in] name    not used before
  /// \param[in] values  any number of them
  /// \throws std::invalid_argument  if the name is taken
  void add(std::string_view name, std::span<float const> values) { append(name, values); }
  /// \copydoc add
  void add(std::string_view name, std::span<double const> values) { append(name, values); }
  /// \copydoc add
  void add(std::string_view name, std::span<std::int32_t const> values) { append(name, values); }
  /// \copydoc add
  void add(std::string_view name, std::span<std::uint64_t const> values) { append(name, values); }
  /// \copydoc add
  void add(std::string_view name, std::string_view values) {
    append(name, std::span<char const>(values));
  }

  /// \brief Writes the file in one step, see write_text_file.
  /// \param[in] path  the file; its folder exists
  /// \throws file_error  if it cannot be written
  void write(std::filesystem::path const& path) const {
    std::string bytes(detail::checkpoint_magic);
    detail::append(bytes, detail::checkpoint_version);
    detail::append(bytes, std::uint64_t{detail::checkpoint_header + entries_.size() + 4});
    bytes += entries_;
    detail::append(bytes, detail::crc(bytes));
    write_text_file(path, bytes);
  }

 private:
  template <class T>
  void append(std::string_view name, std::span<T const> values) {
    if (!names_.emplace(name).second) {
      throw std::invalid_argument("checkpoint_writer: '" + std::string(name) +
                                  "' is there already");
    }
    detail::append(entries_, std::uint64_t{name.size()});
    entries_.append(name);
    detail::append(entries_, detail::element_type<T>::tag);
    detail::append(entries_, std::uint64_t{values.size()});
    if (values.empty()) return;
    entries_.append(reinterpret_cast<char const*>(values.data()), values.size_bytes());
  }

  std::string entries_;
  std::set<std::string, std::less<>> names_;
};

/// \brief Reads a file that checkpoint_writer wrote.
///
/// The whole file is checked first, so that a damaged one changes nothing.
class checkpoint_reader {
 public:
  /// \brief Reads and checks the file.
  /// \param[in] path  the file
  /// \throws file_error  if it is missing, not a checkpoint, of another version, truncated or
  /// damaged
  explicit checkpoint_reader(std::filesystem::path path) : path_(std::move(path)) {
    errno = 0;
    std::ifstream file(path_, std::ios::binary);
    if (!file) fail("a checkpoint", "nothing (" + detail::error_text(errno) + ")");
    std::array<char, 1 << 14> piece;
    do {
      file.read(piece.data(), std::streamsize{piece.size()});
      bytes_.append(piece.data(), static_cast<std::size_t>(file.gcount()));
    } while (file);
    if (file.bad()) fail("a checkpoint", detail::error_text(errno));
    check_header();
    read_entries();
  }

  /// Says whether there is an entry of this name.
  bool contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }

  /// \brief Reads an array into memory of the same size.
  /// \param[in]  name    the entry
  /// \param[out] values  as many elements as the entry has
  /// \throws file_error  if the entry is missing, of another type or another count
  void get(std::string_view name, std::span<float> values) const { copy(name, values); }
  /// \copydoc get
  void get(std::string_view name, std::span<double> values) const { copy(name, values); }
  /// \copydoc get
  void get(std::string_view name, std::span<std::int32_t> values) const { copy(name, values); }
  /// \copydoc get
  void get(std::string_view name, std::span<std::uint64_t> values) const { copy(name, values); }

  /// \brief Returns an array of whatever count.
  /// \tparam T  float, double, std::int32_t or std::uint64_t
  /// \param[in] name  the entry
  /// \throws file_error  if the entry is missing or of another type
  template <class T>
  std::vector<T> values(std::string_view name) const {
    std::vector<T> result(find<T>(name).count);
    copy(name, std::span<T>(result));
    return result;
  }

  /// \brief Returns a text.
  /// \param[in] name  the entry
  /// \throws file_error  if the entry is missing or no text
  std::string text(std::string_view name) const {
    auto const found = find<char>(name);
    return bytes_.substr(found.offset, found.count);
  }

 private:
  struct entry {
    std::uint8_t tag;
    std::size_t count;
    std::size_t offset;
  };

  [[noreturn]] void fail(std::string_view expected, std::string_view found) const {
    throw file_error(path_, expected, found);
  }

  void check_header() const {
    auto const magic = detail::checkpoint_magic;
    if (bytes_.compare(0, magic.size(), magic) != 0) {
      fail("a checkpoint", "a file that does not start with " + std::string(magic));
    }
    if (bytes_.size() < detail::checkpoint_header + 4) {
      fail("a checkpoint", "only " + std::to_string(bytes_.size()) + " bytes");
    }
    auto const version = at<std::uint32_t>(magic.size());
    if (version != detail::checkpoint_version) {
      fail("checkpoint version " + std::to_string(detail::checkpoint_version),
           std::to_string(version));
    }
    auto const size = at<std::uint64_t>(magic.size() + 4);
    if (size != bytes_.size()) {
      fail(std::to_string(size) + " bytes", std::to_string(bytes_.size()));
    }
    auto const end = bytes_.size() - 4;
    auto const stored = at<std::uint32_t>(end);
    auto const computed = detail::crc(std::string_view(bytes_).substr(0, end));
    if (stored != computed) {
      fail("checksum " + std::to_string(stored), std::to_string(computed));
    }
  }

  // The checksum holds, yet a file made on purpose may still lie: every length is compared with
  // what is left before it is used.
  void read_entries() {
    std::size_t offset = detail::checkpoint_header;
    auto const end = bytes_.size() - 4;
    auto const take = [&](std::uint64_t count, std::size_t size) {
      if (count > (end - offset) / size) {
        fail("entries that end with the file", "one that goes on beyond it");
      }
      return std::exchange(offset, offset + static_cast<std::size_t>(count) * size);
    };
    while (offset < end) {
      auto const length = at<std::uint64_t>(take(1, 8));
      auto const start = take(length, 1);
      auto name = bytes_.substr(start, static_cast<std::size_t>(length));
      auto const tag = at<std::uint8_t>(take(1, 1));
      if (tag == 0 || tag >= detail::element_types.size()) {
        fail("an element type from 1 to 5 in entry '" + name + "'", std::to_string(tag));
      }
      auto const count = at<std::uint64_t>(take(1, 8));
      auto const place = take(count, detail::element_types[tag].size);
      auto const added =
          entries_.emplace(std::move(name), entry{tag, static_cast<std::size_t>(count), place});
      if (!added.second) fail("every name once", "'" + added.first->first + "' again");
    }
  }

  template <class T>
  T at(std::size_t offset) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }

  template <class T>
  entry find(std::string_view name) const {
    auto const tag = detail::element_type<T>::tag;
    auto const what = "an entry '" + std::string(name) + "' of type " +
                      std::string(detail::element_types[tag].name);
    auto const found = entries_.find(name);
    if (found == entries_.end()) fail(what, "no such entry");
    if (found->second.tag != tag) {
      fail(what, "type " + std::string(detail::element_types[found->second.tag].name));
    }
    return found->second;
  }

  template <class T>
  void copy(std::string_view name, std::span<T> values) const {
    auto const found = find<T>(name);
    if (found.count != values.size()) {
      fail(std::to_string(values.size()) + " elements in entry '" + std::string(name) + "'",
           std::to_string(found.count));
    }
    if (values.empty()) return;
    std::memcpy(values.data(), bytes_.data() + found.offset, values.size_bytes());
  }

  std::filesystem::path path_;
  std::string bytes_;
  std::map<std::string, entry, std::less<>> entries_;
};

/// \brief Notes Ctrl-C, so that a loop can stop at a step of its own choice and save its state.
///
/// From construction to destruction the first SIGINT only sets a flag, also where the signal was
/// ignored before, as it is in the background of a script; a second one ends the program. Any
/// thread may ask. One object at a time.
class interrupt_flag {
 public:
  /// Clears the flag and takes over SIGINT.
  interrupt_flag() {
    flag().store(false);
    struct sigaction action{};
    action.sa_handler = [](int) { flag().store(true); };
    action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, &before_);
  }
  interrupt_flag(interrupt_flag const&) = delete;
  interrupt_flag(interrupt_flag&&) = delete;
  interrupt_flag& operator=(interrupt_flag const&) = delete;
  interrupt_flag& operator=(interrupt_flag&&) = delete;
  /// Gives SIGINT back.
  ~interrupt_flag() { ::sigaction(SIGINT, &before_, nullptr); }

  /// Says whether SIGINT arrived since construction.
  bool interrupted() const { return flag().load(std::memory_order_relaxed); }

 private:
  // A constant-initialized local is safe to reach from the signal, and the flag takes no lock.
  static std::atomic<bool>& flag() {
    static constinit std::atomic<bool> set{false};
    static_assert(std::atomic<bool>::is_always_lock_free);
    return set;
  }

  struct sigaction before_{};
};

}  // namespace example
