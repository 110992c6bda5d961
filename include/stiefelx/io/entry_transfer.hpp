// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/io/atomic_file.hpp>
#include <stiefelx/io/byte_source.hpp>
#include <stiefelx/io/dtype.hpp>
#include <stiefelx/io/entry_conversion.hpp>

/// \file
/// \brief Entries on their way between files and matrices, a piece at a time.
/// \ingroup io

namespace stiefelx::detail {

// Entries that are converted or turned around at once.
inline constexpr std::size_t transfer_piece = 16384;

// Takes bytes for a file or for memory.
class byte_sink {
 public:
  explicit byte_sink(atomic_file& file) : file_(&file) {}
  explicit byte_sink(std::vector<std::byte>& memory) : memory_(&memory) {}

  void write(std::span<std::byte const> bytes) {
    if (file_ != nullptr) {
      file_->write(bytes);
    } else {
      memory_->insert(memory_->end(), bytes.begin(), bytes.end());
    }
  }

 private:
  atomic_file* file_ = nullptr;
  std::vector<std::byte>* memory_ = nullptr;
};

// The entries of one tensor as numbers of type T.
template <FileEntry T>
class entry_reader {
 public:
  entry_reader(byte_source const& from, std::uint64_t offset, dtype type)
      : from_(from), offset_(offset), type_(type) {}

  void read(std::uint64_t first, T* out, std::size_t count) {
    std::uint64_t const start = offset_ + first * size_of(type_);
    if (type_ == dtype_of<T> && !std::is_same_v<T, bool>) {
      from_.read(start, std::as_writable_bytes(std::span(out, count)));
      return;
    }
    if (auto const memory = from_.memory(); !memory.empty()) {
      convert(memory.data() + start, out, count);
      return;
    }
    for (std::size_t done = 0; done < count; done += transfer_piece) {
      std::size_t const piece = std::min(transfer_piece, count - done);
      bytes_.resize(piece * size_of(type_));
      from_.read(start + done * size_of(type_), bytes_);
      convert(bytes_.data(), out + done, piece);
    }
  }

 private:
  void convert(std::byte const* bytes, T* out, std::size_t count) const {
    visit_dtype(type_,
                [&]<class From>(entry_tag<From>) { convert_entries<From>(bytes, out, count); });
  }

  byte_source const& from_;
  std::uint64_t offset_;
  dtype type_;
  std::vector<std::byte> bytes_;
};

// Rows of the file become columns: the order of the entries stays.
template <FileEntry T>
void read_rows_as_columns(entry_reader<T>& from, matrix_ref<T> m) {
  // A file may have any number of rows without entries.
  if (m.stride == m.rows || m.rows == 0 || m.cols == 1) {
    from.read(0, m.data, static_cast<std::size_t>(m.rows * m.cols));
    return;
  }
  for (index_t j = 0; j < m.cols; ++j)
    from.read(static_cast<std::uint64_t>(j * m.rows), m.column(j),
              static_cast<std::size_t>(m.rows));
}

// The part of a row-by-row matrix that is turned around at once: whole rows where they fit.
struct transfer_tile {
  index_t rows;
  index_t cols;
};
inline transfer_tile tile_of(index_t cols) {
  auto const piece = static_cast<index_t>(transfer_piece);
  if (cols > piece) return {1, piece};
  return {piece / std::max(cols, index_t{1}), cols};
}

// Row i of the file becomes row i.
template <FileEntry T>
void read_same_indices(entry_reader<T>& from, matrix_ref<T> m) {
  if (m.cols == 1 || m.rows == 0 || m.cols == 0) {
    from.read(0, m.data, static_cast<std::size_t>(m.rows * m.cols));
    return;
  }
  transfer_tile const tile = tile_of(m.cols);
  auto const tile_entries = static_cast<std::size_t>(std::min(tile.rows, m.rows) * tile.cols);
  // No std::vector: that of bool has no entries in memory.
  auto const memory = std::make_unique<T[]>(tile_entries);
  T* const rows = memory.get();
  for (index_t i = 0; i < m.rows; i += tile.rows) {
    index_t const height = std::min(tile.rows, m.rows - i);
    for (index_t j = 0; j < m.cols; j += tile.cols) {
      index_t const width = std::min(tile.cols, m.cols - j);
      from.read(static_cast<std::uint64_t>(i * m.cols + j), rows,
                static_cast<std::size_t>(height * width));
      for (index_t c = 0; c < width; ++c)
        for (index_t r = 0; r < height; ++r) m(i + r, j + c) = rows[r * width + c];
    }
  }
}

// Entries of type T as bytes of another type.
template <FileEntry T>
class entry_writer {
 public:
  entry_writer(byte_sink& to, dtype type) : to_(to), type_(type) {}

  void write(T const* in, std::size_t count) {
    if (type_ == dtype_of<T>) {
      to_.write(std::as_bytes(std::span(in, count)));
      return;
    }
    for (std::size_t done = 0; done < count; done += transfer_piece) {
      std::size_t const piece = std::min(transfer_piece, count - done);
      bytes_.resize(piece * size_of(type_));
      visit_dtype(type_, [&]<class To>(entry_tag<To>) {
        convert_to_bytes<To>(in + done, bytes_.data(), piece);
      });
      to_.write(bytes_);
    }
  }

 private:
  byte_sink& to_;
  dtype type_;
  std::vector<std::byte> bytes_;
};

template <FileEntry T>
void write_columns_as_rows(entry_writer<T>& to, matrix_ref<T const> m) {
  if (m.stride == m.rows || m.rows == 0 || m.cols == 1) {
    to.write(m.data, static_cast<std::size_t>(m.rows * m.cols));
    return;
  }
  for (index_t j = 0; j < m.cols; ++j) to.write(m.column(j), static_cast<std::size_t>(m.rows));
}

template <FileEntry T>
void write_same_indices(entry_writer<T>& to, matrix_ref<T const> m) {
  if (m.cols == 1 || m.rows == 0 || m.cols == 0) {
    to.write(m.data, static_cast<std::size_t>(m.rows * m.cols));
    return;
  }
  transfer_tile const tile = tile_of(m.cols);
  auto const tile_entries = static_cast<std::size_t>(std::min(tile.rows, m.rows) * tile.cols);
  auto const memory = std::make_unique<T[]>(tile_entries);
  T* const rows = memory.get();
  for (index_t i = 0; i < m.rows; i += tile.rows) {
    index_t const height = std::min(tile.rows, m.rows - i);
    for (index_t j = 0; j < m.cols; j += tile.cols) {
      index_t const width = std::min(tile.cols, m.cols - j);
      for (index_t c = 0; c < width; ++c)
        for (index_t r = 0; r < height; ++r) rows[r * width + c] = m(i + r, j + c);
      to.write(rows, static_cast<std::size_t>(height * width));
    }
  }
}

}  // namespace stiefelx::detail
