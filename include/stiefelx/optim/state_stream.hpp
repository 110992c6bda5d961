// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <limits>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <stiefelx/optim/state.hpp>

/// \file
/// \brief States of optimizers in streams of bytes.
/// \ingroup optim
///
/// The format is for this one purpose. All numbers are little-endian and unsigned:
///
/// | bytes | what |
/// | --- | --- |
/// | 8 | `STIEFOPT` |
/// | 4 | version, 1 |
/// | 4 + n | length n of the optimizer's name, and the name |
/// | 4 | number of arrays |
/// | | each array: 4 + n for its name, 4 + n for its scalar, 8 rows, 8 columns, the entries |
/// | 4 | CRC-32 (as in zlib and PNG) of everything before it |
///
/// A name has at most 4096 bytes. The entries stand column by column, and their number of bytes
/// follows from rows, columns and scalar. Several states may follow each other in one stream. Open
/// files with `std::ios::binary`.

namespace stiefelx {

namespace detail {

static_assert(std::endian::native == std::endian::little,
              "states in streams hold the entries as little-endian machines do");

inline constexpr std::string_view state_magic = "STIEFOPT";
inline constexpr std::uint32_t state_version = 1;
inline constexpr std::uint32_t longest_state_name = 4096;
// What a damaged header can make the reader allocate before the stream turns out to be shorter.
inline constexpr std::size_t state_chunk = std::size_t{1} << 20;

// What each byte adds to a checksum. The polynomial is that of zlib and PNG, its lowest power
// first.
struct crc_table {
  std::uint32_t of_byte[256];

  crc_table() {
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = (c >> 1) ^ ((c & 1) != 0 ? 0xEDB88320U : 0U);
      of_byte[i] = c;
    }
  }
};

class checksum {
 public:
  void add(char const* bytes, std::size_t count) {
    static crc_table const table;
    for (std::size_t i = 0; i < count; ++i)
      sum_ = (sum_ >> 8) ^ table.of_byte[(sum_ ^ static_cast<unsigned char>(bytes[i])) & 255U];
  }
  std::uint32_t sum() const { return ~sum_; }

 private:
  std::uint32_t sum_ = ~std::uint32_t{0};
};

// Bytes of one entry; 0 for a name that is none of a scalar.
inline std::size_t scalar_bytes(std::string_view scalar) {
  if (scalar == "float32" || scalar == "int32") return 4;
  if (scalar == "float64" || scalar == "complex64") return 8;
  return scalar == "complex128" ? 16 : 0;
}

// rows * cols * the bytes of an entry. Throws where that is no size.
inline std::size_t array_bytes(char const* function, std::string const& name,
                               std::string const& scalar, std::uint64_t rows, std::uint64_t cols) {
  std::size_t const entry = scalar_bytes(scalar);
  if (entry == 0)
    throw_state(std::string(function) + ": the scalar of " + name + " is", scalar,
                "float32, float64, complex64, complex128 or int32");
  std::uint64_t const most =
      static_cast<std::uint64_t>(std::numeric_limits<index_t>::max()) / entry;
  if (rows > most || cols > most || (rows > 0 && cols > most / rows))
    throw_state(std::string(function) + ": " + name + " is",
                std::to_string(rows) + "x" + std::to_string(cols), "a size that memory can hold");
  return static_cast<std::size_t>(rows * cols) * entry;
}

class state_writer {
 public:
  explicit state_writer(std::ostream& out) : out_(out) {}

  void bytes(char const* first, std::size_t count) {
    out_.write(first, static_cast<std::streamsize>(count));
    sum_.add(first, count);
  }
  template <class T>
  void number(T n) {
    char little[sizeof(T)];
    for (std::size_t i = 0; i < sizeof(T); ++i) little[i] = static_cast<char>((n >> (8 * i)) & 255);
    bytes(little, sizeof(T));
  }
  void text(std::string const& s) {
    number(static_cast<std::uint32_t>(s.size()));
    bytes(s.data(), s.size());
  }
  void finish() {
    number(sum_.sum());
    out_.flush();
    if (!out_) throw_state("write: the stream is", "not good", "a stream that takes all bytes");
  }

 private:
  std::ostream& out_;
  checksum sum_;
};

class state_reader {
 public:
  explicit state_reader(std::istream& in) : in_(in) {}

  void bytes(char* first, std::size_t count) {
    in_.read(first, static_cast<std::streamsize>(count));
    if (in_.gcount() != static_cast<std::streamsize>(count))
      throw_state("read: the stream ends after", std::to_string(in_.gcount()) + " bytes",
                  std::to_string(count) + " more");
    sum_.add(first, count);
  }
  template <class T>
  T number() {
    char little[sizeof(T)];
    bytes(little, sizeof(T));
    T n = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
      n |= static_cast<T>(static_cast<unsigned char>(little[i])) << (8 * i);
    return n;
  }
  std::string text() {
    auto const length = number<std::uint32_t>();
    if (length > longest_state_name)
      throw_state("read: a name has", std::to_string(length) + " bytes",
                  "at most " + std::to_string(longest_state_name));
    std::string s(length, '\0');
    bytes(s.data(), length);
    return s;
  }
  // Grows with the stream and not with what the header says.
  std::vector<std::byte> entries(std::size_t count) {
    std::vector<std::byte> all;
    while (all.size() < count) {
      std::size_t const more = std::min(state_chunk, count - all.size());
      all.resize(all.size() + more);
      bytes(reinterpret_cast<char*>(all.data() + all.size() - more), more);
    }
    return all;
  }
  void finish() {
    std::uint32_t const expected = sum_.sum();
    auto const found = number<std::uint32_t>();
    if (found != expected)
      throw_state("read: the checksum is", std::to_string(found), std::to_string(expected));
  }

 private:
  std::istream& in_;
  checksum sum_;
};

inline void expect_writable(optimizer_state const& state) {
  auto const expect_name = [](std::string const& name) {
    if (name.size() > longest_state_name)
      throw_state("write: a name has", std::to_string(name.size()) + " bytes",
                  "at most " + std::to_string(longest_state_name));
  };
  expect_name(state.optimizer);
  for (state_array const& a : state.arrays) {
    expect_name(a.name);
    std::size_t const bytes =
        array_bytes("write", a.name, a.scalar, static_cast<std::uint64_t>(a.rows),
                    static_cast<std::uint64_t>(a.cols));
    if (a.bytes.size() != bytes)
      throw_state("write: " + a.name + " has", std::to_string(a.bytes.size()) + " bytes",
                  std::to_string(bytes));
  }
}

}  // namespace detail

/// \brief Writes a state to a stream, in the format of optim/state_stream.hpp.
/// \ingroup optim
/// \param[in,out] out    a binary stream, at any position
/// \param[in]     state  what save() returned
/// \throws state_error  if the state contradicts itself, and then nothing is written; or if the
///                      stream does not take all bytes
inline void write(std::ostream& out, optimizer_state const& state) {
  detail::expect_writable(state);
  detail::state_writer to(out);
  to.bytes(detail::state_magic.data(), detail::state_magic.size());
  to.number(detail::state_version);
  to.text(state.optimizer);
  to.number(static_cast<std::uint32_t>(state.arrays.size()));
  for (state_array const& a : state.arrays) {
    to.text(a.name);
    to.text(a.scalar);
    to.number(static_cast<std::uint64_t>(a.rows));
    to.number(static_cast<std::uint64_t>(a.cols));
    to.bytes(reinterpret_cast<char const*>(a.bytes.data()), a.bytes.size());
  }
  to.finish();
}

/// \brief Reads a state that write() wrote.
/// \ingroup optim
///
/// The stream may hold anything: no size in it is believed before that many bytes have come, so
/// memory grows with the stream's own length. What is read is checked against its checksum, and
/// against the optimizer by load().
///
/// \param[in,out] in  a binary stream; afterwards behind the state
/// \returns the state
/// \throws state_error  if the stream does not hold a state of this version, ends early, or its
///                      checksum does not fit
inline optimizer_state read(std::istream& in) {
  detail::state_reader from(in);
  std::string magic(detail::state_magic.size(), '\0');
  from.bytes(magic.data(), magic.size());
  if (magic != detail::state_magic)
    throw state_error("read: the stream holds something else, expected the state of an optimizer");
  auto const version = from.number<std::uint32_t>();
  if (version != detail::state_version)
    detail::throw_state("read: the version is", std::to_string(version),
                        std::to_string(detail::state_version));
  optimizer_state state{from.text(), {}};
  auto const count = from.number<std::uint32_t>();
  for (std::uint32_t k = 0; k < count; ++k) {
    state_array a;
    a.name = from.text();
    a.scalar = from.text();
    auto const rows = from.number<std::uint64_t>();
    auto const cols = from.number<std::uint64_t>();
    std::size_t const bytes = detail::array_bytes("read", a.name, a.scalar, rows, cols);
    a.rows = static_cast<index_t>(rows);
    a.cols = static_cast<index_t>(cols);
    a.bytes = from.entries(bytes);
    state.arrays.push_back(std::move(a));
  }
  from.finish();
  return state;
}

}  // namespace stiefelx
