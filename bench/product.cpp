// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cases gemm, low_rank_product and gram: the verbs multiply and gram.

#include <memory>

#include <stiefelx/host/context.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/host/multiply.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::matrix;
using bench::tall;
using bench::timed_call;
using stiefelx::host::context;

template <class Scalar>
timed_call make_gemm(tall shape, int threads) {
  struct state {
    context ctx;
    matrix<Scalar> a, b, c;
  };
  std::shared_ptr<state> const s(new state{
      context({.threads = threads}), bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
      bench::normal_matrix<Scalar>(shape.p, shape.p, 2), matrix<Scalar>(shape.n, shape.p)});
  return {[s] { multiply(s->ctx, s->a, s->b, s->c); },
          [s] { return bench::difference_fault<Scalar>(s->c, s->a * s->b, 1e-4); }};
}

template <class Scalar>
timed_call make_low_rank_product(tall shape, int threads) {
  struct state {
    context ctx;
    matrix<Scalar> a, b, c;
  };
  std::shared_ptr<state> const s(new state{
      context({.threads = threads}), bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
      bench::normal_matrix<Scalar>(shape.n, shape.p, 2), matrix<Scalar>(shape.n, shape.n)});
  return {[s] { multiply(s->ctx, s->a, s->b.adjoint(), s->c); },
          [s] { return bench::difference_fault<Scalar>(s->c, s->a * s->b.transpose(), 1e-4); }};
}

template <class Scalar>
timed_call make_gram(tall shape, int threads) {
  struct state {
    context ctx;
    matrix<Scalar> a, g;
  };
  std::shared_ptr<state> const s(new state{context({.threads = threads}),
                                           bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                                           matrix<Scalar>(shape.p, shape.p)});
  return {[s] { copy(s->ctx, gram(s->ctx, s->a), s->g); },
          [s] { return bench::difference_fault<Scalar>(s->g, s->a.transpose() * s->a, 1e-4); }};
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::library_version());
  int const threads = cases.threads();
  bench::add_tall(cases, bench::cases::gemm, "stiefelx",
                  [threads]<class S>(tall shape) { return make_gemm<S>(shape, threads); });
  bench::add_tall(
      cases, bench::cases::low_rank_product, "stiefelx",
      [threads]<class S>(tall shape) { return make_low_rank_product<S>(shape, threads); });
  bench::add_tall(cases, bench::cases::gram, "stiefelx",
                  [threads]<class S>(tall shape) { return make_gram<S>(shape, threads); });
  return cases.run();
}
