// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The same cases by NVIDIA's libraries: cuBLAS's products of the base layer, cuSOLVER's QR of one
// matrix, cuBLAS's QR and cuSOLVER's Cholesky factorization of many.
//
// Reflectors alone are less than a row of the library's: geqrfBatched forms no Q, and potrfBatched and
// geqrf leave signs as they come.

#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <cublas_v2.h>
#include <cusolverDn.h>

#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/transfer.hpp>

#include "bench/cuda/matrices.hpp"
#include "bench/cuda/suite.hpp"
#include "bench/cuda/triangles.hpp"

namespace {

namespace cuda = stiefelx::cuda;
using bench::device_call;
using bench::index_t;
using bench::tall;

template <class Status>
void expect_done(Status status, char const* call) {
  if (static_cast<int>(status) != 0)
    throw std::runtime_error(std::string(call) + ": status " +
                             std::to_string(static_cast<int>(status)));
}

// A context with both libraries on its queue.
struct libraries {
  cuda::context ctx;
  cublasHandle_t blas = nullptr;
  cusolverDnHandle_t solver = nullptr;

  libraries() {
    expect_done(cublasCreate(&blas), "cublasCreate");
    expect_done(cublasSetStream(blas, queue()), "cublasSetStream");
    expect_done(cusolverDnCreate(&solver), "cusolverDnCreate");
    expect_done(cusolverDnSetStream(solver, queue()), "cusolverDnSetStream");
  }
  libraries(libraries const&) = delete;
  libraries& operator=(libraries const&) = delete;
  ~libraries() {
    cuda::finish(ctx.queue);
    if (solver != nullptr) (void)cusolverDnDestroy(solver);
    if (blas != nullptr) (void)cublasDestroy(blas);
  }

  cudaStream_t queue() const { return cuda::stream_ref(ctx.queue).handle; }
};

int whole(index_t n) { return static_cast<int>(n); }

// --- the base layer ------------------------------------------------------------------------------

void add_base(bench::device_suite& to, index_t tokens, index_t width, bool backward) {
  double const t = static_cast<double>(tokens), d = static_cast<double>(width);
  double const passes = backward ? 2 : 1;
  to.add({backward ? "moe_lora_base_forward_backward" : "moe_lora_base_forward",
          "T=" + std::to_string(tokens) + ",d=" + std::to_string(width) + ",E=8,k=2,r=16", "float",
          "cublas"},
         {passes * 2 * t * d * d, (passes * 2 * t * d + d * d) * sizeof(float)},
         [tokens, width, backward]() -> device_call {
           struct state : libraries {
             cuda::matrix<float> w, x, y, dx;
             state(index_t count, index_t rows)
                 : w(bench::normal<float>(ctx, rows, rows, 0.03, 3)),
                   x(bench::normal<float>(ctx, rows, count, 1, 1)),
                   y(rows, count),
                   dx(rows, count) {}
             void multiply_by(cublasOperation_t op, cuda::matrix<float> const& from,
                              cuda::matrix<float>& out) {
               float const one = 1, zero = 0;
               int const n = whole(w.rows());
               expect_done(cublasSgemm(blas, op, CUBLAS_OP_N, n, whole(x.cols()), n, &one, w.data(),
                                       n, from.data(), n, &zero, out.data(), n),
                           "cublasSgemm");
             }
             // The last token of op(w) x by plain loops.
             std::string fault(cublasOperation_t op, std::string const& what,
                               cuda::matrix<float> const& out) {
               auto const a = bench::on_host(ctx, w);
               auto const column = bench::on_host(ctx, x.middleCols(x.cols() - 1, 1));
               auto const found = bench::on_host(ctx, out.middleCols(x.cols() - 1, 1));
               std::size_t const n = found.size();
               std::vector<double> expected(n);
               for (std::size_t j = 0; j < n; ++j)
                 for (std::size_t i = 0; i < n; ++i)
                   expected[op == CUBLAS_OP_N ? i : j] +=
                       static_cast<double>(a[i + j * n]) *
                       static_cast<double>(column[op == CUBLAS_OP_N ? j : i]);
               return bench::difference_fault(what, {found.begin(), found.end()}, expected, 1e-4);
             }
           };
           auto const s = std::make_shared<state>(tokens, width);
           return {s->ctx.queue,
                   [s, backward] {
                     s->multiply_by(CUBLAS_OP_N, s->x, s->y);
                     if (backward) s->multiply_by(CUBLAS_OP_T, s->x, s->dx);
                   },
                   [s, backward] {
                     std::string const fault = s->fault(CUBLAS_OP_N, "the last token", s->y);
                     return fault.empty() && backward
                                ? s->fault(CUBLAS_OP_T, "the last token's gradient", s->dx)
                                : fault;
                   }};
         });
}

// --- one tall matrix -----------------------------------------------------------------------------

// Q by geqrf and orgqr, from a copy of the matrix: the factorization takes its place.
struct one_qr : libraries {
  cuda::matrix<float> a, q, factors, work;
  cuda::matrix<int> info;

  static index_t room(cusolverDnHandle_t solver, cuda::matrix<float>& q,
                      cuda::matrix<float> const& factors) {
    int factor = 0, form = 0;
    int const n = whole(q.rows()), p = whole(q.cols());
    expect_done(cusolverDnSgeqrf_bufferSize(solver, n, p, q.data(), n, &factor),
                "cusolverDnSgeqrf_bufferSize");
    expect_done(cusolverDnSorgqr_bufferSize(solver, n, p, p, q.data(), n, factors.data(), &form),
                "cusolverDnSorgqr_bufferSize");
    return factor > form ? factor : form;
  }

  explicit one_qr(tall shape)
      : a(bench::normal<float>(ctx, shape.n, shape.p, 1, 1)),
        q(zeros<float>(ctx, shape.n, shape.p)),
        factors(zeros<float>(ctx, shape.p, 1)),
        work(room(solver, q, factors), 1),
        info(zeros<int>(ctx, 1, 1)) {}

  void queue_it() {
    int const n = whole(q.rows()), p = whole(q.cols()), size = whole(work.rows());
    copy(ctx, a, q);
    expect_done(
        cusolverDnSgeqrf(solver, n, p, q.data(), n, factors.data(), work.data(), size, info.data()),
        "cusolverDnSgeqrf");
    expect_done(cusolverDnSorgqr(solver, n, p, p, q.data(), n, factors.data(), work.data(), size,
                                 info.data()),
                "cusolverDnSorgqr");
  }
};

void add_one_qr(bench::device_suite& to, bench::tall_case const& of, tall shape) {
  auto const n = static_cast<double>(shape.n), p = static_cast<double>(shape.p);
  to.add({of.name, bench::shape_text(shape), "float", "cusolver-geqrf-orgqr"},
         {of.flops(n, p), of.entries(n, p) * sizeof(float)}, [shape]() -> device_call {
           auto const s = std::make_shared<one_qr>(shape);
           return {s->ctx.queue, [s] { s->queue_it(); },
                   [s] { return bench::orthonormality_fault(s->ctx, s->q, s->q.cols()); }};
         });
}

// --- many small ones -----------------------------------------------------------------------------

// Pointers to the matrices of a stack, on the device, as the batched calls take them.
cuda::matrix<double> addresses(cuda::context& ctx, float* first, index_t entries, index_t count) {
  static_assert(sizeof(float*) == sizeof(double));
  std::vector<double> bits(static_cast<std::size_t>(count));
  for (index_t i = 0; i < count; ++i) {
    float* const at = first + i * entries;
    std::memcpy(&bits[static_cast<std::size_t>(i)], &at, sizeof at);
  }
  cuda::matrix<double> made(count, 1);
  upload(ctx, bits.data(), made);
  return made;
}

float** as_pointers(cuda::matrix<double>& addresses) {
  return reinterpret_cast<float**>(addresses.data());
}

void add_many_qr(bench::device_suite& to, index_t count, tall each) {
  auto const b = static_cast<double>(count);
  auto const n = static_cast<double>(each.n), p = static_cast<double>(each.p);
  bench::tall_case const& of = bench::cases::householder_qr;
  to.add(
      {"batched_householder_qr", bench::shape_text(count, each), "float",
       "cublas-geqrfBatched-without-q"},
      {b * of.flops(n, p), b * of.entries(n, p) * sizeof(float)}, [count, each]() -> device_call {
        struct state : libraries {
          cuda::matrix<float> a, r, factors;
          cuda::matrix<double> matrices, reflectors;
          state(index_t many, tall of_each)
              : a(bench::normal<float>(ctx, of_each.n, of_each.p * many, 1, 1)),
                r(of_each.n, of_each.p * many),
                factors(of_each.p, many),
                matrices(addresses(ctx, r.data(), of_each.n * of_each.p, many)),
                reflectors(addresses(ctx, factors.data(), of_each.p, many)) {}
        };
        auto const s = std::make_shared<state>(count, each);
        return {s->ctx.queue,
                [s, count, each] {
                  int info = 0;
                  copy(s->ctx, s->a, s->r);
                  expect_done(cublasSgeqrfBatched(s->blas, whole(each.n), whole(each.p),
                                                  as_pointers(s->matrices), whole(each.n),
                                                  as_pointers(s->reflectors), &info, whole(count)),
                              "cublasSgeqrfBatched");
                  if (info != 0) throw std::runtime_error("cublasSgeqrfBatched: info");
                },
                [s]() -> std::string {
                  // |r11| is the length of the first column.
                  auto const a = bench::on_host(s->ctx, s->a.middleCols(0, 1));
                  auto const r = bench::on_host(s->ctx, s->r.middleCols(0, 1));
                  double sum = 0;
                  for (float const entry : a)
                    sum += static_cast<double>(entry) * static_cast<double>(entry);
                  return bench::difference_fault("the first diagonal entry",
                                                 {std::abs(static_cast<double>(r[0]))},
                                                 {std::sqrt(sum)}, 1e-4);
                }};
      });
}

void add_many_cholesky(bench::device_suite& to, index_t count, index_t n) {
  double const b = static_cast<double>(count), order = static_cast<double>(n);
  to.add({"batched_cholesky", "b=" + std::to_string(count) + ",n=" + std::to_string(n), "float",
          "cusolver-potrfBatched"},
         {b * order * order * order / 3, 2 * b * order * order * sizeof(float)},
         [count, n]() -> device_call {
           struct state : libraries {
             cuda::matrix<float> g, r;
             cuda::matrix<double> matrices;
             cuda::matrix<int> info;
             state(index_t many, index_t of)
                 : g(bench::positive(ctx, many, of)),
                   r(of, of * many),
                   matrices(addresses(ctx, r.data(), of * of, many)),
                   info(many, 1) {}
           };
           auto const s = std::make_shared<state>(count, n);
           return {s->ctx.queue,
                   [s, count, n] {
                     copy(s->ctx, s->g, s->r);
                     expect_done(cusolverDnSpotrfBatched(s->solver, CUBLAS_FILL_MODE_UPPER,
                                                         whole(n), as_pointers(s->matrices),
                                                         whole(n), s->info.data(), whole(count)),
                                 "cusolverDnSpotrfBatched");
                   },
                   [s, n] { return bench::cholesky_fault(s->ctx, s->g, s->r, n); }};
         });
}

}  // namespace

int main(int argc, char** argv) {
  bench::device_suite cases(argc, argv);
  bool const small = cases.small();
  for (index_t const tokens : {2048, 16384})
    for (index_t const width : {1024, 4096})
      for (bool const backward : {false, true})
        add_base(cases, small ? tokens / 512 : tokens, small ? width / 256 : width, backward);
  std::vector<tall> const large =
      small ? std::vector<tall>{{12, 3}} : std::vector<tall>{{4096, 64}, {1024, 256}};
  for (tall const shape : large)
    for (auto const* of : {&bench::cases::householder_qr, &bench::cases::cholesky_qr})
      add_one_qr(cases, *of, shape);
  if (small) {
    add_many_qr(cases, 3, {6, 2});
  } else {
    add_many_qr(cases, 10000, {16, 8});
    add_many_qr(cases, 10000, {64, 32});
  }
  for (index_t const n : {16, 32, 64})
    add_many_cholesky(cases, small ? 3 : 10000, small ? n / 4 : n);
  return cases.run();
}
