// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels that run team text, a block a matrix: factors, orthonormal columns, singular values.
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/factor.hpp>
#include <stiefelx/team/gram_schmidt.hpp>
#include <stiefelx/team/jacobi_svd.hpp>

#include <ptx/serial_oracle.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using stiefelx::index_t;

// Entries of a symmetric matrix with a large diagonal.
template <class T>
std::vector<T> positive(index_t n, unsigned seed) {
  std::vector<T> a = recording::entries<T>(n * n, seed);
  auto const at = [n](index_t i, index_t j) { return static_cast<std::size_t>(i + j * n); };
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < j; ++i) a[at(j, i)] = a[at(i, j)];
  for (index_t j = 0; j < n; ++j) a[at(j, j)] = static_cast<T>(n);
  return a;
}

template <class T>
void factor(index_t n) {
  cuda::context ctx(recording::small());
  recording::begin("cholesky" + recording::type_name<T>());
  auto g = recording::uploaded(ctx, positive<T>(n, 1), n);
  recording::given("g", g);
  cuda::matrix<int> status = zeros<int>(ctx, 1, 1);
  cholesky(ctx, g, status);
  recording::found("r", g);
  recording::found("status", status);
}

template <class T>
void linear_system(index_t n, index_t m) {
  cuda::context ctx(recording::small());
  recording::begin("solve" + recording::type_name<T>());
  auto a = recording::uploaded(ctx, positive<T>(n, 2), n);
  recording::given("a", a);
  auto b = recording::random<T>(ctx, "b", n, m, 3);
  cuda::matrix<int> status = zeros<int>(ctx, 1, 1);
  solve(ctx, a, b, status);
  recording::found("x", b);
  recording::found("status", status);
}

// Two matrices of a stack; so large that a team has two warps.
template <class T>
void gram_schmidt() {
  cuda::context ctx(recording::small());
  recording::begin("gram_schmidt" + recording::type_name<T>());
  auto const a = recording::random<T>(ctx, "a", 130, 10, 4);
  cuda::matrix<T> q(130, 10), r(5, 10);
  cuda::matrix<int> status(1, 2);
  run_batch(ctx, 2, stiefelx::gram_schmidt_body{5}, a, q, r, status);
  recording::found("q", q);
  recording::found("r", r);
  recording::found("status", status);
}

void singular_values() {
  cuda::context ctx(recording::small());
  recording::begin("singular_values double");
  auto x = recording::random<double>(ctx, "a", 45, 4, 5);
  auto exponents = recording::uploaded<int>(ctx, {0, 0, 0, 0}, 1);
  cuda::matrix<double> w(1, 4), v(4, 4);
  cuda::matrix<int> status(1, 1);
  run_batch(ctx, 1, stiefelx::jacobi_svd_body{4, 1e-15}, x, exponents, w, v, status);
  recording::found("w", w);
  recording::found("status", status);
}

}  // namespace

void run_cases() {
  factor<float>(33);
  factor<float>(66);
  factor<double>(70);
  linear_system<float>(21, 3);
  linear_system<double>(9, 1);
  linear_system<double>(70, 2);
  gram_schmidt<float>();
  gram_schmidt<double>();
  singular_values();
}
