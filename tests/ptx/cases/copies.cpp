// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels that move entries: conversions, transposes, the mirror image of a Gram matrix.
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/transfer.hpp>

#include <ptx/recording.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using stiefelx::index_t;

template <class From, class To>
void convert(std::string const& name) {
  cuda::context ctx(recording::small());
  recording::begin(name);
  auto const a = recording::random<From>(ctx, "a", 37, 5, 1);
  cuda::matrix<To> b(37, 5);
  copy(ctx, a, b);
  recording::found("b", b);
}

template <class T>
void transpose(index_t rows, index_t cols) {
  cuda::context ctx(recording::small());
  recording::begin("transpose" + recording::type_name<T>());
  auto const a = recording::random<T>(ctx, "a", rows, cols, 2);
  cuda::matrix<T> b(cols, rows);
  copy(ctx, a.adjoint(), b);
  recording::found("b", b);
}

template <class T>
void mirror() {
  cuda::context ctx(recording::small());
  recording::begin("gram" + recording::type_name<T>());
  auto const y = recording::random<T>(ctx, "y", 50, 37, 3);
  auto const g = gram(ctx, y);
  recording::found("g", g);
}

template <class T>
void all() {
  transpose<T>(45, 70);
  transpose<T>(1, 33);
  mirror<T>();
}

}  // namespace

void run_cases() {
  convert<float, double>("convert float to double");
  convert<double, float>("convert double to float");
  convert<float, stiefelx::bfloat16>("convert float to bfloat16");
  convert<stiefelx::float16, float>("convert float16 to float");
  convert<double, int>("convert double to int");
  all<float>();
  all<double>();
}
