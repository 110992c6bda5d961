// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels that go through the entries of matrices with strides, and through square tiles.
#include <stiefelx/cuda/elementwise.hpp>

#include <ptx/recording.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using stiefelx::index_t;

// Rows from `first` on: aligned to 16 bytes for 4, not for 1.
template <class T>
void combine(index_t first) {
  cuda::context ctx(recording::small());
  recording::begin("axpy" + recording::type_name<T>());
  auto const a = recording::random<T>(ctx, "a", 44, 9, 1);
  auto b = recording::random<T>(ctx, "b", 44, 9, 2);
  auto rows = b.middleRows(first, 36);
  axpy(ctx, 1.5, a.middleRows(first, 36), rows);
  scale(ctx, 0.25, rows);
  recording::found("b" + std::to_string(first), b);
}

template <class T>
void columns() {
  cuda::context ctx(recording::small());
  recording::begin("scale_columns" + recording::type_name<T>());
  auto const w = recording::random<T>(ctx, "w", 1, 6, 3);
  auto h = recording::random<T>(ctx, "h", 21, 6, 4);
  scale_columns(ctx, w, h);
  recording::found("h", h);
}

template <class T>
void tiles(index_t n) {
  cuda::context ctx(recording::small());
  recording::begin("symmetrize" + recording::type_name<T>());
  auto s = recording::random<T>(ctx, "s", n, n, 5);
  symmetrize(ctx, s);
  recording::found("s", s);
}

template <class T>
void all() {
  combine<T>(4);
  combine<T>(1);
  columns<T>();
  tiles<T>(41);
  tiles<T>(3);
}

void raised_bits() {
  cuda::context ctx(recording::small());
  recording::begin("raise");
  auto const bits = recording::uploaded<int>(ctx, {0, 4, 0, 1, 0, 0, 16, 4}, 1);
  auto status = recording::uploaded<int>(ctx, {2}, 1);
  raise(ctx, status, bits);
  recording::found("status", status);
}

}  // namespace

void run_cases() {
  all<float>();
  all<double>();
  raised_bits();
}
