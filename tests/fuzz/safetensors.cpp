// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Any bytes: refused with a format_error, or read, and then every tensor's bytes lie in the file,
// numbers are the same by every way of reading, and what is written from them is read as equal.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <stiefelx/io/safetensors.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

#include "expect.hpp"

namespace {

using stiefelx::conversion;
using stiefelx::safetensors_file;
using stiefelx::stored_tensor;

bool same_numbers(std::vector<double> const& a, std::vector<double> const& b) {
  for (std::size_t k = 0; k < a.size(); ++k) {
    if (a[k] != b[k] && !(a[k] != a[k] && b[k] != b[k])) return false;
  }
  return a.size() == b.size();
}

// The entries as doubles, read in three ways.
void check_numbers(safetensors_file const& file, stored_tensor const& t) {
  auto const values = file.entries<double>(t.name, conversion::rounded);
  auto const turned = size_with_rows_as_columns(t.shape);
  std::vector<double> columns(values.size());
  file.read_rows_as_columns(
      t.name, stiefelx::matrix_ref<double>{columns.data(), turned.rows, turned.cols, turned.rows},
      conversion::rounded);
  fuzz::expect(same_numbers(columns, values), "rows as columns keep the order of the file");

  auto const size = size_with_same_indices(t.shape);
  if (!size) return;
  std::vector<double> same(values.size());
  file.read_same_indices(
      t.name, stiefelx::matrix_ref<double>{same.data(), size->rows, size->cols, size->rows},
      conversion::rounded);
  std::vector<double> back;
  back.reserve(values.size());
  // Nothing to walk through where there is no entry, however many rows there are.
  for (stiefelx::index_t i = 0; !values.empty() && i < size->rows; ++i)
    for (stiefelx::index_t j = 0; j < size->cols; ++j)
      back.push_back(same[static_cast<std::size_t>(i + j * size->rows)]);
  fuzz::expect(same_numbers(back, values), "same indices have the same numbers");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  auto const bytes = std::as_bytes(std::span(data, size));
  try {
    safetensors_file const file(bytes);
    stiefelx::safetensors_writer out;
    for (auto const& [name, value] : file.metadata()) out.add_metadata(name, value);
    std::uint64_t last = 0;
    for (stored_tensor const& t : file.tensors()) {
      fuzz::expect(t.begin == last && t.end >= t.begin && t.end <= size, "tensors tile the file");
      fuzz::expect(t.count() * size_of(t.type) == t.end - t.begin, "the size is that of the shape");
      fuzz::expect(file.find(t.name) == &t, "a name finds its tensor");
      last = t.end;
      check_numbers(file, t);
      out.add_bytes(t.name, t.type, t.shape,
                    bytes.subspan(size - (file.tensors().back().end - t.begin), t.end - t.begin));
    }
    auto const written = out.bytes();
    safetensors_file const again{std::span<std::byte const>(written)};
    fuzz::expect(again.tensors() == file.tensors(), "what is written is read again");
    fuzz::expect(again.metadata() == file.metadata(), "so are the texts");
    for (stored_tensor const& t : file.tensors()) {
      std::vector<std::byte> a(t.end - t.begin), b(a.size());
      file.read_bytes(t.name, a);
      again.read_bytes(t.name, b);
      fuzz::expect(a == b, "bytes are the same");
    }
  } catch (stiefelx::format_error const& error) {
    fuzz::expect(std::string_view(error.what()).size() < 1000, "the text of an error is short");
  }
  return 0;
}
