// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/io/byte_source.hpp>
#include <stiefelx/io/column_major.hpp>
#include <stiefelx/io/entry_transfer.hpp>
#include <stiefelx/io/safetensors_header.hpp>

namespace stiefelx {

/// \brief A safetensors file that is open for reading, or its bytes in memory.
/// \ingroup io
///
/// The constructor reads the header and checks all of it, see read_safetensors_header(); tensors are
/// read when they are asked for. A tensor is read into memory of the caller as one of two matrices,
/// which differ by a transpose, so their shapes tell them apart wherever the tensor is not square:
///
/// - read_rows_as_columns(): each row of the file becomes a column. The order of the bytes stays, so
///   this is how tokens, banks of experts and other column-major matrices come back.
/// - read_same_indices(): entry [i, j] of the file becomes entry (i, j).
///
/// Everything is checked before the caller's memory is written. Only a device that fails in the middle
/// of a tensor can leave it half read. Any number of threads may read at once.
class safetensors_file {
 public:
  /// \brief Opens a file and reads its header.
  /// \param[in] path    the file
  /// \param[in] limits  what is accepted
  /// \throws format_error  if it cannot be opened, or is no sound safetensors file
  explicit safetensors_file(std::string path, safetensors_limits limits = {})
      : safetensors_file(byte_source(std::move(path)), limits) {}

  /// \brief Reads the header of bytes in memory, which stay there while this is used.
  /// \param[in] bytes   the whole file
  /// \param[in] limits  what is accepted
  /// \throws format_error  if they are no sound safetensors file
  explicit safetensors_file(std::span<std::byte const> bytes, safetensors_limits limits = {})
      : safetensors_file(byte_source(bytes), limits) {}

  /// Path of the file, or `memory`.
  /// \returns the name for the text of errors
  std::string const& origin() const { return source_.origin(); }
  /// The tensors, in the order of their bytes.
  /// \returns their descriptions
  std::vector<stored_tensor> const& tensors() const { return header_.tensors; }
  /// The texts that the file holds beside its tensors.
  /// \returns names and texts, in the order of the file
  std::vector<std::pair<std::string, std::string>> const& metadata() const {
    return header_.metadata;
  }
  /// \brief One of these texts.
  /// \param[in] name  its name
  /// \returns the text, or a null pointer if there is none of this name
  std::string const* metadata(std::string_view name) const {
    for (auto const& pair : header_.metadata) {
      if (pair.first == name) return &pair.second;
    }
    return nullptr;
  }

  /// \brief Looks a tensor up.
  /// \param[in] name  its name
  /// \returns its description, or a null pointer if there is none of this name
  stored_tensor const* find(std::string_view name) const {
    auto const place = std::lower_bound(
        by_name_.begin(), by_name_.end(), name,
        [&](std::size_t k, std::string_view wanted) { return header_.tensors[k].name < wanted; });
    if (place == by_name_.end() || header_.tensors[*place].name != name) return nullptr;
    return &header_.tensors[*place];
  }
  /// \brief Looks a tensor up that has to be there.
  /// \param[in] name  its name
  /// \returns its description
  /// \throws format_error  if there is none of this name
  stored_tensor const& at(std::string_view name) const {
    stored_tensor const* const found = find(name);
    if (found == nullptr)
      detail::throw_format(format_fault::missing_tensor, origin(), "no tensor " + in_quotes(name),
                           "that tensor");
    return *found;
  }

  /// \brief Reads a tensor into a matrix whose columns are its rows.
  /// \param[in]  name  the tensor: [r, d], or any with last size d and product r of the others
  /// \param[out] m     d x r, column-major, any stride: a matrix_ref, or what has the members of an
  ///                   Eigen matrix; entry (j, i) is the tensor's entry [i, j]
  /// \param[in]  how   whether numbers may be rounded to the entries of m
  /// \throws format_error  if there is no such tensor, its shape is another, or its values do not fit;
  ///                       then m is as before
  template <class M>
  void read_rows_as_columns(std::string_view name, M&& m,
                            conversion how = conversion::exact) const {
    auto const view = column_major(m);
    stored_tensor const& t = at(name);
    expect_size(t, size_with_rows_as_columns(t.shape), {view.rows, view.cols},
                "with rows as columns");
    auto from = reader<scalar_t<decltype(view)>>(t, how);
    detail::read_rows_as_columns(from, view);
  }

  /// \brief Reads a tensor into a matrix with the same indices.
  /// \param[in]  name  the tensor: [r, d], or [n] for a column, or [] for a number
  /// \param[out] m     r x d, column-major, any stride: a matrix_ref, or what has the members of an
  ///                   Eigen matrix; entry (i, j) is the tensor's entry [i, j]
  /// \param[in]  how   whether numbers may be rounded to the entries of m
  /// \throws format_error  if there is no such tensor, its shape is another, or its values do not fit;
  ///                       then m is as before
  template <class M>
  void read_same_indices(std::string_view name, M&& m, conversion how = conversion::exact) const {
    auto const view = column_major(m);
    stored_tensor const& t = at(name);
    auto const size = size_with_same_indices(t.shape);
    if (!size)
      detail::throw_format(format_fault::shape, origin(),
                           in_quotes(name) + " of shape " + t.shape.text(),
                           "at most two dimensions");
    expect_size(t, *size, {view.rows, view.cols}, "with the same indices");
    auto from = reader<scalar_t<decltype(view)>>(t, how);
    detail::read_same_indices(from, view);
  }

  /// \brief Reads all entries of a tensor, in the order of the file.
  /// \param[in]  name    the tensor, of any shape
  /// \param[out] values  as many as it has
  /// \param[in]  how     whether numbers may be rounded
  /// \throws format_error  if there is no such tensor, it has another number of entries, or its values
  ///                       do not fit; then values are as before
  template <FileEntry T>
  void read_entries(std::string_view name, std::span<T> values,
                    conversion how = conversion::exact) const {
    stored_tensor const& t = at(name);
    if (t.count() != values.size())
      detail::throw_format(format_fault::shape, origin(),
                           in_quotes(name) + " of shape " + t.shape.text(),
                           std::to_string(values.size()) + " entries");
    reader<T>(t, how).read(0, values.data(), values.size());
  }

  /// \brief Reads all entries of a tensor, in the order of the file.
  /// \tparam T  their type afterwards; not bool, which std::vector packs
  /// \param[in] name  the tensor, of any shape
  /// \param[in] how   whether numbers may be rounded
  /// \returns the entries
  /// \throws format_error  if there is no such tensor, or its values do not fit
  template <FileEntry T>
    requires(!std::is_same_v<T, bool>)
  std::vector<T> entries(std::string_view name, conversion how = conversion::exact) const {
    stored_tensor const& t = at(name);
    detail::expect_conversion(origin(), t.name, t.type, dtype_of<T>, how);
    std::vector<T> values(static_cast<std::size_t>(t.count()));
    read_entries(name, std::span<T>(values), how);
    return values;
  }

  /// \brief Reads the bytes of a tensor as they are.
  /// \param[in]  name   the tensor
  /// \param[out] bytes  as many as it has
  /// \throws format_error  if there is no such tensor, or it has another number of bytes
  void read_bytes(std::string_view name, std::span<std::byte> bytes) const {
    stored_tensor const& t = at(name);
    if (t.end - t.begin != bytes.size())
      detail::throw_format(format_fault::shape, origin(),
                           in_quotes(name) + " of " + std::to_string(t.end - t.begin) + " bytes",
                           std::to_string(bytes.size()));
    source_.expect_whole();
    source_.read(header_.entries_begin + t.begin, bytes);
  }

  /// \brief The matrix whose columns are a tensor's rows, where it lies: nothing is copied.
  /// \tparam T  type of the entries, as the file has them
  /// \param[in] name  the tensor, in bytes in memory and not in a file
  /// \returns d x r for [r, d], valid as long as the bytes
  /// \throws format_error  if there is no such tensor, it is of another type, it is in a file, or its
  ///                       bytes are not aligned for T
  template <FileEntry T>
    requires(!std::is_same_v<T, bool>)
  matrix_ref<T const> view_rows_as_columns(std::string_view name) const {
    stored_tensor const& t = at(name);
    if (t.type != dtype_of<T>)
      detail::throw_format(format_fault::inexact, origin(),
                           in_quotes(name) + " of " + std::string(safetensors_name(t.type)),
                           detail::name_of(dtype_of<T>));
    if (source_.memory().empty())
      detail::throw_format(format_fault::alignment, origin(), "a view of a file",
                           "a view of memory");
    std::byte const* const first = source_.memory().data() + header_.entries_begin + t.begin;
    if (reinterpret_cast<std::uintptr_t>(first) % alignof(T) != 0)
      detail::throw_format(format_fault::alignment, origin(), in_quotes(name) + " out of alignment",
                           "an address that is a multiple of " + std::to_string(alignof(T)));
    matrix_size const size = size_with_rows_as_columns(t.shape);
    return {reinterpret_cast<T const*>(first), size.rows, size.cols, size.rows};
  }

 private:
  safetensors_file(byte_source source, safetensors_limits limits)
      : source_(std::move(source)), header_(read_safetensors_header(source_, limits)) {
    by_name_.resize(header_.tensors.size());
    std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
    std::sort(by_name_.begin(), by_name_.end(), [&](std::size_t a, std::size_t b) {
      return header_.tensors[a].name < header_.tensors[b].name;
    });
  }

  static std::string in_quotes(std::string_view name) { return detail::in_quotes(name); }

  void expect_size(stored_tensor const& t, matrix_size found, matrix_size expected,
                   char const* reading) const {
    if (found == expected) return;
    detail::throw_format(format_fault::shape, origin(),
                         in_quotes(t.name) + " of shape " + t.shape.text() + " is " +
                             std::to_string(found.rows) + "x" + std::to_string(found.cols) + " " +
                             reading,
                         std::to_string(expected.rows) + "x" + std::to_string(expected.cols));
  }

  // Throws whatever there is to throw before the first entry.
  template <class T>
  detail::entry_reader<T> reader(stored_tensor const& t, conversion how) const {
    static_assert(FileEntry<T>, "safetensors_file: files hold no entries of this type");
    detail::expect_conversion(origin(), t.name, t.type, dtype_of<T>, how);
    source_.expect_whole();
    return {source_, header_.entries_begin + t.begin, t.type};
  }

  byte_source source_;
  safetensors_header header_;
  // Places in header_.tensors, in the order of the names.
  std::vector<std::size_t> by_name_;
};

}  // namespace stiefelx
