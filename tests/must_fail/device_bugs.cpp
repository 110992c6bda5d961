// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   device_bugs BUG
//
// Mistakes in device code that the fake CUDA must catch. The same text is run first as it should be,
// which must give the right numbers, and then with the mistake, which must end in the guard that the
// table names. Without a guard these programs would end well, or be wrong now and then.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/context.hpp>

#include "bug_table.hpp"

namespace {

namespace cuda = stiefelx::cuda;
using cuda::direction;
using must_fail::expect_number;

void upload(cuda::context& ctx, double* to, std::vector<double> const& from) {
  std::size_t const bytes = from.size() * sizeof(double);
  cuda::copy_2d(to, bytes, from.data(), bytes, bytes, 1, direction::to_device, ctx.queue);
}

void download(cuda::stream_ref queue, std::vector<double>& to, double const* from) {
  std::size_t const bytes = to.size() * sizeof(double);
  cuda::copy_2d(to.data(), bytes, from, bytes, bytes, 1, direction::to_host, queue);
}

/// a of 4 x 3 and b of 3 x 2, c = a b, in one of the ways in which a product can go wrong.
struct product {
  // Before the context: a copy that nobody has waited for arrives when it ends.
  std::vector<double> c = std::vector<double>(8);
  cuda::context ctx{{.blas_workspace = 4096}};
  std::vector<double> a, b;
  cuda::buffer<double> da{12}, db{6}, dc{8};
  int lda = 4;
  cublasOperation_t op = CUBLAS_OP_N;
  double const *from = nullptr, *factor = nullptr;
  double* to = nullptr;
  bool factors_on_device = false;
  double one = 1, zero = 0;

  product() {
    for (int i = 0; i < 12; ++i) a.push_back(std::cos(i));
    for (int i = 0; i < 6; ++i) b.push_back(std::sin(i));
    upload(ctx, da.data(), a);
    upload(ctx, db.data(), b);
    from = da.data();
    to = dc.data();
  }
  void run() {
    cuda::check(
        cublasDgemm(ctx.blas.with_factors(factors_on_device), op, CUBLAS_OP_N, 4, 2, 3, &one, from,
                    lda, db.data(), 3, factor == nullptr ? &zero : factor, to, 4),
        "cublasDgemm");
  }
  void compare(bool wait = true) {
    download(ctx.queue, c, dc.data());
    if (wait) cuda::synchronize(ctx.queue);
    for (std::size_t i = 0; i < 4; ++i)
      for (std::size_t j = 0; j < 2; ++j)
        expect_number(c[i + 4 * j],
                      a[i] * b[3 * j] + a[i + 4] * b[1 + 3 * j] + a[i + 8] * b[2 + 3 * j]);
  }
};

void leading_dimension_below_the_rows(bool wrong) {
  product p;
  if (wrong) p.lda = 3;
  p.run();
  p.compare();
}

void leading_dimension_above_the_rows(bool wrong) {
  product p;
  if (wrong) p.lda = 5;
  p.run();
  p.compare();
}

void swapped_operations(bool wrong) {
  product p;
  if (wrong) p.op = CUBLAS_OP_T;  // the matrix in memory is then 3 x 4, and 4 rows are fine for it
  p.run();
  p.compare();
}

void host_pointer_as_matrix(bool wrong) {
  product p;
  if (wrong) p.from = p.a.data();
  p.run();
  p.compare();
}

void device_number_in_host_mode(bool wrong) {
  product p;
  if (wrong) p.factor = p.dc.data();
  p.run();
  p.compare();
}

void host_number_in_device_mode(bool wrong) {
  product p;
  p.factors_on_device = wrong;
  p.run();
  p.compare();
}

void product_in_place(bool wrong) {
  product p;
  if (wrong) p.to = p.da.data();
  p.run();
  p.compare();
}

void host_reads_device_memory(bool wrong) {
  product p;
  p.run();
  if (wrong) expect_number(static_cast<double const volatile*>(p.dc.data())[0], 0);
  p.compare();
}

void missing_synchronisation(bool wrong) {
  product p;
  p.run();
  p.compare(!wrong);
}

void wrong_stream(bool wrong) {
  product p;
  cuda::stream const other;
  p.run();
  std::vector<double>& c = p.c;
  download(wrong ? static_cast<cuda::stream_ref>(other) : p.ctx.queue, c, p.dc.data());
  cuda::synchronize(p.ctx.queue);
  cuda::synchronize(other);
  expect_number(c[0], p.a[0] * p.b[0] + p.a[4] * p.b[1] + p.a[8] * p.b[2]);
}

void copy_out_of_bounds_by_one(bool wrong) {
  product p;
  p.run();
  std::vector<double> c(wrong ? 9U : 8U);
  download(p.ctx.queue, c, p.dc.data());
  cuda::synchronize(p.ctx.queue);
}

void page_locked_source_changed_too_early(bool wrong) {
  void* memory = nullptr;
  cuda::check(cudaHostAlloc(&memory, 12 * sizeof(double), cudaHostAllocDefault), "cudaHostAlloc");
  std::unique_ptr<double, void (*)(double*)> const staged(
      static_cast<double*>(memory), [](double* first) { (void)cudaFreeHost(first); });
  product p;
  std::copy(p.a.begin(), p.a.end(), staged.get());
  cuda::copy_2d(p.da.data(), 96, staged.get(), 96, 96, 1, direction::to_device, p.ctx.queue);
  if (!wrong) cuda::synchronize(p.ctx.queue);
  *staged = 7;  // the first number of the next batch
  p.run();
  p.compare();
}

void unwritten_output(bool wrong) {
  product p;
  // All numbers of the result are zero, as those of fresh memory often are.
  std::fill(p.a.begin(), p.a.end(), 0.0);
  upload(p.ctx, p.da.data(), p.a);
  if (!wrong) p.run();
  p.compare();
}

void unwritten_input(bool wrong) {
  // A sum into a result that nobody set: beta is 1, and fresh memory is no number.
  product p;
  if (!wrong) cuda::clear_2d(p.dc.data(), 64, 64, 1, p.ctx.queue);
  p.factor = &p.one;
  p.run();
  p.compare();
}

void memory_that_was_released(bool wrong) {
  product p;
  p.run();
  double* const gone = p.dc.data();
  std::vector<double> c(8);
  if (wrong) p.dc = cuda::buffer<double>(8);
  download(p.ctx.queue, c, gone);
  cuda::synchronize(p.ctx.queue);
}

void memory_that_is_never_released(bool wrong) {
  void* p = cuda::allocate(64);
  if (!wrong) cuda::release(p);
}

void memory_of_another_device(bool wrong) {
  fake_cuda::pretend const two({.devices = 2});
  product p;
  if (wrong) cuda::use_device(1);
  p.dc = cuda::buffer<double>(8);
  p.ctx.select();
  p.to = p.dc.data();
  p.run();
}

void failure_that_nobody_looks_at(bool wrong) {
  product p;
  fake_cuda::failure const next("cublasDgemm_v2", 1, CUBLAS_STATUS_EXECUTION_FAILED);
  if (wrong)
    (void)cublasDgemm(p.ctx.blas.with_factors(false), CUBLAS_OP_N, CUBLAS_OP_N, 4, 2, 3, &p.one,
                      p.from, 4, p.db.data(), 3, &p.zero, p.dc.data(), 4);
  else
    try {
      p.run();
    } catch (cuda::cuda_error const&) {
      p.run();
    }
  p.compare();
}

must_fail::bug const bugs[] = {
    {"leading_dimension_below_the_rows", leading_dimension_below_the_rows, child::end::stopped,
     "A: leading dimension 3, expected at least 4"},
    {"leading_dimension_above_the_rows", leading_dimension_above_the_rows, child::end::stopped,
     "A leaves its allocation"},
    {"swapped_operations", swapped_operations, child::end::stopped, "A leaves its allocation"},
    {"host_pointer_as_matrix", host_pointer_as_matrix, child::end::stopped, "A is a host pointer"},
    {"device_number_in_host_mode", device_number_in_host_mode, child::end::stopped,
     "beta lies on the device"},
    {"host_number_in_device_mode", host_number_in_device_mode, child::end::stopped,
     "alpha lies on the host"},
    {"product_in_place", product_in_place, child::end::stopped, "C overlaps A"},
    {"host_reads_device_memory", host_reads_device_memory, child::end::memory_fault, ""},
    {"missing_synchronisation", missing_synchronisation, child::end::thrown, "wrong numbers"},
    {"wrong_stream", wrong_stream, child::end::stopped, "reads memory that another stream writes"},
    {"copy_out_of_bounds_by_one", copy_out_of_bounds_by_one, child::end::stopped,
     "source leaves its allocation"},
    {"page_locked_source_changed_too_early", page_locked_source_changed_too_early,
     child::end::stopped, "the source of a copy was changed"},
    {"unwritten_output", unwritten_output, child::end::thrown, "wrong numbers"},
    {"unwritten_input", unwritten_input, child::end::thrown, "wrong numbers"},
    {"memory_that_was_released", memory_that_was_released, child::end::stopped, "was freed"},
    {"memory_that_is_never_released", memory_that_is_never_released, child::end::exit_code,
     "left at exit: 1 allocations"},
    {"memory_of_another_device", memory_of_another_device, child::end::stopped,
     "memory of device 1 on a stream of device 0"},
    {"failure_that_nobody_looks_at", failure_that_nobody_looks_at, child::end::thrown,
     "wrong numbers"},
};

}  // namespace

int main(int count, char** arguments) { return must_fail::run_named(bugs, count, arguments); }
