// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cases householder_qr, cholesky_qr, gram_schmidt and gram_schmidt_in_place, each with its default
// options.

#include <memory>
#include <string>

#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::matrix;
using bench::tall;
using bench::timed_call;
using stiefelx::host::context;

// factorize(ctx, a, q, r)
template <class Scalar, class Factorize>
timed_call make_qr(tall shape, int threads, Factorize factorize) {
  struct state {
    context ctx;
    matrix<Scalar> a, q, r;
  };
  std::shared_ptr<state> const s(
      new state{context({.threads = threads}), bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                matrix<Scalar>(shape.n, shape.p), matrix<Scalar>(shape.p, shape.p)});
  return {[s, factorize] { factorize(s->ctx, s->a, s->q, s->r); },
          [s] {
            std::string const fault = bench::orthonormality_fault<Scalar>(s->q);
            return fault.empty() ? bench::difference_fault<Scalar>(s->q * s->r, s->a, 1e-4) : fault;
          }};
}

template <class Scalar>
timed_call make_gram_schmidt(bench::cases::gram_schmidt columns, int threads) {
  struct state {
    context ctx;
    matrix<Scalar> a, q, r;
  };
  std::ptrdiff_t const cols = columns.k * columns.tokens;
  std::shared_ptr<state> const s(
      new state{context({.threads = threads}), bench::normal_matrix<Scalar>(columns.d, cols, 1),
                matrix<Scalar>(columns.d, cols), matrix<Scalar>(columns.k, cols)});
  return {[s] {
            stiefelx::gram_schmidt(s->ctx, stiefelx::stack{bench::cases::gram_schmidt::tokens},
                                   s->a, s->q, s->r, stiefelx::no_status{});
          },
          [s, k = columns.k] { return bench::orthonormality_fault_of_each<Scalar>(s->q, k); }};
}

// The columns of the first call are random, those of every later one orthonormal: the same work,
// because neither needs a second pass, and no state to restore.
template <class Scalar>
timed_call make_gram_schmidt_in_place(bench::cases::gram_schmidt columns, int threads) {
  struct state {
    context ctx;
    matrix<Scalar> q, r;
  };
  std::ptrdiff_t const cols = columns.k * columns.tokens;
  std::shared_ptr<state> const s(new state{context({.threads = threads}),
                                           bench::normal_matrix<Scalar>(columns.d, cols, 1),
                                           matrix<Scalar>(columns.k, cols)});
  return {[s] {
            stiefelx::gram_schmidt(s->ctx, stiefelx::stack{bench::cases::gram_schmidt::tokens},
                                   s->q, s->q, s->r, stiefelx::no_status{});
          },
          [s, k = columns.k] { return bench::orthonormality_fault_of_each<Scalar>(s->q, k); }};
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::library_version());
  int const threads = cases.threads();
  bench::add_tall(cases, bench::cases::householder_qr, "stiefelx", [threads]<class S>(tall shape) {
    return make_qr<S>(shape, threads, [](auto& ctx, auto const& a, auto& q, auto& r) {
      stiefelx::householder_qr(ctx, a, q, r, stiefelx::no_status{});
    });
  });
  bench::add_tall(cases, bench::cases::cholesky_qr, "stiefelx", [threads]<class S>(tall shape) {
    return make_qr<S>(shape, threads, [](auto& ctx, auto const& a, auto& q, auto& r) {
      stiefelx::cholesky_qr(ctx, a, q, r, stiefelx::no_status{});
    });
  });
  bench::add_columns_of_tokens(cases, bench::cases::gram_schmidt::name, "stiefelx",
                               [threads]<class S>(bench::cases::gram_schmidt c) {
                                 return make_gram_schmidt<S>(c, threads);
                               });
  bench::add_columns_of_tokens(cases, bench::cases::gram_schmidt::in_place_name, "stiefelx",
                               [threads]<class S>(bench::cases::gram_schmidt c) {
                                 return make_gram_schmidt_in_place<S>(c, threads);
                               });
  return cases.run();
}
