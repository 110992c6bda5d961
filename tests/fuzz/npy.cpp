// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Any bytes: refused with a format_error, or read, and then written and read again to the same bits.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>

#include <stiefelx/io/npy.hpp>

#include "expect.hpp"

namespace {

using stiefelx::npy_file;

template <class T>
void check_entries(npy_file const& file) {
  auto const& header = file.header();
  auto const count = static_cast<std::size_t>(*header.shape.count());
  auto const values = std::make_unique<T[]>(count), again = std::make_unique<T[]>(count);
  file.read_entries(std::span<T>(values.get(), count));
  auto const written = npy_bytes(header.shape, std::span<T const>(values.get(), count));
  npy_file const copy{std::span<std::byte const>(written)};
  copy.read_entries(std::span<T>(again.get(), count));
  fuzz::expect(copy.header().shape == header.shape && copy.header().type == header.type,
               "what is written is read again");
  fuzz::expect(count == 0 || std::memcmp(values.get(), again.get(), count * sizeof(T)) == 0,
               "to the same bits");

  auto const size = size_with_same_indices(header.shape);
  if (!size || count == 0) return;
  stiefelx::matrix_ref<T> const m{values.get(), size->rows, size->cols, size->rows};
  file.read_same_indices(m);
  auto const fortran = stiefelx::npy_bytes(m);
  npy_file const turned{std::span<std::byte const>(fortran)};
  turned.read_same_indices(
      stiefelx::matrix_ref<T>{again.get(), size->rows, size->cols, size->rows});
  fuzz::expect(std::memcmp(values.get(), again.get(), count * sizeof(T)) == 0,
               "same indices have the same bits in either order");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  try {
    npy_file const file(std::as_bytes(std::span(data, size)));
    stiefelx::detail::visit_dtype(file.header().type, [&]<class T>(stiefelx::detail::entry_tag<T>) {
      check_entries<T>(file);
    });
  } catch (stiefelx::format_error const& error) {
    fuzz::expect(std::string_view(error.what()).size() < 1000, "the text of an error is short");
  }
  return 0;
}
