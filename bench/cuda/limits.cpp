// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the device can do, measured in the same run: bytes copied, products in each precision, and the
// time of a launch that does nothing to speak of.

#include <memory>
#include <string>
#include <vector>

#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/transfer.hpp>

#include "bench/cuda/matrices.hpp"
#include "bench/cuda/suite.hpp"

namespace {

namespace cuda = stiefelx::cuda;
using bench::device_call;
using bench::index_t;

void add_copy(bench::device_suite& to, index_t entries) {
  double const bytes = 2 * sizeof(float) * static_cast<double>(entries);
  to.add({"copy", "entries=" + std::to_string(entries), "float", "stiefelx"}, {0, bytes},
         [entries]() -> device_call {
           struct state {
             cuda::context ctx;
             cuda::matrix<float> a, b;
             // Columns are filled in parallel, rows are not.
             explicit state(index_t n)
                 : a(bench::normal<float>(ctx, n < 4096 ? n : n / 1024, n < 4096 ? 1 : 1024, 1, 1)),
                   b(a.rows(), a.cols()) {}
           };
           auto const s = std::make_shared<state>(entries);
           return {s->ctx.queue, [s] { copy(s->ctx, s->a, s->b); },
                   [s]() -> std::string {
                     index_t const last = s->a.cols() - 1;
                     bool const same = bench::on_host(s->ctx, s->a.middleCols(last, 1)) ==
                                       bench::on_host(s->ctx, s->b.middleCols(last, 1));
                     return same ? "" : "the last column differs";
                   }};
         });
}

template <class S>
void add_product(bench::device_suite& to, char const* scalar, index_t n, bool tf32) {
  double const order = static_cast<double>(n);
  to.add({"gemm_rate", "n=" + std::to_string(n), scalar, "stiefelx"},
         {2 * order * order * order, 3 * sizeof(S) * order * order}, [n, tf32]() -> device_call {
           struct state {
             cuda::context ctx;
             cuda::matrix<S> a, b, c;
             state(index_t order_, bool rounded)
                 : ctx({.tf32 = rounded}),
                   a(bench::normal<S>(ctx, order_, order_, 1, 1)),
                   b(bench::normal<S>(ctx, order_, order_, 1, 2)),
                   c(order_, order_) {}
           };
           auto const s = std::make_shared<state>(n, tf32);
           return {s->ctx.queue, [s] { multiply(s->ctx, s->a, s->b, s->c); },
                   [s, tf32] {
                     index_t const order_ = s->a.rows();
                     auto const a = bench::on_host(s->ctx, s->a);
                     auto const b = bench::on_host(s->ctx, s->b.middleCols(order_ - 1, 1));
                     auto const c = bench::on_host(s->ctx, s->c.middleCols(order_ - 1, 1));
                     std::vector<double> expected(c.size());
                     for (std::size_t k = 0; k < b.size(); ++k)
                       for (std::size_t i = 0; i < c.size(); ++i)
                         expected[i] +=
                             static_cast<double>(a[i + k * c.size()]) * static_cast<double>(b[k]);
                     // TF32 keeps 10 bits of a factor.
                     return bench::difference_fault("the last column", {c.begin(), c.end()},
                                                    expected, tf32 ? 1e-2 : 1e-4);
                   }};
         });
}

void add_launch(bench::device_suite& to) {
  to.add({"launch", "n=1", "float", "stiefelx"}, {0, 8}, []() -> device_call {
    struct state {
      cuda::context ctx;
      cuda::matrix<float> a;
      state() : a(zeros<float>(ctx, 1, 1)) {}
    };
    auto const s = std::make_shared<state>();
    return {s->ctx.queue, [s] { fill(s->ctx, 2, s->a); },
            [s]() -> std::string { return value(s->ctx, s->a) == 2 ? "" : "it is not filled"; }};
  });
}

}  // namespace

int main(int argc, char** argv) {
  bench::device_suite cases(argc, argv);
  bool const small = cases.small();
  for (index_t const entries : {index_t{1} << 21, index_t{1} << 23, index_t{1} << 28})
    add_copy(cases, small ? entries >> 20 : entries);
  add_product<float>(cases, "float", small ? 24 : 8192, false);
  add_product<float>(cases, "float (TF32)", small ? 24 : 8192, true);
  add_product<double>(cases, "double", small ? 24 : 8192, false);
  add_launch(cases);
  return cases.run();
}
