// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes down what device code does on the fake device, so that the interpreter can run the PTX of
// the same kernels on the same memory: copies to the device, launches with their arguments, what a
// case was given and what it found. A file of cases is compiled twice: by a host compiler, linked
// with recording.cpp and the fake, and by nvcc for its PTX alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>

namespace recording {

using stiefelx::index_t;

/// A matrix in device memory as bytes and the letter of its entries: f, d, i, h (half), b (bfloat).
struct bytes_view {
  void const* first;
  index_t rows, cols, stride;
  std::size_t entry;
  char letter;
};

void begin(std::string const& name);
void given(std::string const& name, bytes_view a);
void found(std::string const& name, bytes_view a);

template <class T>
constexpr char letter_of() {
  if constexpr (std::is_same_v<T, float>) return 'f';
  if constexpr (std::is_same_v<T, double>) return 'd';
  if constexpr (std::is_same_v<T, int>) return 'i';
  if constexpr (std::is_same_v<T, stiefelx::bfloat16>) return 'b';
  if constexpr (std::is_same_v<T, stiefelx::float16>) return 'h';
}

template <class A>
bytes_view view_of(A const& a) {
  using T = stiefelx::scalar_t<A>;
  return {a.data(), a.rows(), a.cols(), a.stride(), sizeof(T), letter_of<T>()};
}

/// Says that a case starts from these entries.
template <class A>
void given(std::string const& name, A const& a) {
  given(name, view_of(a));
}

/// Says that a case has computed these entries.
template <class A>
void found(std::string const& name, A const& a) {
  found(name, view_of(a));
}

/// A context whose workspace for cuBLAS is small: the fake needs none.
inline stiefelx::cuda::context_options small() {
  stiefelx::cuda::context_options choices;
  choices.blas_workspace = 256;
  return choices;
}

/// "double" or "float": the end of a case's name.
template <class T>
std::string type_name() {
  return sizeof(T) == 8 ? " double" : " float";
}

/// A matrix on the device from entries of the host.
template <class T>
stiefelx::cuda::matrix<T> uploaded(stiefelx::cuda::context& ctx, std::vector<T> const& entries,
                                   index_t rows) {
  stiefelx::cuda::matrix<T> a(rows, static_cast<index_t>(entries.size()) / rows);
  upload(ctx, entries.data(), a);
  return a;
}

/// Entries between -1 and 1, of few bits so that every type holds them.
template <class T>
std::vector<T> entries(index_t count, unsigned seed) {
  std::mt19937 draw(seed);
  std::vector<T> a;
  for (index_t k = 0; k < count; ++k)
    a.push_back(stiefelx::cuda::converted<T>(static_cast<double>(draw() % 255) / 128 - 1));
  return a;
}

/// A matrix of such entries on the device, for what only team text reads.
template <class T>
stiefelx::cuda::matrix<T> values(stiefelx::cuda::context& ctx, index_t rows, index_t cols,
                                 unsigned seed) {
  return uploaded(ctx, entries<T>(rows * cols, seed), rows);
}

/// A matrix on the device with every entry the same.
template <class T>
stiefelx::cuda::matrix<T> constant(stiefelx::cuda::context& ctx, index_t rows, index_t cols,
                                   T entry) {
  return uploaded(ctx, std::vector<T>(static_cast<std::size_t>(rows * cols), entry), rows);
}

/// A stack of upper triangles, side by side, far from singular.
template <class T>
stiefelx::cuda::matrix<T> triangles(stiefelx::cuda::context& ctx, index_t n, index_t count,
                                    unsigned seed) {
  auto a = entries<T>(n * n * count, seed);
  for (index_t j = 0; j < n * count; ++j)
    for (index_t i = j % n; i < n; ++i)
      a[static_cast<std::size_t>(i + j * n)] = i == j % n ? static_cast<T>(4) : T(0);
  return uploaded(ctx, a, n);
}

/// A stack of symmetric matrices with the diagonal n: positive definite.
template <class T>
stiefelx::cuda::matrix<T> definite(stiefelx::cuda::context& ctx, index_t n, index_t count,
                                   unsigned seed) {
  auto a = entries<T>(n * n * count, seed);
  auto const at = [n](index_t i, index_t j) { return static_cast<std::size_t>(i + j * n); };
  for (index_t first = 0; first < n * count; first += n)
    for (index_t j = 0; j < n; ++j) {
      for (index_t i = 0; i < j; ++i) a[at(j, first + i)] = a[at(i, first + j)];
      a[at(j, first + j)] = static_cast<T>(n);
    }
  return uploaded(ctx, a, n);
}

/// A given matrix of such entries.
template <class T>
stiefelx::cuda::matrix<T> random(stiefelx::cuda::context& ctx, std::string const& name,
                                 index_t rows, index_t cols, unsigned seed) {
  auto a = uploaded(ctx, entries<T>(rows * cols, seed), rows);
  given(name, a);
  return a;
}

}  // namespace recording

/// What a file of cases defines.
void run_cases();
