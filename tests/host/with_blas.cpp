// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   with_blas
//
// A program that is linked to OpenBLAS, built by with_blas.sh: its threads are refused, and products
// are right and have the same bits for any number of threads of ours.

#ifndef STIEFELX_USE_BLAS
#define STIEFELX_USE_BLAS
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <Eigen/Core>

#include <stiefelx/host/context.hpp>
#include <stiefelx/host/multiply.hpp>

extern "C" {
void openblas_set_num_threads(int threads);
char* openblas_get_corename();
}

namespace {

using stiefelx::index_t;
using stiefelx::host::context;
using stiefelx::host::determinism;

void expect(bool holds, std::string const& what) {
  if (holds) return;
  std::fprintf(stderr, "with_blas: not so: %s\n", what.c_str());
  std::exit(1);
}

void check_threads() {
  openblas_set_num_threads(2);
  std::string text = "nothing was thrown";
  try {
    context ctx;
  } catch (stiefelx::option_error const& error) {
    text = error.what();
  }
  expect(text.find("OpenBLAS") != text.npos && text.find("with 2 threads") != text.npos &&
             text.find("NUM_THREADS=1") != text.npos,
         "two threads are refused with the name of their switch: " + text);
  context const taken({.same_bits_for = determinism::this_thread_count});
  expect(taken.workers.size() == 1, "two threads are taken for one number of threads");
  openblas_set_num_threads(1);
  context const one;
  expect(one.workers.size() == 1, "one thread is taken");
}

// c = 2 a b in every order of the operands, for several numbers of threads.
template <class S>
void check_products(index_t rows, index_t depth, index_t cols) {
  using matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;
  std::srand(1);
  matrix const a = matrix::Random(rows, depth), b = matrix::Random(depth, cols);
  matrix const at = a.adjoint(), bt = b.adjoint();
  matrix const expected =
      (a.template cast<double>() * b.template cast<double>() * 2.0).template cast<S>();
  std::string const shape =
      std::to_string(rows) + "x" + std::to_string(depth) + "x" + std::to_string(cols);
  auto const check = [&](auto const& left, auto const& right) {
    matrix first;
    for (int threads : {1, 2, 3}) {
      context ctx({.threads = threads});
      matrix c(rows, cols);
      multiply(ctx, left, right, c);
      multiply_add(ctx, 1, left, right, c);
      if (threads == 1) first = c;
      auto const bytes = sizeof(S) * static_cast<std::size_t>(c.size());
      expect(std::memcmp(c.data(), first.data(), bytes) == 0,
             shape + " has the same bits with " + std::to_string(threads) + " threads");
    }
    // An entry is a sum of `depth` products of numbers up to 1, twice, in any order.
    auto const bound =
        4 * static_cast<S>(depth) * static_cast<S>(depth) * Eigen::NumTraits<S>::epsilon();
    expect((first - expected).cwiseAbs().maxCoeff() <= bound, shape + " is a b");
  };
  check(a, b);
  check(at.adjoint(), b);
  check(a, bt.adjoint());
  check(at.adjoint(), bt.adjoint());
}

}  // namespace

int main() {
  check_threads();
  // For the BLAS in several calls, one not full; for the kernels of simd/; too small for both.
  check_products<float>(130, 70, 1100);
  check_products<float>(600, 600, 9);
  check_products<float>(2000, 40, 40);
  check_products<float>(40, 2000, 40);
  check_products<float>(20, 20, 20);
  check_products<double>(130, 70, 600);
  check_products<double>(9, 1300, 150);
  std::printf("OpenBLAS (%s): threads are refused, products are right\n", openblas_get_corename());
}
