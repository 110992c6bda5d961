// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels that add: over all entries, over the entries of columns and of rows.
#include <limits>

#include <stiefelx/cuda/line_sums.hpp>
#include <stiefelx/cuda/reductions.hpp>

#include <ptx/recording.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using stiefelx::index_t;

template <class T>
void sums(index_t rows, index_t cols) {
  cuda::context ctx(recording::small());
  std::string const type = recording::type_name<T>();
  recording::begin("inner" + type);
  auto const a = recording::random<T>(ctx, "a", rows, cols, 1);
  auto const b = recording::random<T>(ctx, "b", rows, cols, 2);
  cuda::matrix<double> s(1, 1), n(1, 1), mixed(1, 1), part(1, 1);
  inner(ctx, a, b, s);
  recording::found("s", s);
  norm(ctx, a, n);
  recording::found("n", n);
  inner(ctx, a.middleRows(1, rows - 1), b.middleRows(0, rows - 1), mixed);
  recording::found("mixed", mixed);
  norm(ctx, a.middleRows(1, rows - 1), part);
  recording::found("part", part);
}

template <class T>
void lines(index_t rows, index_t cols) {
  cuda::context ctx(recording::small());
  std::string const type = recording::type_name<T>();
  recording::begin("column_inner" + type);
  auto const a = recording::random<T>(ctx, "a", rows, cols, 3);
  auto const b = recording::random<T>(ctx, "b", rows, cols, 4);
  cuda::matrix<T> w(1, cols), t(rows, 1);
  column_inner(ctx, a, b, w);
  recording::found("w", w);
  sum_columns(ctx, a, t);
  recording::found("t", t);
}

template <class T>
void finite(index_t rows, T worst) {
  cuda::context ctx(recording::small());
  recording::begin("all_finite" + recording::type_name<T>());
  auto a = recording::entries<T>(100 * rows, 5);
  a.back() = worst;
  auto const on_device = recording::uploaded(ctx, a, rows);
  cuda::matrix<double> s(1, 1);
  all_finite(ctx, on_device, s);
  recording::found("s", s);
  cuda::matrix<double> part(1, 1);
  all_finite(ctx, on_device.middleRows(1, rows - 1), part);
  recording::found("part", part);
}

template <class T>
void all() {
  sums<T>(3, 2);
  sums<T>(131, 35);
  lines<T>(70, 9);
  lines<T>(5, 300);
  lines<T>(2100, 3);
  lines<T>(3, 1100);
  finite<T>(46, 1);
  finite<T>(46, std::numeric_limits<T>::quiet_NaN());
  finite<T>(2, 1);
}

}  // namespace

void run_cases() {
  all<float>();
  all<double>();
  lines<double>(8300, 2);
  lines<float>(4101, 2);
  lines<float>(16404, 1);
}
