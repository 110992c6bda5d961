// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cases retract_qr, retract_polar and retract_cayley, with their default options. The tangent
// vector has spectral norm 1.

#include <memory>

#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::matrix;
using bench::tall;
using bench::timed_call;

template <class Scalar, class Retraction>
timed_call make_retraction(tall shape, int threads, Retraction how) {
  struct state {
    stiefelx::host::context ctx;
    bench::point_and_tangent<Scalar> at;
    matrix<Scalar> y;
  };
  std::shared_ptr<state> const s(new state{stiefelx::host::context({.threads = threads}),
                                           bench::stiefel_point<Scalar>(shape),
                                           matrix<Scalar>(shape.n, shape.p)});
  stiefelx::stiefel const manifold{shape.n, shape.p};
  return {[s, manifold, how] { retract(s->ctx, manifold, s->at.x, s->at.v, s->y, how); },
          [s] { return bench::orthonormality_fault<Scalar>(s->y); }};
}

template <class Retraction>
void add_retraction(bench::suite& to, bench::tall_case const& what, Retraction how) {
  bench::add_tall(to, what, "stiefelx", [threads = to.threads(), how]<class S>(tall shape) {
    return make_retraction<S>(shape, threads, how);
  });
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::library_version());
  add_retraction(cases, bench::cases::retract_qr, stiefelx::qr_retraction{});
  add_retraction(cases, bench::cases::retract_polar, stiefelx::polar_retraction{});
  add_retraction(cases, bench::cases::retract_cayley, stiefelx::cayley_retraction{});
  return cases.run();
}
