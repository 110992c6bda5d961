// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/io/atomic_file.hpp>
#include <stiefelx/io/column_major.hpp>
#include <stiefelx/io/entry_transfer.hpp>
#include <stiefelx/io/json_writer.hpp>
#include <stiefelx/io/safetensors_header.hpp>

namespace stiefelx {

namespace detail {

// A view may be a temporary; a matrix that owns its entries may not, since they would be gone.
template <class M>
concept OutlivesTheCall =
    std::is_lvalue_reference_v<M> || !owns_its_entries<std::remove_cvref_t<M>>;

}  // namespace detail

/// \brief Collects tensors and writes them to a safetensors file in one step.
/// \ingroup io
///
/// Tensors stand in the file in the order in which they were added. Their entries are not copied: the
/// memory stays where it is, and holds what is to be written, until write() or bytes(). The same
/// calls give the same bytes. The tensors' bytes begin at a multiple of 64; adding types of more
/// bytes first keeps every entry aligned.
class safetensors_writer {
 public:
  /// \brief Adds a text beside the tensors.
  /// \param[in] name   not used for a text before
  /// \param[in] value  the text
  /// \throws format_error  if one of them is not UTF-8, or the name is taken
  void add_metadata(std::string name, std::string value) {
    expect_text(name);
    expect_text(value);
    for (auto const& pair : metadata_) {
      if (pair.first == name) fail_twice(name);
    }
    metadata_.emplace_back(std::move(name), std::move(value));
  }

  /// \brief Adds a matrix whose columns become the rows of the file.
  ///
  /// The order of the entries stays; safetensors_file::read_rows_as_columns() gives the matrix back.
  /// \param[in] name  not used for a tensor before
  /// \param[in] m     d x r, column-major, any stride: a matrix_ref, or what has the members of an
  ///                  Eigen matrix; becomes [r, d]
  /// \param[in] as    type in the file; a floating type other than that of m is rounded to
  /// \throws format_error  if the name is not UTF-8, reserved or taken, or the type has no place for
  ///                       the values
  template <class M>
    requires detail::OutlivesTheCall<M>
  void add_columns_as_rows(std::string name, M&& m,
                           dtype as = dtype_of<scalar_t<decltype(column_major(m))>>) {
    using T = scalar_t<decltype(column_major(m))>;
    matrix_ref<T const> const view = column_major(m);
    add<T>(std::move(name), as, {size(view.cols), size(view.rows)},
           [view](detail::entry_writer<T>& to) { detail::write_columns_as_rows(to, view); });
  }

  /// \brief Adds a matrix with the same indices in the file.
  ///
  /// safetensors_file::read_same_indices() gives the matrix back.
  /// \param[in] name  not used for a tensor before
  /// \param[in] m     r x d, column-major, any stride: a matrix_ref, or what has the members of an
  ///                  Eigen matrix; becomes [r, d]
  /// \param[in] as    type in the file; a floating type other than that of m is rounded to
  /// \throws format_error  as for add_columns_as_rows()
  template <class M>
    requires detail::OutlivesTheCall<M>
  void add_same_indices(std::string name, M&& m,
                        dtype as = dtype_of<scalar_t<decltype(column_major(m))>>) {
    using T = scalar_t<decltype(column_major(m))>;
    matrix_ref<T const> const view = column_major(m);
    add<T>(std::move(name), as, {size(view.rows), size(view.cols)},
           [view](detail::entry_writer<T>& to) { detail::write_same_indices(to, view); });
  }

  /// \brief Adds a tensor of any shape.
  /// \param[in] name    not used for a tensor before
  /// \param[in] shape   its sizes
  /// \param[in] values  its entries, the last dimension contiguous
  /// \param[in] as      type in the file; a floating type other than T is rounded to
  /// \throws format_error  as for add_columns_as_rows()
  /// \throws shape_error   if there are more or fewer entries than the shape has
  template <FileEntry T>
  void add_entries(std::string name, tensor_shape const& shape, std::span<T const> values,
                   dtype as = dtype_of<T>) {
    expect_count(shape, values.size(), 1);
    add<T>(std::move(name), as, shape,
           [values](detail::entry_writer<T>& to) { to.write(values.data(), values.size()); });
  }

  /// \brief Adds the bytes of a tensor as they are to be written, for example those of another file.
  /// \param[in] name   not used for a tensor before
  /// \param[in] type   type of the entries
  /// \param[in] shape  its sizes
  /// \param[in] bytes  its entries, the last dimension contiguous
  /// \throws format_error  if the name is not UTF-8, reserved or taken
  /// \throws shape_error   if there are more or fewer bytes than the shape has
  void add_bytes(std::string name, dtype type, tensor_shape const& shape,
                 std::span<std::byte const> bytes) {
    expect_count(shape, bytes.size(), size_of(type));
    add(std::move(name), type, shape, [bytes](detail::byte_sink& to) { to.write(bytes); });
  }

  /// What was added so far.
  /// \returns descriptions of the tensors, in that order
  std::vector<stored_tensor> tensors() const {
    std::vector<stored_tensor> all;
    for (entry const& e : entries_) all.push_back(e.tensor);
    return all;
  }

  /// \brief Writes the file, or leaves the old one as it is, see atomic_file.
  /// \param[in] path  the file; its folder exists
  /// \throws format_error  if it cannot be written, or the header would be longer than the format
  ///                       allows
  void write(std::string const& path) const {
    std::string const text = header();
    atomic_file file(path);
    detail::byte_sink to(file);
    write(text, to);
    file.publish();
  }

  /// \brief Writes to a file that the caller publishes.
  /// \param[in,out] file  gets the bytes
  /// \throws format_error  if they cannot be written, or the header would be longer than the format
  ///                       allows
  void write(atomic_file& file) const {
    detail::byte_sink to(file);
    write(header(), to);
  }

  /// \brief The bytes of the file.
  /// \returns what write() writes
  /// \throws format_error  if the header would be longer than the format allows
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> all;
    detail::byte_sink to(all);
    write(header(), to);
    return all;
  }

 private:
  struct entry {
    stored_tensor tensor;
    std::function<void(detail::byte_sink&)> write;
  };

  static std::uint64_t size(index_t n) { return static_cast<std::uint64_t>(n); }

  [[noreturn]] STIEFELX_COLD static void fail_twice(std::string_view name) {
    detail::throw_format(format_fault::duplicate_name, "safetensors_writer",
                         "the name " + detail::in_quotes(name) + " twice", "every name once");
  }
  static void expect_text(std::string_view text) {
    if (!is_utf8(text))
      detail::throw_format(format_fault::not_utf8, "safetensors_writer",
                           "the text " + detail::in_quotes(text), "UTF-8");
  }
  static void expect_count(tensor_shape const& shape, std::size_t found, std::size_t entry_bytes) {
    std::uint64_t const expected = shape.count().value_or(0) * entry_bytes;
    if (found != expected)
      detail::throw_shape("safetensors_writer", "values", static_cast<index_t>(found), 1,
                          std::to_string(expected) + "x1 for shape " + shape.text());
  }

  template <FileEntry T, class Write>
  void add(std::string name, dtype as, tensor_shape const& shape, Write const& write_entries) {
    detail::expect_conversion("safetensors_writer", name, dtype_of<T>, as, conversion::rounded);
    add(std::move(name), as, shape, [as, write_entries](detail::byte_sink& to) {
      detail::entry_writer<T> entries(to, as);
      write_entries(entries);
    });
  }

  void add(std::string name, dtype as, tensor_shape const& shape,
           std::function<void(detail::byte_sink&)> write_bytes) {
    expect_text(name);
    if (name == detail::safetensors_metadata)
      detail::throw_format(format_fault::name, "safetensors_writer", detail::in_quotes(name),
                           "a name that the format does not reserve");
    if (safetensors_name(as).empty())
      detail::throw_format(format_fault::dtype, "safetensors_writer",
                           detail::in_quotes(name) + " of type " + std::string(npy_name(as)),
                           "a type that safetensors files have");
    std::uint64_t const begin = entries_.empty() ? 0 : entries_.back().tensor.end;
    auto const bytes = checked_product(shape.count().value_or(0), size_of(as));
    auto const end = bytes ? checked_sum(begin, *bytes) : std::nullopt;
    constexpr std::uint64_t largest = std::uint64_t{1} << 53;
    if (!end || *end > largest)
      detail::throw_format(format_fault::overflow, "safetensors_writer",
                           detail::in_quotes(name) + " of shape " + shape.text(),
                           "offsets up to 2^53");
    if (!names_.insert(name).second) fail_twice(name);
    entries_.push_back({{std::move(name), as, shape, begin, *end}, std::move(write_bytes)});
  }

  // The header, with blanks after it up to the alignment.
  std::string header() const {
    std::string text = "{";
    if (!metadata_.empty()) {
      text += "\"__metadata__\":{";
      for (auto const& [name, value] : metadata_) {
        if (text.back() != '{') text += ',';
        append_json_text(name, text);
        text += ':';
        append_json_text(value, text);
      }
      text += '}';
    }
    for (entry const& e : entries_) {
      stored_tensor const& t = e.tensor;
      if (text.size() > 1) text += ',';
      append_json_text(t.name, text);
      text.append(":{\"dtype\":\"").append(safetensors_name(t.type)).append("\",\"shape\":[");
      for (std::size_t k = 0; k < t.shape.rank(); ++k)
        text.append(k > 0 ? "," : "").append(std::to_string(t.shape[k]));
      text.append("],\"data_offsets\":[").append(std::to_string(t.begin)).append(",");
      text.append(std::to_string(t.end)).append("]}");
    }
    text += '}';
    constexpr std::size_t alignment = 64, prefix = detail::safetensors_prefix;
    while ((text.size() + prefix) % alignment != 0) text += ' ';
    if (text.size() > safetensors_limits::largest_header)
      detail::throw_format(format_fault::header_length, "safetensors_writer",
                           "a header of " + std::to_string(text.size()) + " bytes",
                           "at most 100000000");
    return text;
  }

  void write(std::string const& text, detail::byte_sink& to) const {
    std::uint64_t const length = text.size();
    to.write(std::as_bytes(std::span(&length, 1)));
    to.write(std::as_bytes(std::span(text)));
    for (entry const& e : entries_) e.write(to);
  }

  std::vector<std::pair<std::string, std::string>> metadata_;
  std::vector<entry> entries_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace stiefelx
