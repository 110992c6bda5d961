// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/io/atomic_file.hpp>
#include <stiefelx/io/byte_source.hpp>
#include <stiefelx/io/column_major.hpp>
#include <stiefelx/io/entry_transfer.hpp>
#include <stiefelx/io/npy_header.hpp>

namespace stiefelx {

/// \brief An NPY file that is open for reading, or its bytes in memory.
/// \ingroup io
///
/// The constructor reads the header and checks all of it, see read_npy_header(). Everything is checked
/// before the caller's memory is written. Only a device that fails in the middle of the array can leave
/// it half read.
class npy_file {
 public:
  /// \brief Opens a file and reads its header.
  /// \param[in] path  the file
  /// \throws format_error  if it cannot be opened, or is no sound NPY file
  explicit npy_file(std::string path) : npy_file(byte_source(std::move(path))) {}

  /// \brief Reads the header of bytes in memory, which stay there while this is used.
  /// \param[in] bytes  the whole file
  /// \throws format_error  if they are no sound NPY file
  explicit npy_file(std::span<std::byte const> bytes) : npy_file(byte_source(bytes)) {}

  /// Path of the file, or `memory`.
  /// \returns the name for the text of errors
  std::string const& origin() const { return source_.origin(); }
  /// What the file says of its array.
  /// \returns type, order and shape
  npy_header const& header() const { return header_; }

  /// \brief Reads the array into a matrix with the same indices, whatever its order.
  /// \param[out] m    r x c for an array (r, c), n x 1 for (n,), 1 x 1 for (); column-major, any stride:
  ///                  a matrix_ref, or what has the members of an Eigen matrix
  /// \param[in]  how  whether numbers may be rounded to the entries of m
  /// \throws format_error  if its shape is another, or its values do not fit; then m is as before
  template <class M>
  void read_same_indices(M&& m, conversion how = conversion::exact) const {
    auto const view = column_major(m);
    auto const size = size_with_same_indices(header_.shape);
    if (!size)
      detail::throw_format(format_fault::shape, origin(), "shape " + header_.shape.text(),
                           "at most two dimensions");
    expect_size(*size, {view.rows, view.cols}, "with the same indices");
    auto from = reader<scalar_t<decltype(view)>>(how);
    if (header_.fortran_order) {
      detail::read_rows_as_columns(from, view);
    } else {
      detail::read_same_indices(from, view);
    }
  }

  /// \brief Reads the array into a matrix whose columns are its rows, whatever its order.
  /// \param[out] m    c x r for an array (r, c), column-major, any stride; more dimensions in C order
  ///                  become columns too: (E, r, c) is c x (E r)
  /// \param[in]  how  whether numbers may be rounded to the entries of m
  /// \throws format_error  if its shape is another, or its values do not fit; then m is as before
  template <class M>
  void read_rows_as_columns(M&& m, conversion how = conversion::exact) const {
    auto const view = column_major(m);
    if (header_.fortran_order && header_.shape.rank() > 2)
      detail::throw_format(format_fault::shape, origin(),
                           "shape " + header_.shape.text() + " in Fortran order",
                           "at most two dimensions");
    expect_size(size_with_rows_as_columns(header_.shape), {view.rows, view.cols},
                "with rows as columns");
    auto from = reader<scalar_t<decltype(view)>>(how);
    if (header_.fortran_order) {
      detail::read_same_indices(from, view);
    } else {
      detail::read_rows_as_columns(from, view);
    }
  }

  /// \brief Reads all entries in the order of the file, which header() tells.
  /// \param[out] values  as many as the array has
  /// \param[in]  how     whether numbers may be rounded
  /// \throws format_error  if it has another number of entries, or its values do not fit; then values
  ///                       are as before
  template <FileEntry T>
  void read_entries(std::span<T> values, conversion how = conversion::exact) const {
    if (*header_.shape.count() != values.size())
      detail::throw_format(format_fault::shape, origin(), "shape " + header_.shape.text(),
                           std::to_string(values.size()) + " entries");
    reader<T>(how).read(0, values.data(), values.size());
  }

 private:
  explicit npy_file(byte_source source)
      : source_(std::move(source)), header_(read_npy_header(source_)) {}

  void expect_size(matrix_size found, matrix_size expected, char const* reading) const {
    if (found == expected) return;
    detail::throw_format(format_fault::shape, origin(),
                         "shape " + header_.shape.text() + " is " + std::to_string(found.rows) +
                             "x" + std::to_string(found.cols) + " " + reading,
                         std::to_string(expected.rows) + "x" + std::to_string(expected.cols));
  }

  template <class T>
  detail::entry_reader<T> reader(conversion how) const {
    static_assert(FileEntry<T>, "npy_file: files hold no entries of this type");
    detail::expect_conversion(origin(), "the array", header_.type, dtype_of<T>, how);
    source_.expect_whole();
    return {source_, header_.entries_begin, header_.type};
  }

  byte_source source_;
  npy_header header_;
};

namespace detail {

// Version 1, padded such that the entries begin at a multiple of 64.
inline std::string npy_prologue(dtype type, bool fortran_order, tensor_shape const& shape) {
  if (npy_name(type).empty())
    throw_format(format_fault::dtype, "npy_bytes", std::string(name_of(type)),
                 "a type that NPY files have");
  std::string text = "{'descr': '";
  text.append(npy_name(type)).append("', 'fortran_order': ");
  text.append(fortran_order ? "True" : "False").append(", 'shape': (");
  for (std::size_t k = 0; k < shape.rank(); ++k)
    text.append(k > 0 ? ", " : "").append(std::to_string(shape[k]));
  text.append(shape.rank() == 1 ? ",), }" : "), }");
  constexpr std::size_t alignment = 64, prefix = 10;
  while ((prefix + text.size() + 1) % alignment != 0) text += ' ';
  text += '\n';
  std::string all(npy_magic);
  all.append(
      {'\1', '\0', static_cast<char>(text.size() & 0xFF), static_cast<char>(text.size() >> 8)});
  return all + text;
}

template <FileEntry T>
void write_npy_to(byte_sink& to, matrix_ref<T const> m, dtype as) {
  expect_conversion("npy_bytes", "the matrix", dtype_of<T>, as, conversion::rounded);
  std::string const prologue = npy_prologue(
      as, true, {static_cast<std::uint64_t>(m.rows), static_cast<std::uint64_t>(m.cols)});
  to.write(std::as_bytes(std::span(prologue)));
  entry_writer<T> entries(to, as);
  write_columns_as_rows(entries, m);
}

template <FileEntry T>
void write_npy_to(byte_sink& to, tensor_shape const& shape, std::span<T const> values, dtype as) {
  expect_conversion("npy_bytes", "the array", dtype_of<T>, as, conversion::rounded);
  if (shape.count() != values.size())
    throw_shape("npy_bytes", "values", static_cast<index_t>(values.size()), 1,
                "as many as shape " + shape.text() + " has");
  std::string const prologue = npy_prologue(as, false, shape);
  to.write(std::as_bytes(std::span(prologue)));
  entry_writer<T>(to, as).write(values.data(), values.size());
}

}  // namespace detail

/// \brief The bytes of an NPY file that holds a matrix: version 1.0, shape (rows, cols), Fortran order.
/// \ingroup io
/// \param[in] m   column-major, any stride: a matrix_ref, or what has the members of an Eigen matrix
/// \param[in] as  type in the file; a floating type other than that of m is rounded to
/// \returns the bytes
/// \throws format_error  if the type is bfloat16, or has no place for the values
template <class M>
std::vector<std::byte> npy_bytes(M const& m,
                                 dtype as = dtype_of<scalar_t<decltype(column_major(m))>>) {
  std::vector<std::byte> all;
  detail::byte_sink to(all);
  detail::write_npy_to<scalar_t<decltype(column_major(m))>>(to, column_major(m), as);
  return all;
}

/// \brief The bytes of an NPY file that holds an array of any shape, in C order.
/// \ingroup io
/// \param[in] shape   its sizes
/// \param[in] values  its entries, the last dimension contiguous
/// \param[in] as      type in the file; a floating type other than T is rounded to
/// \returns the bytes
/// \throws format_error  if the type is bfloat16, or has no place for the values
/// \throws shape_error   if there are more or fewer entries than the shape has
template <FileEntry T>
std::vector<std::byte> npy_bytes(tensor_shape const& shape, std::span<T const> values,
                                 dtype as = dtype_of<T>) {
  std::vector<std::byte> all;
  detail::byte_sink to(all);
  detail::write_npy_to(to, shape, values, as);
  return all;
}

/// \brief Writes a matrix to an NPY file in one step, as npy_bytes() and atomic_file do.
/// \ingroup io
/// \param[in] path  the file; its folder exists
/// \param[in] m     column-major, any stride: a matrix_ref, or what has the members of an Eigen matrix
/// \param[in] as    type in the file; a floating type other than that of m is rounded to
/// \throws format_error  if the file cannot be written, the type is bfloat16, or has no place for the
///                       values
template <class M>
void write_npy(std::string const& path, M const& m,
               dtype as = dtype_of<scalar_t<decltype(column_major(m))>>) {
  atomic_file file(path);
  detail::byte_sink to(file);
  detail::write_npy_to<scalar_t<decltype(column_major(m))>>(to, column_major(m), as);
  file.publish();
}

/// \brief Writes an array of any shape to an NPY file in one step, in C order.
/// \ingroup io
/// \param[in] path    the file; its folder exists
/// \param[in] shape   its sizes
/// \param[in] values  its entries, the last dimension contiguous
/// \param[in] as      type in the file; a floating type other than T is rounded to
/// \throws format_error  if the file cannot be written, the type is bfloat16, or has no place for the
///                       values
/// \throws shape_error   if there are more or fewer entries than the shape has
template <FileEntry T>
void write_npy(std::string const& path, tensor_shape const& shape, std::span<T const> values,
               dtype as = dtype_of<T>) {
  atomic_file file(path);
  detail::byte_sink to(file);
  detail::write_npy_to(to, shape, values, as);
  file.publish();
}

}  // namespace stiefelx
