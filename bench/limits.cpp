// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What this machine can do, as rows of the cases
//   copy       plain and non-temporal, of two arrays that are `bytes` long together (--bytes)
//   fma        fused multiply-adds in registers
//   gemm_rate  products by every implementation at hand
// All threads of a row work at once, each on its own part.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <Eigen/Core>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <stiefelx/host/context.hpp>
#include <stiefelx/host/multiply.hpp>
#include <stiefelx/version.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"
#ifdef BENCH_OPENBLAS
#include "bench/support/openblas.hpp"
#endif

namespace {

using bench::combination;
using bench::matrix;
using bench::suite;
using bench::timed_call;
using stiefelx::host::thread_pool;

template <class Scalar>
using packet = typename Eigen::internal::packet_traits<Scalar>::type;
template <class Scalar>
constexpr int packet_size = Eigen::internal::packet_traits<Scalar>::size;

// --- copy ----------------------------------------------------------------------------------------

constexpr std::ptrdiff_t line = 64;

// count is a multiple of one line.
void copy_plain(float const* from, float* to, std::ptrdiff_t count) {
  using Eigen::internal::ploadu;
  using Eigen::internal::pstoreu;
  constexpr int width = packet_size<float>;
  for (std::ptrdiff_t i = 0; i < count; i += width)
    pstoreu(to + i, ploadu<packet<float>>(from + i));
}

#if defined(__SSE2__)
void copy_non_temporal(float const* from, float* to, std::ptrdiff_t count) {
#if defined(__AVX512F__)
  for (std::ptrdiff_t i = 0; i < count; i += 16)
    _mm512_stream_ps(to + i, _mm512_loadu_ps(from + i));
#elif defined(__AVX__)
  for (std::ptrdiff_t i = 0; i < count; i += 8) _mm256_stream_ps(to + i, _mm256_loadu_ps(from + i));
#else
  for (std::ptrdiff_t i = 0; i < count; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
#endif
  _mm_sfence();
}
#endif

template <class Copy>
timed_call make_copy(int threads, long bytes, Copy copy) {
  struct state {
    thread_pool workers;
    std::ptrdiff_t lines, lines_per_thread;
    std::unique_ptr<float, void (*)(void*)> from, to;
  };
  auto const lines = (bytes / 2 + line - 1) / line;
  auto const allocate = [lines] {
    auto const size = static_cast<std::size_t>(lines * line);
    auto* p = static_cast<float*>(std::aligned_alloc(4096, (size + 4095) / 4096 * 4096));
    std::fill_n(p, size / sizeof(float), 1.0f);
    return std::unique_ptr<float, void (*)(void*)>(p, std::free);
  };
  std::shared_ptr<state> const s(new state{
      thread_pool(threads), lines, (lines + threads - 1) / threads, allocate(), allocate()});
  return {[s, threads, copy] {
            s->workers.for_each_index(threads, [&](std::ptrdiff_t i, int) {
              constexpr auto floats = line / std::ptrdiff_t{sizeof(float)};
              std::ptrdiff_t const first = std::min(s->lines, i * s->lines_per_thread);
              std::ptrdiff_t const count = std::min(s->lines - first, s->lines_per_thread);
              copy(s->from.get() + first * floats, s->to.get() + first * floats, count * floats);
            });
          },
          {}};
}

void add_copies(suite& to) {
  for (long const bytes : to.bytes()) {
    std::string const shape = "bytes=" + std::to_string(bytes);
    bench::work const cost{0, static_cast<double>(bytes)};
    to.add({"copy", shape, "float", "plain"}, cost,
           [bytes, threads = to.threads()] { return make_copy(threads, bytes, copy_plain); });
#if defined(__SSE2__)
    to.add({"copy", shape, "float", "non-temporal"}, cost, [bytes, threads = to.threads()] {
      return make_copy(threads, bytes, copy_non_temporal);
    });
#endif
  }
}

// --- fused multiply-add --------------------------------------------------------------------------

// As many independent chains as registers are left beside the two operands; fewer than latency
// times issue width would not fill the units.
constexpr int chains = packet_size<float> >= 16 ? 24 : 12;
constexpr int rounds = 20000;

template <class Scalar, std::size_t... Chain>
void multiply_add_in_registers(std::index_sequence<Chain...>) {
  using Eigen::internal::pmadd;
  using Eigen::internal::pset1;
  auto const a = pset1<packet<Scalar>>(Scalar(0.5));
  auto const b = pset1<packet<Scalar>>(Scalar(1));
  packet<Scalar> sum[] = {pset1<packet<Scalar>>(static_cast<Scalar>(Chain))...};
  for (int i = 0; i < rounds; ++i) ((sum[Chain] = pmadd(sum[Chain], a, b)), ...);
  (benchmark::DoNotOptimize(sum[Chain]), ...);
}

template <class Scalar>
void add_fma(suite& to) {
  double const flops = 2.0 * chains * rounds * packet_size<Scalar> * to.threads();
  to.add({"fma", "registers", bench::scalar_name<Scalar>, "registers"}, {flops, 0},
         [threads = to.threads()]() -> timed_call {
           auto workers = std::make_shared<thread_pool>(threads);
           return {[workers, threads] {
                     workers->for_each_index(threads, [](std::ptrdiff_t, int) {
                       multiply_add_in_registers<Scalar>(std::make_index_sequence<chains>{});
                     });
                   },
                   {}};
         });
}

// --- products ------------------------------------------------------------------------------------

struct product_shape {
  std::ptrdiff_t m, n, k;
};

template <class Scalar>
void add_products(suite& to) {
  for (product_shape const size :
       {product_shape{256, 256, 256}, product_shape{512, 512, 512}, product_shape{1024, 1024, 1024},
        product_shape{4096, 64, 64}, product_shape{4096, 512, 512}}) {
    std::string const shape = "m=" + std::to_string(size.m) + ",n=" + std::to_string(size.n) +
                              ",k=" + std::to_string(size.k);
    auto const m = static_cast<double>(size.m), n = static_cast<double>(size.n);
    auto const k = static_cast<double>(size.k);
    bench::work const cost{2 * m * n * k, (m * k + k * n + m * n) * sizeof(Scalar)};
    auto const add = [&](std::string const& implementation, auto multiply) {
      to.add(
          {"gemm_rate", shape, bench::scalar_name<Scalar>, implementation}, cost,
          [size, threads = to.threads(), multiply]() -> timed_call {
            struct state {
              stiefelx::host::context ctx;
              matrix<Scalar> a, b, c;
            };
            std::shared_ptr<state> const s(new state{
                stiefelx::host::context({.threads = threads}),
                bench::normal_matrix<Scalar>(size.m, size.k, 1),
                bench::normal_matrix<Scalar>(size.k, size.n, 2), matrix<Scalar>(size.m, size.n)});
            return {[s, multiply] { multiply(s->ctx, s->a, s->b, s->c); }, {}};
          });
    };
    add("stiefelx", [](auto& ctx, auto const& a, auto const& b, auto& c) {
      stiefelx::host::multiply(ctx, a, b, c);
    });
    if (to.threads() == 1) {
      add("eigen", [](auto&, auto const& a, auto const& b, auto& c) { c.noalias() = a * b; });
    }
#ifdef BENCH_OPENBLAS
    if (bench::openblas::product_fault<Scalar>().empty()) {
      // Its own threads are there for its own rows alone: contexts refuse them.
      add("openblas", [threads = to.threads()](auto&, auto const& a, auto const& b, auto& c) {
        if (threads > 1) openblas_set_num_threads(threads);
        bench::openblas::multiply(a, b, c);
        if (threads > 1) openblas_set_num_threads(1);
      });
    }
#endif
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string version = bench::library_version();
#ifdef BENCH_OPENBLAS
  version += ", " + bench::openblas::version();
#endif
  // There are many rows, each of one simple loop.
  suite limits(argc, argv, version, 0.015);
#ifdef BENCH_OPENBLAS
  openblas_set_num_threads(1);
#endif
  add_copies(limits);
  add_fma<float>(limits);
  add_fma<double>(limits);
  add_products<float>(limits);
  add_products<double>(limits);
  return limits.run();
}
