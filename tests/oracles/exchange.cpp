// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   exchange IN OUT
//
// Reads IN and writes what it holds to OUT, for files.py to compare. The ending of the names says
// what they are. Of every matrix w there is also w.turned, its transpose, so that two mistakes that
// cancel in a copy still show.

#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <stiefelx/io/json.hpp>
#include <stiefelx/io/json_writer.hpp>
#include <stiefelx/io/npy.hpp>
#include <stiefelx/io/safetensors.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

namespace {

using stiefelx::matrix_ref;
using stiefelx::matrix_size;

/// A column-major matrix with unused memory between its columns.
template <class T>
struct strided {
  explicit strided(matrix_size size)
      : memory(new T[static_cast<std::size_t>((size.rows + 3) * size.cols + 1)]),
        view{memory.get(), size.rows, size.cols, size.rows + 3} {}

  std::shared_ptr<T[]> memory;
  matrix_ref<T> view;
};

void exchange_safetensors(std::string const& from, std::string const& to) {
  stiefelx::safetensors_file const in(from);
  stiefelx::safetensors_writer out;
  // What the writer refers to stays until it writes.
  std::vector<std::shared_ptr<void>> kept;
  for (auto const& [name, value] : in.metadata()) out.add_metadata(name, value);
  for (stiefelx::stored_tensor const& t : in.tensors()) {
    if (t.shape.rank() != 2) {
      std::shared_ptr<std::byte[]> const bytes(new std::byte[t.end - t.begin]);
      std::span<std::byte> const view(bytes.get(), t.end - t.begin);
      in.read_bytes(t.name, view);
      out.add_bytes(t.name, t.type, t.shape, view);
      kept.push_back(bytes);
      continue;
    }
    stiefelx::detail::visit_dtype(t.type, [&]<class T>(stiefelx::detail::entry_tag<T>) {
      strided<T> const same(*size_with_same_indices(t.shape));
      strided<T> const turned(size_with_rows_as_columns(t.shape));
      in.read_same_indices(t.name, same.view);
      in.read_rows_as_columns(t.name, turned.view);
      out.add_same_indices(t.name, same.view);
      out.add_same_indices(t.name + ".turned", turned.view);
      kept.push_back(same.memory);
      kept.push_back(turned.memory);
    });
  }
  out.write(to);
}

void exchange_npy(std::string const& from, std::string const& to) {
  stiefelx::npy_file const in(from);
  auto const& header = in.header();
  stiefelx::detail::visit_dtype(header.type, [&]<class T>(stiefelx::detail::entry_tag<T>) {
    if constexpr (!std::is_same_v<T, stiefelx::bfloat16>) {
      if (header.shape.rank() == 2) {
        strided<T> const same(*size_with_same_indices(header.shape));
        strided<T> const turned(size_with_rows_as_columns(header.shape));
        in.read_same_indices(same.view);
        in.read_rows_as_columns(turned.view);
        write_npy(to, same.view);
        write_npy(to + ".turned", turned.view);
      } else {
        auto const count = static_cast<std::size_t>(*header.shape.count());
        std::unique_ptr<T[]> const values(new T[count + 1]);
        in.read_entries(std::span<T>(values.get(), count));
        write_npy(to, header.shape, std::span<T const>(values.get(), count));
      }
    }
  });
}

void exchange_json(std::string const& from, std::string const& to) {
  stiefelx::write_file(
      to, stiefelx::write_json(stiefelx::read_json(stiefelx::read_file(from), from), 2));
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::fprintf(stderr, "usage: exchange IN OUT\n");
    return 2;
  }
  std::string const from = words[1], to = words[2];
  try {
    if (from.ends_with(".safetensors")) {
      exchange_safetensors(from, to);
    } else if (from.ends_with(".npy")) {
      exchange_npy(from, to);
    } else {
      exchange_json(from, to);
    }
  } catch (std::exception const& error) {
    std::fprintf(stderr, "exchange: %s\n", error.what());
    return 1;
  }
  return 0;
}
